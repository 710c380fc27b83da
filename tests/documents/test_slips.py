"""Slips of a first user: each is refused, or taken, before anything runs, in words that lead out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import ExecutionUtils, TaskStatus, TaskStepResult, ToolExecutor
from aiecs_ray.engine import ContextExecutor, ExecutionEngine
from aiecs_ray.errors import InvalidInputError, InvalidOperationsError, InvalidParamsError, InvalidToolError
from aiecs_ray.interface_checks import signature_mismatches
from aiecs_ray.interfaces import IAsyncContextExecutor, IToolExecutor
from aiecs_ray.model import ErrorCode
from tests.contract.probes import op
from tests.documents.tools_of_cases import Desk

if TYPE_CHECKING:
    import aiecs_ray
    from aiecs_ray import OperationExecutor
    from tests.contract.probes import Ledger


# --- callers' functions ----------------------------------------------------------------------------------------


async def test_a_function_for_tool_calls_need_not_be_async(executor: OperationExecutor) -> None:
    calls = [{"tool": "mine", "params": {"n": n, "user_id": user}} for n in (1, 2) for user in ("", "ann")]

    results = await executor.batch_tool_calls(calls, lambda tool, params: f"{tool} {params['n']}")  # type: ignore[arg-type, return-value]

    assert results == ["mine 1", "mine 1", "mine 2", "mine 2"]


@pytest.mark.parametrize("function", [5, lambda _tool: None])
async def test_what_cannot_be_called_with_tool_calls_is_refused_at_once(
    executor: OperationExecutor, function: Any
) -> None:
    with pytest.raises(InvalidInputError, match=r"tool_executor_func must be a function of \(tool, params\)"):
        await executor.batch_tool_calls([{"tool": "mine", "params": {}}], function)


async def test_a_coroutine_in_the_place_of_its_function_is_named() -> None:
    async def work() -> None: ...

    with pytest.raises(InvalidInputError, match="pass the function itself, not its coroutine"):
        await ExecutionUtils().execute_with_retry_and_timeout(work(), 5)  # type: ignore[arg-type]  # the slip
    with pytest.raises(InvalidInputError, match="func must be callable, got 5"):
        await ExecutionUtils().execute_with_retry_and_timeout(5, 5)  # type: ignore[arg-type]


# --- lists -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry", ["x", 0, {"attempt": 3}, 1.5])
async def test_a_wrong_retry_refuses_the_whole_list(executor: OperationExecutor, ledger: Ledger, retry: Any) -> None:
    operations = [op("desk.note", ledger=ledger.path), {**op("desk.give"), "retry": retry}]

    with pytest.raises(InvalidOperationsError, match="retry") as caught:
        await executor.execute_operations_sequence(operations, "u", "t")

    assert (caught.value.index, len(ledger)) == (1, 0)


@pytest.mark.parametrize(
    "bad",
    [
        op("nodot"),
        {"operation": "desk.give", "params": None},
        {**op("desk.give"), "timeout": -1},
        op("desk.give", value="$result[9]"),
    ],
    ids=["spec", "params", "timeout", "reference"],
)
async def test_an_error_of_a_list_names_the_place(executor: OperationExecutor, bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await executor.execute_operations_sequence([op("desk.give"), bad], "u", "t")

    assert caught.value.index == 1
    assert any("operation 1" in note for note in caught.value.__notes__)


async def test_parameters_that_are_none_are_found_in_a_batch_with_their_place(executor: OperationExecutor) -> None:
    with pytest.raises(InvalidParamsError, match="params must be a dict") as caught:
        await executor.batch_execute_operations([op("desk.give"), {"operation": "desk.give", "params": None}])

    assert (caught.value.index, caught.value.__notes__) == (1, ["in operation 1"])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (5, "must be a dict of 'tool' and 'params', got 5"),
        ({"params": {}}, "lacks 'tool'; it has params"),
        ({"tool": 5}, "must name its tool by a text, got 5"),
        ({"tool": "desk", "arguments": {}}, "has the unknown key 'arguments'"),
    ],
)
async def test_a_malformed_tool_call_is_told_what_is_wrong(executor: OperationExecutor, call: Any, text: str) -> None:
    with pytest.raises(InvalidOperationsError, match=f"tool call 0 {text}"):
        await executor.batch_tool_calls([call])


@pytest.mark.parametrize(
    ("task", "text"), [(5, "got 5"), ({}, "the key 'task_name' is missing"), ({"name": "x"}, "got the key 'name'")]
)
async def test_a_malformed_task_is_told_what_is_wrong(task: Any, text: str) -> None:
    with pytest.raises(InvalidOperationsError, match=f"task 0 must be a dict of .*; {text}"):
        await ExecutionEngine().batch_execute_tasks([task])


async def test_a_wrong_cache_mode_is_told_the_right_ones(executor: OperationExecutor) -> None:
    with pytest.raises(InvalidInputError, match=r"^cache must be one of on, off, refresh, only, True or False, got x"):
        await executor.execute_operations_sequence([{**op("desk.give"), "cache": "x"}], "u", "t")


# --- tools and names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tool", "text"), [(Desk, "got the class Desk: pass an instance"), (None, "got None")])
def test_a_tool_executor_says_what_a_tool_is(tool: Any, text: str) -> None:
    with pytest.raises(InvalidToolError, match=f"a tool must be a name, a proxy or an instance, {text}"):
        ToolExecutor().execute(tool, "give")


async def test_parameters_may_have_the_names_of_our_own(local: aiecs_ray.Runtime, executor: OperationExecutor) -> None:
    tools = ToolExecutor(runtime=local)
    names = {"tool": 1, "operation_name": 2, "operation": 3}

    for tool in ("desk", Desk()):
        assert tools.execute(tool, "take_any", **names) == names
        assert await tools.execute_async(tool, "take_any", **names) == names
    async with ContextExecutor(executor) as inside:
        assert await inside.execute_in_context("desk.take_any", **names) == names
    tools.close()


async def test_our_own_arguments_may_be_given_by_name(executor: OperationExecutor) -> None:
    tools = ToolExecutor()

    assert tools.execute(tool=Desk(), operation_name="add", a=1) == 2
    assert await tools.execute_async(Desk(), operation_name="add", a=1) == 2
    async with ContextExecutor(executor) as inside:
        assert await inside.execute_in_context(operation="desk.add", a=1) == 2
    with pytest.raises(TypeError, match="the argument 'operation_name' is missing"):
        tools.execute(Desk())
    assert signature_mismatches(ToolExecutor, IToolExecutor) == ()
    assert signature_mismatches(ContextExecutor, IAsyncContextExecutor) == ()


def test_a_tools_methods_take_values_by_position(executor: OperationExecutor) -> None:
    desk = executor.get_tool_instance("desk")

    assert (desk.add(40, 2), desk.add(40, b=2)) == (42, 42)
    with pytest.raises(
        InvalidParamsError, match=r"desk\.add takes 2 parameters by position, got 3 values; it takes a, b"
    ):
        desk.add(1, 2, 3)
    with pytest.raises(InvalidParamsError, match=r"desk\.add: the parameter 'a' is given by position and by name"):
        desk.add(1, a=2)


# --- caches and results ----------------------------------------------------------------------------------------


def test_a_cache_key_that_is_no_text_raises_nothing_and_stores_nothing(local: aiecs_ray.Runtime) -> None:
    for utils in (ExecutionUtils(), ExecutionUtils(runtime=local)):
        for key in (5, [], None):
            utils.add_to_cache(key, 1)  # type: ignore[arg-type]  # the slip
            assert utils.get_from_cache(key) is None  # type: ignore[arg-type]
        assert utils.statistics()["uncacheable"] == 3
        utils.close()


def test_a_members_value_is_what_a_result_holds() -> None:
    result = TaskStepResult("a", 1, False, "", TaskStatus.FAILED, ErrorCode.EXECUTION_ERROR)  # type: ignore[arg-type]  # noqa: FBT003

    assert (result.status, result.error_code) == ("failed", "E003")
    assert repr(result) == "TaskStepResult(step='a', status='failed', completed=False)"
