"""Replicas as Ray actors: children of the coordinator's process, which alone replaces them."""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from aiecs_ray.actors.children import end_with_this_process
from aiecs_ray.actors.deliveries import Large
from aiecs_ray.actors.ledger import crash_path, end_process, lead_group, open_ledger, take_remains
from aiecs_ray.actors.tool import ToolHost
from aiecs_ray.backend import HistoryGone, Remains, ReplicaDied
from aiecs_ray.config import Settings
from aiecs_ray.errors import RuntimeUnavailableError
from aiecs_ray.logs import use_settings
from aiecs_ray.options import ASYNC_CONCURRENCY
from aiecs_ray.output import Allowance, Limited
from aiecs_ray.running import current
from aiecs_ray.scaling import calls_at_once

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import AsyncIterator, Mapping, Sequence

    from aiecs_ray.actors.ledger import Whereabouts
    from aiecs_ray.backend import CacheEntry, CacheLink, KeyParts, Link, Note, Running, Stopped
    from aiecs_ray.messages import ErrorInfo, Outcome, ToolSpec, Work
    from aiecs_ray.packing import Packed

logger = logging.getLogger(__name__)

FIRST_LOOK, LAST_LOOK = 0.0005, 0.02
"""Seconds between two looks whether a large value is stored, growing from the one to the other."""
AHEAD = 16
"""Outcomes that a replica may have yielded and nobody has read yet; none where an operation must not run twice."""
_RUNTIME_FILES = "runtime_resources"
"""The folder in which Ray unpacks the files of a runtime_env."""
RAY_KILLS = 0.5
"""Seconds that Ray gets for ending a process; one that is stopped it cannot end."""
REMAINS_WAIT = 10.0
"""Seconds to wait for the end of a process that was killed, before its attempts count as unknown."""


class RayRef(NamedTuple):
    """A large value in the object store: one of the values of an object."""

    object: Any
    place: int


class _ReplicaActor:
    """A tool host in a process of its own; the calls of ``ctl`` are answered while an operation runs."""

    def __init__(self, spec: ToolSpec, coordinator: str, values: dict[str, Any]) -> None:
        self._coordinator_name, self._settings = coordinator, Settings(**values)
        self._coordinator: Any = None
        use_settings(self._settings)
        lead_group()
        ledger, self._where = open_ledger(ray.get_runtime_context().get_node_id())
        if self._where.path:
            # Kept open: what the interpreter has to say of its end it says there.
            self._crash = Path(crash_path(self._where.path)).open("x", encoding="utf-8")  # noqa: SIM115
            faulthandler.enable(self._crash)
        self._host = ToolHost(
            spec,
            fetch=fetch_one,
            report=self._report,
            inline_limit=self._settings.inline_limit,
            most=self._settings.max_result_bytes,
            home=self._home,
            ledger=ledger,
        )

    def where(self) -> Whereabouts:
        return self._where

    def start(self) -> ErrorInfo | None:
        _put_own_files_first()
        end_with_this_process()
        # Whatever a tool prints lands in a file of its node.
        for name in ("stdout", "stderr"):
            setattr(sys, name, Limited(getattr(sys, name), _allowance))
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
            self._coordinator = ray.get_actor(self._coordinator_name, self._settings.namespace)
        self._coordinator.report.remote(*progress)

    def _home(self) -> Link:
        # It makes replicas of this class, so it cannot be imported above.
        backend = importlib.import_module("aiecs_ray.ray_backend")
        return backend.connect(None, self._settings, num_cpus=None, object_store_memory=None)  # type: ignore[no-any-return]


def _allowance() -> Allowance | None:
    attempt = current()
    return None if attempt is None else attempt.output


def _put_own_files_first() -> None:
    """Import from this replica's own folders before those of the driver whose job started the coordinator."""
    own = [path for path in sys.path if _RUNTIME_FILES in path]
    sys.path[:] = [*own, *(path for path in sys.path if path not in own)]


