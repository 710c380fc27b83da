"""How fast operations may start and how many at once: limiters that are told the time."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Never

from aiecs_ray.errors import InvalidInputError
from aiecs_ray.quoting import shorten

if TYPE_CHECKING:
    from collections.abc import Hashable

    from aiecs_ray.messages import Limits

MAX_RATE = 100_000
"""Starts a second; a pacer remembers as many."""
MAX_UNITS = 1_000_000
"""The largest burst, concurrency and weight."""
SLACK = 0.01
"""Seconds by which a start may be late without delaying those after it; timers are that exact on a busy machine."""


class Pacer:
    """Gives out start times: at most ``rate`` of them in any second (document S0, "限流"; defect D-12).

    Starts are spaced by ``1 / rate`` seconds. ``burst`` of them may follow each other at once after a pause; also
    then any second, wherever it begins, holds no more than ``rate``. A rate that is no whole number holds on average:
    2.5 allows three starts in some seconds and two in others. ``rate=None`` lets everything start at once. A start that
    comes late by half a pause or less, and by 10 ms or less, leaves the others their times.

    A start may weigh several units, and then takes the time of as many. One that is heavier than the rate starts when
    a second is empty, and takes its time all the same.

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

    def reserve(self, now: float, weight: int = 1) -> float:
        """Return when the next operation may start, ``now`` or later, and count it.

        The times of successive calls never go back, also when ``now`` does.
        """
        if self._rate is None:
            return now
        units = min(weight, self._most)
        start = self._earliest(now, self._next, units - 1)
        self._next = self._planned(start, self._next) + weight / self._rate
        self._starts.extend([start] * units)
        # Only here, not where the rate is lowered: now these are a second old, and no later rate asks for them.
        while len(self._starts) > self._most:
            self._starts.popleft()
        return start

    def next_start(self, now: float, weight: int = 1) -> float:
        """Return what :meth:`reserve` would return, without counting it."""
        if self._rate is None:
            return now
        return self._earliest(now, self._next, min(weight, self._most) - 1)

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
            following = self._planned(now, following) + 1.0 / self._rate
        return self._burst

    def _planned(self, start: float, following: float) -> float:
        """Return the time from which the next pause counts."""
        assert self._rate is not None
        return following if start - following <= min(SLACK, 0.5 / self._rate) else start

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


class Meter:
    """One limit on rate and concurrency, for everything that names it: who is inside, and who has to wait how long.

    With a rate, what was let through counts as a start when it starts, because it may wait for a process in between;
    until then nothing else is let through. A key stands for one operation. It cannot be pickled either.

    >>> from aiecs_ray.messages import Limits
    >>> meter = Meter(Limits(concurrency=2))
    >>> meter.admit("a", 2)
    >>> meter.wait(0.0, 1)
    inf
    """

    def __init__(self, limits: Limits) -> None:
        self._pacer = Pacer(limits.rate, limits.burst)
        self._limits = limits
        self._inside: dict[Hashable, int] = {}
        self._units = 0
        self._under_way: Hashable = None
        self.users = 0
        """How many runs refer to it: also those of which no step stands here now."""

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self._limits

    @property
    def inside(self) -> int:
        """How many operations were let through and have not left."""
        return len(self._inside)

    def adjust(self, limits: Limits) -> None:
        """Change the limits for everything that was not let through yet."""
        if (limits.rate, limits.burst) != (self._pacer.rate, self._limits.burst):
            self._pacer.set_rate(limits.rate, limits.burst)
        self._limits = limits

    def wait(self, now: float, weight: int) -> float:
        """Return 0.0 when an operation may be let through now, else when to ask again; inf: when another one moves on.

        One that is heavier than the whole limit is let through alone.
        """
        most = self._limits.concurrency
        if most is not None and self._units and self._units + weight > most:
            return math.inf
        if self._limits.rate is None:
            return 0.0
        if self._under_way is not None:
            return math.inf
        start = self._pacer.next_start(now, weight)
        return start if start > now else 0.0

    def admit(self, key: Hashable, weight: int) -> None:
        """Let an operation through."""
        self._inside[key] = weight
        self._units += weight
        if self._limits.rate is not None:
            self._under_way = key

    def started(self, key: Hashable, now: float) -> bool:
        """Count the start of an operation that was let through; return whether the next one may be now."""
        if self._under_way != key or key is None:
            return False
        self._under_way = None
        self._pacer.reserve(now, self._inside[key])
        return True

    def leave(self, key: Hashable) -> None:
        """An operation ended, waits for its next attempt, or will never start."""
        self._units -= self._inside.pop(key, 0)
        if self._under_way == key:
            self._under_way = None

    def is_fresh(self, now: float) -> bool:
        """Return whether a new meter would let the next operation through just as this one."""
        return not self._inside and self._pacer.next_start(now) <= now

    def __reduce__(self) -> Never:
        raise TypeError("a Meter cannot be pickled: a copy would be a second limit; call the process that owns it")


def check_limits(rate: object, concurrency: object, burst: object = 1) -> None:
    """Raise InvalidInputError for what is no limit; None is no limit for rate and concurrency."""
    _check(rate, burst)
    if concurrency is not None and (type(concurrency) is not int or not 1 <= concurrency <= MAX_UNITS):
        raise InvalidInputError(
            f"concurrency is {shorten(concurrency)}, expected a whole number from 1 to {MAX_UNITS}, or None"
        )


def _check(rate: object, burst: object) -> None:
    if rate is not None:
        is_number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
        if not is_number or not 0 < rate <= MAX_RATE:  # type: ignore[operator]
            raise InvalidInputError(f"rate is {shorten(rate)}, expected a number above 0 and up to {MAX_RATE}, or None")
    if burst is not None and (type(burst) is not int or burst < 1):
        raise InvalidInputError(f"burst is {shorten(burst)}, expected a whole number from 1 on")
