"""What the coordinator needs of the world around it: processes for tools, a cache, and the state of the cluster.

Two implementations: :mod:`aiecs_ray.ray_backend` and :mod:`aiecs_ray.inprocess`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from aiecs_ray.columns import to_columns, to_rows

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from aiecs_ray.columns import Columns
    from aiecs_ray.messages import ErrorInfo, Mark, Outcome, ToolSpec, Work
    from aiecs_ray.metering import Sample
    from aiecs_ray.packing import Packed


class ReplicaDied(Exception):  # noqa: N818  # an event between backend and coordinator, never a user's error
    """The process of a replica is gone; the argument says of what, as far as the backend knows."""

    def __init__(self, cause: str, *, of_memory: bool = False) -> None:
        super().__init__(cause)
        self.of_memory = of_memory
        """Its node had no memory left."""


class HistoryGone(Exception):  # noqa: N818  # an event between backend and coordinator, never a user's error
    """The history did not write a batch; the argument says why, as far as the backend knows."""


class Running(NamedTuple):
    """An operation that runs in a replica now, and for how many seconds."""

    work: int
    step: int
    seconds: float


class Stopped(NamedTuple):
    """What a replica says when it is told to begin nothing more of some work."""

    running: tuple[int, ...] = ()
    """Its steps whose bodies are running. Nothing else of it can have an effect any more."""
    begun: tuple[int, ...] = ()
    """Its steps that have begun: those that run, and those whose outcomes are here or on their way."""
    outcomes: Sequence[Outcome] = ()
    """Outcomes that were waiting for the end of a body after them; they are reported here and nowhere else."""


class Remains(NamedTuple):
    """What is left of a replica that died."""

    marks: Mapping[tuple[int, int], Mark] | None = None
    """How far its attempts had come, by (work, step); None when nobody can tell, for its node is gone."""
    last_words: str = ""
    """What the interpreter said when it crashed: the signal, and where."""


class Replica(Protocol):
    """One tool instance in its own process or thread."""

    node: str
    """Where it runs; empty until it is built."""

    async def start(self) -> ErrorInfo | None:
        """Wait until the tool is built; return what its constructor raised. Raises ReplicaDied."""

    def send(self, work: Work, *, stream: bool) -> AsyncIterator[list[Outcome]]:
        """Run ``work`` and yield outcomes as they arrive, large values as references. Raises ReplicaDied."""

    async def status(self) -> Sequence[Running]:
        """Return what is running now. Raises ReplicaDied."""

    async def stop(self, work: int, ask: Sequence[int] = ()) -> Stopped:
        """Begin nothing more of ``work``; tell the bodies of the steps ``ask`` to end. Raises ReplicaDied."""

    async def collect(self, work: int) -> Stopped:
        """Hand over the outcomes of ``work`` that wait for the end of a body after them. Raises ReplicaDied."""

    def kill(self) -> None:
        """End the replica at once, whatever it does, and the processes that it started."""

    async def remains(self) -> Remains:
        """Wait until nothing of the replica can run any more, and return what it left."""


class KeyParts(NamedTuple):
    """What a cache key is made of, beside tool and operation."""

    version: str
    scope: str
    owner: tuple[str, str]
    """User and task of the call."""
    params: bytes
    """Digest of the parameters."""
    inputs: tuple[tuple[bytes, ...], ...] = ()
    """Identities of the results that the parameters refer to."""
    files: tuple[bytes, ...] = ()
    """States of the files that they name."""
    config: str = ""
    """Digest of the tool's config."""
    environment: str = ""
    """Digest of the tool's runtime_env."""


class CacheEntry(NamedTuple):
    """A cached result; ``generation`` is new at each computation."""

    key: str
    payload: Any
    size: int
    generation: bytes
    summary: str = ""
    tool: str = ""
    operation: str = ""
    user_id: str = ""
    task_id: str = ""
    seconds: float = 0.0
    ttl: float | None = None
    """Seconds that it lives; None: as the cache is configured. One that is put with 0 takes the old one away."""
    tags: tuple[str, ...] = ()
    """Labels of the operation."""
    left: float | None = None
    """Of one that was found: seconds that it has left; None: it stays."""
    parts: KeyParts | None = None

    @property
    def spec(self) -> str:
        """The operation as users call it."""
        return f"{self.tool}.{self.operation}"


