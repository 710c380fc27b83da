"""Running a function of this process: once within a time limit, and again where its failure may pass.

The decisions are those of :mod:`aiecs_ray.retry`; the loop is tenacity's.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import logging
import threading
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from tenacity import AsyncRetrying, RetryCallState, Retrying, stop_after_attempt, wait_exponential

from aiecs_ray.errors import AiecsError, InvalidInputError, OperationTimeoutError, RetryExhaustedError
from aiecs_ray.failures import text_of, type_names
from aiecs_ray.messages import ErrorInfo, RetryOptions
from aiecs_ray.quoting import shorten
from aiecs_ray.retry import is_named, is_transient

logger = logging.getLogger("aiecs.execution_utils")

if TYPE_CHECKING:
    from aiecs_ray.local_breaker import LocalBreaker

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class AttemptTimeoutError(TimeoutError):
    """One attempt took too long and was stopped, so another may follow. Callers never see it."""


@dataclass(frozen=True, kw_only=True)
class RetryStrategy:
    """A decorator for sync and async functions that runs them again where their failure may pass.

    What a function raises in the end: the error itself when it cannot pass, or when there was one attempt only;
    else :class:`RetryExhaustedError` with the last error's text and the error as ``__cause__`` (contradictions C-31,
    C-32). An error of this package passes through unless ``options.on`` names it: whoever raised it has retried
    already (contradiction C-62).
    """

    name: str
    """What is retried, for the log."""
    options: RetryOptions
    retry_if_result: Callable[[Any], bool] | None = None
    """Whether a returned value counts as a failure that may pass."""
    on_retry: Callable[[], None] = lambda: None
    """Called before each attempt but the first."""
    sleep: Callable[[float], None] = time.sleep
    async_sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    breaker: LocalBreaker | None = None
    """Whether an attempt may be made at all."""

    def __call__(self, func: F) -> F:
        """Return ``func`` with retries."""
        if is_async(func):

            @functools.wraps(func)
            async def attempt_async(*args: Any, **kwargs: Any) -> Any:
                with self._watched():
                    return await func(*args, **kwargs)

            @functools.wraps(func)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                return await AsyncRetrying(sleep=self.async_sleep, **self._rules())(attempt_async, *args, **kwargs)

            return run_async  # type: ignore[return-value]  # functools.wraps forgets the type

        @functools.wraps(func)
        def attempt(*args: Any, **kwargs: Any) -> Any:
            with self._watched():
                return func(*args, **kwargs)

        @functools.wraps(func)
        def run(*args: Any, **kwargs: Any) -> Any:
            return Retrying(sleep=self.sleep, **self._rules())(attempt, *args, **kwargs)

        return run  # type: ignore[return-value]

    def _watched(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.breaker is None else self.breaker.attempt(self.options)

    def _rules(self) -> dict[str, Any]:
        options = self.options
        return {
            "stop": stop_after_attempt(options.attempts),
            "wait": wait_exponential(multiplier=options.multiplier, min=options.wait_min, max=options.wait_max),
            "retry": self._again,
            "after": self._after,
            "before_sleep": self._before_sleep,
            "retry_error_callback": self._give_up,
        }

    def _again(self, state: RetryCallState) -> bool:
        assert state.outcome is not None
        error = state.outcome.exception()
        if error is None:
            return self.retry_if_result is not None and self.retry_if_result(state.outcome.result())
        if not isinstance(error, Exception):
            return False
        names = type_names(error)
        if isinstance(error, AiecsError):
            return is_named(names, self.options.on)
        return is_transient(ErrorInfo("E003", "", type_names=names), self.options)

    def _after(self, state: RetryCallState) -> None:
        logger.warning(
            "Retry %s/%s for %s after %ss: %s",
            state.attempt_number,
            self.options.attempts,
            self.name,
            state.idle_for,
            _what_failed(state),
        )

    def _before_sleep(self, state: RetryCallState) -> None:
        self.on_retry()
        logger.info(
            "retry: attempt %s of %s for %s follows in %ss",
            state.attempt_number + 1,
            self.options.attempts,
            self.name,
            state.upcoming_sleep,
        )

    def _give_up(self, state: RetryCallState) -> NoReturn:
        assert state.outcome is not None
        error = state.outcome.exception()
        many = state.attempt_number > 1
        if many:
            logger.error("重试次数超限: %s", self.name)
        if error is None:
            raise RetryExhaustedError(f"{_what_failed(state)} in all {state.attempt_number} attempts")
        if not many or isinstance(error, (AttemptTimeoutError, AiecsError)):
            raise error
        raise RetryExhaustedError(text_of(error), type(error).__name__, "", type_names(error)) from error


class Slots:
    """At most ``most`` operations at once in each event loop; asyncio's locks belong to one loop each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            weakref.WeakKeyDictionary()
        )

    def of_loop(self) -> asyncio.Semaphore:
        """Return what an operation of the running loop holds while it runs."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._of_loops:
                self._of_loops[loop] = asyncio.Semaphore(self._most)
            return self._of_loops[loop]


class Tally:
    """Counts by name, for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str) -> None:
        """Count one more."""
        with self._lock:
            self._counts[name] += 1

    def counts(self) -> dict[str, int]:
        """Return what was counted so far."""
        with self._lock:
            return dict(self._counts)


