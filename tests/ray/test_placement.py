"""Where replicas find room: resources that nobody has, and more tools than CPUs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.errors import InfeasibleResourcesError
from tests.contract.probes import Gate, Stopwatch, op, visit

if TYPE_CHECKING:
    from aiecs_ray import Runtime

pytestmark = [pytest.mark.ray, pytest.mark.timeout(90)]


class Worker:
    def work(self, value: Any) -> list[Any]:
        return [os.getpid(), value]

    def visit(self, gate: int) -> str:
        return visit(gate)


@pytest.mark.parametrize("options", [{"num_gpus": 1}, {"num_cpus": 64}, {"resources": {"quantum": 1}}], ids=str)
def test_resources_that_no_node_can_give_are_refused_soon(ray_rt: Runtime, options: dict[str, Any]) -> None:
    ray_rt.register(Worker, **options)
    watch = Stopwatch()

    with pytest.raises(InfeasibleResourcesError, match="no node has more than") as caught:
        ray_rt.call("worker.work", {"value": 1})

    assert caught.value.error_code == "E003"
    assert watch.seconds < 5


@pytest.mark.parametrize("mode", ["sequence", "parallel"])
def test_more_tools_than_cpus_all_complete(ray_rt: Runtime, mode: Any) -> None:
    for number in range(5):
        ray_rt.register(Worker, f"worker{number}")
    operations = [op(f"worker{n % 5}.work", value=n) for n in range(7)]

    results = ray_rt.run(operations, mode)

    assert [result.result[1] for result in results] == list(range(7))


def test_a_busy_tool_makes_room_for_another_when_it_is_done(ray_rt: Runtime, gate: Gate) -> None:
    for name in ("busy", "patient"):
        ray_rt.register(Worker, name, max_replicas=2)
    busy = ray_rt.submit([op("busy.visit", gate=gate.port) for _ in range(6)], "parallel")
    visitors = gate.arrivals(2)
    patient = ray_rt.submit([op("patient.work", value="served")])

    visitors[0].let_go()
    served = patient.result(timeout=20)[0].result[1]

    assert served == "served"
    assert not busy.done()
    visitors[1].let_go()
    for _ in range(4):
        gate.arrival().let_go()
    assert all(result.completed for result in busy.result())


def test_a_tool_without_cpus_runs_beside_all_others(ray_rt: Runtime, gate: Gate) -> None:
    ray_rt.register(Worker, "full")
    ray_rt.register(Worker, "light", num_cpus=0)
    full = ray_rt.submit([op("full.visit", gate=gate.port) for _ in range(2)], "parallel")
    visitors = gate.arrivals(2)

    light = ray_rt.submit([op("light.work", value="light")]).result(timeout=20)

    assert light[0].result[1] == "light"
    for visitor in visitors:
        visitor.let_go()
    assert full.wait(20)
