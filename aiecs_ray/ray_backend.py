"""The backend on Ray. The only module of the runtime that imports it.

Coordinator and cache are detached named actors; replicas are children of the coordinator, which alone replaces them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import pickle
import random
import secrets
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from aiecs_ray.actors.cache import Cache
from aiecs_ray.actors.coordinator import Coordinator
from aiecs_ray.actors.tool import Large, ToolHost
from aiecs_ray.backend import ReplicaDied
from aiecs_ray.config import Settings
from aiecs_ray.errors import AiecsError, RunLostError, RuntimeUnavailableError
from aiecs_ray.messages import PROTOCOL
from aiecs_ray.packing import Packed
from aiecs_ray.ray_cluster import Cluster, join
from aiecs_ray.store import Missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from aiecs_ray.backend import CacheEntry, CacheLink, Running
    from aiecs_ray.messages import ErrorInfo, Outcome, ToolSpec, Work

logger = logging.getLogger(__name__)

AHEAD = 16
"""Outcomes that a replica may have yielded and nobody has read yet."""
COORDINATOR_CALLS = 20_000
"""Calls of clients that may wait in the coordinator at once."""
ASYNC_CALLS = 8
CACHE_FRACTION = 0.3
"""Share of the object store that cached results may fill, unless the settings say a number of bytes."""


class RayRef(NamedTuple):
    """A large value in the object store: one of the values of an object."""

    object: Any
    place: int


# --- replicas ------------------------------------------------------------------------------------------------


class _ReplicaActor:
    """A tool host in a process of its own; the calls of ``ctl`` are answered while an operation runs."""

    def __init__(self, spec: ToolSpec, coordinator: str, namespace: str, inline_limit: int) -> None:
        self._coordinator_name, self._namespace = coordinator, namespace
        self._coordinator: Any = None
        self._host = ToolHost(spec, fetch=fetch_one, report=self._report, inline_limit=inline_limit)

    def start(self) -> ErrorInfo | None:
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
    def stop(self, work: int, ask: bool) -> None:  # noqa: FBT001  # Ray passes arguments on as they come
        self._host.stop(work, ask=ask)

    def _report(self, *progress: Any) -> None:
        if self._coordinator is None:
            self._coordinator = ray.get_actor(self._coordinator_name, self._namespace)
        self._coordinator.report.remote(*progress)


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
        generator = self._actor.stream.options(
            num_returns="streaming", _generator_backpressure_num_objects=AHEAD
        ).remote(work)
        try:
            async for item in generator:
                outcomes = await self._get(item)
                larges = None
                if any(type(outcome.payload) is Large for outcome in outcomes):
                    larges = await anext(generator)
                yield [_with_reference(outcome, larges) for outcome in outcomes]
        except ray.exceptions.RayError as error:
            raise ReplicaDied(_cause_of_death(error)) from error

    async def status(self) -> Sequence[Running]:
        """Return what is running now."""
        return await self._get(self._actor.status.remote())  # type: ignore[no-any-return]

    async def stop(self, work: int, *, ask: bool) -> None:
        """Begin nothing more of ``work``; with ``ask``, tell running bodies to end."""
        await self._get(self._actor.stop.remote(work, ask))

    def kill(self) -> None:
        """End the process."""
        ray.kill(self._actor)

    async def _get(self, reference: Any) -> Any:
        try:
            return await reference
        except ray.exceptions.RayError as error:
            raise ReplicaDied(_cause_of_death(error)) from error


def _with_reference(outcome: Outcome, larges: Any) -> Outcome:
    if type(outcome.payload) is Large:
        return outcome._replace(payload=RayRef(larges, outcome.payload.place))
    return outcome


def _cause_of_death(error: BaseException) -> str:
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
        logger.warning("results could not be cached: %s", _cause_of_death(error))


class RayBackend:
    """Makes replicas as Ray actors, children of the coordinator's process."""

    def __init__(self, settings: Settings, name: str, cache: Any) -> None:
        self._settings = settings
        self._name = name
        self.cache: CacheLink = _CacheLink(cache)
        # Ray's stubs know neither concurrency groups nor what a class becomes.
        decorate: Any = ray.remote
        self._class = decorate(concurrency_groups={"ctl": 1})(_ReplicaActor)

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
        actor = self._class.options(**chosen).remote(
            spec, self._name, self._settings.namespace, self._settings.inline_limit
        )
        return RayReplica(actor)

    async def nodes(self) -> Sequence[Mapping[str, float]]:
        """Return the total resources of each node that is alive."""
        nodes = await asyncio.to_thread(ray.nodes)
        return [node["Resources"] for node in nodes if node["Alive"]]

    async def alive(self, lease: Any) -> bool:
        """Return whether the client that made ``lease`` still exists."""
        try:
            await lease[0]
        except ray.exceptions.RayError:
            return False
        return True


# --- the shared actors -----------------------------------------------------------------------------------------


class _CoordinatorActor(Coordinator):
    """The coordinator with its backend; made anew by Ray when its process dies."""

    def __init__(self, values: dict[str, Any], name: str, cache_name: str, result_bytes: int) -> None:
        settings = Settings(**values)
        cache = ray.get_actor(cache_name, settings.namespace)
        super().__init__(
            RayBackend(settings, name, cache),
            settings,
            incarnation=secrets.token_hex(4),
            result_bytes=result_bytes,
            random=random.random,
            token=secrets.token_bytes,
        )


