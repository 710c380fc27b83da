"""Time limits: of an attempt, of an operation, of a run; what runs too long is stopped, and nothing else."""

from __future__ import annotations

import secrets
import threading
from typing import Any

import pytest

from aiecs_ray import Registry, Runtime, connect, operation, tool
from aiecs_ray.config import Settings
from aiecs_ray.errors import InvalidTimeoutError, OperationTimeoutError
from tests.contract.probes import Gate, Ledger, Stopwatch, note, op, visit, visit_async, visit_until_asked

pytestmark = pytest.mark.timeout(40)
NEVER = 60.0
"""A limit that no test reaches."""


class Clock:
    def __init__(self) -> None:
        self.instance = secrets.token_hex(4)

    def who(self) -> str:
        return self.instance

    def give(self, value: Any = None) -> Any:
        return value

    def fail(self) -> None:
        raise ConnectionError("it may pass")

    def note(self, ledger: str) -> int:
        return note(ledger)

    def visit(self, gate: int, text: str = "") -> str:
        return visit(gate, text)

    def listen(self, gate: int) -> str:
        if visit_until_asked(gate):
            raise InterruptedError
        return self.instance

    def finish_anyway(self, gate: int) -> str:
        visit_until_asked(gate)
        return "done"


class AsyncClock:
    def __init__(self) -> None:
        self.instance = secrets.token_hex(4)

    async def who(self) -> str:
        return self.instance

    async def visit(self, gate: int, ledger: str) -> str:
        try:
            return await visit_async(gate)
        finally:
            note(ledger, "cleaned up")


@pytest.fixture
def clock(rt: Runtime) -> Runtime:
    rt.register(Clock)
    rt.register(AsyncClock)
    return rt


def test_a_call_that_takes_too_long_is_stopped(clock: Runtime, gate: Gate, backend: str) -> None:
    before, watch = clock.call("clock.who"), Stopwatch()

    with pytest.raises(OperationTimeoutError, match=r"timed out after 0\.2s") as caught:
        clock.call("clock.visit", {"gate": gate.port}, timeout=0.2)

    assert (caught.value.error_code, caught.value.operation) == ("E002", "clock.visit")
    assert watch.seconds < 5
    if backend == "ray":
        gate.arrival().wait_until_gone()
    assert clock.call("clock.who") != before


