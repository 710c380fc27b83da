"""What a step of a run looks like: its status, its error code and its result (document S2).

Plain values of the standard library: importing this module imports neither Ray nor any tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, TypeAlias

from aiecs_ray.errors import InvalidInputError, InvalidStepResultError, StatusTransitionError
from aiecs_ray.quoting import shorten

StepFields: TypeAlias = dict[str, Any]
"""The seven fields of a step's result under their names, in the document's order."""


class TaskStatus(Enum):
    """Where a task stands (document S2, "TaskStatus").

    >>> [status.value for status in TaskStatus]
    ['pending', 'running', 'completed', 'cancelled', 'timed_out', 'failed']
    """

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    FAILED = "failed"


class ErrorCode(Enum):
    """Why a task did not complete (document S2, "ErrorCode").

    >>> ErrorCode("E003").name
    'EXECUTION_ERROR'
    """

    VALIDATION_ERROR = "E001"
    TIMEOUT_ERROR = "E002"
    EXECUTION_ERROR = "E003"
    CANCELLED_ERROR = "E004"
    RETRY_EXHAUSTED = "E005"
    DATABASE_ERROR = "E006"
    DSL_EVALUATION_ERROR = "E007"


ERROR_DESCRIPTIONS: Mapping[ErrorCode, str] = MappingProxyType(
    {
        ErrorCode.VALIDATION_ERROR: "参数验证错误",
        ErrorCode.TIMEOUT_ERROR: "执行超时错误",
        ErrorCode.EXECUTION_ERROR: "执行错误",
        ErrorCode.CANCELLED_ERROR: "取消错误",
        ErrorCode.RETRY_EXHAUSTED: "重试耗尽错误",
        ErrorCode.DATABASE_ERROR: "数据库错误",
        ErrorCode.DSL_EVALUATION_ERROR: "DSL 评估错误",
    }
)
"""The document's description of each code (``error_descriptions``)."""

ERROR_CATEGORIES: Mapping[ErrorCode, str] = MappingProxyType(
    {
        ErrorCode.VALIDATION_ERROR: "client",
        ErrorCode.TIMEOUT_ERROR: "timeout",
        ErrorCode.EXECUTION_ERROR: "execution",
        ErrorCode.CANCELLED_ERROR: "system",
        ErrorCode.RETRY_EXHAUSTED: "system",
        ErrorCode.DATABASE_ERROR: "system",
        ErrorCode.DSL_EVALUATION_ERROR: "system",
    }
)
"""Who has to act on each code (document S2, "错误分类"; contradiction C-54 keeps E007 a system error)."""

TRANSITIONS: Mapping[TaskStatus, frozenset[TaskStatus]] = MappingProxyType(
    {
        TaskStatus.PENDING: frozenset({TaskStatus.RUNNING}),
        TaskStatus.RUNNING: frozenset(
            {TaskStatus.COMPLETED, TaskStatus.CANCELLED, TaskStatus.TIMED_OUT, TaskStatus.FAILED}
        ),
        TaskStatus.COMPLETED: frozenset(),
        TaskStatus.CANCELLED: frozenset(),
        TaskStatus.TIMED_OUT: frozenset(),
        TaskStatus.FAILED: frozenset(),
    }
)
"""What each status may become, exactly as the document draws it (S2, "状态转换规则")."""


def can_transition(old: TaskStatus | str, new: TaskStatus | str, *, allow_pending_cancel: bool = True) -> bool:
    """Return whether a task in status ``old`` may go to ``new``.

    Statuses are members or their values. ``allow_pending_cancel`` adds the one transition that the
    document's table lacks: work that has not begun can be cancelled or skipped (contradiction C-47).
    Raises ``InvalidInputError`` for a status that does not exist.

    >>> can_transition("pending", "cancelled")
    True
    >>> can_transition("pending", "cancelled", allow_pending_cancel=False)
    False
    """
    return _status(new) in _successors(_status(old), allow_pending_cancel=allow_pending_cancel)


