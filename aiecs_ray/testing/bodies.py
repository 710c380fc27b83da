"""What the bodies of simulated operations do: end well or badly, hang, ignore a request, take their process along."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

from aiecs_ray.messages import Elided, ErrorInfo, Mark, Outcome
from aiecs_ray.testing.host_model import LargeValue
from aiecs_ray.testing.world import bare, value_of

if TYPE_CHECKING:
    from aiecs_ray.messages import Item, Work
    from aiecs_ray.testing.host_model import ModelBody
    from aiecs_ray.testing.sim_replica import SimReplica
    from aiecs_ray.testing.world import World

LASTING = ErrorInfo("E003", "Error executing op: no such column", "KeyError", ("KeyError", "Exception"))
PASSING = ErrorInfo(
    "E003", "Error executing op: reset", "ConnectionResetError", ("ConnectionResetError", "ConnectionError")
)
LARGE = 100_000


async def live(replica: SimReplica, body: ModelBody, work: Work, item: Item, made: dict[int, Any]) -> Outcome:
    """Run one body to its end and say how it ended."""
    world = replica.world
    faults = world.faults
    # What is made anew has completed before.
    poisoned = work.run in world.plans and item.step in world.plans[work.run].poisoned
    if not replica.dead and world.happens(faults.crash_before):
        # The process ends when the host has noted the start and the body has done nothing.
        replica.die("SIGKILL before a body")
    if replica.dead:
        await _never()
    replica.host.marks[work.id, item.step] = Mark.STARTED
    record = world.began(replica, work, item)
    how = "killed"
    try:
        if poisoned:
            replica.die("SIGKILL of itself")
            await _never()
        how = await _course(replica, body, work, item)
    finally:
        world.ended(record, work, item, how)
    if world.happens(faults.crash_after):
        replica.die("SIGKILL after a body")
        await _never()
    return _outcome(item, how, world.loop.time() - body.since, _value(world, work, item, made))


async def _course(replica: SimReplica, body: ModelBody, work: Work, item: Item) -> str:
    world = replica.world
    faults, rng = world.faults, world.rng
    base = world.operations[replica.tool.spec.key, item.operation].seconds
    seconds = base * rng.uniform(0.5, 1.5)
    if world.happens(faults.hang) and _is_limited(world, work, item.step):
        seconds = math.inf
    deaf = world.happens(faults.deaf)
    if world.happens(faults.crash_in):
        await _pause(world, body, min(seconds, 0.5) * rng.random(), deaf=True)
        replica.die("SIGKILL inside a body")
        await _never()
    if await _pause(world, body, seconds, deaf=deaf) and not deaf:
        await _pause(world, body, rng.choice((0.0, 0.01, 0.1)), deaf=True)
        # What was asked to end may complete all the same.
        return "value" if world.happens(0.2) else "cancelled"
    if world.happens(faults.error):
        return "cancelled" if body.asked else "error"
    if world.happens(faults.transient):
        return "cancelled" if body.asked else "transient"
    return "value"


def _is_limited(world: World, work: Work, step: int) -> bool:
    """Whether something ends a body that never ends by itself."""
    policy, plan = world.policy(work.run, step), world.plan_of(work.run)
    return bool(policy.timeout or policy.deadline or plan.request.deadline or plan.cancel_at is not None)


async def _pause(world: World, body: ModelBody, seconds: float, *, deaf: bool) -> bool:
    """Let time pass for a body; return whether it was asked to end meanwhile."""
    if body.asked and not deaf:
        return True
    if seconds <= 0.0:
        return False
    passed: asyncio.Future[str] = world.loop.create_future()
    body.wake = None if deaf else passed
    timer = world.loop.call_later(seconds, _wake, passed) if seconds < math.inf else None
    try:
        return await passed == "asked"
    finally:
        body.wake = None
        if timer is not None:
            timer.cancel()


def _wake(passed: asyncio.Future[str]) -> None:
    if not passed.done():
        passed.set_result("passed")


async def _never() -> None:
    """The process is dead; whoever waits here is cancelled with it."""
    await asyncio.get_running_loop().create_future()


def _outcome(item: Item, how: str, seconds: float, value: int | LargeValue) -> Outcome:
    if how == "value":
        size = LARGE if type(value) is LargeValue else 8
        return Outcome(item.step, item.attempt, "value", value, size, "int", None, seconds)
    if how == "cancelled":
        return Outcome(item.step, item.attempt, "cancelled", seconds=seconds)
    return Outcome(item.step, item.attempt, "error", error=PASSING if how == "transient" else LASTING, seconds=seconds)


def _value(world: World, work: Work, item: Item, made: dict[int, Any]) -> int | LargeValue:
    policy = world.policy(work.run, item.step)
    inputs = [bare(work.values[index] if kind == "value" else made[index]) for kind, index, _, _ in item.inputs]
    if Elided.ELIDED in inputs:
        world.broken(f"step {item.step} of {work.run} was sent, and what it reads had stayed in another replica")
    value = value_of(policy, item.params, inputs, work.user_id, work.task_id)
    return LargeValue(value) if world.operations[policy.tool, item.operation].large else value
