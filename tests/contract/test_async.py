"""Tools with async operations: side by side in one instance, with everything else as for plain ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiecs_ray import Runtime, progress
from aiecs_ray.errors import OperationFailedError
from tests.contract.probes import Gate, Ledger, note, op, visit, visit_async

pytestmark = pytest.mark.timeout(40)


class Network:
    async def visit(self, gate: int, text: str = "") -> str:
        return await visit_async(gate, text)

    async def give(self, value: Any = None) -> Any:
        await asyncio.sleep(0)
        return value

    async def fail(self, message: str) -> None:
        await asyncio.sleep(0)
        raise LookupError(message)

    async def wait(self, gate: int, ledger: str) -> None:
        try:
            await visit_async(gate)
        except asyncio.CancelledError:
            note(ledger, "cancelled")
            raise

    async def swallow(self, gate: int) -> str:
        try:
            return await visit_async(gate)
        except asyncio.CancelledError:
            return "not now"

    async def report(self) -> None:
        progress(1, 2, "half")

    def block(self, gate: int) -> str:
        return visit(gate, "blocking")

    def plain(self, value: Any) -> Any:
        return value


class Meeting:
    """Whoever comes waits until enough are there."""

    def __init__(self) -> None:
        self.present = self.most = 0
        self.complete = asyncio.Event()

    async def meet(self, size: int) -> int:
        self.present += 1
        self.most = max(self.most, self.present)
        if self.present >= size:
            self.complete.set()
        await self.complete.wait()
        await asyncio.sleep(0)
        self.present -= 1
        return self.most


@pytest.fixture
def network(rt: Runtime) -> Runtime:
    rt.register(Network, max_replicas=1)
    return rt


@pytest.mark.parametrize("mode", ["parallel", "batch"])
def test_async_operations_of_one_instance_run_side_by_side(network: Runtime, gate: Gate, mode: Any) -> None:
    run = network.submit([op("network.visit", gate=gate.port) for _ in range(10)], mode)
    visitors = gate.arrivals(10)

    for visitor in visitors:
        visitor.let_go()

    assert len({visitor.pid for visitor in visitors}) == 1
    assert [result.result for result in run.result()] == ["go"] * 10


def test_operations_of_several_runs_run_side_by_side(network: Runtime, gate: Gate) -> None:
    runs = [network.submit([op("network.visit", gate=gate.port)]) for _ in range(4)]
    visitors = gate.arrivals(4)

    for visitor in visitors:
        visitor.let_go()

    assert [run.result()[0].result for run in runs] == ["go"] * 4


def test_no_more_operations_are_in_flight_than_the_tool_says(rt: Runtime) -> None:
    rt.register(Meeting, max_replicas=1, concurrency=5)

    results = rt.run([op("meeting.meet", size=5)] * 60, "batch")

    assert max(result.result for result in results) == 5


def test_as_many_operations_are_in_flight_as_the_tool_says_whoever_asks(rt: Runtime) -> None:
    rt.register(Meeting, max_replicas=1, concurrency=150)

    together = rt.submit([op("meeting.meet", size=150)] * 80, "parallel")
    single = [rt.submit([op("meeting.meet", size=150)]) for _ in range(70)]

    assert max(result.result for run in (together, *single) for result in run.result(timeout=20)) == 150


def test_a_sequence_of_async_operations_keeps_its_order(network: Runtime, gate: Gate) -> None:
    run = network.submit([op("network.visit", gate=gate.port, text=str(n)) for n in range(3)])
    seen = []

    for _ in range(3):
        visitor = gate.arrival()
        seen.append((visitor.text, run.progress()[0]))
        visitor.let_go()

    assert [text for text, _ in seen] == ["0", "1", "2"]
    assert run.wait(10)


def test_async_results_are_referred_to(network: Runtime) -> None:
    operations = [
        op("network.give", value={"rows": [1, 2]}),
        op("network.give", value="$result[0].rows"),
        op("network.plain", value="$result[1][1]"),
    ]

    results = network.run(operations, "parallel")

    assert [result.result for result in results[1:]] == [[1, 2], 2]


def test_many_async_operations_come_back_in_order(network: Runtime) -> None:
    results = network.run([op("network.give", value=n) for n in range(500)], "batch")

    assert [result.result for result in results] == list(range(500))


def test_large_async_results_come_back_whole(network: Runtime) -> None:
    operations = [op("network.give", value=bytes([n]) * 100_000) for n in range(10)]

    results = network.run(operations, "parallel")

    assert [result.result for result in results] == [bytes([n]) * 100_000 for n in range(10)]


def test_an_async_failure_costs_no_neighbour(network: Runtime) -> None:
    operations = [op("network.give", value=n) if n != 5 else op("network.fail", message="gone") for n in range(20)]

    results = network.run(operations, "parallel")

    assert results[5].error_message == "Error executing fail: gone"
    assert [result.result for n, result in enumerate(results) if n != 5] == [n for n in range(20) if n != 5]
    with pytest.raises(OperationFailedError) as caught:
        network.call("network.fail", {"message": "gone"})
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_blocking_operation_does_not_hold_up_async_ones(network: Runtime, gate: Gate) -> None:
    run = network.submit([op("network.block", gate=gate.port)])
    visitor = gate.arrival()

    values = [network.call("network.give", {"value": n}) for n in range(3)]
    visitor.let_go("unblocked")

    assert values == [0, 1, 2]
    assert run.result()[0].result == "unblocked"


def test_cancelling_cancels_async_bodies(network: Runtime, gate: Gate, ledger: Ledger) -> None:
    run = network.submit([op("network.wait", gate=gate.port, ledger=ledger.path) for _ in range(3)], "parallel")
    gate.arrivals(3)

    status = run.cancel()

    assert status == "cancelled"
    assert ledger.lines() == ["cancelled"] * 3
    assert {result.error_code for result in run.result()} == {"E004"}


def test_an_async_body_that_completes_all_the_same_has_completed(network: Runtime, gate: Gate) -> None:
    run = network.submit([op("network.swallow", gate=gate.port)])
    gate.arrival()

    run.cancel()

    assert run.result()[0].result == "not now"


def test_cancelling_one_run_leaves_the_async_bodies_of_another(network: Runtime, gate: Gate) -> None:
    kept, dropped = (network.submit([op("network.visit", gate=gate.port, text=t)]) for t in ("kept", "dropped"))
    visitors = {visitor.text: visitor for visitor in gate.arrivals(2)}

    dropped.cancel()
    visitors["kept"].let_go()

    assert kept.result(timeout=10)[0].completed


def test_an_async_body_reports_its_progress(network: Runtime) -> None:
    run = network.submit([op("network.report")])

    reports = [event.data for event in run.events() if event.kind == "progress"]

    assert reports == [{"done": 1, "total": 2, "message": "half"}]
