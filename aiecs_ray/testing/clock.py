"""A clock that moves when it is told to."""

from __future__ import annotations

import math


class FakeClock:
    """A clock for what takes its time as an argument: call it for the seconds, move it with :meth:`advance`.

    It never goes back, and nothing waits for it: ``sleep`` moves it and returns at once.

    >>> from aiecs_ray.limits import Pacer
    >>> clock = FakeClock(100.0)
    >>> pacer = Pacer(2)
    >>> pacer.reserve(clock()), pacer.reserve(clock())
    (100.0, 100.5)
    >>> clock.advance(3)
    103.0
    >>> pacer.reserve(clock())
    103.0
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = _checked(now)

    def __call__(self) -> float:
        """Return the present time in seconds."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Let ``seconds`` pass, and return the new time.

        Raises:
            ValueError: ``seconds`` is negative or no finite number.
        """
        if _checked(seconds) < 0:
            raise ValueError(f"a clock does not go back: advance({seconds})")
        self._now += seconds
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass without waiting: what code takes that wants a ``time.sleep``."""
        self.advance(seconds)


def _checked(seconds: float) -> float:
    if not math.isfinite(seconds):
        raise ValueError(f"expected a finite number of seconds, got {seconds}")
    return float(seconds)
