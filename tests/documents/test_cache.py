"""What the cache answers and what it must not (S0-43, S0-48 to S0-50, S0-62; C-22, C-23, D-02, D-05, D-07 to D-09)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.probes import op
from tests.documents.tools_of_cases import Other

if TYPE_CHECKING:
    import aiecs_ray
    from aiecs_ray import OperationExecutor
    from tests.contract.probes import Ledger
    from tests.documents.conftest import Make


async def test_the_same_work_of_a_user_is_done_once(executor: OperationExecutor, ledger: Ledger) -> None:
    params = {"ledger": ledger.path, "value": 5, "user_id": "ann", "task_id": "t1"}

    assert [await executor.execute_operation("desk.note", params) for _ in range(3)] == [5, 5, 5]

    assert len(ledger) == 1


async def test_users_and_tasks_share_nothing(executor: OperationExecutor, ledger: Ledger) -> None:
    contexts = [("ann", "t1"), ("bob", "t1"), ("ann", "t2"), ("ann", ""), ("", "t1")]

    for user, task in contexts * 2:
        params = {"ledger": ledger.path, "user_id": user, "task_id": task}
        await executor.execute_operation("desk.note", params)

    assert len(ledger) == len(contexts)


async def test_without_a_context_nothing_is_kept(executor: OperationExecutor, ledger: Ledger) -> None:
    for _ in range(2):
        await executor.execute_operation("desk.note", {"ledger": ledger.path})

    assert len(ledger) == 2


@pytest.mark.parametrize("way", ["single", "sequence", "parallel", "batch", "calls"])
async def test_every_way_of_running_shares_one_cache(make: Make, ledger: Ledger, way: str) -> None:
    await run_as(make(), "single", ledger)

    assert await run_as(make(), way, ledger) == 7

    assert len(ledger) == 1


@pytest.mark.parametrize("way", ["single", "sequence", "parallel", "batch", "calls"])
async def test_the_cache_can_be_switched_off_on_every_way(make: Make, ledger: Ledger, way: str) -> None:
    executor = make(enable_cache=False)

    for _ in range(2):
        assert await run_as(executor, way, ledger) == 7

    assert len(ledger) == 2


async def run_as(executor: OperationExecutor, way: str, ledger: Ledger) -> Any:
    params = {"ledger": ledger.path, "value": 7}
    in_context = {**params, "user_id": "ann", "task_id": "t1"}
    match way:
        case "single":
            return await executor.execute_operation("desk.note", in_context)
        case "sequence":
            operations = [op("desk.note", **params)]
            return (await executor.execute_operations_sequence(operations, "ann", "t1"))[0].result
        case "parallel":
            return (await executor.execute_parallel_operations([op("desk.note", **in_context)]))[0].result
        case "batch":
            return (await executor.batch_execute_operations([op("desk.note", **in_context)]))[0]
    return (await executor.batch_tool_calls([{"tool": "desk.note", "params": in_context}]))[0]


async def test_it_can_be_switched_off_later(make: Make, ledger: Ledger) -> None:
    executor = make()
    await run_as(executor, "single", ledger)

    executor.config["enable_cache"] = False
    await run_as(executor, "single", ledger)

    assert len(ledger) == 2


async def test_a_result_of_none_is_a_result(executor: OperationExecutor, ledger: Ledger) -> None:
    params = {"ledger": ledger.path, "user_id": "ann"}

    assert [await executor.execute_operation("desk.note", params) for _ in range(2)] == [None, None]

    assert len(ledger) == 1


async def test_a_failure_is_not_kept(executor: OperationExecutor, ledger: Ledger) -> None:
    params = {"ledger": ledger.path, "reason": "database", "user_id": "ann"}

    for _ in range(2):
        with pytest.raises(Exception, match="no such table"):
            await executor.execute_operation("desk.note_and_stop", params)

    assert len(ledger) == 2


async def test_two_tools_with_the_same_operation_share_nothing(
    executor: OperationExecutor, local: aiecs_ray.Runtime
) -> None:
    local.register(Other)
    params = {"value": 1, "user_id": "ann"}

    assert await executor.execute_operation("desk.give", params) == 1
    assert await executor.execute_operation("other.give", params) == ["other", 1]


async def test_a_caller_who_changes_a_result_changes_no_other_result(executor: OperationExecutor) -> None:
    params = {"value": [1, 2], "user_id": "ann"}

    first = await executor.execute_operation("desk.give", params)
    first.append("spoilt")

    assert await executor.execute_operation("desk.give", params) == [1, 2]


async def test_the_order_of_parameters_makes_no_other_key(executor: OperationExecutor) -> None:
    await executor.execute_operation("desk.add", {"a": 1, "b": 2, "user_id": "ann"})
    await executor.execute_operation("desk.add", {"user_id": "ann", "b": 2, "a": 1})

    cache = executor.get_stats()["cache"]
    assert (cache["hits"], cache["misses"], cache["hit_rate"]) == (1, 1, 0.5)


async def test_parameters_of_other_types_make_other_keys(executor: OperationExecutor) -> None:
    values = [1, 1.0, True, "1", [1], (1,), None]

    found = [await executor.execute_operation("desk.give", {"value": value, "user_id": "ann"}) for value in values]

    assert [(type(value), value) for value in found] == [(type(value), value) for value in values]
