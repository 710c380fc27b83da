"""One seed: the production coordinator in a simulated world, from the first request to the last look at its memory."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiecs_ray.actors.coordinator import Coordinator
from aiecs_ray.actors.flight import Flight
from aiecs_ray.actors.lookups import PATIENCE
from aiecs_ray.actors.run import Run
from aiecs_ray.testing.driver import Driver
from aiecs_ray.testing.scenario import draw
from aiecs_ray.testing.sim_backend import SimBackend
from aiecs_ray.testing.virtual_time import StuckError, VirtualLoop
from aiecs_ray.testing.world import INCARNATION, World

if TYPE_CHECKING:
    from aiecs_ray.testing.scenario import Scenario

LIMIT = 900.0
"""Virtual seconds within which every run has to end; far beyond what any of them takes."""
SLOWEST = 5.0
"""Seconds after which also a slow message and its answer have arrived."""
AT_REST = 6
"""Replicas that may be made while nothing is left to do: each tool's least number, where others held the room."""
QUIET = 0.5
"""Seconds after the last run, beside the grace periods, in which what is under way comes to its end."""


@dataclass(frozen=True)
class Report:
    """What became of one seed."""

    seed: int
    violations: tuple[str, ...]
    seconds: float
    """Virtual seconds that it took."""
    trace: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.violations


def simulate(seed: int, *, traced: bool = False) -> Report:
    """Run one seed and return what was broken; the same seed takes the same course each time.

    >>> simulate(7).ok
    True
    """
    return simulate_scenario(draw(seed), traced=traced)


def simulate_scenario(scenario: Scenario, *, traced: bool = False) -> Report:
    """Run a scenario that was drawn or written by hand."""
    loop = VirtualLoop(limit=LIMIT)
    rng = random.Random(scenario.seed + 1)
    world = World(scenario, loop, rng, traced=traced)
    try:
        loop.run_until_complete(_Simulation(world).run())
    except StuckError as stuck:
        world.broken(f"{stuck}: {_unfinished(world)}")
    except Exception as error:  # noqa: BLE001  # whatever the coordinator raised at a client that did nothing wrong
        world.broken(f"{type(error).__name__}: {error}")
    finally:
        _end(loop)
    violations = (*world.violations, *(f"an error that nobody handled: {error}" for error in loop.errors))
    return Report(scenario.seed, violations, loop.time(), tuple(world.trace or ()))


class _Simulation:
    def __init__(self, world: World) -> None:
        self._world = world
        self._backend = SimBackend(world)
        world.coordinator = self._coordinator = Coordinator(
            self._backend,
            world.scenario.settings,
            incarnation=INCARNATION,
            result_bytes=10**9,
            random=world.rng.random,
            token=world.rng.randbytes,
            clock=world.loop.time,
        )

    async def run(self) -> None:
        await Driver(self._world, self._backend, self._coordinator).play()
        world = self._world
        slow = SLOWEST * (world.faults.slow_message > 0) + PATIENCE * (
            world.faults.cache_silent + world.faults.cache_slow > 0
        )
        made = len(world.replicas)
        await asyncio.sleep(3 * world.scenario.settings.grace + QUIET + slow)
        self._judge_memory()
        if (churn := len(world.replicas) - made) > AT_REST:
            world.broken(f"{churn} replicas were made although nothing was left to do")
        await self._coordinator.shut_down()
        if left := [str(replica) for replica in self._world.replicas if not (replica.dead or replica.doomed)]:
            self._world.broken(f"the coordinator was shut down and left {', '.join(left)} alive")

    def _judge_memory(self) -> None:  # noqa: C901  # one question after the other
        """Every run has ended and was let go: nothing of them may be left."""
        coordinator, pools, now = self._coordinator, self._coordinator._pools, self._world.loop.time()
        for pool in pools._pools.values():
            flights = sum(len(member.flights) for member in pool.members.values())
            for what, count in (("waiting steps", len(pool.queue)), ("calls", flights), ("runs", len(pool.runs))):
                if count:
                    self._world.broken(f"{count} {what} are left in the pool of {pool.spec.name}")
        if coordinator._runs:
            self._world.broken(f"runs are left: {', '.join(run.id for run in coordinator._runs)}")
        gates, table = coordinator._guards.gates, coordinator._guards.table
        for name, meter in (table._shared | table._meters).items():
            if gates.waiting(meter) or not meter.is_fresh(now + 1e6):
                self._world.broken(f"limit {name!r} still holds steps")
        if coordinator._backlog.open:
            self._world.broken(f"{coordinator._backlog.open} operations are still counted as open")
        for run in self._world.runs.values():
            if left := len(run._tasks._running) + len(run.remaking._tasks._running):
                self._world.broken(f"{left} tasks of {run.id} are left")
        if held := [owner for owner in map(_owner, self._world.loop.pending_timers()) if owner]:
            self._world.broken(f"timers still hold what is over: {', '.join(sorted(set(held)))}")


def _owner(timer: asyncio.TimerHandle) -> str:
    """Name the run or the call that a timer keeps in memory, if it does."""
    callback, arguments = timer._callback, timer._args  # type: ignore[attr-defined]  # typeshed hides them
    for one in (getattr(callback, "__self__", None), *arguments):
        if isinstance(one, Run):
            return f"{callback.__name__} of {one.id}"
        if isinstance(one, Flight):
            return f"{callback.__name__} of a call of {one.run.id}"
    return ""


def _unfinished(world: World) -> str:
    open_steps = {
        run.id: [f"{step} {run.plan.state(step).name}" for step in run.plan.unfinished()]
        for run in world.runs.values()
        if not run.finished.is_set()
    }
    return f"open are {open_steps}"


def _end(loop: VirtualLoop) -> None:
    """Cancel what is left, so that nothing of one seed reaches the next."""
    left = [task for task in asyncio.all_tasks(loop) if not task.done()]
    for task in left:
        task.cancel()
    loop.limit = float("inf")
    errors = list(loop.errors)
    if left:
        loop.run_until_complete(asyncio.wait(left))
    loop.errors[:] = errors
    loop.close()
