"""When a failed attempt is tried again, and how long to wait before: pure decisions.

What may pass is decided by the names of an error's class and of its bases, so that it can be decided where the
class itself cannot be imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from tenacity import RetryCallState, Retrying, stop_after_attempt, wait_exponential

from aiecs_ray.errors import InvalidParamsError
from aiecs_ray.messages import ErrorInfo, RetryOptions
from aiecs_ray.quoting import alternatives, shorten

MAX_ATTEMPTS = 100
MAX_WAIT = 86_400.0
"""The longest wait between two attempts, in seconds."""
JITTER = 1.25
"""A wait is drawn from a range whose end is so many times its start."""

PROFILES: Mapping[str, RetryOptions] = MappingProxyType(
    {
        "api_call": RetryOptions(attempts=5, multiplier=2.0, timeouts=True),
        "database_query": RetryOptions(attempts=3, multiplier=1.0, timeouts=True),
        "file_operation": RetryOptions(attempts=2, multiplier=0.5, timeouts=True),
    }
)
"""Named options for ``retry="api_call"`` (document S1, D.2)."""

_MAY_PASS = frozenset(
    {
        "BlockingIOError",
        "ClientConnectionError",  # aiohttp
        "ConnectionError",  # also of redis and requests
        "DeadlockDetected",  # psycopg
        "DeadlockDetectedError",  # asyncpg
        "InterruptedError",
        "LockNotAvailable",  # psycopg
        "LockNotAvailableError",  # asyncpg
        "NetworkError",  # httpx
        "RemoteProtocolError",  # httpx: the server hung up
        "ReplicaLostError",
        "SerializationFailure",  # psycopg: a transaction to be repeated
        "Timeout",  # requests
        "TimeoutError",  # also of urllib3
        "TimeoutException",  # httpx
    }
)
_NEVER_PASS = frozenset({"E001", "E004", "E007"})
"""Codes of what no second attempt can change: wrong input, a cancellation, a reference that does not resolve."""
_TIMED_OUT = "E002"

_RETRYING = Retrying()


def is_transient(error: ErrorInfo, options: RetryOptions) -> bool:
    """Return whether another attempt may succeed: a connection, a time-out, a lost replica, or what ``on`` names.

    >>> is_transient(ErrorInfo("E003", "", "ConnectionResetError", ("ConnectionResetError", "ConnectionError")),
    ...              RetryOptions())
    True
    >>> is_transient(ErrorInfo("E003", "", "ValueError", ("ValueError", "Exception")), RetryOptions())
    False
    """
    if error.code in _NEVER_PASS:
        return False
    if error.transient or error.code == _TIMED_OUT:
        return True
    names = error.type_names or (error.type_name,)
    return any(_bare(name) in _MAY_PASS for name in names) or is_named(names, options.on)


def is_named(names: Sequence[str], wanted: Sequence[str]) -> bool:
    """Return whether one of an error's class names is wanted; a bare one stands for classes of any module.

    >>> is_named(("driver.DriverError", "Exception"), ("DriverError",))
    True
    """
    known = {*names, *map(_bare, names)}
    return any(name.removeprefix("builtins.") in known for name in wanted)


def next_wait(options: RetryOptions, attempt: int, random: Callable[[], float]) -> float | None:
    """Return the seconds to wait after attempt number ``attempt`` failed, or None when no attempt is left.

    The wait grows as ``multiplier * 2**(attempt - 1)`` within ``wait_min`` and ``wait_max`` (document S1,
    "指数退避算法"). So that many failures of one moment do not all come back in one moment, it is stretched by up to
    a quarter; near ``wait_max`` it is drawn from the last fifth below instead. ``random`` gives a number in [0, 1).

    >>> [next_wait(RetryOptions(attempts=4), attempt, lambda: 0.0) for attempt in (1, 2, 3, 4)]
    [1.0, 2.0, 4.0, None]
    """
    state = RetryCallState(_RETRYING, None, (), {})
    state.attempt_number = attempt
    if stop_after_attempt(options.attempts)(state):
        return None
    wait = wait_exponential(multiplier=options.multiplier, min=options.wait_min, max=options.wait_max)(state)
    high = min(wait * JITTER, options.wait_max)
    low = max(high / JITTER, options.wait_min)
    return low + random() * (high - low)


def parse_retry(value: object, default: RetryOptions | None = None) -> RetryOptions:
    """Return checked options from what a user wrote.

    ``value`` is None, a number of attempts, the name of a profile, a mapping of some fields, or options themselves.
    What it leaves open is taken from ``default``.

    Raises:
        InvalidParamsError: it is something else, or a field is unknown or out of its range.

    >>> parse_retry(5).attempts, parse_retry("api_call").multiplier, parse_retry({"on": [KeyError]}).on
    (5, 2.0, ('KeyError',))
    """
    base = default or RetryOptions()
    if value is None:
        return base
    if isinstance(value, RetryOptions):
        return _checked(value)
    if isinstance(value, str):
        return _profile(value)
    # Who asks for another attempt wants it after a time-out too, unless the mapping says otherwise.
    base = dataclasses.replace(base, timeouts=True)
    if isinstance(value, Mapping):
        return _from_mapping(value, base)
    if isinstance(value, int):
        return _checked(dataclasses.replace(base, attempts=value))
    raise InvalidParamsError(
        f"retry is {shorten(value)}, expected a number of attempts, a dict or one of {', '.join(PROFILES)}"
    )


def _profile(name: str) -> RetryOptions:
    if name not in PROFILES:
        raise InvalidParamsError(f"retry has no profile {shorten(name)!r}{alternatives(name, PROFILES)}")
    return PROFILES[name]


def _from_mapping(value: Mapping[object, object], base: RetryOptions) -> RetryOptions:
    known = [field.name for field in dataclasses.fields(RetryOptions)]
    for key in value:
        if key not in known:
            raise InvalidParamsError(f"retry has no option {shorten(key)!r}{alternatives(key, known)}")
    return _checked(dataclasses.replace(base, **value))  # type: ignore[arg-type]  # checked next, and here by name


def _checked(options: RetryOptions) -> RetryOptions:
    attempts = options.attempts
    if type(attempts) is not int or not 1 <= attempts <= MAX_ATTEMPTS:
        raise InvalidParamsError(
            f"retry attempts is {shorten(attempts)}, expected a whole number from 1 to {MAX_ATTEMPTS} "
            "(it counts the first attempt too)"
        )
    for name in ("wait_min", "wait_max", "multiplier"):
        seconds = getattr(options, name)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= MAX_WAIT:
            raise InvalidParamsError(f"retry {name} is {shorten(seconds)}, expected seconds from 0 to {MAX_WAIT:g}")
    if options.wait_min > options.wait_max:
        raise InvalidParamsError(
            f"retry wait_min is {options.wait_min:g}, more than wait_max={options.wait_max:g}; give both"
        )
    return dataclasses.replace(
        options,
        wait_min=float(options.wait_min),
        wait_max=float(options.wait_max),
        multiplier=float(options.multiplier),
        on=exception_names(options.on, "retry"),
    )


def exception_names(value: object, option: str) -> tuple[str, ...]:
    """Return the names of exception classes from classes and names; ``option`` is whose ``on`` it is.

    Raises:
        InvalidParamsError: it holds something else.

    >>> exception_names([KeyError, "driver.DriverError"], "retry")
    ('KeyError', 'driver.DriverError')
    """
    items = value if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    names = tuple(_name(item) if isinstance(item, type) else item for item in items)
    for item, name in zip(items, names, strict=True):
        if isinstance(item, type) and not issubclass(item, Exception):
            raise InvalidParamsError(f"{option} on holds the class {item.__name__}, which is not an Exception")
        if not isinstance(name, str) or not name or any(part.isspace() for part in name):
            raise InvalidParamsError(f"{option} on holds {shorten(name)}, expected exception classes or their names")
    return tuple(sorted(names)) if isinstance(value, (set, frozenset)) else names


def _name(kind: type) -> str:
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _bare(name: str) -> str:
    return name.rpartition(".")[2]
