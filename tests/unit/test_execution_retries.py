"""The retries of the documents' ExecutionUtils: which failures, how often, and what is told in the end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.errors import (
    BusyError,
    InvalidParamsError,
    OperationTimeoutError,
    RetryExhaustedError,
)
from aiecs_ray.execution_utils import ExecutionUtils, SmartExecutionUtils

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 60
SHORT = 0.03


class Flaky:
    """Fails so many times, then returns; counts its calls."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.failures, self.error, self.calls = failures, error or ConnectionError("no route"), 0

    def run(self, value: object = "done") -> object:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return value

    async def run_async(self, value: object = "done") -> object:
        return self.run(value)


@pytest.fixture
def waits() -> list[float]:
    """Return the waits between attempts, which take no time here."""
    return []


@pytest.fixture
def make(waits: list[float]) -> Callable[..., ExecutionUtils]:
    async def async_sleep(seconds: float) -> None:
        waits.append(seconds)

    def build(kind: type[ExecutionUtils] = ExecutionUtils, **options: Any) -> ExecutionUtils:
        return kind(sleep=waits.append, async_sleep=async_sleep, **options)

    return build


@pytest.fixture
def utils(make: Any) -> ExecutionUtils:
    return make()


async def test_a_failure_that_may_pass_is_tried_again_after_growing_waits(make: Any, waits: list[float]) -> None:
    flaky = Flaky(3)

    result = await make(retry_attempts=4).create_retry_strategy("api_call")(flaky.run_async)("value")

    assert result == "value"
    assert flaky.calls == 4
    assert waits == [1.0, 2.0, 4.0]


def test_sync_functions_are_retried_by_the_same_decorator(utils: ExecutionUtils, waits: list[float]) -> None:
    flaky = Flaky(2)

    @utils.create_retry_strategy("load")
    def load(value: object) -> object:
        return flaky.run(value)

    assert load("value") == "value"
    assert load.__name__ == "load"
    assert waits == [1.0, 2.0]


def test_waits_are_within_one_and_ten_seconds(make: Any, waits: list[float]) -> None:
    make(retry_attempts=7, retry_backoff=0.5).create_retry_strategy()(Flaky(6).run)()

    assert waits == [1.0, 1.0, 2.0, 4.0, 8.0, 10.0]


def test_attempts_are_counted_in_all_and_the_last_error_is_told(utils: ExecutionUtils) -> None:
    flaky = Flaky(99, ConnectionError("no route"))

    with pytest.raises(RetryExhaustedError, match=r"^no route$") as caught:
        utils.create_retry_strategy("api_call")(flaky.run)()

    assert flaky.calls == 3
    assert caught.value.__cause__ is flaky.error
    assert caught.value.error_code == "E005"
    assert caught.value.type_name == "ConnectionError"
    assert "OSError" in caught.value.type_names


def test_what_cannot_pass_is_raised_at_once_and_as_it_is(utils: ExecutionUtils, waits: list[float]) -> None:
    flaky = Flaky(99, ValueError("wrong column"))

    with pytest.raises(ValueError, match=r"^wrong column$") as caught:
        utils.create_retry_strategy("api_call")(flaky.run)()

    assert caught.value is flaky.error
    assert flaky.calls == 1
    assert waits == []


def test_one_attempt_raises_its_own_error(make: Any) -> None:
    flaky = Flaky(99)

    with pytest.raises(ConnectionError) as caught:
        make(retry_attempts=1).create_retry_strategy()(flaky.run)()

    assert caught.value is flaky.error
    assert flaky.calls == 1


@pytest.mark.parametrize("retry_on", [KeyError, "KeyError", [ValueError, LookupError]])
def test_a_caller_says_which_other_errors_may_pass(utils: ExecutionUtils, retry_on: Any) -> None:
    flaky = Flaky(1, KeyError("not yet"))

    assert utils.create_retry_strategy(retry_on=retry_on)(flaky.run)() == "done"
    assert flaky.calls == 2


def test_junk_for_errors_is_refused(utils: ExecutionUtils) -> None:
    with pytest.raises(InvalidParamsError, match="retry on"):
        utils.create_retry_strategy(retry_on=5)


async def test_a_caller_says_which_results_are_not_good_yet(utils: ExecutionUtils) -> None:
    answers = iter([None, None, "ready"])

    async def poll() -> object:
        return next(answers)

    strategy = utils.create_retry_strategy("poll", retry_if_result=lambda result: result is None)

    assert await strategy(poll)() == "ready"


def test_a_result_that_is_never_good_ends_the_attempts(utils: ExecutionUtils) -> None:
    strategy = utils.create_retry_strategy("poll", retry_if_result=lambda result: result is None)

    with pytest.raises(RetryExhaustedError, match="refused by retry_if_result in all 3 attempts"):
        strategy(lambda: None)()


