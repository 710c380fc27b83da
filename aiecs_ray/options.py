"""What an author can say of a tool and of its operations: frozen values, checked when they are made."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, Literal, TypeVar, get_args

from aiecs_ray.breaker import parse_breaker
from aiecs_ray.errors import InvalidInputError, InvalidParamsError, InvalidToolError
from aiecs_ray.limits import MAX_UNITS, check_limits
from aiecs_ray.messages import BreakerOptions, RetryOptions, Scope
from aiecs_ray.operation import MAX_SECONDS
from aiecs_ray.quoting import alternatives, shorten
from aiecs_ray.retry import parse_retry

MAX_CONCURRENCY = 10_000
ASYNC_CONCURRENCY = 100
"""Operations in flight per replica of a tool that has async operations, unless ``concurrency`` says otherwise."""

Fingerprint = Literal["mtime", "content"]
UnknownParams = Literal["drop", "error"]

TOOL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
OPERATION_NAME = re.compile(r"[a-z][A-Za-z0-9_]{0,63}", re.ASCII)

Options = TypeVar("Options", "OperationOptions", "ToolOptions")

_RESERVED_RESOURCES = ("CPU", "GPU", "memory", "object_store_memory")
_PLAIN = (type(None), bool, int, float, str, bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationOptions:
    """How one operation is run, retried and cached.

    Raises:
        InvalidToolError: a value is out of its range; the message names it.

    >>> OperationOptions(timeout=5).timeout
    5.0

    """

    timeout: float | None = None
    """Seconds an attempt may take; None: no limit."""
    deadline: float | None = None
    """Seconds the operation may take with all its attempts and waits; None: no limit."""
    retry: RetryOptions | None = None
    """When to try again; None: what the runtime is configured with."""
    idempotent: bool = True
    """May it be answered from the cache, retried after it started, and run again when its replica is lost?"""
    cache: bool | None = None
    """True: also without a context; False: never; None: in a context only (``user_id`` or ``task_id``)."""
    ttl: float | Callable[[Any], float | None] | None = None
    """Seconds a cached result lives; 0: it is not stored; None: what the runtime is configured with. A function is
    called with each result, where that was made, and returns one of these."""
    scope: Scope = "task"
    """Who shares a cached result: the same task, the same user, or everybody."""
    writable: tuple[str, ...] = ()
    """Parameters that arrive as private copies the operation may change."""
    fingerprint: Mapping[str, Fingerprint] = field(default_factory=dict)
    """Parameters that name files whose state belongs to the cache key."""
    ignore: tuple[str, ...] = ()
    """Parameters that do not belong to the cache key."""
    tags: tuple[str, ...] = ()
    """Free labels, for selecting operations."""
    rate: float | None = None
    """Units started in any second, by all callers of the cluster together; None: no limit."""
    burst: int = 1
    """Units that may start at once after a pause."""
    max_concurrency: int | None = None
    """Units in flight, for all callers of the cluster together; None: no limit."""
    weight: int = 1
    """Units that one start counts, against these limits and those of its tool and its run."""
    breaker: BreakerOptions | None = None
    """When to leave it alone after failures; None: never, or as its tool says."""

    def __post_init__(self) -> None:
        _put(self, "timeout", seconds("timeout", self.timeout))
        _put(self, "deadline", seconds("deadline", self.deadline))
        if not callable(self.ttl):
            _put(self, "ttl", seconds("ttl", self.ttl, zero=True))
        _put(self, "retry", retry_options(self.retry))
        _flag("idempotent", self.idempotent)
        if self.cache is not None:
            _flag("cache", self.cache)
        _choice("scope", self.scope, get_args(Scope))
        for name in ("writable", "ignore", "tags"):
            _put(self, name, _names(name, getattr(self, name)))
        _put(self, "fingerprint", _fingerprint(self.fingerprint))
        _whole("weight", self.weight, 1, MAX_UNITS, none=False)
        _limits(self)
        self._check_together()

    def _check_together(self) -> None:
        if self.idempotent:
            return
        if self.cache:
            raise InvalidToolError("cache=True needs idempotent=True: a cached answer stands for a run")
        if self.retry is not None and self.retry.attempts > 1:
            raise InvalidToolError("retry needs idempotent=True: an operation that is tried again runs more than once")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOptions:
    """How replicas of a tool are made and kept.

    Raises:
        InvalidToolError: a value is out of its range; the message names it.

    >>> ToolOptions(stateful=True).max_replicas
    1

    """

    max_replicas: int | None = None
    """At most so many replicas; None: as many as the cluster has CPUs. A stateful tool has one."""
    min_replicas: int = 0
    """So many are kept even when idle."""
    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: int | None = None
    """Bytes that the scheduler reserves for a replica."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Custom resources of the cluster, by name."""
    stateful: bool = False
    """Operations see what earlier ones left in the instance: one replica, and results are copied out of it."""
    concurrency: int | None = None
    """Operations in flight per replica; None: 1, or 100 when the tool has async operations."""
    idle_timeout: float = 300.0
    """Seconds after which an idle replica is stopped."""
    init_timeout: float = 600.0
    """Seconds that the constructor may take."""
    runtime_env: Mapping[str, Any] | None = None
    """Ray's runtime environment for the replicas, merged over the client's."""
    version: str | None = None
    """Stands for the code in replica and cache keys; None: computed from the source."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the constructor: plain values."""
    unknown_params: UnknownParams = "drop"
    """What happens to a parameter that the operation does not declare (contradiction C-10)."""
    rate: float | None = None
    """Units started in any second by all operations together, by all callers of the cluster; None: no limit."""
    burst: int = 1
    """Units that may start at once after a pause."""
    max_concurrency: int | None = None
    """Units in flight in all replicas together; None: no limit."""
    breaker: BreakerOptions | None = None
    """When to leave an operation alone after failures, for each operation that does not say so itself."""

    def __post_init__(self) -> None:
        _flag("stateful", self.stateful)
        _whole("max_replicas", self.max_replicas, 1, 100_000)
        _whole("min_replicas", self.min_replicas, 0, 100_000)
        _whole("concurrency", self.concurrency, 1, MAX_CONCURRENCY)
        _whole("memory", self.memory, 1, 2**63 - 1)
        for name in ("num_cpus", "num_gpus"):
            _put(self, name, _amount(name, getattr(self, name)))
        for name in ("idle_timeout", "init_timeout"):
            if getattr(self, name) is None:
                raise InvalidToolError(f"{name} is None, expected seconds above 0")
            _put(self, name, seconds(name, getattr(self, name)))
        _put(self, "resources", _resources(self.resources))
        _put(self, "config", _config(self.config))
        _runtime_env(self.runtime_env)
        if self.version is not None and not (isinstance(self.version, str) and self.version):
            raise InvalidToolError(f"version is {shorten(self.version)}, expected text that is not empty")
        _choice("unknown_params", self.unknown_params, get_args(UnknownParams))
        _limits(self)
        self._check_together()

    def _check_together(self) -> None:
        if self.stateful and self.max_replicas not in (None, 1):
            raise InvalidToolError(f"max_replicas is {self.max_replicas}, but a stateful tool has one replica")
        if self.stateful:
            _put(self, "max_replicas", 1)
        if self.max_replicas is not None and self.min_replicas > self.max_replicas:
            raise InvalidToolError(f"min_replicas is {self.min_replicas}, more than max_replicas={self.max_replicas}")