class RayReplica:
    """A replica, as the coordinator holds it."""

    def __init__(self, actor: Any, node: str) -> None:
        # Ray types a handle as its class, on which ``.remote`` does not type-check.
        self._actor = actor
        # Made once, not at each call.
        self._call = actor.call.options(num_returns=2)
        self._own_node = node
        self._where: Whereabouts | None = None
        self.node = ""

    async def start(self) -> ErrorInfo | None:
        """Wait until the tool is built."""
        where, built = self._actor.where.remote(), self._actor.start.remote()
        self._where = await self._get(where)
        assert self._where is not None
        self.node = self._where.node
        return await self._get(built)  # type: ignore[no-any-return]

    async def send(self, work: Work, *, stream: bool) -> AsyncIterator[list[Outcome]]:
        """Run ``work``; large values stay in the object store and belong to this process."""
        if not stream:
            status, larges = self._call.remote(work)
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
                    larges = await _next_unread(generator)
                yield [_with_reference(outcome, larges) for outcome in outcomes]
        except ray.exceptions.RayError as error:
            raise _death(error) from error

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
        """End the process; on this node also one that is stopped."""
        ray.kill(self._actor)
        if self._where is not None and self._where.node == self._own_node:
            # Not before Ray has done it: a process that ends unasked is an accident to Ray, reported to every driver.
            asyncio.get_running_loop().call_later(RAY_KILLS, end_process, self._where)

    async def remains(self) -> Remains:
        """Wait until the process has ended, and return what it left on its node."""
        where = self._where
        if where is None or not where.path:
            return Remains()
        if where.node == self._own_node:
            return await asyncio.to_thread(take_remains, where, REMAINS_WAIT)
        there = NodeAffinitySchedulingStrategy(where.node, soft=False)
        try:
            async with asyncio.timeout(2 * REMAINS_WAIT):
                task = ray.remote(take_remains).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
                return await task.remote(where, REMAINS_WAIT)
        except (ray.exceptions.RayError, TimeoutError):
            return Remains()  # the node is gone, and with it what its processes had written

    async def _get(self, reference: Any) -> Any:
        try:
            return await reference
        except ray.exceptions.RayError as error:
            raise _death(error) from error


async def _next_unread(generator: Any) -> Any:
    """Return the reference to the next item and leave the item where it is.

    Ray's own waiting reads the item, which brings a value of another node to this one.
    """
    pause = FIRST_LOOK
    while not generator.next_ready():
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_LOOK)
    return await anext(generator)


def _with_reference(outcome: Outcome, larges: Any) -> Outcome:
    if type(outcome.payload) is Large:
        return outcome._replace(payload=RayRef(larges, outcome.payload.place))
    return outcome


_OUT_OF_MEMORY = ("low on memory", "out of memory", "out-of-memory", "memory usage threshold")
"""How Ray's texts say that its monitor killed a process; there is a class for it only where it killed a task."""


def _death(error: ray.exceptions.RayError) -> ReplicaDied:
    if isinstance(error, ray.exceptions.OutOfMemoryError) or _ran_out_of_memory(error):
        text = "its node had no memory left, and it was killed (say with memory= on the tool how much it needs)"
        return ReplicaDied(text, of_memory=True)
    return ReplicaDied(cause_of_death(error))


def _ran_out_of_memory(error: BaseException) -> bool:
    # A process that ended unexpectedly lists it among its common causes, as one that is possible.
    said = str(error).lower().partition("some common causes")[0]
    return isinstance(error, ray.exceptions.RayActorError) and any(words in said for words in _OUT_OF_MEMORY)


def cause_of_death(error: BaseException) -> str:
    """Return one line that says what a replica died of, as far as Ray knows."""
    text = str(error)
    if isinstance(error, ray.exceptions.OutOfDiskError | ray.exceptions.ObjectStoreFullError):
        return f"its result found no room: {' '.join(text.split())[:300]}"
    if isinstance(error, ray.exceptions.RaySystemError | ray.exceptions.RayTaskError):
        return f"it answered with an error: {text.splitlines()[-1][:300]}"
    return _exit_detail(text) or type(error).__name__


