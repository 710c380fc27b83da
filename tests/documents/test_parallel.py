"""``execute_parallel_operations``: all at once, each for itself (S0-39, S0-40, S0-79; C-07, C-13, C-14)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import TaskStepResult
from aiecs_ray.errors import InvalidInputError
from tests.contract.probes import op

if TYPE_CHECKING:
    from aiecs_ray import OperationExecutor
    from tests.contract.probes import Gate
    from tests.documents.conftest import Make


async def test_operations_are_under_way_together(executor: OperationExecutor, gate: Gate) -> None:
    operations = [op("desk.visit_async", gate=gate.port, text=str(n)) for n in range(20)]
    running = asyncio.create_task(executor.execute_parallel_operations(operations))

    visitors = await asyncio.to_thread(gate.arrivals, 20)
    for visitor in reversed(visitors):
        visitor.let_go(visitor.text)

    assert [result.result for result in await running] == [str(n) for n in range(20)]


async def test_a_rate_and_a_batch_size_do_not_hold_them_back(make: Make, gate: Gate) -> None:
    executor = make(rate_limit_requests_per_second=1, batch_size=1)
    running = asyncio.create_task(executor.execute_parallel_operations([op("desk.visit_async", gate=gate.port)] * 5))

    for visitor in await asyncio.to_thread(gate.arrivals, 5):
        visitor.let_go()

    assert all(result.completed for result in await running)


async def test_the_results_have_the_documents_names_and_messages(executor: OperationExecutor) -> None:
    good, bad = await executor.execute_parallel_operations([op("desk.give", value=1), op("desk.fail")])

    completed = "Completed parallel operation desk.give"
    assert good == TaskStepResult("parallel_0_desk.give", 1, completed=True, message=completed, status="completed")
    assert (bad.step, bad.message) == ("parallel_1_desk.fail", "Failed parallel operation desk.fail")


async def test_the_steps_can_be_named_by_their_operations_alone(make: Make) -> None:
    results = await make(parallel_step_naming="spec").execute_parallel_operations([op("desk.give")] * 2)

    assert [result.step for result in results] == ["desk.give", "desk.give"]


async def test_a_failure_hides_no_other_result(executor: OperationExecutor) -> None:
    operations = [op("desk.fail") if n % 3 == 1 else op("desk.give", value=n) for n in range(30)]

    results = await executor.execute_parallel_operations(operations)

    assert [n for n, result in enumerate(results) if not result.completed] == list(range(1, 30, 3))
    assert all(result.result == n for n, result in enumerate(results) if result.completed)


async def test_references_order_them_where_they_must(executor: OperationExecutor) -> None:
    operations = [op("desk.add", a=1), op("desk.add", a="$result[0]"), op("desk.add", a="$result[1]"), op("desk.give")]

    results = await executor.execute_parallel_operations(operations)

    assert [result.result for result in results] == [2, 3, 4, None]


@pytest.mark.parametrize("reference", ["$result[0]", "$result[1]", "$result[7]"])
async def test_a_reference_that_cannot_resolve_is_its_own_operations_failure(
    executor: OperationExecutor, reference: str
) -> None:
    failed, fine = await executor.execute_parallel_operations(
        [op("desk.give", value=reference), op("desk.give", value=2)]
    )

    assert (failed.status, failed.error_code) == ("failed", "E001")
    assert fine.result == 2


async def test_references_can_mean_the_results_of_the_call_before(executor: OperationExecutor) -> None:
    before = await executor.execute_parallel_operations([op("desk.give", value=n) for n in (10, 20)])

    results = await executor.execute_parallel_operations(
        [op("desk.add", a="$result[0]"), op("desk.add", a="$result[1]")], context_results=before
    )

    assert [result.result for result in results] == [11, 21]


@pytest.mark.parametrize("earlier", [5, "ab", {0: 1}], ids=str)
async def test_the_results_of_the_call_before_are_a_list(executor: OperationExecutor, earlier: Any) -> None:
    with pytest.raises(InvalidInputError, match="context_results is a list of results"):
        await executor.execute_parallel_operations([op("desk.give", value="$result[0]")], context_results=earlier)


@pytest.mark.ray
async def test_operations_are_under_way_together_on_ray(on_ray: OperationExecutor, gate: Gate) -> None:
    operations = [op("desk.visit_async", gate=gate.port, text=str(n)) for n in range(6)]
    running = asyncio.create_task(on_ray.execute_parallel_operations([*operations, op("desk.fail")]))

    for visitor in await asyncio.to_thread(gate.arrivals, 6):
        visitor.let_go(visitor.text)

    results = await running
    assert [result.result for result in results] == [*map(str, range(6)), None]
    assert results[6].error_message == "Error executing fail: no"
