# ruff: noqa: FBT003 - the document's constructor takes its fields by position
from __future__ import annotations

import copy
import dataclasses
import gc
import json
import pickle
import re
import subprocess
import sys
import tracemalloc
from typing import Any

import pytest

from aiecs_ray.errors import InvalidStepResultError
from aiecs_ray.model import (
    ERROR_CATEGORIES,
    ERROR_DESCRIPTIONS,
    TRANSITIONS,
    ErrorCode,
    TaskStatus,
    TaskStepResult,
    check_transition,
)

COMPLETED = TaskStepResult("pandas_tool.read_csv", {"rows": 1000}, True, "Read", "completed")
FAILED = TaskStepResult("pandas_tool.read_csv", None, False, "Not read", "failed", "E003", "no such file")


class Hostile:
    """Its comparison raises, its truth and its text too."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError


def test_statuses_are_the_documents_six() -> None:
    values = {status.name: status.value for status in TaskStatus}

    assert values == {
        "PENDING": "pending",
        "RUNNING": "running",
        "COMPLETED": "completed",
        "CANCELLED": "cancelled",
        "TIMED_OUT": "timed_out",
        "FAILED": "failed",
    }


def test_error_codes_are_the_documents_seven() -> None:
    values = {code.name: code.value for code in ErrorCode}

    assert values == {
        "VALIDATION_ERROR": "E001",
        "TIMEOUT_ERROR": "E002",
        "EXECUTION_ERROR": "E003",
        "CANCELLED_ERROR": "E004",
        "RETRY_EXHAUSTED": "E005",
        "DATABASE_ERROR": "E006",
        "DSL_EVALUATION_ERROR": "E007",
    }


def test_every_code_has_the_documents_description() -> None:
    descriptions = {code.value: text for code, text in ERROR_DESCRIPTIONS.items()}

    assert descriptions == {
        "E001": "参数验证错误",
        "E002": "执行超时错误",
        "E003": "执行错误",
        "E004": "取消错误",
        "E005": "重试耗尽错误",
        "E006": "数据库错误",
        "E007": "DSL 评估错误",
    }


def test_every_code_has_a_category() -> None:
    categories = {code.value: category for code, category in ERROR_CATEGORIES.items()}

    assert categories.pop("E001") == "client"
    assert categories.pop("E002") == "timeout"
    assert categories.pop("E003") == "execution"
    assert categories == dict.fromkeys(["E004", "E005", "E006", "E007"], "system")


def test_tables_cannot_be_changed() -> None:
    for table in (ERROR_DESCRIPTIONS, ERROR_CATEGORIES, TRANSITIONS):
        with pytest.raises(TypeError):
            table[next(iter(table))] = None  # type: ignore[index]


@pytest.mark.parametrize(
    "name",
    [
        "validation_error",
        "timeout_error",
        "execution_error",
        "cancelled_error",
        "retry_exhausted",
        "database_error",
        "dsl_evaluation_error",
    ],
)
def test_a_code_is_found_by_its_lower_case_name(name: str) -> None:
    code = ErrorCode[name.upper()]

    assert re.fullmatch(r"E\d{3}", code.value)


def test_parameters_and_defaults_are_the_documents() -> None:
    fields = [(field.name, field.default) for field in dataclasses.fields(TaskStepResult)]

    assert fields == [
        ("step", dataclasses.MISSING),
        ("result", dataclasses.MISSING),
        ("completed", False),
        ("message", ""),
        ("status", "pending"),
        ("error_code", None),
        ("error_message", None),
    ]


def test_constructor_takes_its_fields_by_position() -> None:
    made = TaskStepResult("a.b", 1, True, "m", "failed", "E003", "e")

    assert made.dict() == {
        "step": "a.b",
        "result": 1,
        "completed": True,
        "message": "m",
        "status": "failed",
        "error_code": "E003",
        "error_message": "e",
    }


def test_dict_has_the_seven_keys_in_order() -> None:
    keys = list(COMPLETED.dict())

    assert keys == ["step", "result", "completed", "message", "status", "error_code", "error_message"]


def test_dict_holds_the_result_itself() -> None:
    value = [1]

    held = TaskStepResult("tool.op", value).dict()["result"]

    assert held is value


def test_changing_a_dict_leaves_the_result_alone() -> None:
    COMPLETED.dict()["step"] = "other"

    assert COMPLETED.step == "pandas_tool.read_csv"


def test_success_serialises_with_null_errors() -> None:
    text = json.dumps(COMPLETED.dict())

    assert '"status": "completed", "error_code": null, "error_message": null' in text


def test_repr_is_the_documents() -> None:
    assert repr(FAILED) == "TaskStepResult(step='pandas_tool.read_csv', status='failed', completed=False)"
    assert str(COMPLETED) == "TaskStepResult(step='pandas_tool.read_csv', status='completed', completed=True)"


def test_repr_never_asks_the_result() -> None:
    assert (
        repr(TaskStepResult("tool.op", Hostile()))
        == "TaskStepResult(step='tool.op', status='pending', completed=False)"
    )


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TaskStepResult)])
def test_no_field_can_be_changed_or_deleted(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(COMPLETED, name, "x")
    with pytest.raises(AttributeError):
        delattr(COMPLETED, name)


def test_no_field_can_be_added() -> None:
    # Python 3.11 raises TypeError for a frozen class with slots.
    with pytest.raises((AttributeError, TypeError)):
        COMPLETED.extra = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_result_pickles(protocol: int) -> None:
    copied = pickle.loads(pickle.dumps(FAILED, protocol))

    assert copied.dict() == FAILED.dict()
    assert type(copied) is TaskStepResult


def test_result_copies_deeply() -> None:
    copied = copy.deepcopy(COMPLETED)

    assert copied == COMPLETED
    assert copied.result is not COMPLETED.result


@pytest.mark.parametrize("made", [COMPLETED, FAILED, TaskStepResult("", None), TaskStepResult("a.b", 1, True)])
def test_from_dict_is_the_inverse_of_dict(made: TaskStepResult) -> None:
    assert TaskStepResult.from_dict(made.dict()).dict() == made.dict()


def test_from_dict_does_not_need_the_error_fields() -> None:
    data = {"step": "a.b", "result": 1, "completed": True, "message": "m", "status": "completed"}

    made = TaskStepResult.from_dict(data)

    assert made == TaskStepResult("a.b", 1, True, "m", "completed", None, None)


def test_from_dict_ignores_other_keys() -> None:
    assert TaskStepResult.from_dict({**FAILED.dict(), "version": "1.1"}) == FAILED


@pytest.mark.parametrize("name", ["step", "result", "completed", "message", "status"])
def test_from_dict_names_a_missing_key(name: str) -> None:
    data = FAILED.dict()
    del data[name]

    with pytest.raises(InvalidStepResultError, match=f"lacks {name}$"):
        TaskStepResult.from_dict(data)


@pytest.mark.parametrize("data", [None, [], "step", 3])
def test_from_dict_refuses_what_is_not_a_mapping(data: Any) -> None:
    with pytest.raises(InvalidStepResultError, match="read from a mapping"):
        TaskStepResult.from_dict(data)


def test_create_takes_members_and_keeps_their_values() -> None:
    made = TaskStepResult.create("a.b", None, False, "m", TaskStatus.FAILED, ErrorCode.EXECUTION_ERROR, "e")

    assert made.status == "failed"
    assert made.error_code == "E003"
    json.dumps(made.dict())


def test_create_has_the_defaults_of_the_constructor() -> None:
    assert TaskStepResult.create("a.b", 1) == TaskStepResult("a.b", 1)


VALID: list[tuple[Any, ...]] = [
    ("a.b", 3, True, "", "completed"),
    ("a.b", None, True, "", "completed"),
    ("a.b", None),
    ("a.b", None, False, "", "running"),
    ("a.b", None, False, "", "failed", "E003", "e"),
    ("a.b", None, False, "", "timed_out", "E002", "e"),
    ("a.b", None, False, "", "cancelled", "E007", "e"),
]

INVALID: list[tuple[tuple[Any, ...], str]] = [
    (("", 1), "step must be"),
    ((None, 1), "step must be"),
    ((5, 1), "step must be"),
    (("a.b", 1, 1), "completed must be a bool"),
    (("a.b", 1, "yes"), "completed must be a bool"),
    (("a.b", 1, False, None), "message must be"),
    (("a.b", 1, False, "", "success"), "status must be one of pending, running"),
    (("a.b", 1, False, "", None), "status must be one of"),
    (("a.b", 1, False, "", []), "status must be one of"),
    (("a.b", 1, False, "", "failed", "E008", "e"), "error_code must be one of E001"),
    (("a.b", 1, False, "", "failed", 3, "e"), "error_code must be one of"),
    (("a.b", 1, False, "", "failed", "", "e"), "error_code must be one of"),
    (("a.b", 1, False, "", "failed", "E003", ""), "error_message must be"),
    (("a.b", 1, False, "", "failed", "E003", 7), "error_message must be"),
    (("a.b", 1, True), "completed must be True exactly when"),
    (("a.b", 1, True, "", "failed", "E003", "e"), "completed must be True exactly when"),
    (("a.b", 1, False, "", "completed"), "completed must be True exactly when"),
    (("a.b", 1, False, "", "failed", "E003"), "given together"),
    (("a.b", 1, False, "", "failed", None, "e"), "given together"),
    (("a.b", 1, True, "", "completed", "E003", "e"), "a completed step has no error_code"),
    (("a.b", 1, False, "", "failed"), "a failed step needs an error_code"),
    (("a.b", 1, False, "", "timed_out"), "a timed_out step needs an error_code"),
    (("a.b", 1, False, "", "cancelled"), "a cancelled step needs an error_code"),
]


@pytest.mark.parametrize("fields", VALID)
def test_valid_result_has_no_problems_and_can_be_created(fields: tuple[Any, ...]) -> None:
    made = TaskStepResult(*fields)

    assert made.problems() == ()
    assert made.is_valid()
    assert TaskStepResult.create(*fields) == made


@pytest.mark.parametrize(("fields", "problem"), INVALID)
def test_invalid_result_says_what_is_wrong_and_cannot_be_created(fields: tuple[Any, ...], problem: str) -> None:
    made = TaskStepResult(*fields)

    assert problem in "; ".join(made.problems())
    assert not made.is_valid()
    with pytest.raises(InvalidStepResultError, match=re.escape(problem)) as caught:
        TaskStepResult.create(*fields)
    assert isinstance(caught.value, ValueError)
    assert caught.value.error_code == "E001"


def test_all_problems_are_named_at_once() -> None:
    problems = TaskStepResult("", 1, False, "", "odd", "E9", None).problems()

    assert [problem.split()[0] for problem in problems] == ["step", "status", "error_code"]


def test_result_has_no_dict_and_gives_its_memory_back() -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    results = [TaskStepResult("step", i, completed=True) for i in range(10_000)]
    held = tracemalloc.get_traced_memory()[0] - before

    results.clear()
    gc.collect()
    left = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert not hasattr(COMPLETED, "__dict__")
    assert held < 10_000 * 200
    assert left < held / 10


def test_importing_the_model_imports_nothing_heavy() -> None:
    code = (
        "import sys, aiecs_ray.model, aiecs_ray.model_checks, aiecs_ray.model_versions, aiecs_ray.interfaces;"
        "print(sorted({'ray', 'pandas', 'numpy'} & sys.modules.keys()))"
    )

    shown = subprocess.run(  # noqa: S603 - the code is above
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert shown.stdout.strip() == "[]"


def test_documents_lifecycle_example_prints_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    current_status = TaskStatus.PENDING
    print(f"Task started with status: {current_status.value}")  # noqa: T201
    for next_status in (TaskStatus.RUNNING, TaskStatus.COMPLETED):
        check_transition(current_status, next_status, allow_pending_cancel=False)
        current_status = next_status
        print(f"Task is now: {current_status.value}")  # noqa: T201

    assert capsys.readouterr().out.splitlines() == [
        "Task started with status: pending",
        "Task is now: running",
        "Task is now: completed",
    ]


def test_documents_failure_example_runs_unchanged() -> None:
    failure_result = TaskStepResult(
        step="pandas_tool.read_csv",
        result=None,
        completed=False,
        message="Failed to read CSV file",
        status=TaskStatus.FAILED.value,
        error_code=ErrorCode.EXECUTION_ERROR.value,
        error_message="File not found: data.csv",
    )

    assert failure_result.error_code == "E003"
    assert failure_result.error_message == "File not found: data.csv"
    assert failure_result.is_valid()


def test_members_of_the_enums_become_their_values() -> None:
    made = TaskStepResult("a.b", None, False, "", TaskStatus.FAILED, ErrorCode.EXECUTION_ERROR, "no")  # type: ignore[arg-type]

    assert (type(made.status), made.status, type(made.error_code), made.error_code) == (str, "failed", str, "E003")
    assert "status='failed'" in repr(made)