def test_an_error_of_this_package_passes_through_unless_it_is_named(utils: ExecutionUtils) -> None:
    late, busy = Flaky(99, OperationTimeoutError("retried already")), Flaky(1, BusyError("queue is full"))

    with pytest.raises(OperationTimeoutError, match="retried already"):
        utils.create_retry_strategy()(late.run)()

    assert late.calls == 1
    assert utils.create_retry_strategy(retry_on=BusyError)(busy.run)() == "done"


def test_an_interrupt_is_never_retried(utils: ExecutionUtils) -> None:
    calls = []

    def interrupted() -> None:
        calls.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        utils.create_retry_strategy(retry_on=Exception)(interrupted)()

    assert len(calls) == 1


def test_attempts_and_backoff_can_be_set_later(utils: ExecutionUtils, waits: list[float]) -> None:
    utils.retry_attempts, utils.retry_backoff = 2, 4.0
    flaky = Flaky(99)

    with pytest.raises(RetryExhaustedError):
        utils.create_retry_strategy()(flaky.run)()

    assert flaky.calls == 2
    assert waits == [4.0]


@pytest.mark.parametrize("setting", [5, {"attempts": 5}])
def test_a_type_of_operation_has_its_own_limit(make: Any, setting: Any, waits: list[float]) -> None:
    utils = make(retry_attempts=2, retry_backoff=3.0)
    utils.set_operation_retry("search", setting)
    special, other = Flaky(99), Flaky(99)

    for name, flaky in (("tool.search", special), ("find", other)):
        with pytest.raises(RetryExhaustedError):
            utils.create_retry_strategy(name)(flaky.run)()

    assert (special.calls, other.calls) == (5, 2)
    assert waits[0] == 3.0


def test_smart_utils_know_the_documents_profiles(make: Any, waits: list[float]) -> None:
    utils = make(kind=SmartExecutionUtils, retry_attempts=4)
    calls = {}

    for name in ("api_call", "database_query", "file_operation", "other"):
        flaky = Flaky(99)
        with pytest.raises(RetryExhaustedError):
            utils.create_retry_strategy(name)(flaky.run)()
        calls[name] = flaky.calls

    assert calls == {"api_call": 5, "database_query": 3, "file_operation": 2, "other": 4}
    assert waits[0] == 2.0


def test_what_was_set_wins_over_a_profile(make: Any) -> None:
    utils = make(kind=SmartExecutionUtils)
    utils.set_operation_retry("api_call", 2)
    flaky = Flaky(99)

    with pytest.raises(RetryExhaustedError):
        utils.create_retry_strategy("api_call")(flaky.run)()

    assert flaky.calls == 2


def test_plain_utils_use_their_own_attempts_under_a_profiles_name(utils: ExecutionUtils) -> None:
    flaky = Flaky(99)

    with pytest.raises(RetryExhaustedError):
        utils.create_retry_strategy("api_call")(flaky.run)()

    assert flaky.calls == 3


def test_the_log_has_the_documents_line_for_each_failed_attempt(
    utils: ExecutionUtils, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RetryExhaustedError):
        utils.create_retry_strategy("api_call")(Flaky(99).run)()

    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert warnings == [
        "Retry 1/3 for api_call after 0.0s: no route",
        "Retry 2/3 for api_call after 1.0s: no route",
        "Retry 3/3 for api_call after 3.0s: no route",
    ]
    assert errors == ["重试次数超限: api_call"]
    assert {record.name for record in caplog.records} == {"aiecs.execution_utils"}


def test_the_log_says_when_the_next_attempt_follows(utils: ExecutionUtils, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "aiecs.execution_utils")

    utils.create_retry_strategy("load")(Flaky(2).run)()

    assert "retry: attempt 2 of 3 for load follows in 1.0s" in caplog.messages
    assert "retry: attempt 3 of 3 for load follows in 2.0s" in caplog.messages


def test_a_retry_without_a_name_is_called_operation(utils: ExecutionUtils, caplog: pytest.LogCaptureFixture) -> None:
    utils.create_retry_strategy()(Flaky(1).run)()

    assert "Retry 1/3 for operation after 0.0s: no route" in caplog.messages


async def test_cache_retry_and_timeout_can_be_found_in_the_log_by_these_words(
    utils: ExecutionUtils, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiecs.execution_utils")

    utils.lookup("absent")
    utils.create_retry_strategy()(Flaky(1).run)()
    with pytest.raises(TimeoutError):
        await utils.execute_with_retry_and_timeout(asyncio.sleep, SHORT / 3, LONG)

    for word in ("cache", "retry", "timeout"):
        assert any(word in message for message in caplog.messages), word


def test_retries_are_counted_by_operation(utils: ExecutionUtils) -> None:
    utils.create_retry_strategy("load")(Flaky(2).run)()
    utils.create_retry_strategy("save")(Flaky(1).run)()

    counted = utils.statistics()
    assert counted["retries"] == 3
    assert counted["retries_by_operation"] == {"load": 2, "save": 1}
