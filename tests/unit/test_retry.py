"""Which failures are tried again, how often and after how long: decided from names and numbers alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiecs_ray.errors import InvalidParamsError, OperationTimeoutError, ReplicaLostError, RetryExhaustedError
from aiecs_ray.failures import of_runtime, of_tool, type_names
from aiecs_ray.messages import ErrorInfo, RetryOptions
from aiecs_ray.retry import PROFILES, is_transient, next_wait, parse_retry

DEFAULT = RetryOptions()


class DriverError(Exception):
    """Stands for a third-party error."""


class LockError(DriverError):
    """A more special one."""


def seen(*names: str, code: str = "E003") -> ErrorInfo:
    return ErrorInfo(code, "text", names[0] if names else "", names)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError(),
        ConnectionResetError(),
        BrokenPipeError(),
        TimeoutError(),
        BlockingIOError(),
    ],
)
def test_a_failed_connection_or_a_time_out_may_pass(error: Exception) -> None:
    assert is_transient(of_tool(error, "tool.op"), DEFAULT)


@pytest.mark.parametrize(
    "names",
    [
        ("ClientConnectorError", "ClientOSError", "aiohttp.client_exceptions.ClientConnectionError", "OSError"),
        ("httpx.ConnectTimeout", "httpx.TimeoutException", "httpx.TransportError"),
        ("httpx.ReadError", "httpx.NetworkError", "httpx.TransportError"),
        ("requests.exceptions.ReadTimeout", "requests.exceptions.Timeout", "OSError"),
        ("requests.exceptions.ConnectionError", "requests.exceptions.RequestException", "OSError"),
        ("urllib3.exceptions.ReadTimeoutError", "urllib3.exceptions.TimeoutError"),
        ("psycopg.errors.DeadlockDetected", "psycopg.OperationalError", "psycopg.DatabaseError"),
        ("asyncpg.exceptions.LockNotAvailableError", "asyncpg.exceptions.PostgresError"),
    ],
)
def test_the_errors_of_common_clients_are_known_by_their_base_names(names: tuple[str, ...]) -> None:
    assert is_transient(seen(*names), DEFAULT)


@pytest.mark.parametrize(
    "error", [ValueError(), KeyError(), TypeError(), OSError(), FileNotFoundError(), PermissionError(), SystemExit(1)]
)
def test_other_errors_do_not_pass(error: BaseException) -> None:
    assert not is_transient(of_tool(error, "tool.op"), DEFAULT)


def test_a_lost_replica_and_a_time_out_of_the_runtime_may_pass() -> None:
    assert is_transient(of_runtime(ReplicaLostError("killed by SIGKILL")), DEFAULT)
    assert is_transient(of_runtime(OperationTimeoutError("late")), DEFAULT)
    assert is_transient(ErrorInfo("E002", "late"), DEFAULT)


def test_what_was_retried_to_the_end_is_not_retried_again() -> None:
    assert not is_transient(of_runtime(RetryExhaustedError("no connection", "ConnectionError")), DEFAULT)


def test_the_reporter_of_an_error_may_say_that_it_can_pass() -> None:
    assert is_transient(ErrorInfo("E003", "text", transient=True), DEFAULT)


@pytest.mark.parametrize("code", ["E001", "E004", "E007"])
def test_wrong_input_and_cancellation_never_pass_whatever_is_named(code: str) -> None:
    error = seen("ConnectionError", code=code)._replace(transient=True)

    assert not is_transient(error, RetryOptions(on=("ConnectionError",)))


@pytest.mark.parametrize("on", ["LockError", "DriverError", f"{__name__}.DriverError", "builtins.Exception"])
def test_an_error_named_bare_or_qualified_may_pass_with_its_subclasses(on: str) -> None:
    error = of_tool(LockError("locked"), "tool.op")

    assert not is_transient(error, DEFAULT)
    assert is_transient(error, RetryOptions(on=(on,)))


def test_a_qualified_name_does_not_stand_for_a_class_of_another_module() -> None:
    error = of_tool(DriverError("down"), "tool.op")

    assert not is_transient(error, RetryOptions(on=("elsewhere.DriverError", "Driver", "ValueError")))


def test_a_bare_name_stands_for_a_class_whose_qualified_name_alone_is_known() -> None:
    assert is_transient(seen("vendor.db.DriverError"), RetryOptions(on=("DriverError",)))


def test_an_exception_class_matches_what_is_reported_of_its_instances() -> None:
    options = parse_retry({"on": [LockError]})

    assert is_transient(ErrorInfo("E003", "", type_names=type_names(LockError())), options)
    assert not is_transient(ErrorInfo("E003", "", type_names=type_names(DriverError())), options)


def test_waits_double_from_the_multiplier_within_their_bounds() -> None:
    options = RetryOptions(attempts=7, multiplier=0.5, wait_min=1.0, wait_max=100.0)

    waits = [next_wait(options, attempt, lambda: 0.0) for attempt in range(1, 7)]

    assert waits == [1.0, 1.0, 2.0, 4.0, 8.0, 16.0]


def test_no_wait_is_given_after_the_last_attempt() -> None:
    assert next_wait(RetryOptions(attempts=3), 2, lambda: 0.0) is not None
    assert next_wait(RetryOptions(attempts=3), 3, lambda: 0.0) is None
    assert next_wait(RetryOptions(attempts=1), 1, lambda: 0.0) is None


def test_randomness_stretches_a_wait_by_up_to_a_quarter() -> None:
    options = RetryOptions(attempts=9, wait_max=100.0)

    waits = [next_wait(options, 3, lambda chance=chance: chance) for chance in (0.0, 0.5, 1.0)]

    assert waits == [4.0, 4.5, 5.0]


def test_randomness_spreads_waits_below_the_longest_too() -> None:
    options = RetryOptions(attempts=9, wait_max=10.0)

    waits = [next_wait(options, 8, lambda chance=chance: chance) for chance in (0.0, 1.0)]

    assert waits == [8.0, 10.0]


@settings(deadline=None)
@given(
    attempt=st.integers(1, 99),
    multiplier=st.floats(0, 1000),
    bounds=st.tuples(st.floats(0, 1000), st.floats(0, 1000)).map(sorted),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_every_wait_is_within_its_bounds(attempt: int, multiplier: float, bounds: list[float], chance: float) -> None:
    options = RetryOptions(attempts=100, multiplier=multiplier, wait_min=bounds[0], wait_max=bounds[1])

    wait = next_wait(options, attempt, lambda: chance)

    assert wait is not None
    assert bounds[0] <= wait <= bounds[1]


def test_the_documents_profiles_are_there() -> None:
    found = {name: (options.attempts, options.multiplier) for name, options in PROFILES.items()}

    assert found == {"api_call": (5, 2.0), "database_query": (3, 1.0), "file_operation": (2, 0.5)}


def test_options_are_read_from_every_form() -> None:
    assert parse_retry(None) == DEFAULT
    assert parse_retry(7) == RetryOptions(attempts=7, timeouts=True)
    assert parse_retry("api_call") == PROFILES["api_call"]
    assert parse_retry({"attempts": 2, "wait_max": 20}) == RetryOptions(attempts=2, wait_max=20.0, timeouts=True)
    assert not parse_retry({"attempts": 2, "timeouts": False}).timeouts
    assert parse_retry(RetryOptions(attempts=9)) == RetryOptions(attempts=9)


def test_what_is_left_open_comes_from_the_default() -> None:
    default = RetryOptions(attempts=8, multiplier=3.0, on=("DriverError",))

    assert parse_retry(None, default) == default
    assert parse_retry(2, default) == RetryOptions(attempts=2, multiplier=3.0, on=("DriverError",), timeouts=True)
    asked = parse_retry({"multiplier": 1}, default)
    assert asked == RetryOptions(attempts=8, multiplier=1.0, on=("DriverError",), timeouts=True)


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        (KeyError, ("KeyError",)),
        ("DriverError", ("DriverError",)),
        ([LockError, "KeyError"], (f"{__name__}.LockError", "KeyError")),
        ({"b", "a"}, ("a", "b")),
        ((), ()),
    ],
)
def test_errors_are_named_by_classes_or_names(on: object, expected: tuple[str, ...]) -> None:
    assert parse_retry({"on": on}).on == expected


@pytest.mark.parametrize(
    "value",
    [
        {"attempts": 1},
        {"attempts": 100},
        {"wait_min": 0.0, "wait_max": 0.0, "multiplier": 0.0},
        {"wait_min": 5.0, "wait_max": 5.0},
        {"wait_max": 86_400.0},
    ],
)
def test_the_ends_of_each_range_are_taken(value: dict[str, Any]) -> None:
    options = parse_retry(value)

    assert {name: getattr(options, name) for name in value} == value


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        101,
        10**9,
        1.5,
        True,
        False,
        "3",
        "api_cal",
        b"api_call",
        [3],
        object(),
        {"attempts": "3"},
        {"attempts": 1.5},
        {"attempts": True},
        {"attempts": None},
        {"attempt": 3},
        {3: 3},
        {"wait_min": -1},
        {"wait_min": float("nan")},
        {"wait_max": float("inf")},
        {"wait_max": "10"},
        {"multiplier": True},
        {"wait_min": 11},
        {"on": [5]},
        {"on": ""},
        {"on": None},
        {"on": [int]},
        {"on": KeyboardInterrupt},
        {"on": ["no name"]},
        RetryOptions(attempts=0),
        RetryOptions(wait_min=5, wait_max=1),
    ],
)
def test_junk_is_refused(value: Any) -> None:
    with pytest.raises(InvalidParamsError, match=r"^retry "):
        parse_retry(value)


def test_a_misspelt_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(InvalidParamsError, match="did you mean 'attempts'"):
        parse_retry({"atempts": 3})
    with pytest.raises(InvalidParamsError, match="did you mean 'api_call'"):
        parse_retry("api_cal")
    with pytest.raises(InvalidParamsError, match="there are api_call, database_query, file_operation"):
        parse_retry("zzz")
