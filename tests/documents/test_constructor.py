"""What an ``OperationExecutor`` is made of: wrong parts are refused at once, mocks with a specification are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest

from aiecs_ray import ExecutionUtils, OperationExecutor, ToolExecutor
from aiecs_ray.errors import InvalidInputError

if TYPE_CHECKING:
    import aiecs_ray

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a number as the tool executor": ({"tool_executor": 5}, "tool_executor must be a ToolExecutor .*, got 5"),
    "a class": ({"tool_executor": ToolExecutor}, r"pass an instance, ToolExecutor\(\)"),
    "a number as the utils": ({"execution_utils": 6}, "execution_utils must be an ExecutionUtils, got 6"),
    "the configuration as the second argument": ({"execution_utils": {}}, "the configuration is the third"),
    "a number as the configuration": ({"config": 5}, "config must be a dict, got 5"),
    "a number as the runtime": ({"runtime": 5}, r"runtime must be a Runtime, which connect\(\) returns, got 5"),
    "a number as the cache": ({"cache_provider": 5}, "cache_provider must be an ICacheProvider, got 5"),
    "a number as the provider": ({"tool_provider": 5}, "tool_provider must be an IToolProvider, got 5"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_part_that_cannot_be_one_is_refused_by_its_name(case: str) -> None:
    arguments, text = WRONG[case]

    with pytest.raises(InvalidInputError, match=text):
        OperationExecutor(**arguments)


def test_a_runtime_in_the_place_of_the_tool_executor_is_told_its_own(local: aiecs_ray.Runtime) -> None:
    with pytest.raises(InvalidInputError, match="pass it as runtime="):
        OperationExecutor(local)  # type: ignore[arg-type]  # the slip


async def test_a_mock_made_for_our_tool_executor_is_a_foreign_one() -> None:
    tools = Mock(spec=ToolExecutor)
    tools.execute_async = AsyncMock(return_value=7)
    executor = OperationExecutor(tools, ExecutionUtils(), {})

    found = await executor.execute_operation("any.one", {"n": 1})
    executor.close()

    assert found == 7
    tools.execute_async.assert_awaited_once_with("any", "one", n=1)


@pytest.mark.parametrize("utils", [Mock(), MagicMock(), Mock(spec=ExecutionUtils)])
async def test_a_mock_of_the_utils_has_the_documents_defaults(local: aiecs_ray.Runtime, utils: Any) -> None:
    executor = OperationExecutor(execution_utils=utils, runtime=local)

    assert executor.get_stats()["cache"]["hits"] == 0
    assert await executor.execute_operation("desk.add", {"a": 1}) == 2
