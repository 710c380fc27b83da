"""Step results that outlive the program that wrote them: a version beside the fields, and old forms read.

``TaskStepResult.dict()`` has no version in it, so what is stored is an envelope: the version and the seven
fields (document S2, "数据迁移"; contradiction C-51).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiecs_ray.errors import InvalidStepResultError
from aiecs_ray.model import ErrorCode, StepFields, TaskStatus, TaskStepResult
from aiecs_ray.quoting import shorten

OLDEST_VERSION = "1.0"
"""The version of data that names none."""

CURRENT_VERSION = "1.1"
"""The version that ``to_envelope`` writes."""

_STATUSES_OF_1_0 = {"success": TaskStatus.COMPLETED.value, "error": TaskStatus.FAILED.value}


def to_envelope(result: TaskStepResult) -> StepFields:
    """Return the seven fields of ``result`` after a ``version``.

    >>> to_envelope(TaskStepResult("text.count", 3))["version"]
    '1.1'
    """
    return {"version": CURRENT_VERSION, **result.dict()}


def from_envelope(data: Mapping[str, Any]) -> TaskStepResult:
    """Return the result in an envelope of any version up to the current one, or of none.

    Raises ``InvalidStepResultError`` when a field is missing, or when the envelope was written by a later
    version, whose fields may mean something else.

    >>> from_envelope({"step": "a.b", "result": 1, "completed": True, "message": "", "status": "success"})
    TaskStepResult(step='a.b', status='completed', completed=True)
    """
    migrated = migrate(data)
    if migrated["version"] != CURRENT_VERSION:
        raise InvalidStepResultError(
            f"Version {shorten(migrated['version'])} of a step's result is not known; "
            f"this release reads versions {OLDEST_VERSION} to {CURRENT_VERSION}"
        )
    return TaskStepResult.from_dict(migrated)


def migrate(data: Mapping[str, Any]) -> StepFields:
    """Return a copy of ``data`` in the current version; ``data`` itself is left alone.

    Data without a version is of version 1.0, whose statuses ``success`` and ``error`` are now ``completed``
    and ``failed``. Data of a version that is not known comes back as it is. Raises
    ``InvalidStepResultError`` when ``data`` is not a mapping or its version not a string.
    """
    if not isinstance(data, Mapping):
        raise InvalidStepResultError(f"A step's result is read from a mapping, not from {shorten(data)}")
    migrated = {"version": OLDEST_VERSION, **data}
    while (version := _version(migrated)) in _MIGRATIONS:
        migrated = _MIGRATIONS[version](migrated)
    return migrated


def convert_legacy(data: Mapping[str, Any]) -> TaskStepResult:
    """Return the result in the form ``{operation, output, success, message, error}``.

    ``operation`` and ``success`` must be there. A failure becomes E003 with the text of ``error``, of
    ``message`` where there is no error, or ``"Unknown error"``. Raises ``InvalidStepResultError`` when a key
    is missing, ``success`` is not a bool, or a success has an error.

    >>> convert_legacy({"operation": "a.b", "success": False, "error": "disk full"}).error_message
    'disk full'
    """
    if not isinstance(data, Mapping) or not {"operation", "success"} <= data.keys():
        raise InvalidStepResultError("A result in the old form is a mapping with an operation and a success")
    success, error = data["success"], data.get("error")
    if not isinstance(success, bool):
        raise InvalidStepResultError(f"success must be a bool, not {shorten(success)}")
    if success and error:
        raise InvalidStepResultError(f"success is True and yet there is an error: {shorten(error)}")
    message = data.get("message") or ""
    return TaskStepResult.create(
        data["operation"],
        data.get("output"),
        success,
        message,
        TaskStatus.COMPLETED if success else TaskStatus.FAILED,
        None if success else ErrorCode.EXECUTION_ERROR,
        None if success else str(error or message or "Unknown error"),
    )


def _version(data: Mapping[str, Any]) -> str:
    version = data["version"]
    if not isinstance(version, str):
        raise InvalidStepResultError(f"The version of a step's result is a string, not {shorten(version)}")
    return version


def _from_1_0(data: StepFields) -> StepFields:
    status = data.get("status")
    if isinstance(status, str) and status in _STATUSES_OF_1_0:
        return {**data, "version": "1.1", "status": _STATUSES_OF_1_0[status]}
    return {**data, "version": "1.1"}


_MIGRATIONS: Mapping[str, Callable[[StepFields], StepFields]] = {"1.0": _from_1_0}