def test_a_body_that_was_left_behind_ends_quietly(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    with connect("inprocess", settings=Settings(grace=0.1), registry=Registry()) as rt:
        rt.register(Clock, "abandoned")
        with pytest.raises(OperationTimeoutError):
            rt.call("abandoned.visit", {"gate": gate.port}, timeout=0.1)
        left = [thread for thread in threading.enumerate() if thread.name.startswith("abandoned")]

    gate.arrival().let_go()
    for thread in left:
        thread.join(timeout=10)

    assert len(left) == 1
    assert not left[0].is_alive()
    assert raised == []


def test_a_step_that_takes_too_long_costs_no_other_step(clock: Runtime, gate: Gate) -> None:
    operations = [
        op("clock.give", value=1),
        {**op("clock.visit", gate=gate.port), "timeout": 0.2},
        op("clock.give", value="$result[1]"),
        op("clock.give", value=2),
    ]

    results = clock.run(operations)

    assert [result.status for result in results] == ["completed", "timed_out", "cancelled", "completed"]
    assert [result.error_code for result in results] == [None, "E002", "E007", None]
    assert results[2].message == "Skipped: step 1 (clock.visit) timed out"


@pytest.mark.parametrize("mode", ["parallel", "batch"])
def test_an_operation_that_takes_too_long_costs_no_neighbour(clock: Runtime, gate: Gate, mode: Any) -> None:
    operations = [op("clock.give", value=n) for n in range(40)]
    operations[7] = {**op("clock.visit", gate=gate.port), "timeout": 0.2}

    results = clock.run(operations, mode)

    assert results[7].status == "timed_out"
    assert [r.result for n, r in enumerate(results) if n != 7] == [n for n in range(40) if n != 7]


def test_operations_of_one_kind_each_have_their_own_time(clock: Runtime, gate: Gate) -> None:
    run = clock.submit([{**op("clock.visit", gate=gate.port), "timeout": NEVER} for _ in range(4)], "batch")

    for _ in range(4):
        gate.arrival().let_go("in time")

    assert [result.result for result in run.result()] == ["in time"] * 4


def test_a_body_that_listens_keeps_its_instance(clock: Runtime, gate: Gate) -> None:
    before = clock.call("clock.who")

    with pytest.raises(OperationTimeoutError):
        clock.call("clock.listen", {"gate": gate.port}, timeout=0.2)

    assert clock.call("clock.who") == before


def test_a_body_that_completes_when_asked_has_completed(clock: Runtime, gate: Gate) -> None:
    value = clock.call("clock.finish_anyway", {"gate": gate.port}, timeout=0.2)

    assert value == "done"


def test_an_async_body_is_cancelled_in_place(clock: Runtime, gate: Gate, ledger: Ledger) -> None:
    before = clock.call("async_clock.who")

    with pytest.raises(OperationTimeoutError) as caught:
        clock.call("async_clock.visit", {"gate": gate.port, "ledger": ledger.path}, timeout=0.2)

    assert caught.value.error_code == "E002"
    assert ledger.lines() == ["cleaned up"]
    assert clock.call("async_clock.who") == before


def test_an_operation_declares_its_own_limit(rt: Runtime, gate: Gate) -> None:
    class Limited:
        @operation(timeout=0.2)
        def visit(self, gate: int) -> str:
            return visit(gate)

    rt.register(Limited)

    with pytest.raises(OperationTimeoutError, match=r"0\.2s"):
        rt.call("limited.visit", {"gate": gate.port})


def test_without_a_limit_there_is_none(clock: Runtime, gate: Gate) -> None:
    run = clock.submit([op("clock.visit", gate=gate.port)])
    visitor = gate.arrival()

    ended = run.wait(0.5)
    visitor.let_go("at last")

    assert not ended
    assert run.result()[0].result == "at last"


def test_the_time_of_the_constructor_does_not_count(rt: Runtime, gate: Gate) -> None:
    class Slow:
        def __init__(self, gate: int) -> None:
            visit(gate)

        def work(self) -> str:
            return "built"

    rt.register(Slow, config={"gate": gate.port})
    run = rt.submit([{**op("slow.work"), "timeout": 0.2}])
    visitor = gate.arrival()

    ended = run.wait(0.5)
    visitor.let_go()

    assert not ended
    assert run.result()[0].result == "built"


def test_the_time_in_the_queue_does_not_count(rt: Runtime, gate: Gate) -> None:
    @tool(max_replicas=1)
    class Counter:
        def visit(self, gate: int) -> str:
            return visit(gate)

        def give(self) -> str:
            return "served"

    rt.register(Counter)
    run = rt.submit([op("counter.visit", gate=gate.port), {**op("counter.give"), "timeout": 0.2}], "parallel")
    visitor = gate.arrival()

    ended = run.wait(0.5)
    visitor.let_go()

    assert not ended
    assert [result.result for result in run.result()] == ["go", "served"]


@pytest.mark.parametrize("name", ["clock.visit", "visit"])
def test_a_limit_set_by_hand_wins(clock: Runtime, gate: Gate, name: str) -> None:
    clock.set_operation_timeout(name, 0.2)

    with pytest.raises(OperationTimeoutError, match=r"0\.2s"):
        clock.call("clock.visit", {"gate": gate.port}, timeout=NEVER)


def test_a_limit_set_by_hand_is_taken_back(clock: Runtime, gate: Gate) -> None:
    clock.set_operation_timeout("clock.visit", 0.1)
    clock.set_operation_timeout("clock.visit", None)
    run = clock.submit([op("clock.visit", gate=gate.port)])
    visitor = gate.arrival()

    ended = run.wait(0.4)
    visitor.let_go()

    assert not ended
    assert run.result()[0].completed


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "5", 1e300], ids=repr)
def test_a_limit_is_a_positive_number_of_seconds(clock: Runtime, ledger: Ledger, seconds: Any) -> None:
    with pytest.raises(InvalidTimeoutError):
        clock.call("clock.note", {"ledger": ledger.path}, timeout=seconds)
    with pytest.raises(InvalidTimeoutError):
        clock.run([op("clock.note", ledger=ledger.path)], deadline=seconds)
    with pytest.raises(InvalidTimeoutError):
        clock.set_operation_timeout("clock.note", seconds)

    assert len(ledger) == 0


def test_the_deadline_of_a_run_ends_what_is_left_of_it(clock: Runtime, gate: Gate, ledger: Ledger) -> None:
    operations = [
        op("clock.give", value=1),
        op("clock.visit", gate=gate.port),
        op("clock.note", ledger=ledger.path),
    ]
    watch = Stopwatch()

    run = clock.submit(operations, deadline=0.5)
    results = run.result()

    assert [result.status for result in results] == ["completed", "timed_out", "timed_out"]
    assert [result.error_code for result in results] == [None, "E002", "E002"]
    assert run.status() == "timed_out"
    assert watch.seconds < 8
    assert len(ledger) == 0


def test_a_run_within_its_deadline_is_not_touched(clock: Runtime) -> None:
    results = clock.run([op("clock.give", value=n) for n in range(3)], deadline=NEVER)

    assert [result.result for result in results] == [0, 1, 2]


def test_the_deadline_of_a_call_holds_over_all_attempts(clock: Runtime) -> None:
    watch = Stopwatch()

    with pytest.raises(OperationTimeoutError) as caught:
        clock.call("clock.fail", deadline=0.5, retry={"attempts": 5, "wait_min": 5, "wait_max": 5})

    assert caught.value.error_code == "E002"
    assert watch.seconds < 4


def test_the_deadline_of_an_operation_holds_over_all_attempts(clock: Runtime) -> None:
    retry = {"attempts": 3, "wait_min": 5, "wait_max": 5}
    watch = Stopwatch()

    run = clock.submit([{**op("clock.fail"), "deadline": 0.5, "retry": retry}, op("clock.give", value=1)])
    failed, other = run.result(timeout=4)

    assert (failed.status, failed.error_code) == ("timed_out", "E002")
    assert other.result == 1
    assert watch.seconds < 4


def test_the_deadline_of_an_operation_stops_its_body(clock: Runtime, gate: Gate) -> None:
    run = clock.submit([{**op("clock.visit", gate=gate.port), "deadline": 0.3}, op("clock.give", value=1)])

    stopped, other = run.result(timeout=10)

    assert (stopped.status, stopped.error_code) == ("timed_out", "E002")
    assert other.result == 1
