"""operation_executor.md, "使用示例" (S0-114 to S0-116): the samples as they stand, but for the imports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aiecs_ray import ExecutionUtils, OperationExecutor, ToolExecutor
from aiecs_ray.tools import TOOLS

if TYPE_CHECKING:
    from pathlib import Path

    import aiecs_ray


@pytest.mark.usefixtures("documents")
async def test_the_sample_of_basic_usage() -> None:
    tool_executor = ToolExecutor()
    execution_utils = ExecutionUtils()
    config = {"rate_limit_requests_per_second": 10}

    executor = OperationExecutor(tool_executor, execution_utils, config)

    result = await executor.execute_operation("pandas_tool.read_csv", {"file_path": "data.csv"})

    operations = [
        {"operation": "pandas_tool.read_csv", "params": {"file_path": "data1.csv"}},
        {"operation": "pandas_tool.read_csv", "params": {"file_path": "data2.csv"}},
    ]
    results = await executor.batch_execute_operations(operations)

    assert result.to_dict("list") == {"product": ["pen", "ink"], "amount": [1.5, 3.5]}
    assert [frame["amount"].tolist() for frame in results] == [[2.5, 4.5], [3.5, 5.5]]


@pytest.mark.usefixtures("documents")
async def test_the_sample_of_advanced_usage() -> None:
    executor = OperationExecutor(ToolExecutor(), ExecutionUtils(), {})

    operations = [
        {"operation": "pandas_tool.read_csv", "params": {"file_path": "data.csv"}},
        {"operation": "pandas_tool.describe", "params": {"df": "$result[0]"}},
    ]
    results = await executor.execute_operations_sequence(
        operations,
        user_id="user123",
        task_id="task456",
        stop_on_failure=True,
    )

    assert [result.step for result in results] == ["pandas_tool.read_csv", "pandas_tool.describe"]
    assert [(result.completed, result.status) for result in results] == [(True, "completed")] * 2
    assert results[1].result.loc["mean", "amount"] == 2.5


@pytest.mark.ray
async def test_the_samples_run_on_ray(ray_rt: aiecs_ray.Runtime, documents: Path) -> None:
    for cls in TOOLS:
        ray_rt.register(cls)
    executor = OperationExecutor(ToolExecutor(runtime=ray_rt), ExecutionUtils(), {"rate_limit_requests_per_second": 10})
    from_disk = "pandas_tool.read_csv"

    result = await executor.execute_operation(from_disk, {"file_path": str(documents / "data.csv")})
    results = await executor.batch_execute_operations(
        [{"operation": from_disk, "params": {"file_path": str(documents / f"data{n}.csv")}} for n in (1, 2)]
    )
    steps = await executor.execute_operations_sequence(
        [
            {"operation": from_disk, "params": {"file_path": str(documents / "data.csv")}},
            {"operation": "pandas_tool.describe", "params": {"df": "$result[0]"}},
        ],
        user_id="user123",
        task_id="task456",
        stop_on_failure=True,
    )

    assert result["amount"].tolist() == [1.5, 3.5]
    assert [frame["amount"].tolist() for frame in results] == [[2.5, 4.5], [3.5, 5.5]]
    assert steps[1].result.loc["mean", "amount"] == 2.5
