"""Replicas as Ray actors: children of the coordinator's process, which alone replaces them."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import ray
import ray.exceptions

from aiecs_ray.actors.tool import Large, ToolHost
from aiecs_ray.backend import ReplicaDied

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import AsyncIterator, Mapping, Sequence

    from aiecs_ray.backend import CacheEntry, CacheLink, Running, Stopped
    from aiecs_ray.config import Settings
    from aiecs_ray.messages import ErrorInfo, Outcome, ToolSpec, Work
    from aiecs_ray.packing import Packed

logger = logging.getLogger(__name__)

AHEAD = 16
"""Outcomes that a replica may have yielded and nobody has read yet; none where an operation must not run twice."""
_RUNTIME_FILES = "runtime_resources"
"""The folder in which Ray unpacks the files of a runtime_env."""
ASYNC_CALLS = 64
"""Calls that a replica with async operations takes at once; each may hold many operations."""


class RayRef(NamedTuple):
    """A large value in the object store: one of the values of an object."""

    object: Any
    place: int


class _ReplicaActor:
    """A tool host in a process of its own; the calls of ``ctl`` are answered while an operation runs."""

    def __init__(self, spec: ToolSpec, coordinator: str, namespace: str, inline_limit: int) -> None:
        self._coordinator_name, self._namespace = coordinator, namespace
        self._coordinator: Any = None
        self._host = ToolHost(spec, fetch=fetch_one, report=self._report, inline_limit=inline_limit)

    def start(self) -> ErrorInfo | None:
        _put_own_files_first()
        return self._host.start()

    def call(self, work: Work) -> tuple[list[Outcome], list[Packed]]:
        delivery = self._host.call(work)
        return delivery.outcomes, delivery.larges

    def stream(self, work: Work) -> Any:
        for delivery in self._host.stream(work):
            yield delivery.outcomes
            if delivery.larges:
                yield delivery.larges

    @ray.method(concurrency_group="ctl")
    def status(self) -> Sequence[Running]:
        return self._host.status()

    @ray.method(concurrency_group="ctl")
    def stop(self, work: int, ask: Sequence[int]) -> Stopped:
        return self._host.stop(work, ask)

    @ray.method(concurrency_group="ctl")
    def collect(self, work: int) -> Stopped:
        return self._host.collect(work)

    def _report(self, *progress: Any) -> None:
        if self._coordinator is None:
            self._coordinator = ray.get_actor(self._coordinator_name, self._namespace)
        self._coordinator.report.remote(*progress)


def _put_own_files_first() -> None:
    """Import from this replica's own folders before those of the driver whose job started the coordinator."""
    own = [path for path in sys.path if _RUNTIME_FILES in path]
    sys.path[:] = [*own, *(path for path in sys.path if path not in own)]


class RayReplica:
    """A replica, as the coordinator holds it."""

    def __init__(self, actor: Any) -> None:
        # Ray types a handle as its class, on which ``.remote`` does not type-check.
        self._actor = actor

    async def start(self) -> ErrorInfo | None:
        """Wait until the tool is built."""
        return await self._get(self._actor.start.remote())  # type: ignore[no-any-return]

    async def send(self, work: Work, *, stream: bool) -> AsyncIterator[list[Outcome]]:
        """Run ``work``; large values stay in the object store and belong to this process."""
        if not stream:
            status, larges = self._actor.call.options(num_returns=2).remote(work)
            outcomes = await self._get(status)
            yield [_with_reference(outcome, larges) for outcome in outcomes]
            return
        ahead = AHEAD if all(item.idempotent for item in work.items) else 1
        generator = self._actor.stream.options(
            num_returns="streaming", _generator_backpressure_num_objects=ahead
        ).remote(work)
        try:
            async for item in generator:
                outcomes = await self._get(item)
                larges = None
                if any(type(outcome.payload) is Large for outcome in outcomes):
                    larges = await anext(generator)
                yield [_with_reference(outcome, larges) for outcome in outcomes]
        except ray.exceptions.RayError as error:
            raise ReplicaDied(cause_of_death(error)) from error

    async def status(self) -> Sequence[Running]:
        """Return what is running now."""
        return await self._get(self._actor.status.remote())  # type: ignore[no-any-return]

    async def stop(self, work: int, ask: Sequence[int] = ()) -> Stopped:
        """Begin nothing more of ``work``; tell the bodies of the steps ``ask`` to end."""
        return await self._get(self._actor.stop.remote(work, ask))  # type: ignore[no-any-return]

    async def collect(self, work: int) -> Stopped:
        """Hand over the outcomes of ``work`` that wait for the end of a body after them."""
        return await self._get(self._actor.collect.remote(work))  # type: ignore[no-any-return]

    def kill(self) -> None:
        """End the process."""
        ray.kill(self._actor)

    async def _get(self, reference: Any) -> Any:
        try:
            return await reference
        except ray.exceptions.RayError as error:
            raise ReplicaDied(cause_of_death(error)) from error


