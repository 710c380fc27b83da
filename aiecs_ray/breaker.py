"""Circuit breakers: an operation that keeps failing is left alone for a while. Pure: the time is an argument.

What counts as a failure is decided by the names of an error's classes, as for retries: see :mod:`aiecs_ray.retry`.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, Never

from aiecs_ray.errors import InvalidParamsError
from aiecs_ray.messages import BreakerOptions, ErrorInfo, RetryOptions
from aiecs_ray.quoting import alternatives, shorten
from aiecs_ray.retry import exception_names, is_transient

SLICES = 20
"""A window is counted in so many parts; the oldest one is dropped as a whole."""
MAX_SECONDS = 86_400.0
MAX_CALLS = 1_000_000
BUSY = 1.0
"""Seconds after which to come again while probes are out."""
_NEVER_COUNTS = frozenset({"E001", "E004", "E007"})
"""Codes of what says nothing of its health: wrong input, a cancellation, a reference that does not resolve."""


class Circuit(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    """Calls are let through and counted."""
    OPEN = "open"
    """Calls are rejected."""
    HALF_OPEN = "half_open"
    """Some calls are let through to see whether it works again."""


class Admitted(NamedTuple):
    """A call was let through; its outcome is told with this, so that it is not taken for one of another time."""

    period: int


class Rejected(NamedTuple):
    """A call was not let through."""

    retry_after: float
    """Seconds after which another one may be."""


class Breaker:
    """Counts the outcomes of one operation's calls and says which further ones are let through.

    >>> breaker = Breaker(BreakerOptions(minimum_calls=2, open_seconds=5.0))
    >>> for _ in range(2):
    ...     breaker.failed(breaker.admit(0.0), 0.0)
    >>> breaker.circuit, breaker.admit(1.0)
    (<Circuit.OPEN: 'open'>, Rejected(retry_after=4.0))
    >>> breaker.succeeded(breaker.admit(5.0), 5.5)
    >>> breaker.circuit
    <Circuit.CLOSED: 'closed'>
    """

    def __init__(self, options: BreakerOptions) -> None:
        self.options = options
        self.circuit = Circuit.CLOSED
        self.opened = 0
        """How often it has opened."""
        self.rejected = 0
        """How many calls it has rejected."""
        self._period = 0
        self._counts = _Counts(options.window)
        self._until = 0.0
        self._last = (0, 0)
        self._out = 0
        self._well = 0
        self._probed_at = 0.0

    def admit(self, now: float) -> Admitted | Rejected:
        """Let a call through, or say when to come again; the first one after the open time makes it half-open."""
        if self.circuit is Circuit.CLOSED:
            return Admitted(self._period)
        if self.circuit is Circuit.OPEN:
            if now < self._until:
                self.rejected += 1
                return Rejected(self._until - now)
            self._move(Circuit.HALF_OPEN)
        elif self._out + self._well >= self.options.probes:
            if now - self._probed_at < self.options.open_seconds:
                self.rejected += 1
                return Rejected(min(BUSY, self.options.open_seconds))
            # Nothing was heard of the probes for so long that they may never end: others are sent.
            self._move(Circuit.HALF_OPEN)
        self._out += 1
        self._probed_at = now
        return Admitted(self._period)

    def succeeded(self, call: Admitted | Rejected, now: float) -> None:
        """A call that was let through went well."""
        if not self._is_current(call):
            return
        if self.circuit is Circuit.CLOSED:
            self._counts.add(now, failed=False)
            return
        self._out -= 1
        self._well += 1
        if self._well >= self.options.probes:
            self._move(Circuit.CLOSED)

    def failed(self, call: Admitted | Rejected, now: float) -> None:
        """A call that was let through failed."""
        if not self._is_current(call):
            return
        if self.circuit is Circuit.CLOSED:
            self._counts.add(now, failed=True)
            calls, failures = self._counts.totals(now)
            if calls < self.options.minimum_calls or failures < self.options.failure_rate * calls:
                return
            self._last = (calls, failures)
        self._until = now + self.options.open_seconds
        self.opened += 1
        self._move(Circuit.OPEN)

    def abandoned(self, call: Admitted | Rejected) -> None:
        """A call that was let through never started, or its end says nothing: its place is free again."""
        if self._is_current(call) and self.circuit is Circuit.HALF_OPEN:
            self._out -= 1

    def reset(self) -> None:
        """Close it and forget what was counted."""
        self._move(Circuit.CLOSED)

    def adjust(self, options: BreakerOptions) -> None:
        """Go on with other options; what was counted is forgotten when the window changes."""
        if options.window != self.options.window:
            self._counts = _Counts(options.window)
        self.options = options

    def totals(self, now: float) -> tuple[int, int]:
        """Return calls and failures within the window; of an open breaker those that opened it."""
        return self._counts.totals(now) if self.circuit is Circuit.CLOSED else self._last

    def retry_after(self, now: float) -> float:
        """Return the seconds until calls are let through again; 0.0 when they are."""
        return max(0.0, self._until - now) if self.circuit is Circuit.OPEN else 0.0

    def _is_current(self, call: Admitted | Rejected) -> bool:
        # While it is open nothing is out that it asked for; what comes in belongs to the time before.
        return type(call) is Admitted and call.period == self._period and self.circuit is not Circuit.OPEN

    def _move(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self._period += 1
        self._out = self._well = 0
        self._counts = _Counts(self.options.window)

    def __reduce__(self) -> Never:
        raise TypeError("a Breaker cannot be pickled: a copy would count for itself; call the process that owns it")


class _Counts:
    """Calls and failures of the last ``window`` seconds, in parts."""

    def __init__(self, window: float) -> None:
        self._width = window / SLICES
        self._parts: deque[list[int]] = deque()
        """[number of the part, calls, failures], oldest first."""
        self._calls = self._failures = 0

    def add(self, now: float, *, failed: bool) -> None:
        part = int(now // self._width)
        # A clock that goes back counts in the newest part there is.
        if not self._parts or self._parts[-1][0] < part:
            self._parts.append([part, 0, 0])
        self._parts[-1][1] += 1
        self._parts[-1][2] += failed
        self._calls += 1
        self._failures += failed
        self.totals(now)

    def totals(self, now: float) -> tuple[int, int]:
        oldest = int(now // self._width) - SLICES
        while self._parts and self._parts[0][0] <= oldest:
            _, calls, failures = self._parts.popleft()
            self._calls -= calls
            self._failures -= failures
        return self._calls, self._failures


def counts_as_failure(error: ErrorInfo, options: BreakerOptions, retry: RetryOptions) -> bool | None:
    """Return True for a failure, False for an answer (a tool that raised something else works), None for neither.

    A failure is what may pass, what the retries name, and what ``options.on`` names; an attempt that ran out of time.

    >>> counts_as_failure(ErrorInfo("E003", "", "ConnectionError"), BreakerOptions(), RetryOptions())
    True
    >>> counts_as_failure(ErrorInfo("E001", ""), BreakerOptions(), RetryOptions()) is None
    True
    """
    if error.code in _NEVER_COUNTS:
        return None
    named = dataclasses.replace(retry, on=(*retry.on, *options.on))
    return is_transient(error, named)


def parse_breaker(value: object) -> BreakerOptions | None:
    """Return checked options from what a user wrote: None, True, a dict of some fields, or options themselves.

    Raises:
        InvalidParamsError: it is something else, or a field is unknown or out of its range.

    >>> parse_breaker({"minimum_calls": 5, "on": [ValueError]})
    BreakerOptions(failure_rate=0.5, minimum_calls=5, window=60.0, open_seconds=30.0, probes=1, on=('ValueError',))
    """
    if value is None or value is False:
        return None
    if value is True:
        return BreakerOptions()
    if isinstance(value, BreakerOptions):
        return _checked(value)
    if not isinstance(value, Mapping):
        raise InvalidParamsError(f"breaker is {shorten(value)}, expected True, None or a dict of options")
    known = [field.name for field in dataclasses.fields(BreakerOptions)]
    for key in value:
        if key not in known:
            raise InvalidParamsError(f"breaker has no option {shorten(key)!r}{alternatives(key, known)}")
    return _checked(BreakerOptions(**value))


def _checked(options: BreakerOptions) -> BreakerOptions:
    rate = options.failure_rate
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate <= 1:
        raise InvalidParamsError(f"breaker failure_rate is {shorten(rate)}, expected a number above 0 and up to 1")
    for name in ("minimum_calls", "probes"):
        number = getattr(options, name)
        if type(number) is not int or not 1 <= number <= MAX_CALLS:
            raise InvalidParamsError(
                f"breaker {name} is {shorten(number)}, expected a whole number from 1 to {MAX_CALLS}"
            )
    for name in ("window", "open_seconds"):
        seconds = getattr(options, name)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= MAX_SECONDS:
            raise InvalidParamsError(
                f"breaker {name} is {shorten(seconds)}, expected seconds above 0 and up to {MAX_SECONDS:g}"
            )
    return dataclasses.replace(
        options,
        failure_rate=float(rate),
        window=float(options.window),
        open_seconds=float(options.open_seconds),
        on=exception_names(options.on, "breaker"),
    )
