"""A run in the user's hands: status, progress, results, events, cancellation, attaching, releasing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.errors import (
    OperationFailedError,
    OperationTimeoutError,
    ResultExpiredError,
    RunLostError,
    RuntimeUnavailableError,
)
from tests.contract.probes import Gate, Ledger, Stopwatch, note, op, visit, visit_until_asked

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs_ray import Run, Runtime

pytestmark = pytest.mark.timeout(40)


class Office:
    def give(self, value: Any = None) -> Any:
        return value

    def fail(self) -> None:
        raise ValueError("no")

    def note(self, ledger: str) -> int:
        return note(ledger)

    def visit(self, gate: int) -> str:
        return visit(gate)

    def listen(self, gate: int, ledger: str) -> str:
        if visit_until_asked(gate):
            note(ledger, "asked")
            raise InterruptedError
        return "let go"


@pytest.fixture
def office(rt: Runtime) -> Runtime:
    rt.register(Office)
    return rt


def test_a_run_says_how_far_it_is(office: Runtime, gate: Gate) -> None:
    run = office.submit([op("office.give", value=1), op("office.visit", gate=gate.port), op("office.give", value=2)])
    visitor = gate.arrival()

    before = (run.status(), run.progress()[1], run.done(), len(run))
    visitor.let_go()
    results = run.result()

    assert before == ("running", 3, False, 3)
    assert (run.status(), run.progress(), run.done()) == ("completed", (3, 3), True)
    assert [result.result for result in results] == [1, "go", 2]


def test_a_run_with_a_failed_step_has_failed(office: Runtime) -> None:
    run = office.submit([op("office.fail"), op("office.give")])

    run.wait()

    assert run.status() == "failed"


def test_waiting_has_an_end_and_the_run_goes_on(office: Runtime, gate: Gate) -> None:
    run = office.submit([op("office.visit", gate=gate.port)])
    visitor = gate.arrival()

    with pytest.raises(OperationTimeoutError, match="it goes on"):
        run.result(timeout=0.05)
    ended = run.wait(timeout=0.05)
    visitor.let_go("late")

    assert not ended
    assert run.wait(timeout=10)
    assert run.result(timeout=10)[0].result == "late"


def test_results_can_be_read_more_than_once(office: Runtime) -> None:
    run = office.submit([op("office.give", value=[1]), op("office.give", value=b"x" * 100_000)])

    first, second = run.result(), run.result()

    assert first == second
    assert first[0].result is not second[0].result


def test_the_value_of_a_step_or_its_error(office: Runtime, gate: Gate) -> None:
    operations = [op("office.give", value=1), op("office.fail"), op("office.visit", gate=gate.port)]
    run = office.submit(operations)
    visitor = gate.arrival()

    with pytest.raises(OperationTimeoutError):
        run.value(2)
    visitor.let_go()
    run.wait()

    assert run.value(0) == 1
    with pytest.raises(OperationFailedError) as caught:
        run.value(1)
    assert (caught.value.operation, caught.value.index) == ("office.fail", 1)


def test_a_result_that_was_not_kept_is_no_value(office: Runtime) -> None:
    run = office.submit([op("office.give", value=1), op("office.give", value=2)], keep="last")
    run.wait()

    with pytest.raises(ResultExpiredError, match="not kept"):
        run.value(0)

    assert run.value(1) == 2


def test_a_stream_yields_each_step_once_and_can_be_read_again(office: Runtime) -> None:
    run = office.submit([op("office.give", value=n) for n in range(20)], "parallel")

    live, again = list(run.stream()), list(run.stream())

    assert sorted(index for index, _ in live) == list(range(20))
    assert all(result.result == index for index, result in live)
    assert live == again


def test_events_are_replayed_from_any_number(office: Runtime) -> None:
    run = office.submit([op("office.give", value=n) for n in range(3)])
    run.wait()

    everything = list(run.events())

    assert [event.number for event in everything] == list(range(len(everything)))
    for number in (-1, 0, 3, len(everything) - 1, 1000):
        assert list(run.events(after=number)) == everything[number + 1 :]


def test_events_that_are_there_do_not_wait_for_more(office: Runtime, gate: Gate) -> None:
    run = office.submit([op("office.visit", gate=gate.port)])
    visitor = gate.arrival()

    kinds = [event.kind for event in run.events(follow=False) if event.kind != "replica_started"]
    visitor.let_go()

    assert kinds == ["run_started", "step_started"]


@pytest.mark.timeout(20)
def test_events_are_followed_live(office: Runtime, gate: Gate) -> None:
    run = office.submit([op("office.visit", gate=gate.port), op("office.visit", gate=gate.port)])
    events = run.events()
    kinds = []

    for event in events:
        if event.kind != "replica_started":
            kinds.append((event.kind, event.step))
        if event.kind == "step_started":
            gate.arrival().let_go()

    assert kinds == [
        ("run_started", None),
        ("step_started", 0),
        ("step_completed", 0),
        ("step_started", 1),
        ("step_completed", 1),
        ("run_finished", None),
    ]


def test_cancelling_asks_the_running_body_to_end(office: Runtime, gate: Gate, ledger: Ledger) -> None:
    operations = [
        op("office.give", value=1),
        op("office.listen", gate=gate.port, ledger=ledger.path),
        op("office.note", ledger=ledger.path),
    ]
    run = office.submit(operations)
    gate.arrival()

    status = run.cancel()

    assert status == run.status() == "cancelled"
    assert ledger.lines() == ["asked"]
    results = run.result()
    assert [result.status for result in results] == ["completed", "cancelled", "cancelled"]
    assert [result.error_code for result in results[1:]] == ["E004", "E004"]


def test_cancelling_ends_a_body_that_does_not_listen(office: Runtime, gate: Gate, ledger: Ledger, backend: str) -> None:
    run = office.submit([op("office.visit", gate=gate.port), op("office.note", ledger=ledger.path)], "parallel")
    visitor = gate.arrival()
    watch = Stopwatch()

    status = run.cancel()

    assert status in ("cancelled", "completed")
    assert run.result()[0].status == "cancelled"
    assert watch.seconds < 5
    if backend == "ray":
        visitor.wait_until_gone()
    assert office.call("office.give", {"value": "next"}) == "next"


def test_nothing_of_a_cancelled_run_starts_afterwards(office: Runtime, gate: Gate, ledger: Ledger) -> None:
    operations = [
        op("office.listen", gate=gate.port, ledger=ledger.path),
        *(op("office.note", ledger=ledger.path) for _ in range(50)),
    ]
    run = office.submit(operations, "batch")
    gate.arrival()

    run.cancel()

    lines = len(ledger)
    office.run([op("office.give") for _ in range(20)], "parallel")
    assert len(ledger) == lines
    assert lines - 1 == sum(result.completed for result in run.result())


def test_a_cancelled_wait_for_the_next_attempt_never_ends_in_one(office: Runtime, ledger: Ledger) -> None:
    class Flaky:
        def work(self, ledger: str) -> None:
            note(ledger)
            raise ConnectionError

    office.register(Flaky)
    retry = {"attempts": 3, "wait_min": 60, "wait_max": 60}
    run = office.submit([{**op("flaky.work", ledger=ledger.path), "retry": retry}])
    next(event for event in run.events() if event.kind == "step_retrying")

    status = run.cancel()

    assert status == "cancelled"
    assert run.result()[0].error_code == "E004"
    assert len(ledger) == 1


def test_cancelling_what_has_ended_changes_nothing(office: Runtime) -> None:
    run = office.submit([op("office.give", value=1)])
    run.wait()

    status = run.cancel()

    assert status == "completed"
    assert run.result()[0].result == 1


def test_cancelling_one_run_leaves_others_alone(office: Runtime, gate: Gate) -> None:
    doomed = office.submit([op("office.visit", gate=gate.port)] * 3, "batch")
    gate.arrival()
    other = office.submit([op("office.give", value=n) for n in range(30)], "batch")

    doomed.cancel()

    assert [result.result for result in other.result(timeout=20)] == list(range(30))


def test_a_released_run_is_forgotten(office: Runtime) -> None:
    run = office.submit([op("office.give", value=1)])
    run.wait()

    run.release()

    for ask in (run.status, run.result, run.progress, lambda: list(run.events())):
        with pytest.raises(ResultExpiredError):
            ask()


def test_releasing_a_running_run_cancels_it(office: Runtime, gate: Gate, ledger: Ledger) -> None:
    run = office.submit([op("office.listen", gate=gate.port, ledger=ledger.path)])
    gate.arrival()

    run.release()

    assert ledger.lines() == ["asked"]
    with pytest.raises(ResultExpiredError):
        run.status()


def test_a_run_is_found_again_by_its_id(office: Runtime, gate: Gate) -> None:
    run = office.submit([op("office.visit", gate=gate.port), op("office.fail")])
    visitor = gate.arrival()

    again = office.attach(run.id)
    visitor.let_go("hello")

    assert again.id == run.id
    assert len(again) == 2
    assert again.result() == run.result()


def test_a_second_runtime_attaches_to_a_run_of_the_first(
    office: Runtime, connect: Callable[[], Runtime], gate: Gate, backend: str
) -> None:
    run = office.submit([op("office.visit", gate=gate.port)])
    visitor, other = gate.arrival(), connect()

    if backend == "inprocess":  # each of them is a world of its own
        with pytest.raises(RunLostError):
            other.attach(run.id)
        return
    again = other.attach(run.id)
    visitor.let_go("seen by both")

    assert again.result()[0].result == run.result()[0].result == "seen by both"
    assert [event.kind for event in again.events()] == [event.kind for event in run.events()]


def test_a_second_runtime_calls_tools_of_the_first(
    office: Runtime, connect: Callable[[], Runtime], backend: str
) -> None:
    if backend == "inprocess":
        pytest.skip("each in-process runtime is a world of its own")
    office.call("office.give")

    value = connect().call("office.give", {"value": 5})

    assert value == 5


@pytest.mark.parametrize("run_id", ["nobody-0123456789abcdef", "", "../../etc", "x" * 5000])
def test_the_id_of_no_run_is_lost(office: Runtime, run_id: str) -> None:
    with pytest.raises(RunLostError):
        office.attach(run_id)


def test_a_closed_runtime_says_so(connect: Callable[[], Runtime]) -> None:
    rt = connect()
    rt.register(Office)
    run = rt.submit([op("office.give")])

    rt.close()
    rt.close()

    for ask in (run.status, lambda: rt.call("office.give"), lambda: rt.run([op("office.give")]), rt.stats):
        with pytest.raises(RuntimeUnavailableError):
            ask()


def test_a_closed_runtime_is_a_client_no_more(connect: Callable[[], Runtime], backend: str) -> None:
    if backend == "inprocess":
        pytest.skip("the coordinator ends with its only client")
    first, second = connect(), connect()
    clients = first.stats()["clients"]

    second.close()

    assert first.stats()["clients"] == clients - 1


def test_one_run_is_watched_from_several_threads(office: Runtime, gate: Gate) -> None:
    run = office.submit([op("office.visit", gate=gate.port), *(op("office.give", value=n) for n in range(20))])
    visitor = gate.arrival()
    seen: list[list[Any]] = []

    def watch(run: Run) -> None:
        seen.append([(event.number, event.kind) for event in run.events()])

    watchers = [threading.Thread(target=watch, args=(run,)) for _ in range(4)]
    for watcher in watchers:
        watcher.start()
    visitor.let_go()
    for watcher in watchers:
        watcher.join()

    assert len(seen) == 4
    assert all(one == seen[0] for one in seen)