def make_options(kind: type[Options], given: Mapping[str, Any], owner: str) -> Options:
    """Return options made of ``given``.

    Raises:
        InvalidToolError: a name or a value is wrong; the message begins with ``owner``.

    """
    known = [option.name for option in fields(kind)]
    for key in given:
        if key not in known:
            raise InvalidToolError(f"{owner}: there is no option {shorten(key)!r}{alternatives(key, known)}")
    try:
        return kind(**given)
    except InvalidToolError as error:
        raise InvalidToolError(f"{owner}: {error}") from None


def retry_options(value: object) -> RetryOptions | None:
    """Return what :func:`~aiecs_ray.retry.parse_retry` makes of ``value``; None for None.

    Raises:
        InvalidToolError: it makes nothing of it.

    >>> retry_options({"attempts": 5, "on": [KeyError, "DriverError"]}).on
    ('KeyError', 'DriverError')

    """
    if value is None:
        return None
    try:
        return parse_retry(value)
    except InvalidParamsError as error:
        raise InvalidToolError(str(error)) from None


def _limits(options: OperationOptions | ToolOptions) -> None:
    """Check what both kinds of options say of limits and breakers."""
    try:
        check_limits(options.rate, options.max_concurrency, options.burst)
        _put(options, "breaker", parse_breaker(options.breaker))
    except InvalidInputError as error:
        raise InvalidToolError(str(error).replace("concurrency is", "max_concurrency is")) from None


