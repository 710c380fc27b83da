"""The time limits of the documents' ExecutionUtils: for each attempt, of any callable, stopping what can be stopped."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.errors import (
    InvalidTimeoutError,
    OperationTimeoutError,
    RetryExhaustedError,
)
from aiecs_ray.execution_utils import ExecutionUtils

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
def make() -> Callable[..., ExecutionUtils]:
    """Return what makes utils whose waits between attempts take no time."""

    async def sleep(_seconds: float) -> None:
        pass

    return functools.partial(ExecutionUtils, async_sleep=sleep)


@pytest.fixture
def utils(make: Any) -> ExecutionUtils:
    return make()


async def test_the_documents_call_returns_what_the_function_returns(utils: ExecutionUtils) -> None:
    async def my_function(*, arg1: str, arg2: int) -> tuple[str, int]:
        return arg1, arg2

    result = await utils.execute_with_retry_and_timeout(func=my_function, timeout=30, arg1="value1", arg2=42)

    assert result == ("value1", 42)


def add(left: int, right: int = 0) -> int:
    return left + right


async def add_async(left: int, right: int = 0) -> int:
    return left + right


sum_of = lambda left, right: left + right  # noqa: E731  # a lambda's name is no identifier


class Adder:
    async def __call__(self, left: int, right: int = 0) -> int:
        return left + right


@pytest.mark.parametrize(
    "func", [add, add_async, Adder(), functools.partial(add), functools.partial(add_async), sum_of]
)
async def test_any_callable_is_taken(utils: ExecutionUtils, func: Any) -> None:
    assert await utils.execute_with_retry_and_timeout(func, 5, 1, right=2) == 3


async def test_a_sync_function_that_returns_an_awaitable_is_awaited(utils: ExecutionUtils) -> None:
    assert await utils.execute_with_retry_and_timeout(lambda: add_async(1, 2), 5) == 3


async def test_a_sync_function_does_not_block_the_loop_and_sees_the_context(utils: ExecutionUtils) -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")
    user.set("alice")
    release = threading.Event()

    def blocking() -> str:
        assert release.wait(10)
        return user.get()

    running = asyncio.create_task(utils.execute_with_retry_and_timeout(blocking, LONG))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    release.set()

    assert await running == "alice"


async def test_an_attempt_past_its_limit_is_stopped_and_tried_again(utils: ExecutionUtils) -> None:
    calls: list[str] = []

    async def slow_once() -> str:
        calls.append("began")
        if len(calls) == 1:
            await asyncio.sleep(LONG)
        return "done"

    assert await utils.execute_with_retry_and_timeout(slow_once, SHORT) == "done"
    assert utils.statistics()["timeouts_by_operation"] == {"slow_once": 1}
    assert utils.statistics()["retries"] == 1


async def test_every_attempt_past_its_limit_ends_as_a_time_out(utils: ExecutionUtils) -> None:
    calls = []

    async def slow() -> None:
        calls.append(1)
        await asyncio.sleep(LONG)

    with pytest.raises(TimeoutError, match=r"^Operation timed out after 0\.03s$") as caught:
        await utils.execute_with_retry_and_timeout(slow, SHORT)

    assert isinstance(caught.value, OperationTimeoutError)
    assert len(calls) == 3


async def test_the_limit_is_for_one_attempt_so_an_error_is_not_hidden_by_it(make: Any) -> None:
    calls = []

    async def fails_late() -> None:
        calls.append(1)
        await asyncio.sleep(0.01)
        raise ConnectionError("the real reason")

    with pytest.raises(RetryExhaustedError, match="the real reason"):
        await make(retry_attempts=20).execute_with_retry_and_timeout(fails_late, 0.15)

    assert len(calls) == 20


async def test_a_value_error_is_not_hidden_and_not_retried(utils: ExecutionUtils) -> None:
    flaky = Flaky(99, ValueError("wrong"))

    with pytest.raises(ValueError, match=r"^wrong$"):
        await utils.execute_with_retry_and_timeout(flaky.run_async, 1)

    assert flaky.calls == 1


async def test_a_functions_own_time_out_is_its_error_not_ours(utils: ExecutionUtils) -> None:
    flaky = Flaky(99, TimeoutError("socket"))

    with pytest.raises(RetryExhaustedError, match=r"^socket$"):
        await utils.execute_with_retry_and_timeout(flaky.run_async, LONG)

    assert flaky.calls == 3
    assert utils.statistics()["timeouts"] == 0


async def test_a_sync_function_past_its_limit_is_left_and_not_started_again(
    utils: ExecutionUtils, caplog: pytest.LogCaptureFixture
) -> None:
    release, calls = threading.Event(), []

    def stuck() -> None:
        calls.append(threading.current_thread())
        release.wait(10)

    began = time.monotonic()
    with pytest.raises(OperationTimeoutError, match=r"^Operation timed out after 0\.03s$"):
        await utils.execute_with_retry_and_timeout(stuck, SHORT)
    took = time.monotonic() - began
    release.set()

    assert len(calls) == 1
    assert calls[0].daemon
    assert took < 5
    assert "timeout: stuck runs on in its thread, nothing waits for it" in caplog.messages


async def test_no_limit_given_is_the_default_limit(make: Any) -> None:
    utils = make(default_timeout=SHORT, retry_attempts=1)

    with pytest.raises(TimeoutError, match=r"after 0\.03s"):
        await utils.execute_with_retry_and_timeout(functools.partial(asyncio.sleep, LONG))


@pytest.mark.parametrize("name", ["tool.nap", "nap", "sleep"])
async def test_a_limit_set_for_a_type_wins_over_the_callers(make: Any, name: str) -> None:
    utils = make(retry_attempts=1)
    utils.set_operation_timeout(name, SHORT)

    with pytest.raises(TimeoutError, match=r"^Operation tool\.nap timed out after 0\.03s$"):
        await utils.call(asyncio.sleep, (LONG,), operation_type="tool.nap", timeout=LONG)


async def test_the_most_exact_limit_wins(make: Any) -> None:
    utils = make(retry_attempts=1)
    for name, seconds in (("tool.nap", SHORT), ("nap", LONG), ("sleep", LONG)):
        utils.set_operation_timeout(name, seconds)

    with pytest.raises(TimeoutError, match=r"after 0\.03s"):
        await utils.call(asyncio.sleep, (LONG,), operation_type="tool.nap")


async def test_a_limit_that_wins_over_the_callers_is_logged_and_listed(
    utils: ExecutionUtils, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiecs.execution_utils")
    utils.set_operation_timeout("add", LONG)

    await utils.execute_with_retry_and_timeout(add, 5, 1)

    assert "timeout of add is 60.0s as set for its type, not 5" in caplog.messages
    assert utils.operation_timeouts == {"add": LONG}


async def test_a_functions_name_is_its_type_where_nothing_else_is_said(make: Any) -> None:
    utils = make(retry_attempts=1)
    utils.set_operation_timeout("sleep", SHORT)

    with pytest.raises(TimeoutError, match=r"^Operation sleep timed out after 0\.03s$"):
        await utils.execute_with_retry_and_timeout(functools.partial(asyncio.sleep, LONG), LONG)


async def test_a_deadline_is_for_all_attempts_and_keeps_the_last_error() -> None:
    reason = ConnectionError("no route")

    async def never_again(_seconds: float) -> None:
        await asyncio.Event().wait()

    utils = ExecutionUtils(async_sleep=never_again)

    with pytest.raises(OperationTimeoutError, match=r"^Operation timed out after 0\.03s$") as caught:
        await utils.call(Flaky(99, reason).run_async, deadline=SHORT)

    assert caught.value.__cause__ is reason
    assert utils.statistics()["timeouts_by_operation"] == {"run_async": 1}


async def test_a_functions_own_time_out_within_the_deadline_stays_its_own(make: Any) -> None:
    flaky = Flaky(99, TimeoutError("socket"))

    with pytest.raises(TimeoutError) as caught:
        await make(retry_attempts=1).call(flaky.run_async, deadline=LONG)

    assert caught.value is flaky.error


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "5", True])
async def test_what_is_no_limit_is_refused_before_anything_runs(utils: ExecutionUtils, seconds: Any) -> None:
    flaky = Flaky(0)

    with pytest.raises(InvalidTimeoutError):
        await utils.execute_with_retry_and_timeout(flaky.run_async, seconds)
    with pytest.raises(InvalidTimeoutError):
        await utils.call(flaky.run_async, deadline=seconds)
    with pytest.raises(InvalidTimeoutError):
        utils.set_operation_timeout("x", seconds)

    assert flaky.calls == 0


async def test_a_cancellation_from_outside_stops_the_attempt_and_no_other_follows(utils: ExecutionUtils) -> None:
    calls = []

    async def slow() -> None:
        calls.append(1)
        await asyncio.sleep(LONG)

    task = asyncio.create_task(utils.execute_with_retry_and_timeout(slow, LONG))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(calls) == 1


async def test_no_more_operations_run_at_once_than_allowed(make: Any) -> None:
    utils = make(max_concurrent_operations=3)
    running, most = 0, 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    await asyncio.gather(*(utils.execute_with_retry_and_timeout(work, LONG) for _ in range(20)))

    assert most == 3


def test_one_object_serves_several_event_loops(make: Any) -> None:
    utils = make(max_concurrent_operations=1)

    async def main() -> list[int]:
        return await asyncio.gather(*(utils.execute_with_retry_and_timeout(add_async, LONG, i) for i in range(3)))

    assert [asyncio.run(main()), asyncio.run(main())] == [[0, 1, 2], [0, 1, 2]]


async def test_the_timeout_context_of_the_document_cancels_its_body(utils: ExecutionUtils) -> None:
    async def body() -> None:
        with utils.timeout_context(SHORT):
            await asyncio.sleep(LONG)

    with pytest.raises(TimeoutError, match=r"^Operation timed out after 0\.03s$"):
        await body()
