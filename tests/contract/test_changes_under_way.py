"""What changes while a run goes on: a tool is replaced, a replica cannot be made, a tool writes to what it returned."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aiecs_ray import Registry, Runtime
from aiecs_ray.config import Settings
from aiecs_ray.errors import ToolNotFoundError
from aiecs_ray.inprocess import InProcessBackend
from aiecs_ray.local_replica import LocalReplica
from tests.contract.probes import DEADLINE, Gate, Ledger, note, op, visit

if TYPE_CHECKING:
    from aiecs_ray.messages import ToolSpec, Work

pytestmark = pytest.mark.timeout(60)

LARGE = 20_000
"""Numbers of an array that is larger than the inline limit."""


class Waits:
    def wait(self, gate: int) -> str:
        return visit(gate)


class Paper:
    """A tool that writes every result onto the same sheet."""

    def __init__(self) -> None:
        self.sheet = np.zeros(LARGE)

    def fill(self, number: float) -> Any:
        self.sheet[:] = number
        return self.sheet

    def first(self, sheet: Any) -> float:
        return float(sheet[0])


class Diary:
    """The same, with async operations."""

    def __init__(self) -> None:
        self.sheet = np.zeros(LARGE)

    async def fill(self, number: float) -> Any:
        self.sheet[:] = number
        return self.sheet


def version(answer: int) -> type:
    class Tool:
        def answer(self) -> int:
            return answer

    return Tool


async def _refresh(rt: Any) -> None:
    rt._link._coordinator._pools.refresh()


@pytest.mark.parametrize("backend", ["inprocess"], indirect=True)
def test_a_run_ends_with_the_tool_that_it_began_with(rt: Runtime, gate: Gate) -> None:
    rt.register(Waits)
    rt.register(version(1), "tool")
    run = rt.submit([op("waits.wait", gate=gate.port), op("tool.answer")])
    visitor = gate.arrival()

    rt.register(version(2), "tool", replace=True)
    asyncio.run_coroutine_threadsafe(_refresh(rt), rt._link._loop).result(DEADLINE)  # type: ignore[attr-defined]
    visitor.let_go()

    assert run.result(timeout=DEADLINE)[1].result == 1
    assert rt.call("tool.answer") == 2


@pytest.mark.parametrize("backend", ["inprocess"], indirect=True)
def test_a_version_that_was_replaced_is_forgotten_with_its_last_run(rt: Runtime, gate: Gate) -> None:
    rt.register(Waits)
    rt.register(version(1), "tool")
    run = rt.submit([op("waits.wait", gate=gate.port), op("tool.answer")])
    visitor = gate.arrival()
    rt.register(version(2), "tool", replace=True)
    visitor.let_go()
    run.result(timeout=DEADLINE)

    def versions() -> int:
        asyncio.run_coroutine_threadsafe(_refresh(rt), rt._link._loop).result(DEADLINE)  # type: ignore[attr-defined]
        pools = rt._link._coordinator._pools._pools  # type: ignore[attr-defined]
        return sum(pool.spec.name == "tool" for pool in pools.values())

    while versions() > 1:
        assert rt.call("tool.answer") == 2

    assert versions() == 1


def test_a_tool_that_was_taken_away_ends_what_has_begun_and_takes_nothing_new(rt: Runtime, gate: Gate) -> None:
    rt.register(Waits)
    rt.register(version(1), "tool")
    run = rt.submit([op("waits.wait", gate=gate.port), op("tool.answer")])
    visitor = gate.arrival()

    rt.unregister("tool")

    with pytest.raises(ToolNotFoundError, match="'tool' is not registered"):
        rt.call("tool.answer")
    assert "tool" not in rt.tools
    assert "tool" not in rt.registry.names()
    visitor.let_go()
    assert run.result(timeout=DEADLINE)[1].result == 1


def test_a_tool_that_was_taken_away_can_come_back(rt: Runtime) -> None:
    once = version(1)
    rt.register(once, "tool")
    rt.call("tool.answer")
    rt.unregister("tool")

    rt.registry.register(once, "tool")

    assert rt.call("tool.answer") == 1
    assert "tool" in rt.request("tool_keys")


def test_taking_away_a_tool_that_is_none_is_an_error(rt: Runtime) -> None:
    rt.register(version(1), "tool")

    with pytest.raises(ToolNotFoundError, match="did you mean 'tool'"):
        rt.unregister("tol")


@pytest.mark.parametrize("backend", ["inprocess"], indirect=True)
def test_a_client_runs_another_clients_tool_in_its_present_version(rt: Runtime) -> None:
    other = Runtime(rt._link, Settings(), registry=Registry())
    rt.register(version(1), "tool")
    assert other.call("tool.answer") == 1

    rt.register(version(2), "tool", replace=True)
    second = other.call("tool.answer")
    keys = rt.request("tool_keys")
    rt.unregister("tool")

    assert second == 2
    assert keys["tool"] == rt.catalog._local["tool"][1].key
    with pytest.raises(ToolNotFoundError):
        other.call("tool.answer")


def test_a_replica_that_cannot_be_made_spoils_nothing_where_another_works(
    rt: Runtime, ledger: Ledger, gate: Gate
) -> None:
    class Licensed:
        def __init__(self, ledger: str) -> None:
            if note(ledger) > 1:
                raise RuntimeError("there is one licence")

        def wait(self, gate: int) -> str:
            return visit(gate)

        def work(self, number: int) -> int:
            return number

    rt.register(Licensed, config={"ledger": ledger.path}, max_replicas=2, num_cpus=0)
    run = rt.submit([op("licensed.wait", gate=gate.port), op("licensed.work", number=1)], mode="parallel")
    visitor = gate.arrival()
    while len(ledger) < 2:
        run.wait(0.05)
    visitor.let_go("licensed")

    assert [one.result for one in run.result(timeout=DEADLINE)] == ["licensed", 1]


@pytest.mark.parametrize("mode", ["sequence", "parallel", "batch"])
def test_what_a_tool_writes_later_is_not_seen_in_what_it_returned(rt: Runtime, mode: str) -> None:
    rt.register(Paper, max_replicas=1)
    rt.call("paper.fill", {"number": 0})

    results = rt.run([op("paper.fill", number=number) for number in range(20)], mode)

    assert [float(one.result[0]) for one in results] == list(range(20))


def test_what_async_operations_write_later_is_not_seen_either(rt: Runtime) -> None:
    rt.register(Diary, max_replicas=1)

    results = rt.run([op("diary.fill", number=number) for number in range(20)], "parallel")

    assert [float(one.result[0]) for one in results] == list(range(20))


def test_a_later_step_reads_what_was_returned_not_what_was_written_since(rt: Runtime) -> None:
    rt.register(Paper, max_replicas=1)
    rt.call("paper.fill", {"number": 0})

    results = rt.run(
        [op("paper.fill", number=1), op("paper.fill", number=2), op("paper.first", sheet="$result[0]")],
        "sequence",
    )

    assert results[2].result == 1


class Groups:
    async def leave(self, code: int) -> None:
        sys.exit(code)

    async def together(self) -> None:
        await asyncio.gather(self.leave(3), asyncio.sleep(60))

    async def well(self) -> str:
        return "well"


def test_a_task_of_an_operation_that_exits_ends_its_step_alone(rt: Runtime) -> None:
    rt.register(Groups, max_replicas=1)

    failed, fine = rt.run([op("groups.together"), op("groups.well")], "parallel", deadline=DEADLINE)

    assert (failed.error_code, fine.result) == ("E003", "well")
    assert "sys.exit(3)" in failed.error_message
    assert rt.call("groups.well", deadline=DEADLINE) == "well"


@pytest.mark.parametrize("backend", ["inprocess"], indirect=True)
def test_a_replica_that_cannot_be_asked_for_holds_up_no_other_tool(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = InProcessBackend.create

    def refuse(backend: InProcessBackend, spec: ToolSpec) -> Any:
        if spec.name == "paper":
            raise ValueError("runtime_env has no field 'pipp'")
        return create(backend, spec)

    monkeypatch.setattr(InProcessBackend, "create", refuse)
    rt.register(Paper)
    rt.register(version(1), "tool")

    refused, fine = rt.run([op("paper.fill", number=1), op("tool.answer")], "parallel", deadline=DEADLINE)

    assert (refused.error_code, fine.result) == ("E003", 1)
    assert "Tool 'paper' cannot be constructed: ValueError: runtime_env has no field 'pipp'" in refused.error_message


@pytest.mark.parametrize("backend", ["inprocess"], indirect=True)
def test_a_call_that_fails_on_its_way_is_tried_again_and_given_up(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    async def fail(_: LocalReplica, work: Work, *, stream: bool) -> Any:  # noqa: ARG001  # as the protocol has it
        sent.append(work)
        raise MemoryError("the object store is full")
        yield []

    monkeypatch.setattr(LocalReplica, "send", fail)
    rt.register(version(1), "tool")

    (failed,) = rt.run([{**op("tool.answer"), "retry": {"attempts": 2, "wait_min": 0.01, "wait_max": 0.01}}])

    assert len(sent) == 2
    assert failed.error_code == "E005"
    assert "a call failed: MemoryError: the object store is full" in failed.error_message