def _exit_detail(text: str) -> str:
    """Return what Ray's text says of the end of a process, empty when that is nothing."""
    _, named, detail = text.partition("exit detail: ")
    if "connection error code 2" in detail:
        return "its process was killed (SIGKILL, by hand or by the kernel for want of memory) or left with os._exit"
    if named:
        return detail.splitlines()[0].partition("Some common causes")[0].strip()[:300]
    told = (
        line for line in text.splitlines() if any(word in line.lower() for word in ("error code", "died", "signal"))
    )
    return next(told, "").strip()[:300]


def fetch_one(reference: RayRef) -> Packed:
    """Return the value of a reference, its buffers shared with the object store."""
    return ray.get(reference.object)[reference.place]  # type: ignore[no-any-return]


class _CacheLink:
    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def get_many(self, keys: Sequence[str], operations: Sequence[str]) -> list[CacheEntry | None]:
        try:
            return await self._actor.get_many.remote(keys, operations)  # type: ignore[no-any-return]
        except ray.exceptions.RayError as error:
            # Without its cache the runtime is slower, not wrong.
            logger.warning("the cache does not answer, so nothing is taken from it: %s", type(error).__name__)
            return [None] * len(keys)

    def put_many(self, entries: Sequence[CacheEntry]) -> None:
        self._actor.put_many.remote(entries).future().add_done_callback(_warn_if_failed)

    def note(self, notes: Sequence[Note]) -> None:
        self._actor.note.remote(notes)

    async def explain(self, parts: KeyParts, operation: str, key: str) -> dict[str, Any]:
        try:
            return await self._actor.explain.remote(parts, operation, key)  # type: ignore[no-any-return]
        except ray.exceptions.RayError as error:
            raise RuntimeUnavailableError(f"the cache does not answer: {cause_of_death(error)}") from error

    async def purge(self, tags: dict[str, str]) -> int:
        try:
            return await self._actor.purge.remote(tags)  # type: ignore[no-any-return]
        except ray.exceptions.RayError as error:
            raise RuntimeUnavailableError(f"the cache does not answer: {cause_of_death(error)}") from error


class RayHistoryLink:
    """The coordinator's way to the history, which is looked for when there is something to write."""

    def __init__(self, name: str, namespace: str) -> None:
        self._name, self._namespace = name, namespace
        self._actor: Any = None

    async def append(self, batch: bytes) -> None:
        """Return when a batch is written."""
        if self._actor is None:
            try:
                self._actor = ray.get_actor(self._name, self._namespace)
            except ValueError as error:
                raise HistoryGone("it was not made yet") from error
        try:
            await self._actor.append.remote(batch)
        except ray.exceptions.RayError as error:
            raise HistoryGone(cause_of_death(error)) from error


def _warn_if_failed(done: concurrent.futures.Future[None]) -> None:
    if (error := done.exception()) is not None:
        logger.warning("results could not be cached: %s", cause_of_death(error))


class RayBackend:
    """Makes replicas as Ray actors, children of the coordinator's process."""

    def __init__(self, settings: Settings, name: str, cache: Any) -> None:
        self._settings = settings
        self._name = name
        self._node = str(ray.get_runtime_context().get_node_id())
        self.cache: CacheLink = _CacheLink(cache)
        self._classes: dict[str, Any] = {}

    def create(self, spec: ToolSpec) -> RayReplica:
        """Begin to make a replica."""
        options = spec.options
        concurrency = int(options.get("concurrency") or (ASYNC_CONCURRENCY if spec.has_async else 1))
        chosen: dict[str, Any] = {
            "name": None,
            "num_cpus": 1 if options.get("num_cpus") is None else options["num_cpus"],
            "max_restarts": 0,
            "max_task_retries": 0,
            "allow_out_of_order_execution": True,
            "max_concurrency": calls_at_once(concurrency) if spec.has_async else concurrency,
        }
        for name in ("num_gpus", "memory", "resources"):
            if options.get(name):
                chosen[name] = dict(options[name]) if name == "resources" else options[name]
        if options.get("runtime_env"):
            chosen["runtime_env"] = dict(options["runtime_env"])
        actor = self._class(spec.name).options(**chosen).remote(spec, self._name, self._settings.model_dump())
        return RayReplica(actor, self._node)

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