def most_exact(table: Mapping[str, T], operation_type: str, func_name: str) -> T | None:
    """Return what is set for ``tool.op``, else for ``op``, else for the function's name (contradiction C-33).

    >>> most_exact({"read": 1, "tool.read": 2}, "tool.read", "")
    2
    """
    for name in (operation_type, operation_type.rpartition(".")[2], func_name):
        if name in table:
            return table[name]
    return None


def _what_failed(state: RetryCallState) -> str:
    assert state.outcome is not None
    error = state.outcome.exception()
    return text_of(error) if error is not None else "the result was refused by retry_if_result"


def check_callable(func: object) -> None:
    """Raise unless ``func`` can be called.

    Raises:
        InvalidInputError: it cannot; a coroutine, which is what calling an async function gave, is ended.
    """
    if inspect.iscoroutine(func):
        func.close()
        raise InvalidInputError("func must be callable: pass the function itself, not its coroutine")
    if not callable(func):
        raise InvalidInputError(f"func must be callable, got {shorten(func)}")


def is_async(func: Callable[..., Any]) -> bool:
    """Return whether calling ``func`` gives a coroutine; a partial and an object with ``__call__`` may, too."""
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(type(func).__call__)


def name_of(func: Callable[..., Any]) -> str:
    """Return the name of a function, of the one inside a partial, or of an object's class (defect D-17).

    >>> name_of(functools.partial(print, 1))
    'print'
    """
    while isinstance(func, functools.partial):
        func = func.func
    return getattr(func, "__name__", type(func).__name__)


async def run_within(
    seconds: float | None, text: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Return what ``func`` returns, or stop waiting for it after ``seconds`` with ``text`` as the error.

    A sync function runs in a thread of its own, so the loop goes on meanwhile; it may return an awaitable. Nothing
    can stop such a thread: past its limit it runs on unwatched, and so no second attempt is started beside it.

    Raises:
        AttemptTimeoutError: an async function took too long and was cancelled.
        OperationTimeoutError: a sync function took too long.
    """
    scope = asyncio.timeout(seconds)
    thread: asyncio.Future[tuple[Any, BaseException | None]] | None = None
    try:
        async with scope:
            if is_async(func):
                return await func(*args, **kwargs)
            thread = in_thread(functools.partial(func, *args, **kwargs))
            result, error = await thread
            if error is not None:
                raise error
            return await result if inspect.isawaitable(result) else result
    except TimeoutError:
        if not scope.expired():
            raise
        if thread is not None and thread.cancelled():
            logger.warning("timeout: %s runs on in its thread, nothing waits for it", name_of(func))
            raise OperationTimeoutError(text) from None
        raise AttemptTimeoutError(text) from None


def in_thread(call: Callable[[], Any]) -> asyncio.Future[tuple[Any, BaseException | None]]:
    """Run ``call`` in a daemon thread and return a future of its result and its error.

    Not in the loop's executor: a few calls that never end would fill it, and keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
    context = contextvars.copy_context()

    def deliver(outcome: tuple[Any, BaseException | None]) -> None:
        if not future.done():
            future.set_result(outcome)

    def work() -> None:
        outcome: tuple[Any, BaseException | None]
        try:
            outcome = (context.run(call), None)
        except BaseException as error:  # noqa: BLE001  # it is raised again where the caller waits
            outcome = (None, error)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile, and nobody waits
            loop.call_soon_threadsafe(deliver, outcome)

    threading.Thread(target=work, name=f"aiecs {name_of(call)}", daemon=True).start()
    return future
