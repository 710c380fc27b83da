"""What client, coordinator and replica say to each other: plain values, cheap to pickle, free of user code.

Parameters and results travel as :class:`~aiecs_ray.packing.Packed` or as bytes, so a coordinator can pass them on
without ever running the code that makes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from enum import Enum, IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aiecs_ray.columns import Columns, to_columns, to_rows
from aiecs_ray.errors import RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

CacheMode = Literal["on", "off", "refresh", "only"]
Scope = Literal["task", "user", "global"]
Mode = Literal["sequence", "parallel", "batch"]

PROTOCOL = 1
"""Version of these messages; part of the names of the shared actors, so that two versions never meet."""


def check_protocol(theirs: int) -> None:
    """Raise unless a coordinator speaks the version of this process.

    Raises:
        RuntimeUnavailableError: it speaks another one.
    """
    if theirs != PROTOCOL:
        text = f"the coordinator speaks protocol {theirs}, this client protocol {PROTOCOL}"
        raise RuntimeUnavailableError(f"{text}; install the same version of aiecs-ray on both sides")


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """When and how often an operation is tried again.

    ``attempts`` counts all attempts, the first one too. The wait before attempt *n* + 1 is
    ``multiplier * 2**(n - 1)`` seconds, at least ``wait_min`` and at most ``wait_max`` (document S1, "指数退避算法").
    ``on`` names further exception classes that may pass, beside connection errors, time-outs and lost replicas.
    """

    attempts: int = 3
    wait_min: float = 1.0
    wait_max: float = 10.0
    multiplier: float = 1.0
    on: tuple[str, ...] = ()
    timeouts: bool = False
    """Whether an attempt that was stopped at its time limit is tried again; a user who asks for retries wants that."""


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """When a failing operation is left alone, and when it is tried again.

    The circuit opens when at least ``minimum_calls`` calls ended within ``window`` seconds and ``failure_rate`` of them
    failed. After ``open_seconds`` so many ``probes`` are let through: when all of them go well it closes, when one
    fails it opens again. A failure is what may pass (connections, time-outs, lost replicas) and what ``on`` names.
    """

    failure_rate: float = 0.5
    minimum_calls: int = 10
    window: float = 60.0
    open_seconds: float = 30.0
    probes: int = 1
    on: tuple[str, ...] = ()


class Policy(NamedTuple):
    """What the runtime must know of an operation, shared by all steps of a run that call it the same way."""

    spec: str
    tool: str
    """The pool: tool name, code version, configuration and environment in one key."""
    operation: str
    timeout: float | None = None
    deadline: float | None = None
    retry: RetryOptions = RetryOptions()
    idempotent: bool = True
    is_async: bool = False
    stateful: bool = False
    cache: CacheMode = "off"
    ttl: float | None = None
    scope: Scope = "task"
    version: str = ""
    """Code version of the tool, a part of every cache key; so are the two that follow."""
    config: str = ""
    """Digest of what the tool is built with; empty without a config."""
    environment: str = ""
    """Digest of the runtime_env in which it runs; empty without one."""
    priority: int = 0
    weight: int = 1
    """Units that one start counts against the limits it passes."""
    tags: tuple[str, ...] = ()


class Input(NamedTuple):
    """One value that a step takes from elsewhere: an earlier step's result, or an object that the client put."""

    kind: Literal["step", "object"]
    place: int
    path: tuple[str | int, ...] = ()
    text: str = ""
    """The reference as the user wrote it, for error messages."""


