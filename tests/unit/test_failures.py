from __future__ import annotations

import asyncio
import pickle
import sqlite3
from typing import Any

import numpy as np
import pydantic
import pytest

from aiecs_ray import errors
from aiecs_ray.errors import (
    AiecsError,
    DatabaseError,
    DSLEvaluationError,
    InvalidConfigError,
    InvalidInputError,
    OperationCancelledError,
    OperationFailedError,
    OperationNotFoundError,
    OperationTimeoutError,
    OutcomeUnknownError,
    ReferencePathError,
    ReplicaLostError,
    RetryExhaustedError,
    RuntimeUnavailableError,
    ToolInitError,
    UpstreamFailedError,
)
from aiecs_ray.failures import (
    EXCEPTION_LIMIT,
    MESSAGE_LIMIT,
    TRACEBACK_LIMIT,
    of_runtime,
    of_tool,
    text_of,
    to_exception,
    type_names,
)
from aiecs_ray.messages import ErrorInfo


class Refusal(Exception):  # noqa: N818  # a name of the trade
    """Does not survive pickling: its text is made of two arguments."""

    def __init__(self, code: int, *, text: str) -> None:
        super().__init__(f"{code}: {text}")


class Text(str):
    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        raise AssertionError("a subclass of str must not travel")


class Polite(Exception):  # noqa: N818  # as above
    def __str__(self) -> str:
        return Text("please")


class Mute(Exception):  # noqa: N818  # as above
    def __str__(self) -> str:
        raise SystemExit


class Bomb(Exception):  # noqa: N818  # as above
    def __reduce__(self) -> tuple[Any, ...]:
        raise KeyboardInterrupt


def raised(error: BaseException) -> BaseException:
    """Return ``error`` with a traceback, as a tool's body leaves it."""

    def body() -> None:
        raise error

    try:
        body()
    except BaseException as caught:  # noqa: BLE001  # it may be anything
        return caught
    raise AssertionError


def info_of(error: BaseException) -> ErrorInfo:
    return of_tool(raised(error), "read_csv")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no"), "no"),
        (ValueError(), "ValueError"),
        (KeyError("x"), "'x'"),
        (FileNotFoundError(2, "No such file or directory", "a.csv"), "[Errno 2] No such file or directory: 'a.csv'"),
        (SystemExit(3), "the tool called sys.exit(3)"),
        (SystemExit(), "the tool called sys.exit()"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError(), "CancelledError"),
        (ExceptionGroup("two", [ValueError("a"), KeyError("b")]), "two (2 sub-exceptions)"),
        (Mute(), "Mute"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), None),
    ],
)
def test_an_error_is_told_in_its_own_words(error: BaseException, text: str | None) -> None:
    assert text_of(error) == (str(error) if text is None else text)


def test_a_message_of_megabytes_is_cut_and_its_length_told() -> None:
    text = text_of(ValueError("x" * 5_000_000))

    assert text == f"{'x' * MESSAGE_LIMIT}... (5000000 characters)"
    assert text_of(ValueError("x" * MESSAGE_LIMIT)) == "x" * MESSAGE_LIMIT


def test_a_message_is_plain_text() -> None:
    assert type(text_of(Polite())) is str
    assert type(info_of(Polite()).message) is str


def test_the_names_of_an_error_are_those_of_its_class_and_bases() -> None:
    assert type_names(ConnectionResetError()) == (
        *("ConnectionResetError", "ConnectionError", "OSError", "Exception", "BaseException"),
    )
    assert type_names(sqlite3.OperationalError())[:4] == (
        *("OperationalError", "sqlite3.OperationalError", "DatabaseError", "sqlite3.DatabaseError"),
    )
    assert f"{__name__}.Refusal" in type_names(Refusal(1, text=""))


def test_what_a_tool_raised_is_e003_with_everything_known_of_it() -> None:
    info = info_of(KeyError("price"))

    assert (info.code, info.message) == ("E003", "Error executing read_csv: 'price'")
    assert (info.type_name, info.type_names[:2]) == ("KeyError", ("KeyError", "LookupError"))
    assert "raise error" in info.traceback
    assert info.traceback.endswith("KeyError: 'price'\n")