def check_transition(old: TaskStatus | str, new: TaskStatus | str, *, allow_pending_cancel: bool = True) -> None:
    """Raise ``StatusTransitionError`` unless a task in status ``old`` may go to ``new``.

    >>> check_transition(TaskStatus.PENDING, TaskStatus.COMPLETED, allow_pending_cancel=False)
    Traceback (most recent call last):
        ...
    aiecs_ray.input_errors.StatusTransitionError: Invalid status transition: PENDING → COMPLETED. \
Valid transitions from PENDING: RUNNING
    """
    source, target = _status(old), _status(new)
    successors = _successors(source, allow_pending_cancel=allow_pending_cancel)
    if target not in successors:
        # In the order of the enum: a frozenset has none.
        raise StatusTransitionError(source.name, target.name, tuple(s.name for s in TaskStatus if s in successors))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TaskStepResult:
    """The result of one step, immutable and equal by value (document S2, "TaskStepResult").

    The constructor takes anything, as AIECS's does, and a member of an enumeration as its value; ``create`` refuses
    what contradicts itself (C-50).
    Two results are equal when all seven fields are; comparing never raises. Arrays and data frames are
    compared as a whole (same type, shape and dtype; NaN equal to NaN), and values that cannot be compared
    are equal only if they are the same object. As with a tuple, a result can be hashed exactly when its
    fields can: one that holds a list or a data frame raises ``TypeError``.

    >>> TaskStepResult("text.count", 3, True, status="completed")
    TaskStepResult(step='text.count', status='completed', completed=True)
    """

    step: str
    result: Any
    completed: bool = False
    message: str = ""
    status: str = "pending"
    error_code: str | None = None
    error_message: str | None = None

    def __post_init__(self) -> None:
        # A member means its value, which is what callers compare with.
        if isinstance(self.status, TaskStatus):
            object.__setattr__(self, "status", self.status.value)
        if isinstance(self.error_code, ErrorCode):
            object.__setattr__(self, "error_code", self.error_code.value)

    @classmethod
    def create(  # noqa: PLR0913, PLR0917 - one parameter per field (S2)
        cls,
        step: str,
        result: Any,
        completed: bool = False,  # noqa: FBT001, FBT002 - as in the constructor (S2)
        message: str = "",
        status: TaskStatus | str = TaskStatus.PENDING,
        error_code: ErrorCode | str | None = None,
        error_message: str | None = None,
    ) -> TaskStepResult:
        """Return a result that is valid by ``problems``, or raise ``InvalidStepResultError`` naming them.

        ``status`` and ``error_code`` are members or their values; the result holds the values.
        """
        made = cls(step, result, completed, message, status, error_code, error_message)  # type: ignore[arg-type]  # members become values
        if problems := made.problems():
            raise InvalidStepResultError(f"Invalid result of step {shorten(step)}: {'; '.join(problems)}")
        return made

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskStepResult:
        """Return the result whose ``dict()`` is ``data``; the two error fields may be left out.

        Other keys are ignored, values are taken as they are. Raises ``InvalidStepResultError`` when a key
        is missing.
        """
        if not isinstance(data, Mapping):
            raise InvalidStepResultError(f"A step's result is read from a mapping, not from {shorten(data)}")
        if missing := [name for name in _REQUIRED if name not in data]:
            raise InvalidStepResultError(f"A step's result lacks {', '.join(missing)}")
        return cls(
            **{name: data[name] for name in _REQUIRED},
            error_code=data.get("error_code"),
            error_message=data.get("error_message"),
        )

    def dict(self) -> StepFields:
        """Return the seven fields under their names, in order. The value of ``result`` is not copied.

        >>> list(TaskStepResult("text.count", 3).dict())
        ['step', 'result', 'completed', 'message', 'status', 'error_code', 'error_message']
        """
        return {
            "step": self.step,
            "result": self.result,
            "completed": self.completed,
            "message": self.message,
            "status": self.status,
            "error_code": self.error_code,
            "error_message": self.error_message,
        }

    def is_valid(self) -> bool:
        """Return whether ``problems`` finds none."""
        return not self.problems()

    def problems(self) -> tuple[str, ...]:
        """Return what is wrong with this result, in words; an empty tuple if nothing is.

        A completed step may have the result ``None``, and a pending or running one needs no error code
        (contradictions C-48, C-49).
        """
        checks = (
            (_is_text(self.step), "step must be a non-empty string"),
            (isinstance(self.completed, bool), "completed must be a bool"),
            (isinstance(self.message, str), "message must be a string"),
            (_is_one_of(self.status, _STATUSES), f"status must be one of {', '.join(_STATUSES)}"),
            (
                self.error_code is None or _is_one_of(self.error_code, _CODES),
                f"error_code must be one of {', '.join(_CODES)}, or None",
            ),
            (
                self.error_message is None or _is_text(self.error_message),
                "error_message must be a non-empty string, or None",
            ),
        )
        return tuple(problem for right, problem in checks if not right) or self._contradictions()

    def _contradictions(self) -> tuple[str, ...]:
        ended_badly = self.status in _UNSUCCESSFUL
        checks = (
            (self.completed == (self.status == "completed"), "completed must be True exactly when status is completed"),
            (
                (self.error_code is None) == (self.error_message is None),
                "error_code and error_message must be given together",
            ),
            (not (self.completed and self.error_code), "a completed step has no error_code"),
            (not ended_badly or self.error_code is not None, f"a {self.status} step needs an error_code"),
        )
        return tuple(problem for right, problem in checks if not right)

    def __repr__(self) -> str:
        """Return the document's text, which never shows the result itself."""
        return f"TaskStepResult(step='{self.step}', status='{self.status}', completed={self.completed})"

    def __eq__(self, other: object) -> bool:
        """Return whether all seven fields are equal; never raises."""
        if self is other:
            return True
        if not isinstance(other, TaskStepResult):
            return NotImplemented
        try:
            return _same(self.dict(), other.dict())
        except Exception:  # noqa: BLE001 - a result is anybody's object, and its == may raise anything
            return False

    def __hash__(self) -> int:
        """Return a hash of the seven fields; raises ``TypeError`` if the result has none."""
        return hash(tuple(self.dict().values()))

    def __reduce__(self) -> tuple[type[TaskStepResult], tuple[Any, ...]]:
        """Pickle as a call of the constructor, in half the time that a frozen dataclass takes by itself."""
        return type(self), tuple(self.dict().values())


