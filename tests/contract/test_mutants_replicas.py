"""Which replicas get work, and when; and what is refused before any does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aiecs_ray import operation
from aiecs_ray.errors import InvalidOperationsError
from tests.contract.probes import Gate, op, visit

if TYPE_CHECKING:
    from aiecs_ray import Runtime

pytestmark = pytest.mark.timeout(40)
SOON = 5.0


class Window:
    def visit(self, gate: int, text: str) -> str:
        return visit(gate, text)

    def give(self, value: int) -> int:
        return value


class Door(Window):
    pass


def test_work_goes_to_the_replica_that_has_none(rt: Runtime, gate: Gate) -> None:
    rt.register(Window, num_cpus=0, max_replicas=2)
    runs = {text: rt.submit([op("window.visit", gate=gate.port, text=text)]) for text in ("first", "second")}
    leaving, staying = gate.arrivals(2)
    leaving.let_go()
    runs[leaving.text].wait()

    third = rt.submit([op("window.visit", gate=gate.port, text="third")])
    arrived = gate.arrival(SOON)
    arrived.let_go()
    staying.let_go()

    assert arrived.text == "third"
    assert third.result()[0].completed


def test_parallel_operations_of_two_tools_run_at_once(rt: Runtime, gate: Gate) -> None:
    for cls in (Window, Door):
        rt.register(cls, num_cpus=0)

    run = rt.submit([op(f"{name}.visit", gate=gate.port, text=name) for name in ("window", "door")], "parallel")
    visitors = [gate.arrival(SOON) for _ in range(2)]
    for visitor in visitors:
        visitor.let_go()

    assert {visitor.text for visitor in visitors} == {"window", "door"}
    assert all(result.completed for result in run.result())


def test_thousands_of_results_come_back_each_once_and_in_order(rt: Runtime) -> None:
    rt.register(Window)
    run = rt.submit([op("window.give", value=n) for n in range(4500)], "batch")

    results = [result.result for result in run.result()]

    assert results == list(range(4500))


def test_operations_in_a_circle_are_refused_at_once(rt: Runtime) -> None:
    rt.register(Window)
    circle = [{**op("window.give", value=n), "depends_on": [1 - n]} for n in range(2)]

    with pytest.raises(InvalidOperationsError, match="circle"):
        rt.submit(circle, "parallel")


class Lounge:
    @operation
    def visit(self, gate: int, text: str) -> str:
        return visit(gate, text)


def test_sync_operations_run_beside_each_other_as_the_tool_says(rt: Runtime, gate: Gate) -> None:
    rt.register(Lounge, concurrency=3, max_replicas=1, num_cpus=0)
    run = rt.submit([op("lounge.visit", gate=gate.port, text=str(n)) for n in range(3)], "parallel")

    visitors = [gate.arrival() for _ in range(3)]

    for visitor in visitors:
        visitor.let_go()
    assert [result.status for result in run.result()] == ["completed"] * 3


def test_a_quick_operation_does_not_wait_for_a_slow_one_beside_it(rt: Runtime, gate: Gate) -> None:
    rt.register(Lounge, concurrency=2, max_replicas=1, num_cpus=0)
    run = rt.submit([op("lounge.visit", gate=gate.port, text="slow")])
    slow = gate.arrival()

    for n in range(4):
        quick = rt.submit([op("lounge.visit", gate=gate.port, text=str(n))])
        gate.arrival().let_go()
        assert quick.result()[0].status == "completed"

    slow.let_go()
    assert run.result()[0].status == "completed"