def _with_reference(outcome: Outcome, larges: Any) -> Outcome:
    if type(outcome.payload) is Large:
        return outcome._replace(payload=RayRef(larges, outcome.payload.place))
    return outcome


def cause_of_death(error: BaseException) -> str:
    """Return one line that says what a replica died of, as far as Ray knows."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "it was killed because its node ran out of memory (declare memory= on the tool)"
    if isinstance(error, ray.exceptions.RaySystemError | ray.exceptions.RayTaskError):
        return f"it answered with an error: {str(error).splitlines()[-1][:300]}"
    for line in str(error).splitlines():
        if "error code" in line.lower() or "died" in line.lower() or "signal" in line.lower():
            return line.strip()[:300]
    return type(error).__name__


def fetch_one(reference: RayRef) -> Packed:
    """Return the value of a reference, its buffers shared with the object store."""
    return ray.get(reference.object)[reference.place]  # type: ignore[no-any-return]


class _CacheLink:
    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def get_many(self, keys: Sequence[str]) -> list[CacheEntry | None]:
        try:
            return await self._actor.get_many.remote(keys)  # type: ignore[no-any-return]
        except ray.exceptions.RayError as error:
            # Without its cache the runtime is slower, not wrong.
            logger.warning("the cache does not answer, so nothing is taken from it: %s", type(error).__name__)
            return [None] * len(keys)

    def put_many(self, entries: Sequence[CacheEntry]) -> None:
        self._actor.put_many.remote(entries).future().add_done_callback(_warn_if_failed)


def _warn_if_failed(done: concurrent.futures.Future[None]) -> None:
    if (error := done.exception()) is not None:
        logger.warning("results could not be cached: %s", cause_of_death(error))


class RayBackend:
    """Makes replicas as Ray actors, children of the coordinator's process."""

    def __init__(self, settings: Settings, name: str, cache: Any) -> None:
        self._settings = settings
        self._name = name
        self.cache: CacheLink = _CacheLink(cache)
        self._classes: dict[str, Any] = {}

    def create(self, spec: ToolSpec) -> RayReplica:
        """Begin to make a replica."""
        options = spec.options
        chosen: dict[str, Any] = {
            "name": None,
            "num_cpus": 1 if options.get("num_cpus") is None else options["num_cpus"],
            "max_restarts": 0,
            "max_task_retries": 0,
            "allow_out_of_order_execution": True,
            "max_concurrency": ASYNC_CALLS if spec.has_async else max(1, int(options.get("concurrency") or 1)),
        }
        for name in ("num_gpus", "memory", "resources"):
            if options.get(name):
                chosen[name] = dict(options[name]) if name == "resources" else options[name]
        if options.get("runtime_env"):
            chosen["runtime_env"] = dict(options["runtime_env"])
        actor = (
            self._class(spec.name)
            .options(**chosen)
            .remote(spec, self._name, self._settings.namespace, self._settings.inline_limit)
        )
        return RayReplica(actor)

    def _class(self, tool: str) -> Any:
        """Return the actor class of a tool: Ray shows its name as that of the process."""
        if tool not in self._classes:
            # Ray's stubs know neither concurrency groups nor what a class becomes.
            decorate: Any = ray.remote
            named = type(f"Replica_{tool}", (_ReplicaActor,), {"__module__": __name__})
            self._classes[tool] = decorate(concurrency_groups={"ctl": 1})(named)
        return self._classes[tool]

    async def nodes(self) -> Sequence[Mapping[str, float]]:
        """Return the total resources of each node that is alive."""
        nodes = await asyncio.to_thread(list_nodes)
        return [node["Resources"] for node in nodes if node["Alive"]]

    async def alive(self, lease: Any) -> bool:
        """Return whether the client that made ``lease`` still exists."""
        try:
            await lease[0]
        except ray.exceptions.RayError:
            return False
        return True


def list_nodes() -> list[dict[str, Any]]:
    """Return what Ray knows of each node."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes
