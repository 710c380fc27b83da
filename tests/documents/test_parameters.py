"""What of its parameters reaches a tool, and how a tool is called (S0-24 to S0-30; C-09, C-10, C-70, D-10, D-23)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from aiecs_ray import OperationExecutor
    from tests.contract.probes import Gate

EXAMPLE = {
    "file_path": "data.csv",
    "encoding": "utf-8",
    "delimiter": ",",
    "user_id": "user123",
    "task_id": "task456",
}
"""The example of operation_executor.md, "参数字典契约"."""


async def test_the_system_parameters_of_the_example_do_not_reach_the_tool(executor: OperationExecutor) -> None:
    arrived = await executor.execute_operation("desk.take_any", EXAMPLE)

    assert arrived == {"file_path": "data.csv", "encoding": "utf-8", "delimiter": ","}


async def test_a_system_name_that_the_tool_declares_reaches_it(executor: OperationExecutor) -> None:
    arrived = await executor.execute_operation("desk.own_names", {"user_id": "ann", "task_id": "t1", "op": "mean"})

    assert arrived == ["ann", "t1", "mean"]


async def test_a_parameter_that_the_tool_does_not_take_is_left_out_with_one_warning(
    executor: OperationExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="aiecs_ray")

    for _ in range(3):
        assert await executor.execute_operation("desk.add", {"a": 1, "file_path": "contract.pdf"}) == 2

    (record,) = caplog.records
    assert "'file_path'" in record.getMessage()


async def test_a_missing_parameter_is_named(executor: OperationExecutor) -> None:
    with pytest.raises(ValueError, match="'a'") as caught:
        await executor.execute_operation("desk.add", {"b": 1})

    assert getattr(caught.value, "error_code", None) == "E001"


async def test_a_parameter_is_converted_to_its_type(executor: OperationExecutor) -> None:
    assert await executor.execute_operation("desk.add", {"a": "40", "b": 2}) == 42


async def test_a_parameter_that_cannot_be_converted_is_refused(executor: OperationExecutor) -> None:
    (result,) = await executor.execute_parallel_operations([{"operation": "desk.add", "params": {"a": "forty"}}])

    assert (result.status, result.error_code) == ("failed", "E001")
    assert "'a'" in str(result.error_message)


async def test_no_parameter_name_collides_with_the_executors_own(executor: OperationExecutor) -> None:
    params = {"operation": "o", "tool_instance": "i", "params": "p"}

    assert await executor.execute_operation("desk.awkward_names", params) == "o i p"


@pytest.mark.parametrize("spec", ["", ".", "desk.", ".give", "desk", "desk.give.", "desk give", "desk.give()", None, 5])
async def test_a_spec_of_another_form_is_refused(executor: OperationExecutor, spec: Any) -> None:
    with pytest.raises(ValueError, match=r"expected 'tool_name\.operation_name'"):
        await executor.execute_operation(spec, {})


@pytest.mark.parametrize("params", [None, [], "x", {1: 2}, {"not a name": 1}])
async def test_parameters_of_another_form_are_refused(executor: OperationExecutor, params: Any) -> None:
    with pytest.raises(ValueError, match="params"):
        await executor.execute_operation("desk.give", params)


async def test_a_sync_operation_does_not_hold_up_the_callers_loop(executor: OperationExecutor, gate: Gate) -> None:
    standing = asyncio.create_task(executor.execute_operation("desk.visit", {"gate": gate.port}))
    visitor = await asyncio.to_thread(gate.arrival)
    turns = 0
    for _ in range(100):
        await asyncio.sleep(0)
        turns += 1

    assert not standing.done()
    visitor.let_go("through")
    assert (turns, await standing) == (100, "through")


async def test_an_async_operation_is_awaited(executor: OperationExecutor, gate: Gate) -> None:
    standing = asyncio.create_task(executor.execute_operation("desk.visit_async", {"gate": gate.port}))

    (await asyncio.to_thread(gate.arrival)).let_go("through")

    assert await standing == "through"


async def test_a_sync_operation_that_returns_an_awaitable_is_awaited_each_time(executor: OperationExecutor) -> None:
    params = {"value": 7, "user_id": "ann"}

    assert [await executor.execute_operation("desk.later", params) for _ in range(2)] == [7, 7]
