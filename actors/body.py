"""One running body of an operation, as its host holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs_ray.errors import InvalidInputError
from aiecs_ray.masking import mask, secrets_in
from aiecs_ray.options import seconds

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from aiecs_ray.running import Attempt

PROGRESS_INTERVAL = 0.1
"""Seconds between two progress events of one operation; the last state is always sent."""


class CancelFlag:
    """Whether a body was told to end; set by one thread and read by others, which needs no lock."""

    __slots__ = ("_is_set",)

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """Set it, for good."""
        self._is_set = True

    def is_set(self) -> bool:
        """Return whether it was set."""
        return self._is_set


class Body:
    """One running body."""

    __slots__ = ("arguments", "attempt", "emit", "loop", "own", "place", "since", "step", "task", "work")

    def __init__(self, work: int, step: int, attempt: Attempt, emit: Throttle, since: float) -> None:
        self.work, self.step, self.attempt, self.emit, self.since = work, step, attempt, emit, since
        self.place = 0
        """Of its record in the ledger."""
        self.own = False
        """The tool's own code has begun: an error is the tool's from here on."""
        self.arguments: dict[str, Any] = {}
        """What it was called with."""
        self.task: asyncio.Task[Any] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def ask(self) -> None:
        """Tell the body that it should end: a flag for sync code, a cancellation for async code."""
        self.attempt.cancel_flag.set()
        if self.task is not None and self.loop is not None:
            self.loop.call_soon_threadsafe(self.task.cancel)


def lifetime(ttl: Any, result: Any) -> tuple[float | None, str]:
    """Return for how many seconds a result may be cached, and why not at all where its function does not say.

    Only a function of the result is asked here; a number is known to the coordinator, which is told None.
    """
    if not callable(ttl):
        return None, ""
    try:
        value = ttl(result)
    except Exception as error:  # noqa: BLE001
        # The result is there; only how long it holds is not known. The error's own text may quote it.
        return 0.0, f"its ttl function raised {type(error).__name__}"
    try:
        return seconds("ttl", value, zero=True), ""
    except InvalidInputError:
        return 0.0, f"its ttl function returned no number of seconds, but a value of type {type(value).__name__}"


class Throttle:
    """Sends progress at most every tenth of a second; what an operation reported last goes with its outcome."""

    __slots__ = ("_clock", "_next", "_report", "_run", "_secrets", "_step", "arguments", "last")

    def __init__(self, report: Callable[..., None], run: str, step: int, clock: Callable[[], float]) -> None:
        self._report, self._run, self._step, self._clock = report, run, step, clock
        self._next = 0.0
        self.arguments: dict[str, Any] = {}
        """What the operation was called with: no secret in it is reported."""
        self._secrets: tuple[str, ...] | None = None
        self.last: tuple[float, float | None, str] | None = None

    def __call__(self, done: float, total: float | None, message: str) -> None:
        """Note a report, and send it unless another was sent a moment ago."""
        if message and self.arguments:
            if self._secrets is None:
                self._secrets = secrets_in(self.arguments)
            message = mask(message, self._secrets)
        self.last = (done, total, message)
        now = self._clock()
        if now >= self._next:
            self._next = now + PROGRESS_INTERVAL
            self._report(self._run, self._step, done, total, message)
