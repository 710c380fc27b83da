from __future__ import annotations

import asyncio
import contextvars
import logging
import re
import threading
from typing import Any

import pytest

from aiecs_ray.errors import InvalidInputError, OperationFailedError, OperationTimeoutError, ToolNotFoundError
from aiecs_ray.interfaces import IToolExecutor
from aiecs_ray.tool_executors import (
    InterfaceMonitor,
    LoggingToolExecutor,
    MonitoredToolExecutor,
    OptimizedToolExecutor,
    RetryingToolExecutor,
    RobustToolExecutor,
    monitor_execution,
)

LOGGER = "aiecs_ray.tool_executors"

caller: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Direct(IToolExecutor):
    """Runs operations itself, and remembers the order of its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def execute(self, tool: Any, operation_name: str, **params: Any) -> Any:
        self.calls.append("execute")
        return getattr(tool, operation_name)(**params)

    async def execute_async(self, tool: Any, operation_name: str, **params: Any) -> Any:
        self.calls.append("execute_async")
        result = getattr(tool, operation_name)(**params)
        return await result if asyncio.iscoroutine(result) else result


class Tool:
    def __init__(self, clock: Clock | None = None, failures: int = 0) -> None:
        self.clock = clock or Clock()
        self.failures = failures
        self.attempts = 0

    def echo(self, value: Any = None) -> Any:
        return value

    def take(self, seconds: float) -> None:
        self.clock.now += seconds

    def fail(self, seconds: float = 0.0) -> None:
        self.clock.now += seconds
        raise ZeroDivisionError("by zero")

    def raise_this(self, error: BaseException) -> None:
        raise error

    def flaky(self) -> str:
        self.attempts += 1
        if self.attempts <= self.failures:
            raise ConnectionError(self.attempts)
        return "done"

    def thread(self) -> tuple[str, str]:
        return threading.current_thread().name, caller.get()

    async def thread_async(self) -> str:
        return threading.current_thread().name


async def run(executor: IToolExecutor, how: str, tool: Any, operation_name: str, **params: Any) -> Any:
    if how == "execute":
        return executor.execute(tool, operation_name, **params)
    return await executor.execute_async(tool, operation_name, **params)


both_ways = pytest.mark.parametrize("how", ["execute", "execute_async"])


@both_ways
@pytest.mark.parametrize(
    "wrapper", [LoggingToolExecutor, MonitoredToolExecutor, RobustToolExecutor, RetryingToolExecutor]
)
async def test_wrapper_passes_call_and_result_on(how: str, wrapper: Any) -> None:
    inner = Direct()

    result = await run(wrapper(inner), how, Tool(), "echo", value=3)

    assert result == 3
    assert inner.calls == [how]


@both_ways
async def test_wrappers_go_around_each_other(how: str) -> None:
    monitored = MonitoredToolExecutor(RobustToolExecutor(Direct()))

    with pytest.raises(OperationFailedError):
        await run(LoggingToolExecutor(monitored), how, Tool(), "fail")

    assert list(monitored.get_performance_metrics()) == ["fail_error"]


@both_ways
async def test_success_is_logged_without_parameters(how: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    await run(LoggingToolExecutor(Direct()), how, Tool(), "echo", value="secret")

    assert caplog.record_tuples == [
        (LOGGER, logging.INFO, "Executing operation: echo"),
        (LOGGER, logging.INFO, "Operation completed: echo"),
    ]


@both_ways
async def test_failure_is_logged_and_raised_again(how: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    with pytest.raises(ZeroDivisionError):
        await run(LoggingToolExecutor(Direct()), how, Tool(), "fail")

    assert caplog.record_tuples[1:] == [(LOGGER, logging.ERROR, "Operation failed: fail, error: by zero")]


async def test_cancellation_is_logged_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    executor = LoggingToolExecutor(Direct())

    with pytest.raises(asyncio.CancelledError):
        await executor.execute_async(Tool(), "raise_this", error=asyncio.CancelledError())

    assert caplog.messages == ["Operation failed: raise_this, error: CancelledError"]


@both_ways
async def test_durations_are_summed_up_by_operation(how: str) -> None:
    clock = Clock()
    executor, tool = MonitoredToolExecutor(Direct(), clock=clock), Tool(clock)

    for seconds in (1.0, 4.0, 1.0):
        await run(executor, how, tool, "take", seconds=seconds)
    with pytest.raises(ZeroDivisionError):
        await run(executor, how, tool, "fail", seconds=3.0)

    assert executor.get_performance_metrics() == {
        "take": {"avg_time": 2.0, "min_time": 1.0, "max_time": 4.0, "count": 3},
        "fail_error": {"avg_time": 3.0, "min_time": 3.0, "max_time": 3.0, "count": 1},
    }


def test_nothing_run_means_no_metrics() -> None:
    assert MonitoredToolExecutor(Direct()).get_performance_metrics() == {}


@both_ways
async def test_a_tools_error_becomes_an_operation_failure_with_its_cause(how: str) -> None:
    with pytest.raises(OperationFailedError) as caught:
        await run(RobustToolExecutor(Direct()), how, Tool(), "fail")

    assert str(caught.value) == "Operation failed: by zero"
    assert caught.value.type_name == "ZeroDivisionError"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@both_ways
@pytest.mark.parametrize(
    "error", [ToolNotFoundError("text"), OperationTimeoutError("late"), asyncio.CancelledError(), SystemExit(1)]
)
async def test_an_error_with_a_verdict_of_its_own_passes_as_it_is(how: str, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        await run(RobustToolExecutor(Direct()), how, Tool(), "raise_this", error=error)

    assert caught.value is error


async def test_sync_operation_runs_in_a_thread_with_the_callers_context() -> None:
    caller.set("ann")

    with OptimizedToolExecutor(Direct()) as executor:
        name, seen = await executor.execute_async(Tool(), "thread")

    assert name.startswith("aiecs-ray-tool")
    assert seen == "ann"


async def test_async_operation_runs_on_the_event_loop() -> None:
    with OptimizedToolExecutor(Direct()) as executor:
        name = await executor.execute_async(Tool(), "thread_async")

    assert name == threading.current_thread().name


def test_sync_call_stays_in_its_thread() -> None:
    with OptimizedToolExecutor(Direct()) as executor:
        name, _ = executor.execute(Tool(), "thread")

    assert name == threading.current_thread().name


async def test_sync_operations_run_at_the_same_time_up_to_the_number_of_workers() -> None:
    class Meeting:
        barrier = threading.Barrier(4, timeout=10)

        def meet(self) -> int:
            return self.barrier.wait()

    with OptimizedToolExecutor(Direct()) as executor:
        places = await asyncio.gather(*(executor.execute_async(Meeting(), "meet") for _ in range(4)))

    assert sorted(places) == [0, 1, 2, 3]


async def test_one_worker_runs_one_sync_operation_at_a_time() -> None:
    class Alone:
        lock = threading.Lock()

        def enter(self) -> bool:
            free = self.lock.acquire(blocking=False)
            if free:
                self.lock.release()
            return free

    with OptimizedToolExecutor(Direct(), max_workers=1) as executor:
        free = await asyncio.gather(*(executor.execute_async(Alone(), "enter") for _ in range(50)))

    assert all(free)


async def test_closed_executor_takes_no_more_sync_operations() -> None:
    executor = OptimizedToolExecutor(Direct())

    executor.close()

    with pytest.raises(RuntimeError, match="after shutdown"):
        await executor.execute_async(Tool(), "echo")


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "4", None])
async def test_numbers_of_workers_and_retries_are_positive(number: Any) -> None:
    with pytest.raises(InvalidInputError, match="max_workers must be a positive int"):
        OptimizedToolExecutor(Direct(), max_workers=number)
    with pytest.raises(InvalidInputError, match="max_retries must be a positive int"):
        await RetryingToolExecutor(Direct()).execute_with_retry(Tool(), "echo", max_retries=number)


@pytest.mark.parametrize(("failures", "waits"), [(0, []), (1, [1.0]), (2, [1.0, 2.0])])
async def test_failed_attempts_are_repeated_with_growing_waits(failures: int, waits: list[float]) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    result = await RetryingToolExecutor(Direct(), sleep=sleep).execute_with_retry(Tool(failures=failures), "flaky")

    assert result == "done"
    assert slept == waits


async def test_last_failure_is_raised_after_all_attempts() -> None:
    slept: list[float] = []
    tool = Tool(failures=9)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    with pytest.raises(ConnectionError) as caught:
        await RetryingToolExecutor(Direct(), sleep=sleep).execute_with_retry(tool, "flaky", max_retries=4)

    assert caught.value.args == (4,)
    assert tool.attempts == 4
    assert slept == [1.0, 2.0, 4.0]


async def test_cancellation_is_not_retried() -> None:
    inner = Direct()

    with pytest.raises(asyncio.CancelledError):
        await RetryingToolExecutor(inner).execute_with_retry(Tool(), "raise_this", error=asyncio.CancelledError())

    assert inner.calls == ["execute_async"]


class Service:
    logger = logging.getLogger("service")

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    async def work(self, seconds: float, *, error: BaseException | None = None) -> str:
        """Work hard."""
        self.clock.now += seconds
        if error:
            raise error
        return "done"


async def test_monitored_method_logs_its_duration(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    work = monitor_execution(Service.work, clock=clock)

    result = await work(Service(clock), 1.23456)

    assert result == "done"
    assert caplog.record_tuples == [("service", logging.INFO, "Execution completed in 1.235s")]


@pytest.mark.parametrize(("error", "text"), [(ValueError("bad"), "bad"), (asyncio.CancelledError(), "CancelledError")])
async def test_monitored_method_logs_its_failure_and_raises_it(
    error: BaseException, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    work = monitor_execution(Service.work, clock=clock)

    with pytest.raises(type(error)):
        await work(Service(clock), 2.0, error=error)

    assert caplog.record_tuples == [("service", logging.ERROR, f"Execution failed after 2.000s: {text}")]


async def test_decorated_method_keeps_its_name_and_works_as_a_method(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    class Decorated(Service):
        work = monitor_execution(Service.work)

    assert await Decorated(Clock()).work(0.0) == "done"
    assert Decorated.work.__name__ == "work"
    assert Decorated.work.__doc__ == "Work hard."
    assert asyncio.iscoroutinefunction(Decorated.work)
    assert re.fullmatch(r"Execution completed in \d+\.\d{3}s", caplog.messages[0])


def test_unused_interface_has_no_error_rate() -> None:
    assert InterfaceMonitor().get_usage_report() == {
        "total_usage": 0,
        "total_errors": 0,
        "error_rate": 0,
        "usage_by_interface": {},
        "errors_by_interface": {},
    }


def test_usage_is_counted_by_interface_and_method(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    monitor = InterfaceMonitor()

    monitor.record_interface_usage("IToolExecutor", "execute", success=True)
    monitor.record_interface_usage("IToolExecutor", "execute", success=False)
    monitor.record_interface_usage("IToolProvider", "get_tool", success=True)
    monitor.record_interface_usage("IToolProvider", "get_tool", success=True)

    assert monitor.get_usage_report() == {
        "total_usage": 4,
        "total_errors": 1,
        "error_rate": 0.25,
        "usage_by_interface": {"IToolExecutor.execute": 2, "IToolProvider.get_tool": 2},
        "errors_by_interface": {"IToolExecutor.execute": 1},
    }
    assert monitor.usage_stats == {"IToolExecutor.execute": 2, "IToolProvider.get_tool": 2}
    assert monitor.error_stats == {"IToolExecutor.execute": 1}
    assert caplog.record_tuples[:2] == [
        (LOGGER, logging.INFO, "Interface usage: IToolExecutor.execute, success: True"),
        (LOGGER, logging.INFO, "Interface usage: IToolExecutor.execute, success: False"),
    ]
