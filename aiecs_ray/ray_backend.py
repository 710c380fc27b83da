"""The backend on Ray: the shared actors, and the client's way to them.

Coordinator and cache are detached named actors, each in a process of its own that Ray restarts.
"""

from __future__ import annotations

import contextlib
import importlib
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
from aiecs_ray.actors.history import History
from aiecs_ray.config import Settings, user_history
from aiecs_ray.errors import (
    AiecsError,
    ClusterLostError,
    HistoryError,
    InvalidInputError,
    RunLostError,
    RuntimeUnavailableError,
)
from aiecs_ray.logs import use_settings
from aiecs_ray.messages import PROTOCOL
from aiecs_ray.metrics import RayMetrics
from aiecs_ray.outstanding import CLOSED, Outstanding
from aiecs_ray.packing import Packed
from aiecs_ray.ray_cluster import Cluster, join, upload
from aiecs_ray.ray_replicas import RayBackend, RayHistoryLink, RayRef, cause_of_death, fetch_one, list_nodes
from aiecs_ray.store import Missing

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

COORDINATOR_CALLS = 20_000
"""Calls of clients that may wait in the coordinator at once."""
SHUT_DOWN = 15.0
"""Seconds that a coordinator gets to end its runs in order."""
CACHE_FRACTION = 0.3
"""Share of its node's object store that cached results may fill, unless the settings say a number of bytes."""


class _CoordinatorActor(Coordinator):
    """The coordinator with its backend; made anew by Ray when its process dies."""

    def __init__(
        self, values: dict[str, Any], name: str, cache_name: str, history_name: str | None, result_bytes: int
    ) -> None:
        settings = Settings(**values)
        use_settings(settings)
        history = None if history_name is None else RayHistoryLink(history_name, settings.namespace)
        cache = ray.get_actor(cache_name, settings.namespace)
        super().__init__(
            RayBackend(settings, name, cache),
            settings,
            incarnation=secrets.token_hex(4),
            result_bytes=result_bytes,
            random=random.random,
            token=secrets.token_bytes,
            history=history,
            metrics=RayMetrics(cache) if settings.metrics else None,
        )


class _CacheActor(Cache):
    """The cache in a process of its own: one call at a time, in the order they come."""

    def __init__(self, values: dict[str, Any]) -> None:
        restarted = bool(ray.get_runtime_context().was_current_actor_reconstructed)
        settings = Settings(**values)
        use_settings(settings)
        super().__init__(settings, adopt=_adopt, fetch=fetch_one, keep=_keep, restarted=restarted)


class _HistoryActor(History):
    """The history in a process of its own; made anew by Ray when that dies, over the same database."""

    def __init__(self, values: dict[str, Any]) -> None:
        settings = Settings(**values)
        use_settings(settings)
        super().__init__(settings, lambda: _open_store(settings.history_url or user_history()))


def _open_store(url: str) -> Any:
    # SQLAlchemy takes half a second to import: only the history's own process pays.
    return importlib.import_module("aiecs_ray.history_store").HistoryStore(url)


def _adopt(payload: Any) -> Any:
    """Return a copy of a large value that this process owns, so that it outlives its maker."""
    if type(payload) is not RayRef:
        return payload
    try:
        return _keep(fetch_one(payload))
    except ray.exceptions.RayError as error:
        logger.warning("a result was lost before the cache could copy it: %s", type(error).__name__)
        return Missing.MISSING


def _keep(packed: Packed) -> RayRef:
    # What Ray read from the store it cannot write again as it is; as a buffer it can, without a copy in between.
    buffers = tuple(pickle.PickleBuffer(memoryview(buffer)) for buffer in packed.buffers)
    return RayRef(ray.put([Packed(packed.header, buffers)]), 0)


def _shared_actors(settings: Settings) -> tuple[Any, Any, Any]:
    suffix = f"v{PROTOCOL}"
    cache_name, name = f"aiecs_ray_cache_{suffix}", f"aiecs_ray_coordinator_{suffix}"
    history_name = None if settings.history_url == "off" else f"aiecs_ray_history_{suffix}"
    nodes = [node for node in list_nodes() if node["Alive"]]
    home = next((node["NodeID"] for node in nodes if node["Resources"].get(_HEAD)), None)
    options: dict[str, Any] = {
        "namespace": settings.namespace,
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": 0,
        # A client's own environment belongs to its tools; the shared actors outlive it.
        "runtime_env": {},
        **_at(home),
    }
    values = settings.model_dump()
    stores = {node["NodeID"]: node["Resources"].get("object_store_memory", 0.0) for node in nodes}
    store = sum(stores.values())
    if settings.cache_bytes is None:
        # What the cache copies lies on its own node.
        values["cache_bytes"] = int((stores.get(home) or min(stores.values())) * CACHE_FRACTION)
    cache = ray.remote(_CacheActor).options(name=cache_name, **options).remote(values)
    result_bytes = int(store * settings.result_fraction)
    coordinator = (
        ray.remote(_CoordinatorActor)
        .options(name=name, max_concurrency=COORDINATOR_CALLS, **options)
        .remote(values, name, cache_name, history_name, result_bytes)
    )
    history = None
    if history_name is not None:
        # Last: Ray keeps as many processes ready as there are CPUs, and nobody waits for this one.
        history = ray.remote(_HistoryActor).options(name=history_name, **options).remote(values)
    return coordinator, cache, history


