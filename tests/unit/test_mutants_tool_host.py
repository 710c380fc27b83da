"""What a replica's host sends back: large values beside their outcomes, and nothing that was not to begin."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import packing
from aiecs_ray.actors.made import Made
from aiecs_ray.actors.tool import REMEMBERED, Delivery, Large, ToolHost
from aiecs_ray.messages import Elided, Item, ToolSpec, Work
from aiecs_ray.shipping import ship
from tests.contract.probes import DEADLINE, Gate, visit

if TYPE_CHECKING:
    from aiecs_ray.messages import Outcome

LIMIT = 1000


class Unreadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


class Maker:
    def make(self, size: int) -> bytes:
        return b"x" * size

    def join(self, parts: dict[str, bytes]) -> int:
        return sum(map(len, parts.values()))

    def fail(self) -> None:
        raise ValueError("no")

    def make_unreadable(self) -> Unreadable:
        return Unreadable()

    def wait_at(self, gate: int) -> str:
        return visit(gate)

    def leave(self) -> None:
        sys.exit(0)


@pytest.fixture
def host() -> ToolHost:
    spec = ToolSpec("maker@1", "maker", ship(Maker), "1")
    host = ToolHost(spec, fetch=lambda packed: packed, report=lambda *_: None, inline_limit=LIMIT)
    assert host.start() is None
    return host


def item(step: int, operation: str, *, idempotent: bool = True, **params: Any) -> Item:
    return Item(step, 1, operation, packing.to_payload(packing.pack(params)), (), idempotent)


def outcomes(deliveries: list[Delivery]) -> list[Outcome]:
    return [outcome for delivery in deliveries for outcome in delivery.outcomes]


def test_a_large_result_travels_beside_its_outcome(host: ToolHost) -> None:
    work = Work(
        1, "run", (item(0, "make", size=10), item(1, "make", size=10 * LIMIT), item(2, "make", size=20 * LIMIT))
    )

    delivery = host.call(work)

    assert [outcome.payload for outcome in delivery.outcomes[1:]] == [Large(0), Large(1)]
    assert packing.from_payload(delivery.outcomes[0].payload) == b"x" * 10
    assert [len(packing.unpack(large)) for large in delivery.larges] == [10 * LIMIT, 20 * LIMIT]


def test_nothing_begins_after_a_recall(host: ToolHost) -> None:
    work = Work(1, "run", tuple(item(step, "make", size=1, idempotent=False) for step in range(3)))
    stream = host.stream(work)

    first = next(stream)
    host.stop(1, ask=False)
    rest = list(stream)

    assert [outcome.step for outcome in first.outcomes] == [0]
    assert rest == []


def test_what_was_collected_comes_again_for_the_answer_may_be_lost(host: ToolHost) -> None:
    items = (item(0, "make", size=1), item(1, "wait_at", gate=(gate := Gate()).port))
    said: list[Delivery] = []
    thread = threading.Thread(target=lambda: said.extend(host.stream(Work(1, "run", items), hold=True)))

    with gate:
        thread.start()
        visitor = gate.arrival()
        collected = [host.collect(1), host.collect(1)]
        visitor.let_go()
        thread.join(DEADLINE)

    assert [[outcome.step for outcome in stopped.outcomes] for stopped in collected] == [[0], []]
    assert [outcome.step for outcome in outcomes(said)] == [0, 1]


def test_a_chain_ends_with_its_first_failure(host: ToolHost) -> None:
    items = (item(0, "make", size=1), item(1, "fail"), item(2, "make", size=1))

    chain = list(host.stream(Work(1, "run", items, chain=True)))
    chunk = list(host.stream(Work(2, "run", items)))

    assert [outcome.kind for outcome in outcomes(chain)] == ["value", "error"]
    assert [outcome.kind for outcome in outcomes(chunk)] == ["value", "error", "value"]


def test_a_tool_that_exits_has_failed_and_nothing_else_has(host: ToolHost) -> None:
    found = host.call(Work(1, "run", (item(0, "leave"), item(1, "make", size=1)))).outcomes

    assert [outcome.kind for outcome in found] == ["error", "value"]


def test_a_value_that_nobody_can_read_is_a_failure(host: ToolHost) -> None:
    found = host.call(Work(1, "run", (item(0, "make_unreadable"), item(1, "make", size=1)))).outcomes

    assert [outcome.kind for outcome in found] == ["error", "value"]


def test_what_began_is_remembered_as_long_as_it_runs() -> None:
    spec = ToolSpec("maker@1", "maker", ship(Maker), "1", {"concurrency": 2})
    host = ToolHost(spec, fetch=lambda packed: packed, report=lambda *_: None, inline_limit=LIMIT)
    host.start()
    with Gate() as gate:
        waits = Work(0, "run", (item(0, "wait_at", gate=gate.port, idempotent=False),))
        thread = threading.Thread(target=host.call, args=(waits,))
        thread.start()
        visitor = gate.arrival()

        for number in range(1, 2 * REMEMBERED):
            host.call(Work(number, "run", (item(0, "make", size=1),)))
        begun = host.stop(0).begun
        visitor.let_go()
        thread.join(DEADLINE)

    assert begun == (0,)


def test_a_recall_that_comes_late_leaves_nothing_behind(host: ToolHost) -> None:
    host.call(Work(1, "run", (item(0, "make", size=1),)))

    host.stop(1)

    assert host._recalled == {}


def reading(step: int, *steps: int, left_out: bool = False) -> Item:
    params = {f"data_{one}": packing.Slot(place) for place, one in enumerate(steps)}
    inputs = tuple(("item", one, (), "") for one in steps)
    return Item(step, 1, "join", packing.to_payload(packing.pack({"parts": params})), inputs, left_out=left_out)  # type: ignore[arg-type]  # the literals are right


def test_a_large_result_that_is_left_out_is_sent_nowhere_and_read_by_the_next_item(host: ToolHost) -> None:
    items = (item(0, "make", size=10 * LIMIT)._replace(left_out=True), reading(1, 0))

    said = list(host.stream(Work(1, "run", items, chain=True)))

    found = outcomes(said)
    assert [delivery.larges for delivery in said] == [[]] * len(said)
    assert found[0].payload is Elided.ELIDED
    assert found[0].size > 10 * LIMIT
    assert found[0].summary == f"bytes of {10 * LIMIT}"
    assert packing.from_payload(found[1].payload) == 10 * LIMIT


def test_a_small_result_is_sent_whoever_reads_it(host: ToolHost) -> None:
    found = host.call(Work(1, "run", (item(0, "make", size=10)._replace(left_out=True),))).outcomes

    assert packing.from_payload(found[0].payload) == b"x" * 10


def test_results_are_held_until_their_last_reader_has_run_and_no_longer() -> None:
    made = Made(Work(1, "run", (item(0, "make"), reading(1, 0), reading(2, 0), reading(3, 2)), chain=True))
    held = []

    for place in range(4):
        made.add(place, f"result {place}", place)
        held.append(sorted(made))

    assert held == [[0], [0], [2], []]
