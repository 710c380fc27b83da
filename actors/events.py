"""The numbered events of one run: replayed from any number, followed live, bounded in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from aiecs_ray.messages import Event, EventKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NOTHING: Mapping[str, Any] = {}


class EventLog:
    """Keeps the last ``limit`` events of a run.

    A reader that falls further behind sees a gap in the numbers; writing never waits for a reader.
    """

    def __init__(self, run: str, *, limit: int, clock: Callable[[], float]) -> None:
        self._run = run
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=limit)
        self._next = 0
        self._closed = False
        self._changed: asyncio.Event | None = None
        self._ended: asyncio.Event | None = None
        self.sinks: list[Callable[[Event], object]] = []
        """Get every event as it is added."""

    def __len__(self) -> int:
        return len(self._events)

    @property
    def closed(self) -> bool:
        """Whether no event will follow."""
        return self._closed

    def add(self, kind: EventKind, step: int | None = None, data: Mapping[str, Any] = _NOTHING) -> None:
        """Append an event."""
        event = Event(self._next, kind, self._run, self._clock(), step, data)
        self._events.append(event)
        self._next += 1
        for sink in self.sinks:
            sink(event)
        self._wake()

    def close(self) -> None:
        """No event will follow: readers end."""
        self._closed = True
        if self._ended is not None:
            self._ended.set()
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def since(self, number: int, limit: int) -> list[Event]:
        """Return up to ``limit`` events from ``number`` on."""
        first = self._events[0].number if self._events else self._next
        skip = max(0, number - first)
        return list(islice(self._events, skip, skip + limit))

    async def rest(self, seconds: float) -> None:
        """Wait ``seconds``, or until no event will follow."""
        if seconds > 0 and not self._closed:
            if self._ended is None:
                self._ended = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._ended.wait()

    async def follow(self, number: int, limit: int, wait: float) -> list[Event]:
        """Return events from ``number`` on, waiting up to ``wait`` seconds until there is one."""
        if wait > 0:
            try:
                async with asyncio.timeout(wait):
                    while number >= self._next and not self._closed:
                        if self._changed is None:
                            self._changed = asyncio.Event()
                        await self._changed.wait()
            except TimeoutError:
                return []
        return self.since(number, limit)
