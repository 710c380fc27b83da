"""The backend on Ray: the shared actors, and the client's way to them.

Coordinator and cache are detached named actors, each in a process of its own that Ray restarts.
"""

from __future__ import annotations

import logging
import pickle
import random
import secrets
import threading
from typing import TYPE_CHECKING, Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from aiecs_ray.actors.cache import Cache
from aiecs_ray.actors.coordinator import Coordinator
from aiecs_ray.config import Settings
from aiecs_ray.errors import AiecsError, RunLostError, RuntimeUnavailableError
from aiecs_ray.messages import PROTOCOL, RunRequest
from aiecs_ray.outstanding import Outstanding
from aiecs_ray.packing import Packed
from aiecs_ray.ray_cluster import Cluster, join, upload
from aiecs_ray.ray_replicas import RayBackend, RayRef, cause_of_death, fetch_one, list_nodes
from aiecs_ray.store import Missing

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

COORDINATOR_CALLS = 20_000
"""Calls of clients that may wait in the coordinator at once."""
CACHE_FRACTION = 0.3
"""Share of the object store that cached results may fill, unless the settings say a number of bytes."""


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
        **_on_head(),
    }
    values = settings.model_dump()
    store = sum(node["Resources"].get("object_store_memory", 0.0) for node in list_nodes() if node["Alive"])
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


def _on_head() -> dict[str, Any]:
    """Return the options that put an actor where the cluster lives: no other node takes it along when it dies."""
    if any(node["Alive"] and node["Resources"].get(_HEAD) for node in list_nodes()):
        # An affinity that is soft is not kept for actors without CPUs.
        return {"resources": {_HEAD: 0.001}}
    own = str(ray.get_runtime_context().get_node_id())
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(own, soft=True)}


_HEAD = "node:__internal_head__"
"""The resource that Ray gives to the head node only."""


class RayLink:
    """The client's way to the shared actors."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self.address = cluster.address
        self._lease = ray.put(b"lease")
        self._coordinator, self._cache = _shared_actors(settings)
        self._lock = threading.Lock()
        self._closed = False
        self._outstanding = Outstanding()

    def request(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call a method of the coordinator."""
        asked = getattr(self._coordinator, method).remote(*args).future()
        return self._outstanding.answer_to(asked, lambda error: _own_error(error, args))

    def cache_request(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call a method of the cache."""
        asked = getattr(self._cache, method).remote(*args).future()
        return self._outstanding.answer_to(asked, lambda error: _own_error(error, args))

    def upload(self, runtime_env: dict[str, Any]) -> dict[str, Any]:
        """Upload the local folders of a runtime_env; return it with their addresses in the cluster."""
        return upload(runtime_env)

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
        self._outstanding.end(RuntimeUnavailableError("the runtime was closed before the answer came"))
        self._cluster.leave()


def _fetch_or_error(reference: RayRef) -> Packed | Exception:
    try:
        return fetch_one(reference)
    except ray.exceptions.RayError as error:
        return error


def _own_error(error: BaseException, args: tuple[Any, ...]) -> BaseException:
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, AiecsError):
        return error.cause
    if isinstance(error, ray.exceptions.RayActorError | ray.exceptions.OwnerDiedError):
        if args and isinstance(args[0], str):
            return RunLostError(args[0])
        if args and isinstance(args[0], RunRequest):
            return RunLostError(args[0].token)
        return RuntimeUnavailableError(f"the coordinator does not answer: {cause_of_death(error)}")
    return error


def connect(
    address: str | None,
    settings: Settings,
    *,
    num_cpus: int | None,
    object_store_memory: int | None,
) -> RayLink:
    """Return a link to the coordinator of a cluster, starting what does not exist yet."""
    cluster = join(
        address,
        settings,
        num_cpus=num_cpus,
        object_store_memory=object_store_memory,
    )
    try:
        return RayLink(cluster, settings)
    except BaseException:
        cluster.leave()
        raise
