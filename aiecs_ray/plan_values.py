"""What a plan is made of and what it answers: steps, their states, how they ended, what is to be done."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from aiecs_ray.messages import ErrorInfo, RetryOptions
from aiecs_ray.model import ErrorCode, TaskStatus, can_transition, check_transition

if TYPE_CHECKING:
    from collections.abc import Iterable


class PlanStep(NamedTuple):
    """What the plan must know of one step."""

    spec: str
    needs: tuple[int, ...] = ()
    """Steps whose results it reads."""
    after: tuple[int, ...] = ()
    """Steps that must have completed (``depends_on``)."""
    idempotent: bool = True
    retry: RetryOptions = RetryOptions()


class State(IntEnum):
    """Where a step stands. The first three are ``pending`` to the outside, until an attempt has started."""

    WAITING = 0
    READY = 1
    """Everything it needs is there; the coordinator was told."""
    HANDED = 2
    """Sent to a replica behind other steps, not known to have started."""
    BACKOFF = 3
    """Failed with an error that may pass; waits for its next attempt."""
    RUNNING = 4
    COMPLETED = 5
    FAILED = 6
    TIMED_OUT = 7
    CANCELLED = 8


STATUS: Final = (
    TaskStatus.PENDING,
    TaskStatus.PENDING,
    TaskStatus.PENDING,
    TaskStatus.RUNNING,
    TaskStatus.RUNNING,
    TaskStatus.COMPLETED,
    TaskStatus.FAILED,
    TaskStatus.TIMED_OUT,
    TaskStatus.CANCELLED,
)


class Ending(NamedTuple):
    """How a step ended, for good."""

    step: int
    status: TaskStatus
    error: ErrorInfo | None = None
    skipped: bool = False
    """It never started, because a step before it did not complete."""


class Stop(NamedTuple):
    """How the steps end that were still open when the run was cancelled, or its deadline passed."""

    state: State
    error: ErrorInfo


@dataclass(slots=True)
class Actions:
    """What the coordinator has to do now, in this order."""

    ended: list[Ending] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    """Steps to run (or to answer from the cache)."""
    delayed: list[tuple[int, float]] = field(default_factory=list)
    """Steps to try again: (step, seconds from now)."""
    stop: list[int] = field(default_factory=list)
    """Running steps whose work has to be stopped."""
    free: list[int] = field(default_factory=list)
    """Steps whose results nobody needs any more."""
    untold: list[int] = field(default_factory=list)
    """Steps that ended and whose successors do not know yet; empty once a method of the plan has returned."""


def _is_usual(old: State, new: State) -> bool:
    """Whether a change of status is legal; a step that had no time left to start is the one addition to the table."""
    pair = STATUS[old], STATUS[new]
    return pair[0] is pair[1] or can_transition(*pair) or pair == (TaskStatus.PENDING, TaskStatus.TIMED_OUT)


_USUAL = tuple(tuple(_is_usual(old, new) for new in State) for old in State)
"""Per state before and after; a lookup for every step, so it is worked out once."""


def check_move(old: State, new: State) -> None:
    """Raise ``StatusTransitionError`` where a step may not go from one state to another."""
    if not _USUAL[old][new]:
        check_transition(STATUS[old], STATUS[new])


def kept_steps(keep: Literal["all", "last"] | Iterable[int], count: int) -> frozenset[int] | None:
    """Return the steps whose results are kept after a run of ``count`` steps, None for all."""
    if keep == "all":
        return None
    if keep == "last":
        return frozenset({count - 1})
    return frozenset(keep)


def cancelled(message: str) -> ErrorInfo:
    """Return the error of a step that was cancelled, or skipped."""
    return ErrorInfo(ErrorCode.CANCELLED_ERROR.value, message, "OperationCancelledError", ("OperationCancelledError",))
