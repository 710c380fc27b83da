"""Wrappers around any tool executor, and counters for what goes through an interface (document S3).

Each adds one thing and passes everything else on, so they can be put around each other::

    executor = LoggingToolExecutor(MonitoredToolExecutor(RobustToolExecutor(inner)))

The runtime uses none of them: it has one owner of retries, one log and one set of metrics of its own. They
are for code that holds an ``IToolExecutor`` and nothing else (contradiction C-58).
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import threading
import time
from abc import abstractmethod
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

from aiecs_ray.errors import AiecsError, InvalidInputError, OperationFailedError
from aiecs_ray.interfaces import IToolExecutor
from aiecs_ray.quoting import shorten

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from contextlib import AbstractContextManager

P = ParamSpec("P")
R = TypeVar("R")


class HasLogger(Protocol):
    """Anything with a ``logger``."""

    @property
    def logger(self) -> logging.Logger:
        """Return the logger to write to."""
        ...


H = TypeVar("H", bound=HasLogger)


def monitor_execution(
    method: Callable[Concatenate[H, P], Awaitable[R]], *, clock: Callable[[], float] = time.perf_counter
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, R]]:
    """Log to ``self.logger`` how long an async method took, and whether it failed (document S3, "性能监控").

    ``clock`` gives seconds.
    """

    @functools.wraps(method)
    async def wrapper(self: H, /, *args: P.args, **kwargs: P.kwargs) -> R:
        start = clock()
        try:
            result = await method(self, *args, **kwargs)
        except BaseException as error:
            self.logger.error("Execution failed after %.3fs: %s", clock() - start, _reason(error))  # noqa: TRY400 - the caller gets the traceback
            raise
        self.logger.info("Execution completed in %.3fs", clock() - start)
        return result

    return wrapper


class WrappingToolExecutor(IToolExecutor):
    """A tool executor that does something around every call of another one."""

    def __init__(self, inner: IToolExecutor) -> None:
        """Wrap ``inner``, which does the work."""
        self._inner = inner

    def execute(self, tool: Any, operation_name: str, **params: Any) -> Any:
        """Run the operation with the inner executor and return its result."""
        with self._around(operation_name):
            return self._inner.execute(tool, operation_name, **params)

    async def execute_async(self, tool: Any, operation_name: str, **params: Any) -> Any:
        """Run the operation with the inner executor and return its result."""
        with self._around(operation_name):
            return await self._inner.execute_async(tool, operation_name, **params)

    @abstractmethod
    def _around(self, operation_name: str) -> AbstractContextManager[None]:
        """Return what to enter before a call and to leave after it."""


class LoggingToolExecutor(WrappingToolExecutor):
    """Logs the beginning and the end of every call, never its parameters (document S3, "日志记录")."""

    def __init__(self, inner: IToolExecutor, logger: logging.Logger | None = None) -> None:
        """Wrap ``inner`` and log to ``logger``, by default the one named after this module."""
        super().__init__(inner)
        self.logger = logger or logging.getLogger(__name__)

    @contextmanager
    def _around(self, operation_name: str) -> Iterator[None]:
        self.logger.info("Executing operation: %s", operation_name)
        try:
            yield
        except BaseException as error:
            self.logger.error("Operation failed: %s, error: %s", operation_name, _reason(error))  # noqa: TRY400 - the caller gets the traceback
            raise
        self.logger.info("Operation completed: %s", operation_name)


class MonitoredToolExecutor(WrappingToolExecutor):
    """Measures every call; its memory grows with the names of operations, not with calls (document S3)."""

    def __init__(self, inner: IToolExecutor, *, clock: Callable[[], float] = time.perf_counter) -> None:
        """Wrap ``inner`` and measure with ``clock``, in seconds."""
        super().__init__(inner)
        self._clock = clock
        self._lock = threading.Lock()
        self._durations: dict[str, _Durations] = {}

    def get_performance_metrics(self) -> dict[str, dict[str, float]]:
        """Return ``avg_time``, ``min_time`` and ``max_time`` in seconds and ``count`` of each operation.

        Calls that raised are counted apart, under the name of the operation followed by ``_error``.
        """
        with self._lock:
            return {name: durations.summary() for name, durations in self._durations.items()}

    @contextmanager
    def _around(self, operation_name: str) -> Iterator[None]:
        start = self._clock()
        try:
            yield
        except BaseException:
            self._record(f"{operation_name}_error", self._clock() - start)
            raise
        self._record(operation_name, self._clock() - start)

    def _record(self, name: str, seconds: float) -> None:
        with self._lock:
            self._durations.setdefault(name, _Durations()).add(seconds)


class RobustToolExecutor(WrappingToolExecutor):
    """Turns whatever a tool raises into ``OperationFailedError``, with the tool's own error as its cause.

    An error of aiecs-ray, such as ``ToolNotFoundError`` or a timeout, has its code already and passes as it
    is; so does a cancellation (document S3, "错误处理实现").
    """

    @contextmanager
    def _around(self, operation_name: str) -> Iterator[None]:  # noqa: ARG002 - what it does depends on the error alone
        try:
            yield
        except AiecsError:
            raise
        except Exception as error:
            raise OperationFailedError(f"Operation failed: {error}", type(error).__name__) from error


class OptimizedToolExecutor(IToolExecutor):
    """Runs a tool's sync operations in threads, so that they do not block the event loop (document S3).

    ``close()``, or the end of a ``with`` block, waits for the threads to finish.
    """

    def __init__(self, inner: IToolExecutor, max_workers: int = 4) -> None:
        """Wrap ``inner`` and run at most ``max_workers`` sync operations at once."""
        if type(max_workers) is not int or max_workers < 1:
            raise InvalidInputError(f"max_workers must be a positive int, not {shorten(max_workers)}")
        self._inner = inner
        self._threads = ThreadPoolExecutor(max_workers, thread_name_prefix="aiecs-ray-tool")

    def execute(self, tool: Any, operation_name: str, **params: Any) -> Any:
        """Run the operation in the calling thread and return its result."""
        return self._inner.execute(tool, operation_name, **params)

    async def execute_async(self, tool: Any, operation_name: str, **params: Any) -> Any:
        """Await an async operation, or run a sync one in a thread, and return its result."""
        if inspect.iscoroutinefunction(getattr(tool, operation_name, None)):
            return await self._inner.execute_async(tool, operation_name, **params)
        context = contextvars.copy_context()
        call = functools.partial(context.run, self._inner.execute, tool, operation_name, **params)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def close(self) -> None:
        """Wait for what runs and stop the threads."""
        self._threads.shutdown()

    def __enter__(self) -> Self:
        """Return the executor."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


