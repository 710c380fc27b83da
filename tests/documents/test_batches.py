"""``batch_execute_operations``: order, rate, size, failures (S0-31, S0-32, S0-52, S0-53; C-15, D-12, D-21)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.errors import AiecsError
from tests.contract.probes import Stopwatch, eventually, op

if TYPE_CHECKING:
    from aiecs_ray import OperationExecutor
    from tests.contract.probes import Gate, Ledger
    from tests.documents.conftest import Make

SECOND = 0.9
"""A second, less what lies between a start and the tool's own look at the clock."""


def most_in_a_second(starts: list[float]) -> int:
    starts = sorted(starts)
    return max(sum(0 <= other - start < SECOND for other in starts) for start in starts)


async def test_results_are_in_input_order(executor: OperationExecutor) -> None:
    assert await executor.batch_execute_operations([op("desk.give", value=n) for n in range(50)]) == list(range(50))


async def test_an_empty_batch_has_no_results(executor: OperationExecutor) -> None:
    assert await executor.batch_execute_operations([]) == []


async def test_a_failure_is_an_exception_in_its_place_that_says_which_operation_it_was(
    executor: OperationExecutor,
) -> None:
    operations = [op("desk.give", value=1), op("desk.fail", message="out of paper"), op("nobody.give")]

    value, failed, unknown = await executor.batch_execute_operations(operations)

    assert value == 1
    assert isinstance(failed, AiecsError)
    assert (failed.error_code, failed.operation, failed.index) == ("E003", "desk.fail", 1)
    assert str(failed) == "Error executing fail: out of paper"
    assert isinstance(failed.__cause__, ValueError)
    assert isinstance(unknown, AttributeError)


async def test_an_operation_waits_for_those_it_refers_to(executor: OperationExecutor) -> None:
    operations = [
        op("desk.give", value={"images": [1, 2]}),
        op("desk.give", value="$result[0].images"),
        op("desk.give", value=["$result[1][0]", {"deep": "$result[1]"}]),
    ]

    results = await executor.batch_execute_operations(operations)

    assert results[1:] == [[1, 2], [1, {"deep": [1, 2]}]]


@pytest.mark.parametrize("bad", [{}, {"operation": 5}, {"operation": "desk.give", "parms": {}}, "desk.give", None])
async def test_a_malformed_operation_refuses_the_batch_before_anything_runs(
    executor: OperationExecutor, ledger: Ledger, bad: Any
) -> None:
    with pytest.raises(ValueError, match=r"expected|must be"):
        await executor.batch_execute_operations([op("desk.note", ledger=ledger.path), bad])

    assert len(ledger) == 0


@pytest.mark.parametrize("operations", [None, "desk.give", {"operation": "desk.give"}, 5])
async def test_something_that_is_no_list_is_refused(executor: OperationExecutor, operations: Any) -> None:
    for method in (executor.batch_execute_operations, executor.execute_parallel_operations):
        with pytest.raises(ValueError, match="list"):
            await method(operations)


# --- the rate ------------------------------------------------------------------------------------------------


async def test_no_second_has_more_starts_than_the_rate_by_the_tools_own_clock(make: Make) -> None:
    executor = make(rate_limit_requests_per_second=20, batch_size=50)

    starts = await executor.batch_execute_operations([op("desk.start") for _ in range(32)])

    assert most_in_a_second(starts) <= 20
    assert max(starts) - min(starts) >= 31 / 20 - 0.05


async def test_batches_of_one_executor_share_its_rate(make: Make) -> None:
    executor = make(rate_limit_requests_per_second=20)

    found = await asyncio.gather(
        *(executor.batch_execute_operations([op("desk.start") for _ in range(8)]) for _ in range(4))
    )

    assert most_in_a_second([start for starts in found for start in starts]) <= 20


async def test_a_hit_of_the_cache_counts_as_a_request(make: Make) -> None:
    executor = make(rate_limit_requests_per_second=20)
    operation = op("desk.give", value=1, user_id="ann")
    await executor.batch_execute_operations([operation])
    watch = Stopwatch()

    await executor.batch_execute_operations([operation] * 11)

    assert watch.seconds >= 10 / 20 - 0.05


async def test_the_last_operation_is_not_waited_for_after_it_has_ended(make: Make) -> None:
    executor = make(rate_limit_requests_per_second=0.5)
    watch = Stopwatch()

    assert await executor.batch_execute_operations([op("desk.give", value=1)]) == [1]

    assert watch.seconds < 1


async def test_a_batch_without_a_rate_is_not_held_back(make: Make) -> None:
    executor = make(rate_limit_requests_per_second=None, batch_size=100)
    watch = Stopwatch()

    await executor.batch_execute_operations([op("desk.give", value=n) for n in range(200)])

    assert watch.seconds < 5


# --- the size ------------------------------------------------------------------------------------------------


async def test_no_more_operations_are_under_way_than_the_batch_size(make: Make, gate: Gate) -> None:
    executor = make(batch_size=3)
    operations = [op("desk.visit_async", gate=gate.port, text=str(n)) for n in range(7)]
    running = asyncio.create_task(executor.batch_execute_operations(operations))

    first = await asyncio.to_thread(gate.arrivals, 3)
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(gate.arrival, 0.2)
    for visitor in first:
        visitor.let_go(visitor.text)
    for visitor in await asyncio.to_thread(gate.arrivals, 3):
        visitor.let_go(visitor.text)
    (await asyncio.to_thread(gate.arrival)).let_go("6")

    assert await running == [str(n) for n in range(7)]


async def test_a_slow_operation_does_not_hold_up_those_after_it(make: Make, gate: Gate, ledger: Ledger) -> None:
    executor = make(batch_size=2)
    operations = [op("desk.visit_async", gate=gate.port), *(op("desk.note", ledger=ledger.path) for _ in range(6))]
    running = asyncio.create_task(executor.batch_execute_operations(operations))
    slow = await asyncio.to_thread(gate.arrival)

    await asyncio.to_thread(eventually, lambda: len(ledger) == 6)
    slow.let_go("slow")

    assert await running == ["slow", *[None] * 6]
