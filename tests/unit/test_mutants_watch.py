"""Whom the end of one call costs what: the replica dies for a body that does not listen, and for nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.actors.flight import Flight, Member
from aiecs_ray.actors.watch import Watch
from aiecs_ray.backend import Stopped
from aiecs_ray.messages import Item, Policy, Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiecs_ray.actors.run import Run

GRACE = 0.01


class Steps:
    """Stands for a run."""

    def __init__(self) -> None:
        self.returned_steps: list[int] = []

    def policy(self, step: int) -> Policy:
        return Policy(f"t.op{step}", "t@1", "op")

    def returned(self, step: int) -> None:
        self.returned_steps.append(step)


class Deaf:
    """A replica that runs the body of one call, and does not end it when asked."""

    def __init__(self, running: int) -> None:
        self.killed = False
        self._running = running

    async def stop(self, work: int, ask: Sequence[int] = ()) -> Stopped:  # noqa: ARG002  # it does not listen
        running = (work,) if work == self._running else ()
        return Stopped(running, running)

    def kill(self) -> None:
        self.killed = True


@pytest.fixture
def run() -> Any:
    return Steps()


@pytest.fixture
def member(run: Run) -> Member:
    replica: Any = Deaf(running=1)
    pool: Any = None
    member = Member(1, pool, replica, now=0.0)
    for number in (1, 2):
        work = Work(number, "run", (Item(number, 1, "op", b""),))
        member.flights[number] = Flight(work, run, 0.0, 0.0)
    return member


@pytest.fixture
def watch() -> Watch:
    return Watch(GRACE, lambda: 0.0, lambda *_: None)


async def test_a_call_that_waits_is_given_back_and_costs_no_neighbour(watch: Watch, member: Member, run: Any) -> None:
    replica: Any = member.replica

    await watch.end(member, member.flights[2], [2])

    assert run.returned_steps == [2]
    assert not replica.killed


async def test_a_call_that_waits_is_given_back_at_once(member: Member, run: Any) -> None:
    patient = Watch(3600.0, lambda: 0.0, lambda *_: None)

    async with asyncio.timeout(10):
        await patient.end(member, member.flights[2], [2])

    assert run.returned_steps == [2]


async def test_a_body_that_does_not_listen_is_killed_and_what_waits_behind_it_is_given_back(
    watch: Watch, member: Member, run: Any
) -> None:
    replica: Any = member.replica

    await watch.end(member, member.flights[1], [1])

    assert replica.killed
    assert run.returned_steps == [2]