class RetryingToolExecutor(IToolExecutor):
    """Adds ``execute_with_retry`` to another executor (document S3, "添加新方法").

    Not for a tool that the runtime runs: retries have one owner, and two multiply (contradiction C-62).
    """

    def __init__(self, inner: IToolExecutor, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Wrap ``inner``; ``sleep`` waits a number of seconds."""
        self._inner = inner
        self._sleep = sleep

    def execute(self, tool: Any, operation_name: str, **params: Any) -> Any:
        """Run the operation once and return its result."""
        return self._inner.execute(tool, operation_name, **params)

    async def execute_async(self, tool: Any, operation_name: str, **params: Any) -> Any:
        """Run the operation once and return its result."""
        return await self._inner.execute_async(tool, operation_name, **params)

    async def execute_with_retry(self, tool: Any, operation_name: str, max_retries: int = 3, **params: Any) -> Any:
        """Run the operation up to ``max_retries`` times, waiting 1, 2, 4, … seconds between.

        Raises what the last attempt raised, and ``InvalidInputError`` unless ``max_retries`` is positive.
        """
        if type(max_retries) is not int or max_retries < 1:
            raise InvalidInputError(f"max_retries must be a positive int, not {shorten(max_retries)}")
        for attempt in range(max_retries - 1):
            try:
                return await self._inner.execute_async(tool, operation_name, **params)
            except Exception:  # noqa: BLE001 - any failure is tried again
                await self._sleep(2.0**attempt)
        return await self._inner.execute_async(tool, operation_name, **params)


class InterfaceMonitor:
    """Counts the calls of each method of each interface, and how many failed (document S3, "接口使用监控")."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        """Log to ``logger``, by default the one named after this module."""
        self.logger = logger or logging.getLogger(__name__)
        self.usage_stats: Counter[str] = Counter()
        self.error_stats: Counter[str] = Counter()
        self._lock = threading.Lock()

    def record_interface_usage(self, interface_name: str, method_name: str, success: bool) -> None:  # noqa: FBT001 - the document's signature
        """Count one call of ``interface_name.method_name``."""
        key = f"{interface_name}.{method_name}"
        with self._lock:
            self.usage_stats[key] += 1
            if not success:
                self.error_stats[key] += 1
        self.logger.info("Interface usage: %s, success: %s", key, success)

    def get_usage_report(self) -> dict[str, Any]:
        """Return the totals, the share of errors (0 to 1, 0 when unused) and both counts by method."""
        with self._lock:
            usage, errors = dict(self.usage_stats), dict(self.error_stats)
        total, failed = sum(usage.values()), sum(errors.values())
        return {
            "total_usage": total,
            "total_errors": failed,
            "error_rate": failed / total if total else 0,
            "usage_by_interface": usage,
            "errors_by_interface": errors,
        }


@dataclass
class _Durations:
    """The calls of one operation, in seconds."""

    count: int = 0
    total: float = 0.0
    shortest: float = float("inf")
    longest: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        self.shortest = min(self.shortest, seconds)
        self.longest = max(self.longest, seconds)

    def summary(self) -> dict[str, float]:
        return {
            "avg_time": self.total / self.count,
            "min_time": self.shortest,
            "max_time": self.longest,
            "count": self.count,
        }


def _reason(error: BaseException) -> str:
    """Return an error's text, or its class where it has none, as a cancellation."""
    return str(error) or type(error).__name__
