"""What a run promises in every mode: one result per operation in input order, references, skips, what is kept."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import Runtime, TaskStepResult
from aiecs_ray.errors import (
    InvalidInputError,
    InvalidOperationsError,
    ReferenceForwardError,
    ReferenceRangeError,
    ReferenceSyntaxError,
    ToolNotFoundError,
)
from tests.contract.probes import DEADLINE, Gate, Ledger, note, op, visit

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(40)
MODES = ("sequence", "parallel", "batch")


class Desk:
    def add(self, a: int, b: int) -> dict[str, int]:
        return {"sum": a + b}

    def give(self, value: Any = None) -> Any:
        return value

    def fail(self, message: str = "no") -> None:
        raise ValueError(message)

    def note(self, ledger: str, value: Any = None, text: str = "ran") -> Any:
        note(ledger, text)
        return value

    def visit(self, gate: int | None = None, text: str = "") -> str:
        return visit(gate, text) if gate is not None else "nobody there"


class Printer:
    def show(self, value: Any) -> str:
        return f"<{value}>"


@pytest.fixture
def desk(rt: Runtime) -> Runtime:
    rt.register(Desk)
    rt.register(Printer)
    return rt


def values(results: list[TaskStepResult]) -> list[Any]:
    assert [result.status for result in results] == ["completed"] * len(results)
    return [result.result for result in results]


@pytest.mark.parametrize("mode", MODES)
def test_there_is_one_result_per_operation_in_input_order(desk: Runtime, mode: Any) -> None:
    operations = [op("desk.give", value=number) for number in range(300)]

    results = desk.run(operations, mode)

    assert values(results) == list(range(300))


@pytest.mark.parametrize("mode", MODES)
def test_operations_of_two_tools_come_back_in_input_order(desk: Runtime, mode: Any) -> None:
    operations = [op("desk.give", value=n) if n % 2 else op("printer.show", value=n) for n in range(10)]

    results = desk.run(operations, mode)

    assert values(results) == ["<0>", 1, "<2>", 3, "<4>", 5, "<6>", 7, "<8>", 9]


@pytest.mark.parametrize("mode", MODES)
def test_no_operations_give_no_results(desk: Runtime, mode: Any) -> None:
    assert desk.run([], mode) == []


def test_results_keep_their_place_however_late_they_come(desk: Runtime, gate: Gate) -> None:
    run = desk.submit([op("desk.visit", gate=gate.port), op("printer.show", value="quick")], "parallel")
    visitor, stream = gate.arrival(), run.stream()

    first = next(stream)
    visitor.let_go("slow")

    assert first[0] == 1
    assert values(run.result()) == ["slow", "<quick>"]


@pytest.mark.timeout(20)
def test_a_quick_operation_does_not_wait_behind_a_long_one(desk: Runtime, gate: Gate) -> None:
    desk.run([op("desk.give") for _ in range(10)])
    run = desk.submit([op("desk.visit", gate=gate.port), op("desk.give", value="quick")], "parallel")
    visitor, stream = gate.arrival(), run.stream()

    first = next(stream)
    visitor.let_go("slow")

    assert first[0] == 1
    assert values(run.result()) == ["slow", "quick"]


@pytest.mark.timeout(20)
def test_a_result_does_not_wait_for_the_step_after_it(desk: Runtime, gate: Gate) -> None:
    desk.run([op("desk.visit") for _ in range(3)])
    run = desk.submit([op("desk.give", value="early"), op("desk.visit", gate=gate.port)])
    visitor, stream = gate.arrival(), run.stream()

    index, first = next(stream)
    visitor.let_go("late")

    assert (index, first.result) == (0, "early")
    assert values(run.result()) == ["early", "late"]


def test_a_sequence_runs_one_after_the_other(desk: Runtime, ledger: Ledger) -> None:
    operations = [op("desk.note", ledger=ledger.path, text=str(number)) for number in range(20)]

    desk.run(operations)

    assert ledger.lines() == [str(number) for number in range(20)]


def test_a_step_of_a_sequence_waits_for_the_end_of_the_one_before(desk: Runtime, ledger: Ledger, gate: Gate) -> None:
    run = desk.submit([op("desk.visit", gate=gate.port), op("desk.note", ledger=ledger.path)])
    visitor = gate.arrival()

    # It queues behind what the run has ready, for another replica than the one that waits.
    desk.call("desk.give")
    early = ledger.lines()
    visitor.let_go()

    assert early == []
    assert all(step.completed for step in run.result(timeout=DEADLINE))
    assert ledger.lines() == ["ran"]


def test_a_result_says_what_ran_and_how_it_ended(desk: Runtime) -> None:
    good, bad = desk.run([op("desk.give", value=1), op("desk.fail", message="out of paper")])

    assert good == TaskStepResult("desk.give", 1, True, "Completed operation desk.give", "completed")  # noqa: FBT003
    assert (bad.step, bad.result, bad.completed, bad.status) == ("desk.fail", None, False, "failed")
    assert (bad.message, bad.error_code) == ("Failed to execute desk.fail", "E003")
    assert bad.error_message == "Error executing fail: out of paper"


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_costs_no_other_result(desk: Runtime, mode: Any) -> None:
    operations = [op("desk.fail") if n % 10 == 3 else op("desk.give", value=n) for n in range(60)]

    results = desk.run(operations, mode)

    failed = [number for number, result in enumerate(results) if result.status == "failed"]
    assert failed == [3, 13, 23, 33, 43, 53]
    assert all(result.result == n for n, result in enumerate(results) if n not in failed)


@pytest.mark.parametrize("mode", MODES)
def test_a_step_reads_an_earlier_result(desk: Runtime, mode: Any) -> None:
    operations = [
        op("desk.add", a=1, b=2),
        op("desk.add", a="$result[0].sum", b=10),
        op("printer.show", value="$result[1].sum"),
    ]

    results = desk.run(operations, mode)

    assert values(results) == [{"sum": 3}, {"sum": 13}, "<13>"]


@pytest.mark.parametrize("mode", MODES)
def test_a_step_reads_a_result_by_its_id(desk: Runtime, mode: Any) -> None:
    rows = [{"name": "Ada"}, {"name": "Bob"}]
    operations = [
        {**op("desk.give", value={"rows": rows}), "id": "load"},
        op("desk.give", value='$result["load"].rows[1].name'),
        op("desk.give", value='$result["load"]["rows"][0]'),
    ]

    results = desk.run(operations, mode)

    assert values(results)[1:] == ["Bob", {"name": "Ada"}]


def test_references_stand_anywhere_inside_parameters(desk: Runtime) -> None:
    nested = {"list": ["$result[0]", {"deep": ("$result[1].sum", "text")}], "$result[0]": "a key is a key"}

    results = desk.run([op("desk.give", value=7), op("desk.add", a=1, b=1), op("desk.give", value=nested)])

    assert values(results)[2] == {"list": [7, {"deep": (2, "text")}], "$result[0]": "a key is a key"}


def test_text_that_is_no_whole_reference_stays_text(desk: Runtime) -> None:
    texts = ["$$result[0]", "see $result[0]", "$$$result[0]"]

    results = desk.run([op("desk.give", value=1), op("desk.give", value=texts)])

    assert values(results)[1] == ["$result[0]", "see $result[0]", "$$result[0]"]


def test_a_result_that_looks_like_a_reference_is_data(desk: Runtime) -> None:
    results = desk.run([op("desk.give", value="$$result[0]"), op("desk.give", value="$result[0]")])

    assert values(results) == ["$result[0]", "$result[0]"]


def test_many_steps_may_read_one_result(desk: Runtime) -> None:
    operations = [op("desk.give", value=[1, 2, 3]), *(op("desk.give", value="$result[0][2]") for _ in range(50))]

    results = desk.run(operations, "parallel")

    assert values(results)[1:] == [3] * 50


def test_a_path_that_does_not_exist_fails_the_step_that_asks(desk: Runtime, ledger: Ledger) -> None:
    operations = [
        op("desk.add", a=1, b=2),
        op("desk.note", ledger=ledger.path, value="$result[0].total"),
        op("desk.give", value="fine"),
    ]

    results = desk.run(operations)

    assert (results[1].status, results[1].error_code) == ("failed", "E007")
    assert "'total'" in str(results[1].error_message)
    assert "'sum'" in str(results[1].error_message)
    assert results[2].result == "fine"
    assert len(ledger) == 0


def test_a_reference_reads_no_method(desk: Runtime) -> None:
    results = desk.run([op("desk.give", value={"a": 1}), op("desk.give", value="$result[0].keys")])

    assert (results[1].status, results[1].error_code) == ("failed", "E007")


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("$result[1]", ReferenceForwardError),
        ("$result[2]", ReferenceForwardError),
        ("$result[9]", ReferenceRangeError),
        ('$result["nobody"]', ReferenceRangeError),
        ("$result[0]._secret", ReferenceSyntaxError),
        ("$result[-1]", ReferenceSyntaxError),
        ("$result[0] ", ReferenceSyntaxError),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_reference_that_can_never_resolve_is_refused_before_anything_runs(
    desk: Runtime, ledger: Ledger, mode: Any, reference: str, error: type[Exception]
) -> None:
    operations = [op("desk.note", ledger=ledger.path), op("desk.give", value=reference), op("desk.give")]

    with pytest.raises(error) as caught:
        desk.run(operations, mode)

    assert caught.value.index == 1  # type: ignore[attr-defined]
    assert len(ledger) == 0


@pytest.mark.parametrize("mode", MODES)
def test_what_reads_a_failed_result_is_skipped(desk: Runtime, ledger: Ledger, mode: Any) -> None:
    operations = [
        op("desk.fail"),
        op("desk.note", ledger=ledger.path, value="$result[0]"),
        op("desk.note", ledger=ledger.path, value="$result[1]"),
        op("desk.give", value="fine"),
    ]

    results = desk.run(operations, mode)

    assert [result.status for result in results] == ["failed", "cancelled", "cancelled", "completed"]
    assert [result.error_code for result in results] == ["E003", "E007", "E007", None]
    assert [result.message for result in results[1:3]] == ["Skipped: step 0 (desk.fail) failed"] * 2
    assert not any(result.completed for result in results[:3])
    assert len(ledger) == 0


def test_depends_on_waits_without_reading(desk: Runtime, gate: Gate) -> None:
    operations = [
        {**op("desk.visit", gate=gate.port, text="first"), "id": "first"},
        {**op("desk.visit", gate=gate.port, text="second"), "depends_on": ["first"]},
    ]

    run = desk.submit(operations, "parallel")
    first = gate.arrival()
    status = run.progress()
    first.let_go("1")
    second = gate.arrival()
    second.let_go("2")

    assert (first.text, second.text, status) == ("first", "second", (0, 2))
    assert values(run.result()) == ["1", "2"]


def test_what_depends_on_a_failed_step_is_skipped(desk: Runtime, ledger: Ledger) -> None:
    operations = [op("desk.fail"), {**op("desk.note", ledger=ledger.path), "depends_on": [0]}]

    results = desk.run(operations, "parallel")

    assert (results[1].status, results[1].error_code) == ("cancelled", "E004")
    assert results[1].message == "Skipped: step 0 (desk.fail) failed"
    assert len(ledger) == 0


@pytest.mark.parametrize("mode", MODES)
def test_operations_that_depend_on_each_other_are_refused(desk: Runtime, mode: Any) -> None:
    operations = [{**op("desk.give"), "depends_on": [1]}, {**op("desk.give"), "depends_on": [0]}]

    with pytest.raises(InvalidOperationsError):
        desk.run(operations, mode)


def test_stop_on_failure_starts_nothing_after_a_failure(desk: Runtime, ledger: Ledger) -> None:
    operations = [
        op("desk.note", ledger=ledger.path),
        op("desk.fail"),
        op("desk.note", ledger=ledger.path),
        op("printer.show", value=1),
    ]

    results = desk.run(operations, stop_on_failure=True)

    assert [result.status for result in results] == ["completed", "failed", "cancelled", "cancelled"]
    assert {result.error_code for result in results[2:]} == {"E004"}
    assert {result.message for result in results[2:]} == {"Skipped: step 1 (desk.fail) failed"}
    assert len(ledger) == 1


@pytest.mark.parametrize("mode", ["parallel", "batch"])
def test_stop_on_failure_reports_exactly_what_ran(desk: Runtime, ledger: Ledger, mode: Any) -> None:
    operations = [op("desk.fail"), *(op("desk.note", ledger=ledger.path) for _ in range(50))]

    results = desk.run(operations, mode, stop_on_failure=True)

    assert len(results) == 51
    assert results[0].status == "failed"
    assert {result.status for result in results[1:]} <= {"completed", "cancelled"}
    assert len(ledger) == sum(result.completed for result in results)


def test_without_stop_on_failure_a_sequence_goes_on(desk: Runtime) -> None:
    results = desk.run([op("desk.fail"), op("desk.give", value=1)])

    assert [result.status for result in results] == ["failed", "completed"]


@pytest.mark.parametrize("mode", MODES)
def test_keep_last_keeps_the_last_result_only(desk: Runtime, mode: Any) -> None:
    operations = [op("desk.add", a=1, b=2), op("desk.add", a="$result[0].sum", b=2), op("desk.give", value="last")]

    results = desk.run(operations, mode, keep="last")

    assert [result.completed for result in results] == [True, True, True]
    assert [result.result for result in results] == [None, None, "last"]


def test_keep_takes_indexes_and_ids(desk: Runtime) -> None:
    operations = [op("desk.give", value=0), op("desk.give", value=1), {**op("desk.give", value=2), "id": "two"}]

    results = desk.run(operations, keep=[0, "two"])

    assert [result.result for result in results] == [0, None, 2]


def test_large_results_nobody_asked_for_are_read_by_their_consumers(desk: Runtime) -> None:
    operations = [
        op("desk.give", value=b"x" * 300_000),
        op("desk.give", value={"part": "$result[0]"}),
        op("desk.give", value="$result[1].part"),
    ]

    results = desk.run(operations, keep="last")

    assert [result.result for result in results] == [None, None, b"x" * 300_000]


@pytest.mark.parametrize("mode", MODES)
def test_on_step_hears_of_every_step_in_the_callers_thread(desk: Runtime, mode: Any) -> None:
    heard: list[tuple[int, TaskStepResult, int]] = []

    results = desk.run(
        [op("desk.give", value=1), op("desk.fail"), op("desk.give", value="$result[1]")],
        mode,
        on_step=lambda index, result: heard.append((index, result, threading.get_ident())),
    )

    assert {index: result for index, result, _ in heard} == dict(enumerate(results))
    assert len(heard) == 3
    assert {thread for *_, thread in heard} == {threading.get_ident()}


def test_on_step_that_raises_ends_the_run(desk: Runtime, ledger: Ledger, gate: Gate) -> None:
    operations = [
        op("printer.show", value=0),
        op("desk.visit", gate=gate.port),
        *(op("desk.note", ledger=ledger.path) for _ in range(5)),
    ]

    def refuse(index: int, _: TaskStepResult) -> None:
        raise LookupError(index)

    with pytest.raises(LookupError):
        desk.run(operations, on_step=refuse)

    assert desk.stats()["runs"]["active"] == 0
    assert len(ledger) == 0


def test_a_run_does_not_see_what_happens_to_its_parameters_later(desk: Runtime, gate: Gate) -> None:
    words = ["as", "sent"]
    operations = [op("desk.visit", gate=gate.port), op("desk.give", value=words)]

    run = desk.submit(operations)
    visitor = gate.arrival()
    words.append("changed")
    operations.clear()
    visitor.let_go()

    assert values(run.result()) == ["go", ["as", "sent"]]


@pytest.mark.parametrize("mode", MODES)
def test_an_unknown_tool_is_refused_before_anything_runs(desk: Runtime, ledger: Ledger, mode: Any) -> None:
    with pytest.raises(ToolNotFoundError, match=r"did you mean .*'desk'"):
        desk.run([op("desk.note", ledger=ledger.path), op("dest.give")], mode)

    assert len(ledger) == 0


def test_runs_from_several_threads_do_not_meet(desk: Runtime) -> None:
    results: dict[int, list[Any]] = {}

    def run(number: int) -> None:
        chain = [op("desk.give", value=number), op("desk.give", value=["$result[0]"])]
        results[number] = values(desk.run(chain, "parallel"))

    threads: list[Callable[[], None]] = []
    workers = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
        threads.append(worker.join)
    for join in threads:
        join()

    assert results == {number: [number, [number]] for number in range(8)}


def test_a_value_is_found_by_index_and_by_id(desk: Runtime) -> None:
    run = desk.submit([op("desk.give", value="a") | {"id": "first"}, op("desk.give", value="b") | {"id": "second"}])
    run.wait()

    assert [run.value("second"), run.value(1), run.value("first")] == ["b", "b", "a"]
    for unknown in ("third", "", 2, -1, True, None, 0.0):
        with pytest.raises(InvalidInputError, match="an index from 0 to 1 or the id of a step"):
            run.value(unknown)  # type: ignore[arg-type]


@pytest.mark.parametrize("after", ["x", None, 1.5, True, -2], ids=str)
def test_events_are_asked_for_by_their_number(desk: Runtime, after: Any) -> None:
    run = desk.submit([op("desk.give")])

    with pytest.raises(InvalidInputError, match="the number of an event"):
        run.events(after)

    assert next(iter(run.events())).number == 0
