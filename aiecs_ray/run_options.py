"""How a list of operations is to be run, and what comes of preparing it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from aiecs_ray.context import Context
from aiecs_ray.errors import InvalidInputError
from aiecs_ray.messages import Limits, Mode, RetryOptions, RunRequest, ToolSpec
from aiecs_ray.quoting import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiecs_ray.errors import AiecsError
    from aiecs_ray.messages import CacheMode


class Handle:
    """A value that was put with ``rt.put``; it can stand anywhere inside parameters."""

    __slots__ = ("identity", "payload", "size", "summary")

    def __init__(self, payload: Any, identity: bytes | None, size: int, summary: str) -> None:
        self.payload, self.identity, self.size, self.summary = payload, identity, size, summary

    def __repr__(self) -> str:
        return f"Handle({self.summary}, {self.size} bytes)"


@dataclasses.dataclass(frozen=True, slots=True)
class RunOptions:
    """How a list of operations is to be run."""

    mode: Mode = "sequence"
    context: Context = dataclasses.field(default_factory=Context)
    stop_on_failure: bool = False
    keep: Literal["all", "last"] | Sequence[int | str] = "all"
    deadline: float | None = None
    cache: CacheMode | bool | None = None
    """"off" switches the cache off for the whole run; None leaves it to the operations and the context."""
    detach: bool = False
    _: dataclasses.KW_ONLY
    limits: Limits = dataclasses.field(default_factory=Limits)
    timeout: float | None = None
    """Of each attempt, where neither the operation nor the request says otherwise."""
    retry: RetryOptions | None = None
    """Where neither the operation nor the request says otherwise."""
    timeouts: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Limits set by hand, by spec or operation name; they win over everything else (C-33, C-34)."""
    context_results: Sequence[Any] | None = None
    """Results that ``$result[i]`` reads instead of this run's own (C-07)."""
    references: bool = True
    """False where every operation stands alone; one that refers to another is wrong then."""
    calls: tuple[str, ...] = ()
    """The operations inside of which this is asked for, outermost first."""
    tolerate: tuple[type[AiecsError], ...] = ()
    """Errors of one operation that become its result, instead of refusing the whole list."""


class Prepared(NamedTuple):
    """A request, and the tools that it uses."""

    request: RunRequest
    tools: dict[str, ToolSpec]
    specs: list[str]


def checked_mode(mode: Any) -> Mode:
    """Return ``mode``.

    Raises:
        InvalidInputError: there is no such mode.
    """
    if mode not in get_args(Mode):
        raise InvalidInputError(f"mode must be one of {', '.join(get_args(Mode))}, got {shorten(mode)}")
    return mode  # type: ignore[no-any-return]