_REQUIRED = ("step", "result", "completed", "message", "status")
_STATUSES = tuple(status.value for status in TaskStatus)
_CODES = tuple(code.value for code in ErrorCode)
_UNSUCCESSFUL = ("cancelled", "timed_out", "failed")


def _status(value: TaskStatus | str) -> TaskStatus:
    try:
        return TaskStatus(value)
    except ValueError as error:
        raise InvalidInputError(f"Unknown status {shorten(value)}; one of {', '.join(_STATUSES)}") from error


def _successors(status: TaskStatus, *, allow_pending_cancel: bool) -> frozenset[TaskStatus]:
    extra = {TaskStatus.CANCELLED} if allow_pending_cancel and status is TaskStatus.PENDING else set()
    return TRANSITIONS[status] | extra


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_one_of(value: object, allowed: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value in allowed


def _same(a: Any, b: Any) -> bool:
    """Return whether two values are equal as wholes; what ``==`` raises is raised.

    Containers are walked, because ``==`` on a list of arrays asks an array for its truth. Unhashable types
    alone get a comparison of their own, so that values found equal here have equal hashes.
    """
    if a is b:
        return True
    kind = type(a)
    if kind is type(b):
        if kind is list or kind is tuple:
            return len(a) == len(b) and all(map(_same, a, b))
        if kind is dict:
            return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
        if kind.__hash__ is None and hasattr(kind, "equals"):
            return a.equals(b) is True
        if kind.__hash__ is None and hasattr(kind, "dtype") and hasattr(kind, "shape"):
            return _same_array(a, b)
    return _is_true(a == b)


def _same_array(a: Any, b: Any) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    both_nan = (a != a) & (b != b)  # noqa: PLR0124 - only NaN and NaT differ from themselves
    return bool(((a == b) | both_nan).all())


def _is_true(answer: Any) -> bool:
    """Return whether ``==`` said yes: with a bool, or with numpy's, which scalars of numpy answer."""
    if isinstance(answer, bool):
        return answer
    return type(answer).__module__ == "numpy" and answer.shape == () and bool(answer)
