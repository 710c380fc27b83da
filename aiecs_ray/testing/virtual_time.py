"""An event loop whose time is a number: where a real one would wait, it jumps to the next timer.

What runs on it needs no thread, no socket and no real second, and the same program takes the same course each time.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

TICK = 1e-9
"""Seconds that pass at least from one round of timers to the next."""


class StuckError(Exception):
    """Nothing is left that could happen, or the time that was allowed is over, and the work is not done."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order in which they were asked for, and timers in the order of their times.

    ``limit`` is the time, in seconds from 0, after which :class:`StuckError` is raised. Errors that no one handles
    are collected in ``errors``: of callbacks, and of every task.

    >>> loop = VirtualLoop()
    >>> loop.run_until_complete(asyncio.sleep(3600, "an hour later"))
    'an hour later'
    >>> loop.time()
    3600.0
    >>> loop.close()
    """

    def __init__(self, limit: float = float("inf")) -> None:
        super().__init__()
        self.limit = limit
        self.errors: list[str] = []
        self._now = 0.0
        self._order = count()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._callbacks: list[asyncio.Handle] = []
        self.set_exception_handler(_note)

    def time(self) -> float:
        """Return the seconds since the loop was made."""
        return self._now

    def call_soon(  # type: ignore[override]  # typeshed types the callback's arguments
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Call ``callback`` after what was asked for before."""
        handle = asyncio.Handle(callback, args, self, context)
        self._callbacks.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Call ``callback`` after ``delay`` seconds."""
        return self.call_at(self._now + max(0.0, delay), callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Call ``callback`` at a time; of two with the same time the one asked for first."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), handle))
        return handle

    def create_task(  # type: ignore[override]  # typeshed allows any object as a name
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None
    ) -> Any:
        """Run a coroutine; what it raises is noted in ``errors``, also when nobody waits for it."""
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        task.add_done_callback(self._look_at)
        return task

    def pending_timers(self) -> list[asyncio.TimerHandle]:
        """Return the timers that were neither run nor cancelled."""
        return [handle for _, _, handle in self._timers if not handle.cancelled()]

    def _look_at(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, StuckError):
            self.errors.append(f"{getattr(task.get_coro(), '__qualname__', task)}: {type(error).__name__}: {error}")

    def _run_once(self) -> None:
        # asyncio.BaseEventLoop.run_forever calls this until it is told to stop.
        if not self._callbacks:
            self._jump()
        due, self._callbacks = self._callbacks, []
        for handle in due:
            if not handle.cancelled():
                handle._run()

    def _jump(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise StuckError(f"at {self._now:.3f} s nothing is left that could happen")
        if timers[0][0] > self.limit:
            raise StuckError(f"not done after {self.limit:g} s")
        # A clock never stands still: who waits for the last billionth of a second must not wait for ever.
        self._now = max(self._now + TICK, timers[0][0])
        while timers and timers[0][0] <= self._now:
            self._callbacks.append(heapq.heappop(timers)[2])

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing to do: a cancelled timer is thrown away when its time comes."""

    call_soon_threadsafe = call_soon  # type: ignore[assignment]
    """There is one thread; asyncio itself calls this where a generator is left unfinished."""

    def run_in_executor(self, *_: Any, **__: Any) -> Any:  # type: ignore[override]  # it takes nothing
        """Refuse: with threads the course of events would depend on the machine.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("a virtual loop has one thread")


def _note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, VirtualLoop)
    error = context.get("exception")
    loop.errors.append(f"{context['message']}: {type(error).__name__}: {error}")