def seconds(name: str, value: object, *, zero: bool = False) -> float | None:
    """Return ``value`` as seconds, or None for None.

    Raises:
        InvalidToolError: it is not a finite number above 0 (from 0 on with ``zero``) and up to 30 years.

    """
    if value is None:
        return None
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        low_enough = number <= MAX_SECONDS  # False for NaN
        if low_enough and (number > 0 or (zero and number == 0)):
            return number
    least = "at least 0" if zero else "above 0"
    raise InvalidToolError(f"{name} is {shorten(value)}, expected seconds {least} and at most {MAX_SECONDS:g}")


def check_tool_name(name: object) -> str:
    """Return ``name`` when it can name a tool.

    Raises:
        InvalidToolError: it does not follow ``[A-Za-z][A-Za-z0-9_-]{0,63}``.

    """
    if isinstance(name, str) and TOOL_NAME.fullmatch(name):
        return name
    raise InvalidToolError(
        f"tool name is {shorten(name)}, expected up to 64 ASCII letters, digits, '_' and '-', a letter first"
    )


def _fingerprint(value: object) -> Mapping[str, Fingerprint]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidToolError(f"fingerprint is {shorten(value)}, expected a dict of parameter names")
    for name, how in value.items():
        _names("fingerprint", (name,))
        _choice(f"fingerprint of {name}", how, get_args(Fingerprint))
    return dict(value)


def _names(option: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        raise InvalidToolError(f"{option} is {shorten(value)!r}, expected a tuple of names: ({shorten(value)!r},)")
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise InvalidToolError(f"{option} is {shorten(value)}, expected a tuple of names")
    for name in value:
        if not (isinstance(name, str) and name):
            raise InvalidToolError(f"{option} holds {shorten(name)}, expected a name")
    return tuple(sorted(value)) if isinstance(value, (set, frozenset)) else tuple(value)


def _choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    if not (isinstance(value, str) and value in choices):
        raise InvalidToolError(f"{option} is {shorten(value)}, expected {' or '.join(map(repr, choices))}")


def _flag(option: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidToolError(f"{option} is {shorten(value)}, expected True or False")


def _whole(option: str, value: object, least: int, most: int, *, none: bool = True) -> None:
    if value is None and none and option != "min_replicas":
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidToolError(f"{option} is {shorten(value)}, expected a whole number from {least} to {most}")


def _amount(option: str, value: object) -> float | None:
    """Ray gives out fractions of one CPU or GPU, but only whole numbers above one."""
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        if value <= 1 or float(value).is_integer():
            return float(value)
        raise InvalidToolError(f"{option} is {value}, expected a whole number when above 1")
    raise InvalidToolError(f"{option} is {shorten(value)}, expected a finite number from 0 on")


def _resources(value: object) -> Mapping[str, float]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidToolError(f"resources is {shorten(value)}, expected a dict of amounts")
    for name in value:
        if not isinstance(name, str) or not name or name in _RESERVED_RESOURCES:
            raise InvalidToolError(
                f"resources holds {shorten(name)!r}, expected the name of a custom resource "
                "(num_cpus, num_gpus and memory have options of their own)"
            )
    return {name: _amount(f"resources[{name!r}]", amount) or 0.0 for name, amount in value.items()}


def _runtime_env(value: object) -> None:
    if value is not None and not (isinstance(value, Mapping) and all(isinstance(key, str) for key in value)):
        raise InvalidToolError(f"runtime_env is {shorten(value)}, expected a dict such as {{'working_dir': '.'}}")


def _config(value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidToolError(f"config is {shorten(value)}, expected a dict of constructor arguments")
    for name, item in value.items():
        if not (isinstance(name, str) and name.isidentifier()):
            raise InvalidToolError(f"config holds {shorten(name)!r}, expected the name of a constructor argument")
        _check_plain(f"config[{name!r}]", item, depth=32)
    return dict(value)


def _check_plain(path: str, value: object, depth: int) -> None:
    if depth == 0:
        raise InvalidToolError(f"{path} is nested too deeply")
    if type(value) in (list, tuple):
        for index, item in enumerate(value):  # type: ignore[var-annotated, arg-type]
            _check_plain(f"{path}[{index}]", item, depth - 1)
    elif type(value) is dict:
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidToolError(f"{path} has the key {shorten(key)}, expected text")
            _check_plain(f"{path}[{shorten(key)!r}]", item, depth - 1)
    elif type(value) not in _PLAIN:
        raise InvalidToolError(
            f"{path} is {shorten(value)}, expected plain values (None, bool, number, text, bytes, list, dict): "
            "build anything else in the constructor"
        )


def _put(target: object, name: str, value: object) -> None:
    """Set a field of a frozen value while it is being made."""
    object.__setattr__(target, name, value)
