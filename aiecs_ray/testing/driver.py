"""Clients of a simulated coordinator: they submit, wait, cancel, ask twice, and go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiecs_ray.errors import BusyError, InvalidOperationsError, ResultExpiredError
from aiecs_ray.packing import is_small
from aiecs_ray.testing.judge import judge_run, judge_start_of
from aiecs_ray.testing.world import INCARNATION

if TYPE_CHECKING:
    from aiecs_ray.actors.coordinator import Coordinator
    from aiecs_ray.actors.run import Run
    from aiecs_ray.testing.scenario import RunPlan
    from aiecs_ray.testing.sim_backend import SimBackend
    from aiecs_ray.testing.world import World

KILLING = 10.0
"""Seconds for which random replicas are killed; what was retried must come to its end some time."""


READING = 0.001
"""Seconds that a client takes to read large results."""


class Driver:
    """Plays the clients of one scenario."""

    def __init__(self, world: World, backend: SimBackend, coordinator: Coordinator) -> None:
        self._world, self._backend, self._coordinator = world, backend, coordinator
        self._specs = tuple(tool.spec for tool in world.scenario.tools)
        self._gone: dict[str, float] = {}
        self._executing: list[asyncio.Task[None]] = []

    async def play(self) -> None:
        """Do everything, and return when every run has ended and was judged."""
        scenario, create = self._world.scenario, self._world.loop.create_task
        for client in dict.fromkeys(plan.client for plan in scenario.runs):
            await self._coordinator.hello(client, client)
        others = [create(self._leave(client, at, politely)) for client, (at, politely) in scenario.leaving.items()]
        others += [create(self._disturb(at, kind)) for at, kind in scenario.disturbances]
        killer = create(self._kill()) if scenario.faults.kill else None
        runs = [create(self._drive(plan)) for plan in scenario.runs]
        for task in (*runs, *others):
            await task
        for task in self._executing:
            await task
        if killer is not None:
            killer.cancel()

    async def _leave(self, client: str, at: float, politely: bool) -> None:  # noqa: FBT001  # from the scenario
        await asyncio.sleep(at)
        self._world.note("client %s goes", client)
        self._gone[client] = self._world.loop.time()
        if politely:
            await self._coordinator.goodbye(client)
        else:
            self._backend.gone.add(client)

    async def _disturb(self, at: float, kind: str) -> None:
        await asyncio.sleep(at)
        self._world.note("%s", kind)
        if kind == "clear":
            await self._coordinator.clear_tools()
        else:
            await self._coordinator.register(self._specs)

    async def _kill(self) -> None:
        """End random replicas, as a machine short of memory does."""
        world = self._world
        while world.loop.time() < KILLING:
            await asyncio.sleep(world.rng.expovariate(world.faults.kill))
            if alive := [replica for replica in world.replicas if not replica.dead]:
                world.rng.choice(alive).die("SIGKILL")

    # --- one run -------------------------------------------------------------------------------------------

    async def _drive(self, plan: RunPlan) -> None:
        await asyncio.sleep(plan.at)
        run = await self._submit(plan)
        if run is None:
            return
        judge_start_of(self._world, run)
        canceller = None
        if plan.cancel_at is not None:
            canceller = self._world.loop.create_task(self._cancel(run, plan.cancel_at))
        if plan.twice:
            await self._submit_again(plan, run)
        await run.finished.wait()
        judge_run(self._world, plan, run, self._gone.get(plan.client))
        if canceller is not None:
            await canceller
        if not plan.executed:
            await self._take(run)

    async def _submit(self, plan: RunPlan) -> Run | None:
        """Submit a run; None when it was refused."""
        run_id = f"{INCARNATION}-{plan.request.token}"
        self._world.note("submit %s: %d steps, %s", run_id, len(plan.request.steps), plan.request.mode)
        try:
            if plan.executed:
                waiting = self._world.loop.create_task(self._execute(plan))
                self._executing.append(waiting)
                await asyncio.sleep(0)
            else:
                answer = await self._coordinator.submit(plan.request, self._specs)
                self._judge_stranger(plan, stranger=answer.stranger)
        except (BusyError, InvalidOperationsError):  # too much now, or ever
            self._world.note("busy")
            fits = len(plan.request.steps) <= self._world.scenario.settings.max_queued
            if fits and self._coordinator._backlog.open == 0:
                self._world.broken(f"{run_id} was refused although nothing is open")
            return None
        return self._coordinator._runs.get(run_id)

    async def _execute(self, plan: RunPlan) -> None:
        try:
            answer = await self._coordinator.execute(plan.request, self._specs)
        except (BusyError, InvalidOperationsError):  # too much now, or ever
            self._world.note("busy")
            return
        self._judge_stranger(plan, stranger=answer.stranger)
        if answer.page is not None and len(answer.page.settled) != len(plan.request.steps):
            self._world.broken(f"{answer.run} has {len(answer.page.settled)} results, not {len(plan.request.steps)}")
        if answer.page is not None and not all(is_small(settled.payload) for settled in answer.page.settled):
            # Kept until the client has read what is large.
            await asyncio.sleep(READING)
            await self._coordinator.release(answer.run)

    def _judge_stranger(self, plan: RunPlan, *, stranger: bool) -> None:
        if stranger and plan.client not in self._gone:
            self._world.broken(f"client {plan.client} is greeted as a stranger")

    async def _submit_again(self, plan: RunPlan, run: Run) -> None:
        """A client that got no answer asks again with the same token: that is the same run."""
        answer = await self._coordinator.submit(plan.request, self._specs)
        if not answer.stranger and answer.run != run.id:
            self._world.broken(f"the same request twice is {run.id} and {answer.run}")

    async def _cancel(self, run: Run, after: float) -> None:
        await asyncio.sleep(after)
        world, asked = self._world, self._world.loop.time()
        world.note("cancel %s", run.id)
        try:
            await self._coordinator.cancel(run.id)
        except ResultExpiredError:
            return
        world.note("cancel of %s returns", run.id)
        if running := world.running(run.id):
            world.broken(f"cancel() of {run.id} returned while steps {running} were running")
        grace = world.scenario.settings.grace
        patience = 2 * grace + 0.2 if world.calm else 6 * grace + 0.2 + 20.0 * (world.faults.slow_message > 0)
        if (took := world.loop.time() - asked) > patience:
            world.broken(f"cancel() of {run.id} took {took:.3f} s, the grace period is {grace:g} s")

    async def _take(self, run: Run) -> None:
        """Read the results as a client does, and let the run be forgotten."""
        settled = []
        following: int | None = 0
        while following is not None:
            page = await self._coordinator.results(run.id, following)
            settled.extend(page.settled)
            following = page.following
        if settled != run.settled:
            self._world.broken(f"the results of {run.id} are not its steps' in their order")
        await self._coordinator.release(run.id)
