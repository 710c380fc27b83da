"""Who is served first when there is more work than room: higher priorities, and each user in turn."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import Registry, Runtime, connect
from aiecs_ray.config import Settings
from aiecs_ray.errors import BusyError, InvalidInputError
from tests.contract.probes import Gate, Ledger, note, op, visit

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(40)


class Counter:
    """One replica serves everybody."""

    def serve(self, ledger: str, who: str, seconds: float = 0.0) -> None:
        time.sleep(seconds)
        note(ledger, who)

    def visit(self, gate: int) -> str:
        return visit(gate)


@pytest.fixture
def counter(rt: Runtime) -> Runtime:
    rt.register(Counter, max_replicas=1)
    return rt


def served(counter: Runtime, gate: Gate, ledger: Ledger, lines: list[dict[str, Any]]) -> list[str]:
    """Let every line queue up behind an operation that runs; return the order in which they are served then."""
    door = counter.submit([op("counter.visit", gate=gate.port)])
    visitor = gate.arrival()
    runs = []
    for line in lines:
        call = op("counter.serve", ledger=ledger.path, who=line["who"], seconds=line.get("seconds", 0.0))
        request = {**call, "priority": line.get("priority", 0)}
        operations = [request for _ in range(line["count"])]
        runs.append(counter.submit(operations, "parallel", user_id=line.get("user_id"), cache="off"))
    visitor.let_go()
    for run in [door, *runs]:
        run.wait()
    return ledger.lines()


def test_a_higher_priority_goes_first(counter: Runtime, gate: Gate, ledger: Ledger) -> None:
    lines = [
        {"who": "low", "count": 2, "priority": -5},
        {"who": "usual", "count": 2},
        {"who": "high", "count": 2, "priority": 5},
    ]

    order = served(counter, gate, ledger, lines)

    assert order == ["high", "high", "usual", "usual", "low", "low"]


def test_users_take_turns(counter: Runtime, gate: Gate, ledger: Ledger) -> None:
    lines = [{"who": "ann", "count": 500, "user_id": "ann"}, {"who": "bob", "count": 2, "user_id": "bob"}]

    order = served(counter, gate, ledger, lines)

    assert len(order) == 502
    # Not before what was sent on its way together, and long before the end.
    assert order.index("bob") < 450


@pytest.mark.parametrize(
    "second", [{"user_id": "bob"}, {"user_id": "ann", "priority": 5}], ids=["another user", "a higher priority"]
)
def test_a_flood_delays_ten_operations_by_less_than_a_twentieth_of_it(
    counter: Runtime, gate: Gate, ledger: Ledger, second: dict[str, Any]
) -> None:
    # A turn is a chunk of about 50 ms, so these are long enough for a turn to be small beside the flood.
    flood = {"who": "flood", "count": 600, "user_id": "ann", "seconds": 0.005}
    lines = [flood, {**flood, "who": "ten", "count": 10, **second}]

    order = served(counter, gate, ledger, lines)

    last = max(place for place, who in enumerate(order) if who == "ten")
    assert order[:last].count("flood") < 30


def test_a_low_priority_is_served_while_higher_ones_keep_coming(counter: Runtime, gate: Gate, ledger: Ledger) -> None:
    lines = [{"who": "high", "count": 200, "priority": 9}, {"who": "low", "count": 1, "priority": -9}]
    counter.register(Counter, replace=True, max_replicas=1, concurrency=1)
    counter.set_limit("counter.serve", concurrency=1)

    order = served(counter, gate, ledger, lines)
    counter.reset_limit("counter.serve")

    assert order.index("low") < 100


@pytest.mark.parametrize("priority", [11, -11, 1.5, "high", True], ids=repr)
def test_a_priority_is_a_number_from_minus_ten_to_ten(counter: Runtime, ledger: Ledger, priority: Any) -> None:
    request = {**op("counter.serve", ledger=ledger.path, who="nobody"), "priority": priority}

    with pytest.raises(InvalidInputError, match="priority"):
        counter.run([request])

    assert len(ledger) == 0


@pytest.fixture
def small() -> Iterator[Runtime]:
    """Return a runtime in which there is room for eleven operations."""
    with connect("inprocess", settings=Settings(max_queued=11, grace=0.3), registry=Registry()) as rt:
        rt.register(Counter, max_replicas=1)
        yield rt


def test_a_full_queue_refuses_and_says_when_to_come_back(small: Runtime, gate: Gate, ledger: Ledger) -> None:
    request = op("counter.serve", ledger=ledger.path, who="one")
    run = small.submit([op("counter.visit", gate=gate.port)])
    visitor = gate.arrival()

    waiting = small.submit([request] * 10, "parallel")
    with pytest.raises(BusyError, match="try again") as caught:
        small.submit([request] * 10, "parallel")
    visitor.let_go()

    assert caught.value.retry_after > 0
    assert run.wait()
    assert all(result.completed for result in waiting.result())
    assert len(ledger) == 10
