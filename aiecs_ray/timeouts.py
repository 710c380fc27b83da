"""A time limit for a block of code (document S1, "timeout_context")."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from aiecs_ray.errors import InvalidInputError, InvalidTimeoutError, OperationTimeoutError
from aiecs_ray.quoting import shorten

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

T = TypeVar("T")
MAX_SECONDS = 1e9


class timeout_context:  # noqa: N801  # the document's name; it is used like a function
    """Cancel the body of a ``with`` or ``async with`` block in a coroutine after ``seconds``.

    A body that is still running then is cancelled where it waits, and the block raises
    ``TimeoutError("Operation timed out after {seconds}s")``. Blocks may be nested; each keeps its own limit, and a
    cancellation from outside passes through. What the block gives is a future that gets the same error at the limit
    and is cancelled when the body ends before it, so that others can watch the block (contradiction C-30).

    Only code that waits can be stopped: a body that blocks its thread runs to its end.

    Raises:
        OperationTimeoutError: the limit passed. It is a ``TimeoutError`` with code E002.
        InvalidTimeoutError: ``seconds`` is not a finite number above 0.
        InvalidInputError: there is no coroutine to cancel. Plain blocking code cannot be interrupted from within; a
            limit that nobody keeps would be worse than this error.

    >>> async def slow():
    ...     with timeout_context(0.01):
    ...         await asyncio.sleep(60)
    >>> asyncio.run(slow())
    Traceback (most recent call last):
    aiecs_ray.errors.OperationTimeoutError: Operation timed out after 0.01s
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = check_seconds(seconds)
        self._text = timeout_text(self._seconds)
        self._scope: asyncio.Timeout | None = None
        self._future: asyncio.Future[None] | None = None
        self._handle: asyncio.TimerHandle | None = None

    def __enter__(self) -> asyncio.Future[None]:
        loop = _running_loop()
        if self._scope is not None:
            raise InvalidInputError("a timeout_context is for one block; make another with timeout_context(seconds)")
        self._scope = asyncio.timeout(self._seconds)
        _complete(self._scope.__aenter__())
        self._future = loop.create_future()
        self._handle = loop.call_later(self._seconds, self._expire)
        return self._future

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._scope is not None
        assert self._future is not None
        assert self._handle is not None
        self._handle.cancel()
        if self._scope.expired():
            self._expire()
        self._future.cancel()
        try:
            _complete(self._scope.__aexit__(kind, error, trace))
        except TimeoutError as expired:
            raise OperationTimeoutError(self._text) from expired.__cause__

    async def __aenter__(self) -> asyncio.Future[None]:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _expire(self) -> None:
        assert self._future is not None
        if not self._future.done():
            self._future.set_exception(OperationTimeoutError(self._text))
            self._future.exception()  # nobody has to look at it


def check_seconds(seconds: object) -> float:
    """Return ``seconds`` as a float.

    Raises:
        InvalidTimeoutError: it is not a finite number above 0 and up to 30 years.

    >>> check_seconds(30)
    30.0
    """
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 < seconds <= MAX_SECONDS:
        return float(seconds)
    raise InvalidTimeoutError(f"timeout is {shorten(seconds)}, expected seconds above 0 and at most {MAX_SECONDS:g}")


def timeout_text(seconds: float, operation: str = "") -> str:
    """Return the documents' message.

    >>> timeout_text(30.0), timeout_text(0.5, "load")
    ('Operation timed out after 30s', 'Operation load timed out after 0.5s')
    """
    shown = int(seconds) if float(seconds).is_integer() else seconds
    return f"Operation {operation} timed out after {shown}s" if operation else f"Operation timed out after {shown}s"


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    if loop is None or asyncio.current_task(loop) is None:
        raise InvalidInputError(
            "timeout_context works in a coroutine only: blocking code cannot be interrupted from within "
            "(await execute_with_retry_and_timeout(func, seconds) waits for it no longer than that)"
        )
    return loop


def _complete(step: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that does not wait to its end; asyncio.timeout's two are such."""
    try:
        step.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise RuntimeError("asyncio.timeout waited where it never did before")
