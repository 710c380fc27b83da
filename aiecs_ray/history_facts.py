"""What a coordinator tells the history: plain values, cheap to pickle, in numbered batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class RunFact(NamedTuple):
    """A run has begun."""

    run: str
    user_id: str
    task_id: str
    mode: str
    steps: int
    detach: bool
    compact: bool
    """It has too many steps to be recorded one by one."""
    began: float
    """Seconds since the epoch, as all times here."""


class EndFact(NamedTuple):
    """A run has ended."""

    run: str
    status: str
    ended: float
    seconds: float
    counts: Mapping[str, int]
    """Steps by status."""


class StepFact(NamedTuple):
    """A step has been heard of for the first time, or has ended."""

    run: str
    step: int
    fresh: bool
    """Nothing was said of it before."""
    spec: str
    status: str
    id: str | None = None
    params: Any = None
    """The packed parameters; their secrets are looked for in everything else."""
    slots: tuple[str, ...] = ()
    """The references that stand in the parameters, as the user wrote them."""
    payload: Any = None
    """The packed result, where it is small."""
    has_payload: bool = False
    summary: str = ""
    size: int = 0
    attempts: int = 0
    seconds: float = 0.0
    from_cache: bool = False
    key: str | None = None
    replica: str = ""
    node: str = ""
    ended: float | None = None
    code: str | None = None
    message: str | None = None


class EventsFact(NamedTuple):
    """Events of a run, in order: number, kind, time, step, data."""

    run: str
    events: tuple[tuple[int, str, float, int | None, Mapping[str, Any]], ...]


class BulkFact(NamedTuple):
    """Steps of one operation that are recorded together."""

    run: str
    spec: str
    counts: Mapping[str, int]
    """Steps by status."""
    seconds: bytes
    """How long each of them took that was computed and completed: doubles, one after the other."""
    size: int
    """Bytes of their results together."""
    from_cache: int
    retries: int
    last: float
    """When the last of them ended."""


Fact = RunFact | EndFact | StepFact | EventsFact | BulkFact


class Batch(NamedTuple):
    """Facts of one coordinator; ``number`` counts its batches, so that one that comes twice is known."""

    feed: str
    number: int
    time: float
    lost: int
    """Facts of this coordinator that could never be written, up to now."""
    facts: tuple[Fact, ...]
