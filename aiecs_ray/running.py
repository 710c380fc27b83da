"""What the body of an operation can say and ask while it runs: :func:`progress` and :func:`cancelled`."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from aiecs_ray.output import Allowance

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token


class Flag(Protocol):
    """What a host sets to ask for the end of an operation, such as a ``threading.Event``."""

    def set(self) -> None:
        """Set it, for good."""
        ...

    def is_set(self) -> bool:
        """Return whether it was set."""
        ...


# Not frozen: one is made for every operation that runs, and a frozen one takes four times as long to make.
@dataclass(slots=True, eq=False)
class Attempt:
    """One run of one operation's body, as its host sees it."""

    cancel_flag: Flag
    emit: Callable[[float, float | None, str], None]
    """Called with done, total and message at each :func:`progress`."""
    user_id: str = ""
    task_id: str = ""
    run: str = ""
    step: int | None = None
    calls: tuple[str, ...] = ()
    """The operations that led to this one, each called by the one before it; the last is this one itself."""
    home: Callable[[], Any] | None = None
    """Opens a way to the coordinator that runs this."""
    output: Allowance = field(default_factory=Allowance)
    """What it may still print."""


_current: ContextVar[Attempt | None] = ContextVar("aiecs_ray_attempt", default=None)


def current() -> Attempt | None:
    """Return the operation that runs in this context, None outside of one."""
    return _current.get()


def progress(done: float, total: float | None = None, message: str = "") -> None:
    """Report how far the running operation is; outside of an operation it does nothing.

    ``done`` and ``total`` are in whatever unit the operation counts: rows, files, bytes.

    >>> progress(3, 10, "files read")
    """
    attempt = _current.get()
    if attempt is not None:
        attempt.emit(done, total, message)


def cancelled() -> bool:
    """Whether the running operation should end: its run was cancelled, or its time is over.

    A body that runs long asks now and then and returns or raises when told so; one that does not is killed with its
    process after a grace period. Outside of an operation it is False. A thread that the body starts itself asks for
    its own context, unless it was started through ``contextvars.copy_context().run``.

    >>> cancelled()
    False
    """
    attempt = _current.get()
    return attempt is not None and attempt.cancel_flag.is_set()


class attempt_scope:  # noqa: N801  # used like a function; one written as a generator takes three times as long
    """Make ``attempt`` the one that :func:`progress` and :func:`cancelled` speak of inside the block."""

    __slots__ = ("_attempt", "_token")

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def __enter__(self) -> None:
        self._token: Token[Attempt | None] = _current.set(self._attempt)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