class Step(NamedTuple):
    """One operation of a run, as the client sends it."""

    policy: int
    """Index into the request's ``policies``."""
    params: Any
    """The packed parameters; references are slots that read ``inputs``."""
    inputs: tuple[Input, ...] = ()
    after: tuple[int, ...] = ()
    """Steps that must have ended well before this one starts (``depends_on``)."""
    digest: bytes | None = None
    """Canonical digest of the literal parameters; None when the step cannot be cached."""
    uncacheable: str = ""
    """Why ``digest`` is None although the operation would be cached."""
    files: tuple[tuple[str, str], ...] = ()
    """Files whose state belongs to the cache key: (path, "mtime" or "content")."""
    id: str | None = None
    refusal: ErrorInfo | None = None
    """Why the step cannot run, when only it is wrong and not the whole request."""
    keyed: int | None = None
    """How many of ``inputs``, from the first on, belong to the cache key; None: all."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """Everything a coordinator needs to start replicas of a tool.

    ``source`` is an import path ``"module:Class"`` or the pickled class; only replicas load it.
    """

    key: str
    name: str
    source: str | bytes
    version: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Replica options: max_replicas, min_replicas, num_cpus, num_gpus, memory, resources, stateful, concurrency,
    idle_timeout, init_timeout, runtime_env, config."""
    operations: tuple[Mapping[str, Any], ...] = ()
    """Descriptions for ``list_tools()``: name, parameters, schema, doc."""
    has_async: bool = False
    config: str = ""
    """Digest of the config in ``options``; empty without one."""
    environment: str = ""
    """Digest of what in the runtime_env can change a result; empty without any."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``rate`` units started in any second, ``burst`` of them at once after a pause, ``concurrency`` in flight.

    A unit is an operation, or what its ``weight`` says. Runs whose limits have one ``name`` share them.
    """

    name: str = ""
    rate: float | None = None
    concurrency: int | None = None
    burst: int = 1

    @property
    def bound(self) -> bool:
        """Whether there is any limit."""
        return self.rate is not None or self.concurrency is not None


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A whole run in one message."""

    steps: tuple[Step, ...]
    policies: tuple[Policy, ...]
    objects: tuple[Any, ...] = ()
    """Values that the client put: payloads or references."""
    object_ids: tuple[bytes | None, ...] = ()
    """Content digest of each object, for cache keys; None when it has none."""
    mode: Mode = "sequence"
    user_id: str = ""
    task_id: str = ""
    stop_on_failure: bool = False
    keep: Literal["all", "last"] | tuple[int, ...] = "all"
    deadline: float | None = None
    limits: Limits = Limits()
    client: str = ""
    """Who submits; an attached run is cancelled when its client is gone."""
    token: str = ""
    """The part of the run id that the client chose: the same request sent twice is one run."""
    detach: bool = False
    calls: tuple[str, ...] = ()
    """The operations inside of which this was asked for, outermost first."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _request, (to_columns(self.steps), *[getattr(self, name) for name in _BESIDE_STEPS])

    def without_inputs(self, but: Collection[int] = ()) -> RunRequest:
        """Return the request of a finished run: of its parameters and objects, only those of the steps ``but``."""
        bare = [Step(policy, b"") for policy in range(len(self.policies))]
        steps = tuple(
            [
                step if index in but else bare[step.policy] if step.id is None else Step(step.policy, b"", id=step.id)
                for index, step in enumerate(self.steps)
            ]
        )
        if not but:
            return replace(self, steps=steps, objects=(), object_ids=())
        needed = {source.place for step in steps for source in step.inputs if source.kind == "object"}
        objects = tuple(payload if place in needed else None for place, payload in enumerate(self.objects))
        return replace(self, steps=steps, objects=objects)


_BESIDE_STEPS = tuple(field.name for field in fields(RunRequest))[1:]


def _request(steps: Columns, *others: Any) -> RunRequest:
    return RunRequest(tuple(to_rows(Step, steps)), *others)


class Item(NamedTuple):
    """One step inside a :class:`Work`."""

    step: int
    attempt: int
    operation: str
    params: Any
    inputs: tuple[tuple[Literal["value", "item"], int, tuple[str | int, ...], str], ...] = ()
    """Per slot: where from (``Work.values`` or an earlier item's result), which one, the path, the reference."""
    idempotent: bool = True
    files: tuple[tuple[str, str], ...] = ()
    """Files whose state the outcome has to tell, as in the step."""
    left_out: bool = False
    """Its result, if it is large, stays in the replica: nobody needs it but later items of this work."""


class Elided(Enum):
    """Stands for a large result that never left its replica, where later items of the same work have read it."""

    ELIDED = "elided"


class Work(NamedTuple):
    """What one call of a replica carries: a chain of dependent steps, or a chunk of independent ones."""

    id: int
    run: str
    items: tuple[Item, ...]
    values: tuple[Any, ...] = ()
    """Payloads and references that the items read."""
    chain: bool = False
    user_id: str = ""
    task_id: str = ""
    calls: tuple[str, ...] = ()
    """As in the request."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _work, (self.id, self.run, to_columns(self.items), *self[3:])


def _work(number: int, run: str, items: Columns, *others: Any) -> Work:
    return Work(number, run, tuple(to_rows(Item, items)), *others)


class Mark(IntEnum):
    """How far an attempt has come, as its replica marked it."""

    PREPARING = 1
    """Its inputs are fetched and unpickled; the tool's own code has not been called."""
    STARTED = 2
    DONE = 3