def _at(home: str | None) -> dict[str, Any]:
    """Return the options that put an actor where the cluster lives: no other node takes it along when it dies."""
    if home is not None:
        # An affinity that is soft is not kept for actors without CPUs.
        return {"resources": {_HEAD: 0.001}}
    own = str(ray.get_runtime_context().get_node_id())
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(own, soft=True)}


_HEAD = "node:__internal_head__"
"""The resource that Ray gives to the head node only."""


_ABOUT_A_RUN = frozenset(
    {"cancel", "digest", "events", "index_of", "release", "remake", "result_of", "results", "status", "wait"}
)
"""Methods of the coordinator whose first argument is the id of a run."""


class RayLink:
    """The client's way to the shared actors."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self.address = cluster.address
        self._lease = ray.put(b"lease")
        self._coordinator, self._cache, self._history = _shared_actors(settings)
        self._lock = threading.Lock()
        self._closed = False
        self._outstanding = Outstanding()
        self._incarnation = ""
        cluster.on_lost = self._lost

    def _lost(self, reason: str) -> None:
        text = f"the head of the Ray cluster at {self.address} is gone: {reason}; its runs are lost"
        self._outstanding.end(ClusterLostError(f"{text}, connect again and submit them again"))

    def request(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call a method of the coordinator."""
        if (refused := self._outstanding.refused()) is not None:
            return refused
        asked = getattr(self._coordinator, method).remote(*args).future()
        answer = self._outstanding.answer_to(asked, lambda error: _own_error(error, self._run_named(method, args)))
        if method == "hello":
            answer.add_done_callback(self._note_incarnation)
        return answer

    def _note_incarnation(self, greeted: concurrent.futures.Future[Any]) -> None:
        if not greeted.cancelled() and greeted.exception() is None:
            self._incarnation = greeted.result()["incarnation"]

    def _run_named(self, method: str, args: tuple[Any, ...]) -> str | None:
        """Return the id of the run that a request is about, None where it is about none."""
        if method in _ABOUT_A_RUN:
            return str(args[0])
        return f"{self._incarnation}-{args[0].token}" if method in ("submit", "execute") else None

    def cache_request(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call a method of the cache."""
        if (refused := self._outstanding.refused()) is not None:
            return refused
        asked = getattr(self._cache, method).remote(*args).future()
        return self._outstanding.answer_to(asked, lambda error: _own_error(error, None, "cache"))

    def history_request(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call a method of the history."""
        if self._history is None:
            raise InvalidInputError("no history is kept (history_url='off')")
        asked = getattr(self._history, method).remote(*args).future()
        return self._outstanding.answer_to(asked, _history_error)

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
        self._outstanding.end(RuntimeUnavailableError(CLOSED))
        self._cluster.leave()


def _fetch_or_error(reference: RayRef) -> Packed | Exception:
    try:
        return fetch_one(reference)
    except ray.exceptions.RayError as error:
        return error


def _own_error(error: BaseException, run_id: str | None, who: str = "coordinator") -> BaseException:
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, AiecsError):
        return error.cause
    if isinstance(error, ray.exceptions.RayActorError | ray.exceptions.OwnerDiedError):
        if run_id is not None:
            return RunLostError(run_id)
        return RuntimeUnavailableError(f"the {who} does not answer: {cause_of_death(error)}")
    return error


def take_down(address: str, settings: Settings) -> list[str]:
    """End the shared actors of a namespace with every run; return the names of those that were there."""
    cluster = join(address, settings, num_cpus=None, object_store_memory=None)
    ended = []
    try:
        for kind in ("coordinator", "cache", "history"):
            name = f"aiecs_ray_{kind}_v{PROTOCOL}"
            with contextlib.suppress(ValueError):
                actor: Any = ray.get_actor(name, settings.namespace)
                if kind == "coordinator":
                    with contextlib.suppress(ray.exceptions.RayError):
                        ray.get(actor.shut_down.remote(), timeout=SHUT_DOWN)
                ray.kill(actor)
                ended.append(kind)
    finally:
        cluster.leave()
    return ended


def _history_error(error: BaseException) -> BaseException:
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, AiecsError):
        return error.cause
    if isinstance(error, ray.exceptions.RayError):
        return HistoryError(f"the history does not answer: {cause_of_death(error)}")
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