def test_a_message_that_already_says_so_does_not_say_it_twice() -> None:
    assert info_of(ValueError("Error executing read_csv: no")).message == "Error executing read_csv: no"
    assert info_of(ValueError("Error executing b: no")).message == "Error executing read_csv: Error executing b: no"


def test_the_frame_of_the_runtime_is_left_out() -> None:
    trace = info_of(ValueError("no")).traceback

    assert trace.startswith("Traceback (most recent call last):")
    assert "in body" in trace
    assert "in raised" not in trace


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.Error(),
        sqlite3.IntegrityError(),
        sqlite3.InterfaceError(),
        DatabaseError("down"),
        type("PostgresError", (Exception,), {})(),
        type("Error", (Exception,), {"__module__": "psycopg"})(),
        type("StatementError", (type("SQLAlchemyError", (Exception,), {}),), {})(),
    ],
)
def test_the_failure_of_a_database_is_e006(error: Exception) -> None:
    info = info_of(error)

    assert info.code == "E006"
    assert isinstance(to_exception(info), DatabaseError)


def test_an_error_of_another_library_named_error_is_no_database() -> None:
    assert info_of(type("Error", (Exception,), {"__module__": "shutil"})()).code == "E003"


@pytest.mark.parametrize(
    "error",
    [TimeoutError("slow"), OperationTimeoutError("own"), asyncio.CancelledError(), ReplicaLostError("own")],
)
def test_a_tool_that_raises_what_the_runtime_would_has_failed_itself(error: BaseException) -> None:
    info = info_of(error)

    assert info.code == "E003"
    assert type(to_exception(info)) is OperationFailedError


def test_the_callers_exception_carries_the_tools_own() -> None:
    error = to_exception(info_of(KeyError("price")))

    assert isinstance(error, OperationFailedError)
    assert (str(error), error.type_name, error.error_code) == (
        "Error executing read_csv: 'price'",
        "KeyError",
        "E003",
    )
    assert type(error.__cause__) is KeyError
    assert error.__cause__.args == ("price",)
    assert "raise error" in error.remote_traceback


@pytest.mark.parametrize("error", [Refusal(1, text="no"), Bomb("no"), Mute("no")])
def test_an_exception_that_cannot_travel_is_told_by_name(error: Exception) -> None:
    info = info_of(error)

    told = to_exception(info)

    assert isinstance(told, OperationFailedError)
    assert told.type_name == type(error).__name__
    assert info.exception is None or type(told.__cause__) is type(error)


def test_a_validation_error_keeps_its_type() -> None:
    class Model(pydantic.BaseModel):
        n: int

    with pytest.raises(pydantic.ValidationError) as caught:
        Model(n="x")  # type: ignore[arg-type]  # that is the mistake

    assert info_of(caught.value).type_name == "ValidationError"


