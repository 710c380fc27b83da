# ruff: noqa: BLE001, T201 - the documents' samples catch everything and print
"""operation_executor.md, "错误处理" (S0-63 to S0-81): the samples as they stand, and what they print."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import ExecutionUtils, OperationExecutor, ToolExecutor

if TYPE_CHECKING:
    from pathlib import Path

    import aiecs_ray
    from tests.contract.probes import Gate
    from tests.documents.conftest import Make


@pytest.fixture
def executor(documents: Path) -> OperationExecutor:  # noqa: ARG001  # where the files are
    return OperationExecutor(ToolExecutor(), ExecutionUtils(), {})


# --- the three kinds of exceptions ---------------------------------------------------------------------------


async def test_a_spec_without_a_dot(executor: OperationExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        await executor.execute_operation("invalid_format", {})
    except ValueError as e:
        print(f"ValueError: {e}")

    expected = "ValueError: Invalid operation spec: invalid_format, expected 'tool_name.operation_name'\n"
    assert capsys.readouterr().out == expected


async def test_a_spec_with_a_part_too_many(executor: OperationExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        await executor.execute_operation("tool.op.extra", {})
    except ValueError as e:
        print(f"ValueError: {e}")

    expected = "ValueError: Invalid operation spec: tool.op.extra, expected 'tool_name.operation_name'\n"
    assert capsys.readouterr().out == expected


async def test_a_reference_out_of_range(executor: OperationExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        await executor.execute_operations_sequence(
            [{"operation": "pandas_tool.describe", "params": {"df": "$result[5]"}}],
            "user123",
            "task456",
        )
    except ValueError as e:
        print(f"ValueError: {e}")

    assert capsys.readouterr().out == "ValueError: Referenced result index 5 out of range\n"


async def test_a_tool_that_does_not_exist(executor: OperationExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        await executor.execute_operation("nonexistent_tool.read_data", {})
    except AttributeError as e:
        print(f"AttributeError: {e}")

    assert capsys.readouterr().out == "AttributeError: Tool 'nonexistent_tool' is not registered\n"


async def test_an_operation_that_does_not_exist(
    executor: OperationExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        await executor.execute_operation("pandas_tool.nonexistent_method", {})
    except AttributeError as e:
        print(f"AttributeError: {e}")

    expected = "AttributeError: Operation 'nonexistent_method' not found in tool 'pandas_tool'\n"
    assert capsys.readouterr().out == expected


async def test_a_file_that_does_not_exist(executor: OperationExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        await executor.execute_operation("pandas_tool.read_csv", {"file_path": "nonexistent_file.csv"})
    except Exception as e:
        print(f"Execution Error: {e}")

    expected = "Error executing read_csv: [Errno 2] No such file or directory: 'nonexistent_file.csv'"
    assert capsys.readouterr().out == f"Execution Error: {expected}\n"


async def test_a_parameter_of_a_wrong_type(executor: OperationExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        await executor.execute_operation("pandas_tool.read_csv", {"file_path": 123})
    except Exception as e:
        print(f"Execution Error: {e}")

    expected = "Error executing read_csv: expected str, bytes or os.PathLike object, not int"
    assert capsys.readouterr().out == f"Execution Error: {expected}\n"


@pytest.mark.parametrize("kind", [ValueError, AttributeError])
async def test_what_does_not_exist_can_be_caught_as_aiecs_raises_it(
    executor: OperationExecutor, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match="is not registered"):
        await executor.execute_operation("nonexistent_tool.read_data", {})

    with pytest.raises(kind, match="not found in tool"):
        await executor.execute_operation("pandas_tool.nonexistent_method", {})


# --- the table of codes --------------------------------------------------------------------------------------

CODES: dict[str, tuple[dict[str, Any], str, str]] = {
    "a parameter too few": ({"operation": "desk.add", "params": {}}, "E001", "failed"),
    "a reference to itself": ({"operation": "desk.give", "params": {"value": "$result[0]"}}, "E001", "failed"),
    "a time-out of the tool's": (
        {"operation": "desk.stop", "params": {"reason": "time"}, "retry": 1},
        "E003",
        "failed",
    ),
    "a tool's error": ({"operation": "desk.fail", "params": {}}, "E003", "failed"),
    "a tool that is not there": ({"operation": "nobody.give", "params": {}}, "E003", "failed"),
    "an operation that is not there": ({"operation": "desk.nothing", "params": {}}, "E003", "failed"),
    "a cancellation that nobody asked for": (
        {"operation": "desk.stop", "params": {"reason": "cancelled"}},
        "E003",
        "failed",
    ),
    "a database": ({"operation": "desk.stop", "params": {"reason": "database"}}, "E006", "failed"),
}


@pytest.mark.parametrize("case", CODES)
async def test_every_kind_of_failure_has_its_code_and_harms_no_other(make: Make, case: str) -> None:
    operation, code, status = CODES[case]

    failed, fine = await make().execute_parallel_operations(
        [operation, {"operation": "desk.give", "params": {"value": 1}}]
    )

    assert (failed.error_code, failed.status, failed.completed) == (code, status, False)
    assert failed.error_message
    assert fine.result == 1


async def test_what_is_skipped_is_cancelled_and_what_takes_too_long_timed_out(make: Make, gate: Gate) -> None:
    operations: list[dict[str, Any]] = [
        {"operation": "desk.visit_async", "params": {"gate": gate.port}, "timeout": 0.1},
        {"operation": "desk.give", "params": {}, "depends_on": [0]},
    ]

    late, skipped = await make().execute_parallel_operations(operations)

    assert (late.error_code, late.status) == ("E002", "timed_out")
    assert (skipped.error_code, skipped.status) == ("E004", "cancelled")


# --- the patterns of recovery --------------------------------------------------------------------------------


async def test_one_operation_that_fails_leaves_the_executor_usable(
    executor: OperationExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    params: dict[str, Any] = {}

    try:
        result = await executor.execute_operation("risky_operation", params)
        print(f"Success: {result}")
    except Exception as e:
        print(f"Operation failed: {e}")

    after = await executor.execute_operation("pandas_tool.read_csv", {"file_path": "data.csv"})
    assert capsys.readouterr().out.startswith("Operation failed: Invalid operation spec: risky_operation")
    assert len(after) == 2


async def test_a_sequence_stops_where_it_fails(executor: OperationExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    user_id, task_id = "user123", "task456"
    operations = [
        {"operation": "pandas_tool.read_csv", "params": {"file_path": "data.csv"}},
        {"operation": "pandas_tool.read_csv", "params": {"file_path": "missing.csv"}},
        {"operation": "pandas_tool.describe", "params": {"df": "$result[0]"}},
    ]

    results = await executor.execute_operations_sequence(
        operations,
        user_id,
        task_id,
        stop_on_failure=True,
    )

    for i, result in enumerate(results):
        if not result.completed:
            print(f"Step {i} failed: {result.error_message}")
            break

    expected = "Error executing read_csv: [Errno 2] No such file or directory: 'missing.csv'"
    assert capsys.readouterr().out == f"Step 1 failed: {expected}\n"
    assert len(results) == 2


async def test_parallel_operations_fail_each_for_itself(
    executor: OperationExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    operations = [
        {"operation": "pandas_tool.describe", "params": {"df": [1, 2, 3]}},
        {"operation": "pandas_tool.read_csv", "params": {"file_path": "missing.csv"}},
    ]

    results = await executor.execute_parallel_operations(operations)

    for i, result in enumerate(results):
        if result.completed:
            print(f"Operation {i} succeeded: {len(result.result)} rows")
        else:
            print(f"Operation {i} failed: {result.error_message}")

    good, bad = capsys.readouterr().out.splitlines()
    assert good == "Operation 0 succeeded: 8 rows"
    assert bad == "Operation 1 failed: Error executing read_csv: [Errno 2] No such file or directory: 'missing.csv'"


# --- statistics and logs -------------------------------------------------------------------------------------


async def test_the_statistics_count_operations_and_failures(
    executor: OperationExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    good: dict[str, Any] = {"operation": "pandas_tool.read_csv", "params": {"file_path": "data.csv"}}
    bad: dict[str, Any] = {"operation": "pandas_tool.read_csv", "params": {"file_path": "missing.csv"}}
    await executor.execute_operations_sequence([good, good, bad], "user123", "task456")
    await executor.execute_parallel_operations([good])
    await executor.batch_execute_operations([good, good, good])
    with pytest.raises(Exception, match="missing"):
        await executor.execute_operation(bad["operation"], bad["params"])

    stats = executor.get_stats()
    print(f"Total operations: {stats.get('total_operations', 0)}")
    print(f"Failed operations: {stats.get('failed_operations', 0)}")
    print(f"Success rate: {stats.get('success_rate', 0):.2%}")

    expected = ["Total operations: 8", "Failed operations: 2", "Success rate: 75.00%"]
    assert capsys.readouterr().out.splitlines() == expected


async def test_an_operation_that_is_refused_counts_as_failed(executor: OperationExecutor) -> None:
    with pytest.raises(AttributeError):
        await executor.execute_operation("nonexistent_tool.read_data", {})

    stats = executor.get_stats()

    assert (stats["total_operations"], stats["failed_operations"], stats["success_rate"]) == (1, 1, 0.0)


async def test_steps_that_a_stopped_sequence_did_not_return_are_not_counted(executor: OperationExecutor) -> None:
    bad: dict[str, Any] = {"operation": "pandas_tool.read_csv", "params": {"file_path": "missing.csv"}}
    await executor.execute_operations_sequence([bad, bad, bad], "user123", "task456", stop_on_failure=True)

    stats = executor.get_stats()

    assert (stats["total_operations"], stats["failed_operations"]) == (1, 1)


@pytest.mark.parametrize("callback", [None, lambda _step, _result: None])
async def test_the_debug_log_has_the_tools_own_stack(
    make: Make, caplog: pytest.LogCaptureFixture, callback: Any
) -> None:
    executor = make()
    caplog.set_level(logging.DEBUG, logger="aiecs_ray")

    await executor.execute_operations_sequence(
        [{"operation": "desk.fail", "params": {"message": "out of paper"}}], "u", "t", save_callback=callback
    )

    (record,) = [record for record in caplog.records if "Traceback" in record.getMessage()]
    assert record.levelno == logging.DEBUG
    assert "raise ValueError(message)" in record.getMessage()
    assert "out of paper" in record.getMessage()


async def test_the_debug_log_has_a_line_for_each_operation_with_its_duration(
    executor: OperationExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="aiecs_ray.executor")

    await executor.execute_operation("pandas_tool.read_csv", {"file_path": "data.csv"})

    (record,) = caplog.records
    assert record.getMessage().startswith("operation 0 (pandas_tool.read_csv) completed in 0.")


@pytest.mark.ray
async def test_the_messages_are_the_same_on_ray(
    ray_rt: aiecs_ray.Runtime, shipped: aiecs_ray.Registry, caplog: pytest.LogCaptureFixture
) -> None:
    ray_rt.register(shipped.get("pandas_tool").cls)
    executor = OperationExecutor(ToolExecutor(runtime=ray_rt), ExecutionUtils(), {})
    caplog.set_level(logging.DEBUG, logger="aiecs_ray.results")

    missing, wrong = await executor.execute_parallel_operations(
        [{"operation": "pandas_tool.read_csv", "params": {"file_path": path}} for path in ("nonexistent_file.csv", 123)]
    )

    text = "Error executing read_csv: [Errno 2] No such file or directory: 'nonexistent_file.csv'"
    assert missing.error_message == text
    assert wrong.error_message == "Error executing read_csv: expected str, bytes or os.PathLike object, not int"
    assert sum("pandas_tool.py" in record.getMessage() for record in caplog.records) >= 1
