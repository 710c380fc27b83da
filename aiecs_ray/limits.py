"""How fast operations may start: a paced limiter that is told the time."""

from __future__ import annotations

import math
from collections import deque
from typing import Never

from aiecs_ray.errors import InvalidInputError
from aiecs_ray.quoting import shorten

MAX_RATE = 100_000
"""Starts a second; a pacer remembers as many."""


class Pacer:
    """Gives out start times: at most ``rate`` of them in any second (document S0, "限流"; defect D-12).

    Starts are spaced by ``1 / rate`` seconds. ``burst`` of them may follow each other at once after a pause; also
    then any second, wherever it begins, holds no more than ``rate``. A rate that is no whole number holds on average:
    2.5 allows three starts in some seconds and two in others. ``rate=None`` lets everything start at once.

    A pacer is one counter for one place. It cannot be pickled: a copy would be a second limit beside the first.

    Raises:
        InvalidInputError: ``rate`` is not above 0 and up to 100,000, or ``burst`` not a whole number from 1 on.

    >>> pacer = Pacer(2)
    >>> [pacer.reserve(100.0) for _ in range(3)]
    [100.0, 100.5, 101.0]
    """

    def __init__(self, rate: float | None, burst: int = 1) -> None:
        self._starts: deque[float] = deque()
        self._next = -math.inf
        self._rate: float | None = None
        self._most = 1
        self._burst = 1
        self.set_rate(rate, burst)

    @property
    def rate(self) -> float | None:
        """Starts a second; None: no limit."""
        return self._rate

    def set_rate(self, rate: float | None, burst: int | None = None) -> None:
        """Change the limit for all starts that were not given out yet; ``burst=None`` keeps the burst.

        Raises:
            InvalidInputError: as for a new pacer; the limit stays as it was.
        """
        _check(rate, burst)
        old, self._rate = self._rate, rate
        if burst is not None:
            self._burst = burst
        if rate is None:
            self._starts.clear()
            self._next = -math.inf
            return
        if old is not None and self._starts:
            # What is left of the current pause shrinks or grows with the pause itself.
            last = self._starts[-1]
            self._next = last + (self._next - last) * old / rate
        self._most = math.ceil(rate)

    def reserve(self, now: float) -> float:
        """Return when the next operation may start, ``now`` or later, and count it.

        The times of successive calls never go back, also when ``now`` does.
        """
        if self._rate is None:
            return now
        start = self._earliest(now, self._next, 0)
        self._next = max(self._next, start) + 1.0 / self._rate
        self._starts.append(start)
        # Only here, not where the rate is lowered: now these are a second old, and no later rate asks for them.
        while len(self._starts) > self._most:
            self._starts.popleft()
        return start

    def next_start(self, now: float) -> float:
        """Return what :meth:`reserve` would return, without counting it."""
        return now if self._rate is None else self._earliest(now, self._next, 0)

    def available(self, now: float) -> int:
        """Return how many operations may start at ``now`` without waiting, at most one burst.

        Without a limit there is no such number, and the answer is 100,000.
        """
        if self._rate is None:
            return MAX_RATE
        following = self._next
        for count in range(self._burst):
            if count == self._most or self._earliest(now, following, count) > now:
                return count
            following = max(following, now) + 1.0 / self._rate
        return self._burst

    def _earliest(self, now: float, following: float, ahead: int) -> float:
        """Return the first allowed time for a start that comes after ``ahead`` others at ``now``."""
        rate, starts = self._rate, self._starts
        assert rate is not None
        start = max(now, following - (self._burst - 1) / rate)
        if starts:
            start = max(start, starts[-1])
        oldest = len(starts) + ahead - self._most
        if oldest < 0:
            return start
        # Spacing alone may lose a start to rounding; this rule is what makes the limit exact.
        window = self._most / rate
        limit = starts[oldest] + window
        while limit - starts[oldest] < window:
            limit = math.nextafter(limit, math.inf)
        return max(start, limit)

    def __reduce__(self) -> Never:
        raise TypeError("a Pacer cannot be pickled: a copy would be a second limit; call the process that owns it")


def _check(rate: object, burst: object) -> None:
    if rate is not None:
        is_number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
        if not is_number or not 0 < rate <= MAX_RATE:  # type: ignore[operator]
            raise InvalidInputError(f"rate is {shorten(rate)}, expected a number above 0 and up to {MAX_RATE}, or None")
    if burst is not None and (type(burst) is not int or burst < 1):
        raise InvalidInputError(f"burst is {shorten(burst)}, expected a whole number from 1 on")
