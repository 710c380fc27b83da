"""Which of a tool's replicas gets work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.probes import Gate, op, visit

if TYPE_CHECKING:
    from aiecs_ray import Runtime

pytestmark = pytest.mark.timeout(40)
SOON = 5.0


class Window:
    def visit(self, gate: int, text: str) -> str:
        return visit(gate, text)


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
