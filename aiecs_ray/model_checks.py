"""The document's own checks of a step's result, with its rules and texts (document S2, "结果验证").

``TaskStepResult.is_valid`` is what aiecs-ray itself goes by; the checks here are stricter in one place
(a completed step must have a result) and looser in others, and are kept for those who follow the document
(contradictions C-48, C-49, C-52).
"""

from __future__ import annotations

import logging
from typing import Any

from aiecs_ray.model import ErrorCode, TaskStatus, TaskStepResult

_logger = logging.getLogger(__name__)


def validate_result(result: TaskStepResult) -> bool:
    """Return whether a finished result is complete; the first thing missing is logged as a warning.

    A completed step must have a result, any other an error code, so a pending step does not pass.

    >>> validate_result(TaskStepResult("text.count", 3, True, status="completed"))
    True
    """
    if not result.step:
        problem = "Result missing step identifier"
    elif result.completed and result.result is None:
        problem = "Completed result missing result data"
    elif not result.completed and result.error_code is None:
        problem = "Failed result missing error code"
    else:
        _logger.debug("Result validation passed")
        return True
    _logger.warning(problem)
    return False


def check_data_consistency(result: TaskStepResult) -> bool:
    """Return whether the fields agree with each other; the first that does not is logged as a warning.

    ``completed`` must say what ``status`` says, and an error code and its message must come together.

    >>> check_data_consistency(TaskStepResult("text.count", 3, True, status="failed"))
    False
    """
    is_completed = result.status == TaskStatus.COMPLETED.value
    if not result.step:
        problem = "Missing step identifier"
    elif result.completed and not is_completed:
        problem = "Completed result has wrong status"
    elif not result.completed and is_completed:
        problem = "Incomplete result has completed status"
    elif result.error_code and not result.error_message:
        problem = "Error code without error message"
    elif result.error_message and not result.error_code:
        problem = "Error message without error code"
    else:
        _logger.debug("Data consistency check passed")
        return True
    _logger.warning(problem)
    return False


def compare_results(first: TaskStepResult, second: TaskStepResult) -> bool:
    """Return whether two results are of the same step and ended the same way; ``==`` compares all fields.

    >>> compare_results(TaskStepResult("text.count", 3), TaskStepResult("text.count", 4))
    True
    """
    return (first.step, first.completed, first.status) == (second.step, second.completed, second.status)


def status_summary(status: TaskStatus, error_code: ErrorCode | None = None) -> dict[str, Any]:
    """Return what a task queue stores about a task that has no step's result (document S2, "Celery 集成").

    >>> status_summary(TaskStatus.FAILED, ErrorCode.EXECUTION_ERROR)["error_message"]
    'Task failed with E003'
    """
    summary: dict[str, Any] = {
        "status": status.value,
        "completed": status is TaskStatus.COMPLETED,
        "message": f"Task {status.value}",
    }
    if error_code is not None:
        summary["error_code"] = error_code.value
        summary["error_message"] = f"Task failed with {error_code.value}"
    return summary
