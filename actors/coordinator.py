"""The coordinator: takes runs, drives them, answers for them. One per cluster and namespace.

It performs what plans say and contains no policy of its own. Values above the inline limit pass it by reference, and
those below it as opaque bytes, so that no user code runs here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from aiecs_ray.actors.clock import steady_time
from aiecs_ray.actors.explaining import explain
from aiecs_ray.actors.guarding import make_guards
from aiecs_ray.actors.joins import Joins
from aiecs_ray.actors.leases import Leases
from aiecs_ray.actors.meter import Meter
from aiecs_ray.actors.outbox import Outbox
from aiecs_ray.actors.pages import Answer, page_of, status_of
from aiecs_ray.actors.pools import Pools
from aiecs_ray.actors.recorder import Recorder
from aiecs_ray.actors.run import Run
from aiecs_ray.actors.run_table import RunTable
from aiecs_ray.actors.services import Services
from aiecs_ray.digests import Digest, digest
from aiecs_ray.errors import BusyError, InvalidOperationsError
from aiecs_ray.messages import PROTOCOL, Event, Limits, RunRequest, Settled, ToolSpec
from aiecs_ray.packing import is_small
from aiecs_ray.queueing import Backlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiecs_ray.actors.pages import Page, RunStatus
    from aiecs_ray.backend import Backend, HistoryLink, MetricsLink
    from aiecs_ray.config import Settings
    from aiecs_ray.metering import Sample

logger = logging.getLogger(__name__)

EVENTS_PER_ANSWER = 10_000
EVENTS_PER_DIGEST = 50_000
EVENTS_TOLD = 1_000
"""Events from which on a digest groups them."""
LEASE_INTERVAL = 1.0
NODES_INTERVAL = 5.0
DRAIN = 5.0
"""Seconds that a client waits for the history to have everything."""


def _seconds() -> float:
    return asyncio.get_running_loop().time()


def _call_soon(function: Callable[..., object], *args: Any) -> None:
    asyncio.get_running_loop().call_soon(function, *args)


class Coordinator:
    """Holds every run of a cluster.

    Args:
        backend: where replicas run and results are cached.
        settings: the limits.
        incarnation: part of every run id; another incarnation answers ``RunLostError`` for it.
        result_bytes: how many bytes of finished runs' results are kept.
        random, token, clock: sources of randomness and of the time of day.
        history: the way to the history, if there is one.
        metrics: the way to whoever looks at what is measured, if anybody does.
    """

    def __init__(  # noqa: PLR0913  # what it lives on, by name
        self,
        backend: Backend,
        settings: Settings,
        *,
        incarnation: str,
        result_bytes: int,
        random: Callable[[], float],
        token: Callable[[int], bytes],
        clock: Callable[[], float] | None = None,
        history: HistoryLink | None = None,
        metrics: MetricsLink | None = None,
    ) -> None:
        self._backend = backend
        self._settings = settings
        self._incarnation = incarnation
        self._random, self._token, self._clock = random, token, clock or steady_time()
        self._pools = Pools(backend, settings, _seconds)
        self._runs = RunTable(incarnation, result_ttl=settings.result_ttl, result_bytes=result_bytes, clock=self._clock)
        self._leases = Leases(backend.alive)
        self._guards = make_guards(self._pools, _seconds)
        self._backlog = Backlog(settings.max_queued)
        self._joins = Joins(_call_soon)
        self._outbox = Outbox(backend.cache, _call_soon)
        self._recorder = None if history is None else Recorder(history, settings, incarnation, self._clock)
        self._meter = None if metrics is None else Meter(metrics, self._statistics)
        self._keeper: asyncio.Task[None] | None = None

    # --- clients -------------------------------------------------------------------------------------------

    async def hello(self, client: str, lease: Any) -> dict[str, Any]:
        """Greet a client: remember its lease, and say who answers."""
        self._start_keeper()
        self._leases.add(client, lease)
        return {"incarnation": self._incarnation, "protocol": PROTOCOL, "settings": self._settings.model_dump()}

    async def goodbye(self, client: str) -> None:
        """A client leaves: end its attached runs."""
        self._leases.remove(client)
        self._cancel_runs_of(client)
        if self._recorder is not None:
            left = [run.finished.wait() for run in self._runs.of_client(client)]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.grace):
                    await asyncio.gather(*left)
            await self._recorder.drain(DRAIN)

    async def register(self, specs: Sequence[ToolSpec]) -> None:
        """Make tools known; replicas are made when first needed."""
        self._start_keeper()
        for spec in specs:
            self._learn(spec)

    async def unregister(self, name: str) -> bool:
        """Forget a tool, for all clients; runs that have begun keep it. Return whether there was one."""
        return self._pools.unregister(name)

    async def tools(self) -> list[ToolSpec]:
        """Return every tool that any client registered, as it is now."""
        return self._pools.specs()

    async def tool_keys(self) -> dict[str, str]:
        """Return the key of every tool by its name: another one is another version."""
        return {spec.name: spec.key for spec in self._pools.specs()}

    async def clear_tools(self, names: Sequence[str] | None = None) -> int:
        """Stop the replicas of tools after their present work, and return how many; they are made again when needed."""
        return self._pools.clear(names)

    # --- runs ----------------------------------------------------------------------------------------------

    async def submit(self, request: RunRequest, specs: Sequence[ToolSpec] = ()) -> Answer:
        """Start a run and return its id at once."""
        run = self._accept(request, specs)
        return run if isinstance(run, Answer) else Answer(run.id)

    async def execute(
        self,
        request: RunRequest,
        specs: Sequence[ToolSpec] = (),
        watched: bool = False,  # noqa: FBT001, FBT002  # links pass arguments by position
    ) -> Answer:
        """Start a run, wait for its end, and return its results.

        What has no large results is forgotten at once, unless it is ``watched``: then the client releases it.
        """
        run = self._accept(request, specs)
        if isinstance(run, Answer):
            return run
        await run.finished.wait()
        page = page_of(run, 0, self._settings.inline_limit)
        if not watched and page.following is None and all(is_small(settled.payload) for settled in page.settled):
            self._runs.forget(run)
        return Answer(run.id, page)

    async def wait(self, run_id: str, seconds: float) -> bool:
        """Return whether a run is finished, waiting for it up to ``seconds``."""
        run = self._runs.named(run_id)
        if seconds <= 0 or run.finished.is_set():
            return run.finished.is_set()
        try:
            async with asyncio.timeout(seconds):
                await run.finished.wait()
        except TimeoutError:
            return False
        return True

    async def results(self, run_id: str, start: int) -> Page:
        """Return results of a finished run from index ``start`` on, some megabytes at a time."""
        run = self._runs.named(run_id)
        await run.finished.wait()
        return page_of(run, start, self._settings.inline_limit)

    async def result_of(self, run_id: str, steps: Sequence[int]) -> list[Settled | None]:
        """Return the results of some steps, None for those that have not ended."""
        run = self._runs.named(run_id)
        return [run.settled[step] for step in steps]

    async def index_of(self, run_id: str, step_id: str) -> int | None:
        """Return the index of the step that has an id, None where none has."""
        steps = self._runs.named(run_id).request.steps
        return next((index for index, step in enumerate(steps) if step.id == step_id), None)

    async def remake(self, run_id: str, steps: Sequence[int]) -> list[Settled]:
        """Make large results of a finished run anew that were lost with their node; return what came of it."""
        run = self._runs.named(run_id)
        return [await run.remaking.result_of(step) for step in steps]

    async def events(self, run_id: str, number: int, wait: float) -> tuple[list[Event], bool]:
        """Return events from ``number`` on, and whether the last one is among them; waits until there is one."""
        log = self._runs.named(run_id).log
        events = await log.follow(number, EVENTS_PER_ANSWER, wait)
        return events, log.closed and len(events) < EVENTS_PER_ANSWER

    async def digest(self, run_id: str, number: int, wait: float, pause: float = 0.0) -> Digest:
        """Return what has happened from event ``number`` on, in few words where it is much.

        The answer comes after ``pause`` seconds, or when the run has ended, or else as soon as there is any event.
        """
        log = self._runs.named(run_id).log
        await log.rest(pause)
        events = await log.follow(number, EVENTS_PER_DIGEST, wait)
        over = log.closed and len(events) < EVENTS_PER_DIGEST
        return digest(events, number, most=EVENTS_TOLD, over=over)

    async def status(self, run_id: str) -> RunStatus:
        """Return where a run stands."""
        return status_of(self._runs.named(run_id))

    async def cancel(self, run_id: str, message: str = "Cancelled") -> str:
        """Cancel a run; return its status once nothing of it runs any more."""
        run = self._runs.named(run_id)
        run.cancel(message)
        await run.finished.wait()
        return run.status.value

    async def release(self, run_id: str) -> None:
        """Forget a run and its results; one that still runs is cancelled first."""
        run = self._runs.named(run_id)
        if not run.finished.is_set():
            run.cancel("Released")
            await run.finished.wait()
        self._runs.forget(run)

    async def report(self, run_id: str, step: int, done: float, total: float | None, message: str) -> None:
        """Take the progress that an operation reported."""
        run = self._runs.get(run_id)
        if run is not None:
            run.records.report(step, (done, total, message))

    async def set_limit(self, target: str, limits: Limits | None) -> None:
        """Limit ``"tool"`` or ``"tool.op"`` from now on; None goes back to what the tool declares."""
        self._guards.table.set(target, limits)

    async def limits(self) -> dict[str, dict[str, Any]]:
        """Return the limits in force by tool and operation."""
        return self._guards.table.view()

    async def breakers(self) -> dict[str, dict[str, Any]]:
        """Return the circuit breakers by operation."""
        return self._guards.breakers.view()

    async def reset_breaker(self, spec: str) -> bool:
        """Close a circuit breaker by hand; return whether there is one."""
        return self._guards.breakers.reset(spec)

    async def write_history(self) -> bool:
        """Wait until the history has everything that has happened; return whether it does."""
        return self._recorder is None or await self._recorder.drain(DRAIN)

    async def stats(self) -> dict[str, Any]:
        """Return counters of everything since this coordinator started."""
        return self._statistics()

    async def metrics(self) -> list[Sample]:
        """Return what was measured; nothing where nobody looks at it."""
        return [] if self._meter is None else await self._meter.samples()

    def _statistics(self) -> dict[str, Any]:
        return {
            "incarnation": self._incarnation,
            **self._runs.counts(),
            "open": self._backlog.open,
            "queued": self._pools.queued(),
            "limits": self._guards.table.view(),
            "breakers": self._guards.breakers.view(),
            "joining": self._joins.waiting,
            "tools": self._pools.counts(),
            "result_bytes": self._runs.bytes,
            "clients": len(self._leases),
            "history": None if self._recorder is None else self._recorder.stats(),
        }

    async def explain(self, request: RunRequest) -> dict[str, Any]:
        """Say what the cache has to do with the only step of a request, which is not run."""
        return await explain(request, self._outbox, self._token)

    async def purge(self, tags: dict[str, str]) -> int:
        """Delete cached results that carry all of ``tags``, and store none that is being made from what was before."""
        for run in self._runs:
            run.invalidated(tags)
        return await self._outbox.purge(tags)

    async def shut_down(self) -> None:
        """Cancel every run and end every replica."""
        for run in self._runs:
            run.cancel("The runtime was closed")
        if self._recorder is not None:
            await self._recorder.close(DRAIN)
        if self._meter is not None:
            self._meter.close()
        if self._keeper is not None:
            self._keeper.cancel()
        await self._pools.close()

    # --- how -----------------------------------------------------------------------------------------------

    def _accept(self, request: RunRequest, specs: Sequence[ToolSpec]) -> Run | Answer:
        self._start_keeper()
        for spec in specs:
            self._learn(spec)
        acquainted = all(self._pools.knows(policy.tool) for policy in request.policies if policy.tool)
        if not acquainted or request.client not in self._leases:
            return Answer("", stranger=True)
        run_id = f"{self._incarnation}-{request.token}"
        if (known := self._runs.get(run_id)) is not None:
            return known
        self._make_room(len(request.steps))

        def beside(new_id: str, asked: RunRequest) -> Run:
            # Its operations were counted when the run was accepted.
            uncounted = Backlog(len(asked.steps))
            uncounted.accept(len(asked.steps), 0.0)
            inner = Run(new_id, asked, services._replace(backlog=uncounted))
            inner.begin()
            return inner

        services = Services(
            settings=self._settings,
            replicas=self._pools,
            cache=self._outbox,
            joins=self._joins,
            random=self._random,
            token=self._token,
            clock=self._clock,
            begin=beside,
            guards=self._guards,
            backlog=self._backlog,
        )
        run = Run(run_id, request, services)
        self._runs.add(run)
        if self._recorder is not None:
            self._recorder.follow(run)
        if self._meter is not None:
            self._meter.follow(run)
        run.begin()
        return run

    def _make_room(self, count: int) -> None:
        """Count operations in, or refuse them at once: everything counts that was accepted and has not ended."""
        most = self._settings.max_queued
        if count > most:
            raise InvalidOperationsError(f"{count} operations in one run, at most {most} are taken (max_queued)")
        retry_after = self._backlog.accept(count, _seconds())
        if retry_after is not None:
            text = f"{self._backlog.open} operations are under way, {count} more are too many (max_queued is {most})"
            raise BusyError(text, retry_after)

    def _learn(self, spec: ToolSpec) -> None:
        self._pools.register(spec)
        self._guards.table.declare(spec)
        self._guards.breakers.declare(spec)

    # --- housekeeping ----------------------------------------------------------------------------------------

    def _start_keeper(self) -> None:
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep_house())

    async def _keep_house(self) -> None:
        """Every second: cancel what abandoned clients left, forget old results; now and then look at the cluster."""
        rounds = 0
        while True:
            await asyncio.sleep(LEASE_INTERVAL)
            rounds += 1
            try:
                await self._check_leases()
                self._backlog.sample(_seconds())
                self._guards.breakers.forget()
                self._runs.expire()
                if rounds % int(NODES_INTERVAL / LEASE_INTERVAL) == 0:
                    self._pools.refresh()
            except Exception:
                # One round that fails must not be the last: nothing would ever expire again.
                logger.exception("the coordinator's housekeeping failed; it goes on")

    async def _check_leases(self) -> None:
        for client in await self._leases.gone():
            self._cancel_runs_of(client)

    def _cancel_runs_of(self, client: str) -> None:
        for run in self._runs.of_client(client):
            run.cancel("The client that submitted the run is gone")