class CacheEntries(list[Any]):
    """Entries that are on their way together, None where there is none."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        count, fields = to_columns([entry for entry in self if entry is not None])
        # The parts of a key are the last field: columns inside a column.
        same, parts = fields[-1] if fields else (True, ())
        nested = not same and None not in parts
        divided = to_columns(parts) if nested else None
        return _entries, ([entry is not None for entry in self], (count, fields[:-1] if nested else fields), divided)


def _entries(there: list[bool], columns: Columns, divided: Columns | None) -> CacheEntries:
    """Put entries together again."""
    count, fields = columns
    if divided is not None:
        fields = (*fields, (False, to_rows(KeyParts, divided)))
    found = iter(to_rows(CacheEntry, (count, fields)))
    return CacheEntries([next(found) if is_there else None for is_there in there])


def tags_of(spec: str, user_id: str, task_id: str, labels: Iterable[str]) -> dict[str, str]:
    """Return the tags by which an entry is found and deleted."""
    tags = {"tool": spec.partition(".")[0], "operation": spec, "user_id": user_id, "task_id": task_id}
    for label in labels:
        tags[f"label:{label}"] = ""
    return tags


class Note(NamedTuple):
    """Something that the cache counts and cannot see: ``kind`` is "joined" or "uncacheable"."""

    kind: str
    operation: str
    reason: str = ""
    times: int = 1
    seconds: float = 0.0
    """Seconds of work that were saved."""


class CacheLink(Protocol):
    """The coordinator's way to the shared cache."""

    async def get_many(self, keys: Sequence[str], operations: Sequence[str]) -> list[CacheEntry | None]:
        """Return the entries under ``keys``, None where there is none; ``operations`` says who asks for each."""

    def put_many(self, entries: Sequence[CacheEntry]) -> None:
        """Store ``entries``; a later ``get_many`` of this link sees them."""

    def note(self, notes: Sequence[Note]) -> None:
        """Count what happened outside of the cache."""

    async def explain(self, parts: KeyParts, operation: str, key: str) -> dict[str, Any]:
        """Say whether there is an entry under ``key``, or what sets it apart from the nearest one."""

    async def purge(self, tags: dict[str, str]) -> int:
        """Delete the entries that carry all of ``tags``, those included that were put before; return how many."""


class HistoryLink(Protocol):
    """The coordinator's way to the history."""

    async def append(self, batch: bytes) -> None:
        """Return when a pickled ``Batch`` is written. Raises HistoryGone."""


class MetricsLink(Protocol):
    """The coordinator's way to whoever looks at its metrics."""

    async def cache_stats(self) -> Mapping[str, Any] | None:
        """Return what the cache has counted; None where it does not answer."""

    def show(self, samples: Sequence[Sample]) -> None:
        """Make numbers visible, each as it is now."""


class Backend(Protocol):
    """Where replicas run."""

    cache: CacheLink

    def create(self, spec: ToolSpec) -> Replica:
        """Begin to make a replica and return at once."""

    async def nodes(self) -> Sequence[Mapping[str, float]]:
        """Return the total resources of each node that is alive."""

    async def alive(self, lease: Any) -> bool:
        """Return whether the client that made ``lease`` still exists."""


class Link(Protocol):
    """The client's way to one coordinator."""

    address: str
    """What another process passes to ``connect`` to reach the same cluster."""

    def request(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call a method of the coordinator."""

    def cache_request(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call a method of the cache."""

    def history_request(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call a method of the history. Raises InvalidInputError where there is none."""

    def upload(self, runtime_env: dict[str, Any]) -> dict[str, Any]:
        """Return ``runtime_env`` with its local folders put where replicas find them."""

    def put(self, packed: Packed) -> Any:
        """Put a large value where replicas can read it; return the reference."""

    def fetch(self, references: Sequence[Any]) -> list[Packed | Exception]:
        """Get the large values of ``references``; an exception stands for one that is gone."""

    def lease(self) -> Any:
        """Return a token that lives as long as this client."""

    def close(self) -> None:
        """Let go of the cluster; end it if it was started for this client."""