def test_an_exception_that_is_large_stays_where_it_is() -> None:
    assert info_of(ValueError(np.zeros(EXCEPTION_LIMIT))).exception is None
    assert info_of(ValueError("x" * EXCEPTION_LIMIT)).exception is None
    assert info_of(ValueError("x" * (EXCEPTION_LIMIT // 2))).exception is not None


def test_an_exception_that_cannot_be_read_here_is_left_out() -> None:
    info = info_of(ValueError("no"))

    for content in (b"nonsense", pickle.dumps("no exception"), b"cnowhere\nNothing\n."):
        error = to_exception(info._replace(exception=content))

        assert str(error) == "Error executing read_csv: no"
        assert error.__cause__ is None


def test_an_error_that_was_never_raised_is_told_without_frames() -> None:
    assert of_tool(ValueError("no"), "op").traceback == "ValueError: no\n"


def test_a_long_traceback_keeps_its_end() -> None:
    def down(depth: int) -> None:
        if depth:
            down(depth - 1)
        elif depth == 0:
            raise ValueError("x" * 100_000 + "the end")

    with pytest.raises(ValueError, match="the end") as caught:
        down(100)
    trace = of_tool(caught.value, "op").traceback

    assert len(trace) == TRACEBACK_LIMIT + 3
    assert trace.startswith("...")
    assert trace.endswith("the end\n")


def test_the_chain_of_causes_is_in_the_traceback() -> None:
    error = KeyError("first")
    error.__cause__ = ValueError("before")

    trace = info_of(error).traceback

    assert "before" in trace
    assert "direct cause" in trace


@pytest.mark.parametrize(
    "error",
    [
        InvalidInputError("no"),
        InvalidConfigError("timeout", "is wrong", ("timeouts",)),
        OperationNotFoundError("reed", "csv", ("read",)),
        UpstreamFailedError(2, "t.op", "failed"),
        ReferencePathError("$result[0].x", "'x'", "a value of type dict", ("'y'",)),
        ToolInitError("cannot be made"),
        errors.BusyError("full", 2.0),
    ],
)
def test_the_runtimes_own_errors_arrive_as_they_left(error: AiecsError) -> None:
    told = to_exception(of_runtime(error))

    assert type(told) is type(error)
    assert (str(told), told.args, told.error_code) == (str(error), error.args, error.error_code)
    assert told.__cause__ is None


@pytest.mark.parametrize(
    ("info", "kind"),
    [
        (ErrorInfo("E001", "wrong", "ReferenceRangeError", ("ReferenceRangeError",)), InvalidInputError),
        (ErrorInfo("E002", "late", "OperationTimeoutError", ("OperationTimeoutError",)), OperationTimeoutError),
        (ErrorInfo("E003", "died", "ReplicaLostError", ("ReplicaLostError",)), ReplicaLostError),
        (ErrorInfo("E003", "who knows", "OutcomeUnknownError", ("OutcomeUnknownError",)), OutcomeUnknownError),
        (ErrorInfo("E003", "broken", "ToolInitError", ("ToolInitError",)), ToolInitError),
        (ErrorInfo("E004", "enough", "OperationCancelledError", ("OperationCancelledError",)), OperationCancelledError),
        (ErrorInfo("E005", "died", "ReplicaLostError", ("ReplicaLostError",)), RetryExhaustedError),
        (ErrorInfo("E007", "skipped", "UpstreamFailedError", ("UpstreamFailedError",)), DSLEvaluationError),
        (ErrorInfo("E003", "what", "annotations", ("annotations",)), OperationFailedError),
        (ErrorInfo("E003", "what", "shorten", ()), OperationFailedError),
        (ErrorInfo("E003", "what"), OperationFailedError),
    ],
)
def test_an_error_without_its_exception_gets_the_class_of_its_name_or_code(
    info: ErrorInfo, kind: type[AiecsError]
) -> None:
    error = to_exception(info)

    assert type(error) is kind
    assert (str(error), error.error_code) == (info.message, info.code)


@pytest.mark.parametrize("name", [name for name, kind in vars(errors).items() if isinstance(kind, type)])
@pytest.mark.parametrize("code", ["E001", "E002", "E003", "E004", "E005", "E006", "E007"])
def test_every_class_and_code_makes_an_exception_with_the_text(name: str, code: str) -> None:
    error = to_exception(ErrorInfo(code, "what happened", name, (name,)))

    assert (str(error), error.error_code) == ("what happened", code)


def test_a_tool_whose_error_is_named_like_one_of_ours_has_failed_all_the_same() -> None:
    error = type("ReplicaLostError", (Exception,), {})("mine")

    assert type(to_exception(info_of(error))) is OperationFailedError


def test_the_last_error_after_several_attempts_is_told_as_such() -> None:
    info = of_runtime(RuntimeUnavailableError("gone"))._replace(code="E005")

    error = to_exception(info)

    assert type(error) is RetryExhaustedError
    assert (str(error), error.error_code) == ("gone", "E005")
    assert type(error.__cause__) is RuntimeUnavailableError


def test_a_tool_that_cannot_be_made_is_told_with_its_own_exception() -> None:
    info = info_of(ValueError("no licence"))
    info = info._replace(message="Tool 't' cannot be constructed", type_names=("ToolInitError", *info.type_names))

    error = to_exception(info)

    assert type(error) is ToolInitError
    assert type(error.__cause__) is ValueError


def test_a_report_is_plain_text_that_any_process_can_read() -> None:
    info = info_of(Polite())

    assert pickle.loads(pickle.dumps(info._replace(exception=None))) == info._replace(exception=None)
    assert b"test_failures" not in pickle.dumps(info.message)
