"""A limit that is not kept shows within seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aiecs_ray import operation
from tests.contract.probes import Gate, op, visit_until_asked

if TYPE_CHECKING:
    from aiecs_ray import Runtime

pytestmark = pytest.mark.timeout(40)
LIMIT = 0.2
SOON = 5.0


class Waiter:
    @operation
    def wait(self, gate: int) -> bool:
        return visit_until_asked(gate)

    @operation(timeout=LIMIT)
    def wait_a_little(self, gate: int) -> bool:
        return visit_until_asked(gate)

    @operation
    def fail(self) -> None:
        raise ConnectionError("it may pass")


@pytest.fixture
def waiter(rt: Runtime) -> Runtime:
    rt.register(Waiter)
    return rt


def test_a_body_is_asked_to_end_at_the_limit_of_its_request(waiter: Runtime, gate: Gate) -> None:
    run = waiter.submit([{**op("waiter.wait", gate=gate.port), "timeout": LIMIT}])
    gate.arrival()

    result = run.result(timeout=SOON)[0]

    assert result.result is True


def test_a_body_is_asked_to_end_at_the_limit_of_its_operation(waiter: Runtime, gate: Gate) -> None:
    run = waiter.submit([op("waiter.wait_a_little", gate=gate.port)])
    gate.arrival()

    result = run.result(timeout=SOON)[0]

    assert result.result is True


def test_a_run_ends_at_its_deadline(waiter: Runtime) -> None:
    retry = {"attempts": 2, "wait_min": 60, "wait_max": 60}
    run = waiter.submit([{**op("waiter.fail"), "retry": retry}], deadline=LIMIT)

    result = run.result(timeout=SOON)[0]

    assert (result.status, result.error_code) == ("timed_out", "E002")
