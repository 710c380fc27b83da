"""Lets the steps of rate-limited runs through one by one: at most N starts in any second, and M in flight."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from aiecs_ray.limits import Pacer

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs_ray.messages import Limits


class Passer(Protocol):
    """A run whose steps wait at a gate."""

    def admit(self, steps: list[int]) -> None:
        """Go on with steps that were let through."""


class Gate:
    """One limit, shared by every run that names it.

    A step that was let through counts as a start when it reaches a replica (or the cache answers it), because it may
    wait for a replica in between; until then no other is let through.
    """

    def __init__(self, limits: Limits, *, clock: Callable[[], float], call_at: Callable[..., object]) -> None:
        self._pacer = Pacer(limits.rate)
        self._most = limits.concurrency
        self._clock = clock
        self._call_at = call_at
        self._line: deque[tuple[Passer, int]] = deque()
        self._inside: set[tuple[int, int]] = set()
        self._under_way: tuple[int, int] | None = None
        self._woken = False
        self._opening = False
        self._runs = 0

    def forgettable(self, now: float) -> bool:
        """Whether no run needs it any more, and a new gate would let the next step through just as this one."""
        return not self._runs and not self._line and not self._inside and self._pacer.next_start(now) <= now

    def opened_to(self, runs: int) -> None:
        """So many more runs use this gate (or fewer, below 0): also one of which no step stands here now."""
        self._runs += runs

    def adjust(self, limits: Limits) -> None:
        """Change the limits for everything that was not let through yet."""
        if limits.rate != self._pacer.rate:
            self._pacer.set_rate(limits.rate)
        self._most = limits.concurrency
        # A wake-up that was asked for at the old rate may be too late; one too many is harmless.
        self._woken = False
        self._open()

    def enter(self, passer: Passer, steps: list[int]) -> None:
        """Put steps at the end of the line; one that was let through before comes back to be run again."""
        for step in steps:
            self._forget((id(passer), step))
        self._line.extend((passer, step) for step in steps)
        self._open()

    def dispatched(self, passer: Passer, step: int) -> None:
        """A step reached a replica, or was answered from the cache."""
        if self._under_way == (id(passer), step):
            self._under_way = None
            self._pacer.reserve(self._clock())
            self._open()

    def left(self, passer: Passer, step: int) -> None:
        """A step ended, or waits for its next attempt."""
        self._forget((id(passer), step))
        self._open()

    def withdraw(self, passer: Passer) -> None:
        """The steps of a run that were not let through never will be."""
        self._line = deque(entry for entry in self._line if entry[0] is not passer)

    def _forget(self, key: tuple[int, int]) -> None:
        self._inside.discard(key)
        if self._under_way == key:
            self._under_way = None

    def _open(self) -> None:
        # A step that ended while it stood in line leaves as soon as it is let through, which opens the gate again.
        if self._opening:
            return
        self._opening = True
        try:
            while self._line and (self._most is None or len(self._inside) < self._most):
                if self._pacer.rate is not None and not self._may_start():
                    return
                passer, step = self._line.popleft()
                self._inside.add((id(passer), step))
                if self._pacer.rate is not None:
                    self._under_way = (id(passer), step)
                passer.admit([step])
        finally:
            self._opening = False

    def _may_start(self) -> bool:
        if self._under_way is not None or self._woken:
            return False
        wait = self._pacer.next_start(self._clock())
        if wait > self._clock():
            self._woken = True
            self._call_at(wait, self._wake)
            return False
        return True

    def _wake(self) -> None:
        self._woken = False
        self._open()
