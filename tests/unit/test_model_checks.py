# ruff: noqa: FBT001, FBT003 - the document's constructor takes its fields by position
from __future__ import annotations

import logging

import pytest

from aiecs_ray.model import ErrorCode, TaskStatus, TaskStepResult
from aiecs_ray.model_checks import check_data_consistency, compare_results, status_summary, validate_result

COMPLETED = TaskStepResult("tool.op", 3, True, "done", "completed")
FAILED = TaskStepResult("tool.op", None, False, "not done", "failed", "E003", "broken")


@pytest.mark.parametrize("result", [COMPLETED, FAILED, TaskStepResult("tool.op", 0, True)])
def test_complete_result_is_validated_in_silence(result: TaskStepResult, caplog: pytest.LogCaptureFixture) -> None:
    valid = validate_result(result)

    assert valid is True
    assert not caplog.records


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (TaskStepResult("", 3, True), "Result missing step identifier"),
        (TaskStepResult("tool.op", None, True, "", "completed"), "Completed result missing result data"),
        (TaskStepResult("tool.op", 3), "Failed result missing error code"),
        (TaskStepResult("tool.op", None, False, "", "failed"), "Failed result missing error code"),
    ],
)
def test_incomplete_result_is_not_validated_and_the_reason_is_logged(
    result: TaskStepResult, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    valid = validate_result(result)

    assert valid is False
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.WARNING, problem)]


@pytest.mark.parametrize("result", [COMPLETED, FAILED, TaskStepResult("tool.op", None)])
def test_result_whose_fields_agree_is_consistent(result: TaskStepResult, caplog: pytest.LogCaptureFixture) -> None:
    consistent = check_data_consistency(result)

    assert consistent is True
    assert not caplog.records


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (TaskStepResult("", 3), "Missing step identifier"),
        (TaskStepResult("tool.op", 3, True, "", "failed"), "Completed result has wrong status"),
        (TaskStepResult("tool.op", 3, False, "", "completed"), "Incomplete result has completed status"),
        (TaskStepResult("tool.op", 3, False, "", "failed", "E003"), "Error code without error message"),
        (TaskStepResult("tool.op", 3, False, "", "failed", None, "e"), "Error message without error code"),
    ],
)
def test_result_whose_fields_disagree_is_inconsistent_and_the_reason_is_logged(
    result: TaskStepResult, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    consistent = check_data_consistency(result)

    assert consistent is False
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.WARNING, problem)]


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (TaskStepResult("tool.op", "another value", True, "another text", "completed"), True),
        (TaskStepResult("tool.other", 3, True, "done", "completed"), False),
        (TaskStepResult("tool.op", 3, False, "done", "completed"), False),
        (TaskStepResult("tool.op", 3, True, "done", "running"), False),
    ],
)
def test_comparing_looks_at_step_completed_and_status_alone(other: TaskStepResult, same: bool) -> None:
    assert compare_results(COMPLETED, other) is same


def test_summary_of_a_status_has_no_error_unless_one_is_given() -> None:
    assert status_summary(TaskStatus.COMPLETED) == {
        "status": "completed",
        "completed": True,
        "message": "Task completed",
    }
    assert status_summary(TaskStatus.TIMED_OUT, ErrorCode.TIMEOUT_ERROR) == {
        "status": "timed_out",
        "completed": False,
        "message": "Task timed_out",
        "error_code": "E002",
        "error_message": "Task failed with E002",
    }