class ErrorInfo(NamedTuple):
    """What is known of a failure, as plain text: nothing of the tool is needed to read it."""

    code: str
    message: str
    type_name: str = ""
    type_names: tuple[str, ...] = ()
    """Names of the exception's class and its bases, most derived first."""
    traceback: str = ""
    exception: bytes | None = None
    """The exception itself, pickled, where it survived a round trip."""
    transient: bool = False

    @property
    def size(self) -> int:
        """Bytes of its texts and its exception."""
        return len(self.message) + len(self.traceback) + len(self.exception or b"")


class Outcome(NamedTuple):
    """How one item ended in its replica."""

    step: int
    attempt: int
    kind: Literal["value", "error", "cancelled"]
    payload: Any = None
    """For ``value``: an inline payload, a reference that the backend made of a large one, or :class:`Elided`."""
    size: int = 0
    summary: str = ""
    """Type and shape of the value, for people."""
    error: ErrorInfo | None = None
    seconds: float = 0.0
    progress: tuple[float, float | None, str] | None = None
    """What the operation reported last."""
    lost: int | None = None
    """Which of its inputs is gone, when that is the error."""
    ttl: float | None = None
    """Seconds for which its result may be cached, where the operation computes that from the result; 0: not at all."""
    uncacheable: str = ""
    """Why its result cannot be cached."""
    files: tuple[bytes, ...] = ()
    """States of the item's files, taken when the body had ended."""


class Settled(NamedTuple):
    """How a step ended, as the client receives it."""

    status: str
    payload: Any = None
    error: ErrorInfo | None = None
    from_cache: bool = False
    seconds: float = 0.0
    attempts: int = 0
    size: int = 0
    dropped: bool = False
    """It completed, and its result was not kept."""


class Outcomes(list[Outcome]):
    """Outcomes that are on their way together."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _outcomes, (to_columns(self),)


def _outcomes(columns: Columns) -> Outcomes:
    return Outcomes(to_rows(Outcome, columns))


class EventKind(StrEnum):
    """What an event tells, and what its ``data`` holds."""

    RUN_STARTED = "run_started"
    """``steps``, ``mode``, and for 2 to 2,000 steps ``plan``: ``specs``, and of each step which of them, its id, the
    steps that it reads and those that it comes after."""
    RUN_FINISHED = "run_finished"
    """``status``, ``counts`` of steps by status, ``seconds``."""
    STEP_STARTED = "step_started"
    """``spec``, ``attempt``."""
    STEP_COMPLETED = "step_completed"
    """``spec``, ``seconds``, ``attempts``, ``from_cache``, ``joined`` (the result is that of an identical operation
    which was under way), ``size`` in bytes, ``summary`` of the result, ``uncacheable``, where it is, with why, and
    ``replica`` and ``node`` where it was sent to one."""
    STEP_FAILED = "step_failed"
    """``spec``, ``seconds``, ``attempts``, ``code``, ``message``; so have the three that follow."""
    STEP_TIMED_OUT = "step_timed_out"
    STEP_CANCELLED = "step_cancelled"
    STEP_SKIPPED = "step_skipped"
    """It never started, because a step before it did not complete."""
    STEP_RETRYING = "step_retrying"
    """``attempt`` that failed, its ``code`` and ``message``, ``seconds`` until the next one."""
    STEP_SLOW = "step_slow"
    """It has no time limit and has run for ``seconds``."""
    STEP_REMADE = "step_remade"
    """Its result had been lost with its node, or had stayed in a replica that has it no more, and was made anew."""
    PROGRESS = "progress"
    """``done``, ``total``, ``message``, as the operation reported them."""
    REPLICA_STARTED = "replica_started"
    """A replica of ``tool`` is ready, after ``seconds``."""
    REPLICA_DIED = "replica_died"
    """A replica of ``tool`` that held work of the run died; ``message`` says of what."""
    BREAKER_OPENED = "breaker_opened"
    """Calls of ``spec`` are rejected for ``seconds``; ``failures`` of ``calls`` failed within the window."""
    BREAKER_HALF_OPEN = "breaker_half_open"
    """Some calls of ``spec`` are let through to see whether it works again."""
    BREAKER_CLOSED = "breaker_closed"
    """Calls of ``spec`` are let through again."""


class Event(NamedTuple):
    """One numbered event of a run; ``kind`` and the keys of ``data`` are versioned by ``version``."""

    number: int
    kind: EventKind
    run: str
    time: float
    """Seconds since the epoch, by the coordinator's clock."""
    step: int | None = None
    data: Mapping[str, Any] = {}
    version: int = 1