class _CacheActor(Cache):
    """The cache in a process of its own: one call at a time, in the order they come."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(Settings(**values), adopt=_adopt)


def _adopt(payload: Any) -> Any:
    """Return a copy of a large value that this process owns, so that it outlives its maker."""
    if type(payload) is not RayRef:
        return payload
    try:
        packed = fetch_one(payload)
        # What Ray read from the store it cannot write again as it is; as a buffer it can, without a copy in between.
        buffers = tuple(pickle.PickleBuffer(memoryview(buffer)) for buffer in packed.buffers)
        return RayRef(ray.put([Packed(packed.header, buffers)]), 0)
    except ray.exceptions.RayError as error:
        logger.warning("a result was lost before the cache could copy it: %s", type(error).__name__)
        return Missing.MISSING


def _shared_actors(settings: Settings) -> tuple[Any, Any]:
    suffix = f"v{PROTOCOL}"
    cache_name, name = f"aiecs_ray_cache_{suffix}", f"aiecs_ray_coordinator_{suffix}"
    options: dict[str, Any] = {
        "namespace": settings.namespace,
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": 0,
        # A client's own environment belongs to its tools; the shared actors outlive it.
        "runtime_env": {},
        "scheduling_strategy": NodeAffinitySchedulingStrategy(_head_or_own_node(), soft=True),
    }
    values = settings.model_dump()
    store = ray.cluster_resources().get("object_store_memory", 2**30)
    if settings.cache_bytes is None:
        values["cache_bytes"] = int(store * CACHE_FRACTION)
    cache = ray.remote(_CacheActor).options(name=cache_name, **options).remote(values)
    result_bytes = int(store * settings.result_fraction)
    coordinator = (
        ray.remote(_CoordinatorActor)
        .options(name=name, max_concurrency=COORDINATOR_CALLS, **options)
        .remote(values, name, cache_name, result_bytes)
    )
    return coordinator, cache


def _head_or_own_node() -> str:
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("node:__internal_head__"):
            return str(node["NodeID"])
    return str(ray.get_runtime_context().get_node_id())


# --- the client --------------------------------------------------------------------------------------------------


class RayLink:
    """The client's way to the shared actors."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self.address = cluster.address
        self._lease = ray.put(b"lease")
        self._coordinator, self._cache = _shared_actors(settings)
        self._lock = threading.Lock()
        self._closed = False

    def request(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call a method of the coordinator."""
        return _translated(getattr(self._coordinator, method).remote(*args), args)

    def cache_request(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call a method of the cache."""
        return _translated(getattr(self._cache, method).remote(*args), args)

    def put(self, packed: Packed) -> RayRef:
        """Put a value; it lives as long as this client, or as long as the run that uses it."""
        return RayRef(ray.put([packed]), 0)

    def fetch(self, references: Sequence[RayRef]) -> list[Packed | Exception]:
        """Get large values; an exception stands for one that is gone."""
        try:
            return [
                found[ref.place] for found, ref in zip(ray.get([r.object for r in references]), references, strict=True)
            ]
        except ray.exceptions.RayError:
            return [_fetch_or_error(reference) for reference in references]

    def lease(self) -> Any:
        """Return a reference that this process owns."""
        return [self._lease]

    def close(self) -> None:
        """Let go of the cluster; end it if it was started for this client."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._cluster.leave()


def _fetch_or_error(reference: RayRef) -> Packed | Exception:
    try:
        return fetch_one(reference)
    except ray.exceptions.RayError as error:
        return error


def _translated(reference: Any, args: tuple[Any, ...]) -> concurrent.futures.Future[Any]:
    """Return a future of a call's answer, with the runtime's own errors as they were raised."""
    answer: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def arrived(done: concurrent.futures.Future[Any]) -> None:
        if not answer.set_running_or_notify_cancel():
            return
        error = done.exception()
        if error is None:
            answer.set_result(done.result())
        else:
            answer.set_exception(_own_error(error, args))

    reference.future().add_done_callback(arrived)
    return answer


def _own_error(error: BaseException, args: tuple[Any, ...]) -> BaseException:
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, AiecsError):
        return error.cause
    if isinstance(error, ray.exceptions.RayActorError | ray.exceptions.OwnerDiedError):
        if args and isinstance(args[0], str):
            return RunLostError(args[0])
        return RuntimeUnavailableError(f"the coordinator does not answer: {_cause_of_death(error)}")
    return error


def connect(
    address: str | None,
    settings: Settings,
    *,
    runtime_env: Mapping[str, Any] | None,
    num_cpus: int | None,
    object_store_memory: int | None,
) -> RayLink:
    """Return a link to the coordinator of a cluster, starting what does not exist yet."""
    cluster = join(
        address,
        settings,
        runtime_env=runtime_env,
        num_cpus=num_cpus,
        object_store_memory=object_store_memory,
    )
    try:
        return RayLink(cluster, settings)
    except BaseException:
        cluster.leave()
        raise
