"""The documents' signatures and defaults, exactly (S0-22 to S0-46, S0-60 to S0-62a, C-69), and the configuration."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import ExecutionUtils, IOperationExecutor, OperationExecutor, ToolExecutor
from aiecs_ray.errors import InvalidConfigError

if TYPE_CHECKING:
    import aiecs_ray
    from tests.documents.conftest import Make

NEEDED = inspect.Parameter.empty
SIGNATURES: dict[str, dict[str, Any]] = {
    "execute_operation": {"operation_spec": NEEDED, "params": NEEDED},
    "batch_execute_operations": {"operations": NEEDED},
    "execute_operations_sequence": {
        "operations": NEEDED,
        "user_id": NEEDED,
        "task_id": NEEDED,
        "stop_on_failure": False,
        "save_callback": None,
    },
    "execute_parallel_operations": {"operations": NEEDED},
    "batch_tool_calls": {"tool_calls": NEEDED, "tool_executor_func": None},
    "get_tool_instance": {"tool_name": NEEDED},
    "clear_tool_cache": {},
    "get_stats": {},
}
SYNC = {"get_tool_instance", "clear_tool_cache", "get_stats"}


def positional(function: Any) -> dict[str, Any]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return {parameter.name: parameter.default for parameter in parameters if parameter.kind in kinds}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_method_has_the_documents_parameters_and_defaults(name: str) -> None:
    method = getattr(OperationExecutor, name)

    assert positional(method) == SIGNATURES[name]
    assert inspect.iscoroutinefunction(method) is (name not in SYNC)


def test_what_is_added_to_a_method_is_optional_and_by_keyword() -> None:
    for name in SIGNATURES:
        for parameter in inspect.signature(getattr(OperationExecutor, name)).parameters.values():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                assert parameter.default is None


def test_the_constructor_takes_the_documents_three_in_order() -> None:
    assert list(positional(OperationExecutor.__init__)) == ["tool_executor", "execution_utils", "config"]


async def test_the_constructor_takes_its_three_by_position_and_by_keyword(local: aiecs_ray.Runtime) -> None:
    tools, utils, config = ToolExecutor(runtime=local), ExecutionUtils(), {"batch_size": 3}

    by_position = OperationExecutor(tools, utils, config)
    by_keyword = OperationExecutor(tool_executor=tools, execution_utils=utils, config=config)

    assert isinstance(by_position, IOperationExecutor)
    for executor in (by_position, by_keyword):
        assert (executor.tool_executor, executor.execution_utils) == (tools, utils)
        assert await executor.execute_operation("desk.give", {"value": 5}) == 5


async def test_an_executor_needs_nothing_but_a_runtime(local: aiecs_ray.Runtime) -> None:
    assert await OperationExecutor(runtime=local).execute_operation("desk.add", {"a": 1}) == 2


# --- the configuration ---------------------------------------------------------------------------------------


def test_the_defaults_are_the_documents() -> None:
    assert OperationExecutor().get_stats()["config"] == {"batch_size": 10, "rate_limit": 5.0, "enable_cache": True}


@pytest.mark.parametrize(
    "config",
    [
        {"rate_limit_requests_per_second": 20, "batch_size": 50, "enable_cache": True},
        {"rate_limit_requests_per_second": 1, "batch_size": 1, "enable_cache": False},
    ],
)
def test_the_documents_presets_are_valid(config: dict[str, Any]) -> None:
    executor = OperationExecutor(ToolExecutor(), ExecutionUtils(), config)

    stats = executor.get_stats()

    assert stats["config"] == {
        "batch_size": config["batch_size"],
        "rate_limit": config["rate_limit_requests_per_second"],
        "enable_cache": config["enable_cache"],
    }
    assert stats["semaphore_value"] == config["rate_limit_requests_per_second"]


@pytest.mark.parametrize(
    "config",
    [
        {"rate_limit_requests_per_second": 0},
        {"rate_limit_requests_per_second": -1},
        {"rate_limit_requests_per_second": "x"},
        {"rate_limit_requests_per_second": True},
        {"rate_limit_requests_per_second": float("nan")},
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"batch_size": None},
        {"enable_cache": "yes"},
        {"timeout": 0},
        {"parallel_step_naming": "other"},
    ],
)
def test_a_bad_value_is_refused_at_construction_and_named(config: dict[str, Any]) -> None:
    (name,) = config

    with pytest.raises(InvalidConfigError, match=name) as caught:
        OperationExecutor(ToolExecutor(), ExecutionUtils(), config)

    assert isinstance(caught.value, ValueError)


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match="did you mean 'batch_size'"):
        OperationExecutor(ToolExecutor(), ExecutionUtils(), {"batchsize": 5})


async def test_a_change_of_the_configuration_holds_for_the_next_call(make: Make) -> None:
    executor = make()

    executor.config["batch_size"] = 7
    executor.config["parallel_step_naming"] = "spec"
    results = await executor.execute_parallel_operations([{"operation": "desk.give", "params": {}}])

    assert executor.get_stats()["config"]["batch_size"] == 7
    assert results[0].step == "desk.give"


async def test_a_bad_change_of_the_configuration_is_refused_by_the_next_call(make: Make) -> None:
    executor = make()

    executor.config["batch_size"] = 0

    with pytest.raises(ValueError, match="batch_size"):
        await executor.execute_operation("desk.give", {})


def test_the_configuration_that_was_passed_in_stays_the_callers(local: aiecs_ray.Runtime) -> None:
    config = {"batch_size": 3}

    executor = OperationExecutor(ToolExecutor(runtime=local), ExecutionUtils(), config)
    executor.config["batch_size"] = 4

    assert config == {"batch_size": 3}
