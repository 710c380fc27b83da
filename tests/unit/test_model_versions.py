# ruff: noqa: FBT003 - the document's constructor takes its fields by position
from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from aiecs_ray.errors import InvalidStepResultError
from aiecs_ray.model import TaskStepResult
from aiecs_ray.model_versions import CURRENT_VERSION, convert_legacy, from_envelope, migrate, to_envelope

COMPLETED = TaskStepResult("tool.op", {"rows": 3}, True, "done", "completed")
FAILED = TaskStepResult("tool.op", None, False, "not done", "failed", "E003", "broken")


def test_envelope_is_the_version_and_the_fields() -> None:
    envelope = to_envelope(FAILED)

    assert envelope == {"version": "1.1", **FAILED.dict()}
    assert next(iter(envelope)) == "version"


@pytest.mark.parametrize("result", [COMPLETED, FAILED])
def test_envelope_survives_json(result: TaskStepResult) -> None:
    assert from_envelope(json.loads(json.dumps(to_envelope(result)))) == result


@pytest.mark.parametrize(("old", "new"), [("success", "completed"), ("error", "failed"), ("running", "running")])
@pytest.mark.parametrize("version", [{}, {"version": "1.0"}])
def test_statuses_of_version_1_0_get_their_new_names(version: dict[str, str], old: str, new: str) -> None:
    migrated = migrate({**version, "step": "tool.op", "status": old})

    assert migrated == {"version": "1.1", "step": "tool.op", "status": new}


def test_migration_invents_no_status() -> None:
    assert migrate({"step": "tool.op"}) == {"version": "1.1", "step": "tool.op"}
    assert migrate({"status": ["success"]}) == {"version": "1.1", "status": ["success"]}


@pytest.mark.parametrize("version", [CURRENT_VERSION, "1.2", "2.0"])
def test_data_of_a_later_version_is_left_as_it_is(version: str) -> None:
    data = {"version": version, "status": "success"}

    assert migrate(data) == data


@pytest.mark.parametrize("data", [{"status": "success", "result": [1]}, {"version": "1.1", "status": "success"}])
def test_migration_leaves_its_input_alone(data: dict[str, Any]) -> None:
    before = copy.deepcopy(data)

    migrate(data)["status"] = "changed"

    assert data == before


def test_envelope_of_version_1_0_is_read() -> None:
    data = {"step": "tool.op", "result": 3, "completed": True, "message": "", "status": "success"}

    assert from_envelope(data) == TaskStepResult("tool.op", 3, True, "", "completed")


@pytest.mark.parametrize("version", ["1.2", "2.0", "0.9", ""])
def test_envelope_of_an_unknown_version_is_refused(version: str) -> None:
    with pytest.raises(InvalidStepResultError, match=r"not known; this release reads versions 1\.0 to 1\.1"):
        from_envelope({**to_envelope(COMPLETED), "version": version})


@pytest.mark.parametrize("version", [None, 1.1, []])
def test_version_that_is_not_a_string_is_refused(version: Any) -> None:
    with pytest.raises(InvalidStepResultError, match="is a string"):
        migrate({"version": version})


@pytest.mark.parametrize("data", [None, [], "1.0"])
def test_only_mappings_are_migrated_and_converted(data: Any) -> None:
    with pytest.raises(InvalidStepResultError, match="mapping"):
        migrate(data)
    with pytest.raises(InvalidStepResultError, match="mapping"):
        convert_legacy(data)


def test_old_form_of_a_success_is_converted() -> None:
    data = {"operation": "data_processing", "output": {"rows": 1000}, "success": True, "message": "Completed"}

    converted = convert_legacy(data)

    assert converted == TaskStepResult("data_processing", {"rows": 1000}, True, "Completed", "completed")


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"error": "disk full", "message": "Stopped"}, "disk full"),
        ({"error": {"errno": 28}}, "{'errno': 28}"),
        ({"message": "Stopped"}, "Stopped"),
        ({"error": None, "message": None}, "Unknown error"),
        ({}, "Unknown error"),
    ],
)
def test_old_form_of_a_failure_keeps_its_error(extra: dict[str, Any], text: str) -> None:
    converted = convert_legacy({"operation": "data_processing", "success": False, **extra})

    assert (converted.status, converted.completed) == ("failed", False)
    assert (converted.error_code, converted.error_message) == ("E003", text)
    assert converted.message == (extra.get("message") or "")
    assert converted.is_valid()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"operation": "a.b"}, "an operation and a success"),
        ({"success": True}, "an operation and a success"),
        ({"operation": "a.b", "success": "false"}, "success must be a bool"),
        ({"operation": "a.b", "success": True, "error": "disk full"}, "yet there is an error: disk full"),
        ({"operation": "", "success": True}, "step must be a non-empty string"),
        ({"operation": "a.b", "success": True, "message": 7}, "message must be a string"),
    ],
)
def test_old_form_that_makes_no_sense_is_refused(data: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidStepResultError, match=problem):
        convert_legacy(data)
