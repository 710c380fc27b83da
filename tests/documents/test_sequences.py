"""``execute_operations_sequence``: order, failures, references, deadline (S0-33 to S0-38; C-04 to C-06, C-14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.probes import Stopwatch, op

if TYPE_CHECKING:
    from aiecs_ray import OperationExecutor
    from tests.contract.probes import Gate, Ledger
    from tests.documents.conftest import Make


async def test_each_step_starts_after_the_one_before_it(executor: OperationExecutor, ledger: Ledger) -> None:
    operations = [op("desk.note", ledger=ledger.path, text=str(n), value=n) for n in range(10)]

    results = await executor.execute_operations_sequence(operations, "user123", "task456")

    assert [result.result for result in results] == list(range(10))
    assert ledger.lines() == [str(n) for n in range(10)]


async def test_a_step_that_failed_is_the_last_one_when_the_sequence_stops(
    executor: OperationExecutor, ledger: Ledger
) -> None:
    operations = [op("desk.give", value=1), op("desk.fail"), op("desk.note", ledger=ledger.path)]

    results = await executor.execute_operations_sequence(operations, "u", "t", True)  # noqa: FBT003  # as documented

    assert [result.completed for result in results] == [True, False]
    assert len(ledger) == 0


async def test_every_step_is_tried_when_it_goes_on(executor: OperationExecutor, ledger: Ledger) -> None:
    operations = [op("desk.fail"), op("desk.note", ledger=ledger.path, value="done")]

    results = await executor.execute_operations_sequence(operations, "u", "t")

    assert [result.result for result in results] == [None, "done"]
    assert len(ledger) == 1


async def test_a_step_that_needs_a_failed_one_does_not_run(executor: OperationExecutor, ledger: Ledger) -> None:
    operations = [op("desk.fail"), op("desk.note", ledger=ledger.path, value="$result[0]"), op("desk.give", value=2)]

    results = await executor.execute_operations_sequence(operations, "u", "t")

    skipped = results[1]
    assert (skipped.status, skipped.completed, skipped.error_code) == ("cancelled", False, "E007")
    assert skipped.message == "Skipped: step 0 (desk.fail) failed"
    assert (len(ledger), results[2].result) == (0, 2)


async def test_the_results_have_the_documents_seven_fields(executor: OperationExecutor) -> None:
    good, bad = await executor.execute_operations_sequence([op("desk.give", value=3), op("desk.fail")], "u", "t")

    assert good.dict() == {
        "step": "desk.give",
        "result": 3,
        "completed": True,
        "message": "Completed operation desk.give",
        "status": "completed",
        "error_code": None,
        "error_message": None,
    }
    assert bad.dict() == {
        "step": "desk.fail",
        "result": None,
        "completed": False,
        "message": "Failed to execute desk.fail",
        "status": "failed",
        "error_code": "E003",
        "error_message": "Error executing fail: no",
    }


# --- references ----------------------------------------------------------------------------------------------


async def test_a_reference_reads_a_field_of_an_earlier_result(executor: OperationExecutor) -> None:
    operations = [
        op("desk.give", value={"data": {"field": [10, 20]}}),
        op("desk.give", value="$result[0].data.field"),
        op("desk.give", value=["$result[0].data.field[1]", {"whole": "$result[1]"}, "see $result[0]"]),
    ]

    results = await executor.execute_operations_sequence(operations, "u", "t")

    assert [result.result for result in results[1:]] == [[10, 20], [20, {"whole": [10, 20]}, "see $result[0]"]]


@pytest.mark.parametrize("reference", ["$result[5]", "$result[1]", "$result[2]"])
async def test_a_reference_that_can_never_resolve_refuses_the_sequence_before_it_starts(
    executor: OperationExecutor, ledger: Ledger, reference: str
) -> None:
    operations = [op("desk.note", ledger=ledger.path), op("desk.give", value=reference), op("desk.give")]

    with pytest.raises(ValueError, match=r"Referenced result index \d out of range"):
        await executor.execute_operations_sequence(operations, "u", "t")

    assert len(ledger) == 0


async def test_without_strict_references_it_fails_its_own_step(make: Make) -> None:
    executor = make(strict_references=False)

    results = await executor.execute_operations_sequence(
        [op("desk.give", value=1), op("desk.give", value="$result[5]"), op("desk.give", value=3)], "u", "t"
    )

    assert [result.result for result in results] == [1, None, 3]
    assert (results[1].error_code, results[1].error_message) == ("E001", "Referenced result index 5 out of range")


async def test_a_field_that_is_not_there_fails_its_own_step(executor: OperationExecutor) -> None:
    results = await executor.execute_operations_sequence(
        [op("desk.give", value={"rows": 1}), op("desk.give", value="$result[0].columns")], "u", "t"
    )

    assert (results[1].status, results[1].error_code) == ("failed", "E007")
    assert "'columns'" in str(results[1].error_message)
    assert "'rows'" in str(results[1].error_message)


async def test_references_can_mean_the_results_of_an_earlier_call(executor: OperationExecutor) -> None:
    earlier = await executor.execute_parallel_operations([op("desk.give", value=[1, 2]), op("desk.fail")])

    results = await executor.execute_operations_sequence(
        [op("desk.give", value="$result[0]"), op("desk.give", value="$result[1]")], "u", "t", context_results=earlier
    )

    assert results[0].result == [1, 2]
    assert (results[1].completed, results[1].error_code) == (False, "E007")


async def test_the_context_of_a_sequence_reaches_a_tool_that_declares_it(executor: OperationExecutor) -> None:
    (result,) = await executor.execute_operations_sequence([op("desk.own_names")], "ann", "t1")

    assert result.result[:2] == ["ann", "t1"]


@pytest.mark.parametrize("bad", [{}, {"operation": "desk"}, {"operation": "desk.give", "params": []}, "desk.give"])
async def test_a_malformed_step_refuses_the_sequence_before_it_starts(
    executor: OperationExecutor, ledger: Ledger, bad: Any
) -> None:
    with pytest.raises(ValueError, match=r"expected|must be"):
        await executor.execute_operations_sequence([op("desk.note", ledger=ledger.path), bad], "u", "t")

    assert len(ledger) == 0


async def test_a_deadline_ends_the_whole_sequence(executor: OperationExecutor, gate: Gate) -> None:
    operations = [op("desk.give", value=1), op("desk.visit_async", gate=gate.port), op("desk.give", value=3)]
    watch = Stopwatch()

    results = await executor.execute_operations_sequence(operations, "u", "t", deadline=0.4)

    assert watch.seconds < 10
    assert [result.status for result in results] == ["completed", "timed_out", "timed_out"]
    assert {result.error_code for result in results[1:]} == {"E002"}


async def test_with_a_deadline_an_attempt_may_take_as_long_as_the_sequence(make: Make, gate: Gate) -> None:
    executor = make(timeout=0.2)
    operations = [op("desk.visit_async", gate=gate.port)]

    limited = await executor.execute_operations_sequence(operations, "u", "t")
    watched = await executor.execute_operations_sequence(operations, "u", "t", deadline=0.6)

    assert limited[0].error_message == "Operation timed out after 0.2s"
    assert "0.6" in str(watched[0].error_message)
