"""How a command ends: exit codes, and errors that anything can read."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from aiecs_ray.errors import (
    AiecsError,
    InvalidConfigError,
    InvalidInputError,
    InvalidToolError,
    OperationCancelledError,
    OperationNotFoundError,
    OperationTimeoutError,
    PlanFileError,
    RuntimeUnavailableError,
    ToolNotFoundError,
)


class ExitCode(IntEnum):
    """What the exit status of a command says."""

    OK = 0
    FAILED = 1
    """A run or an operation failed."""
    USAGE = 2
    """The command was called wrongly; nothing has run."""
    INVALID = 3
    """A plan or the configuration is invalid; nothing has run."""
    UNREACHABLE = 4
    """The cluster does not answer."""
    TIMED_OUT = 5
    PARTLY_FAILED = 6
    """Some operations of a batch failed."""
    EXTRA_MISSING = 7
    """An optional part of the package is not installed."""
    CANCELLED = 130
    """Ctrl-C."""
    TERMINATED = 143
    """SIGTERM."""


NAMES = {
    ExitCode.FAILED: "failed",
    ExitCode.USAGE: "usage",
    ExitCode.INVALID: "invalid",
    ExitCode.UNREACHABLE: "cluster_unreachable",
    ExitCode.TIMED_OUT: "timed_out",
    ExitCode.PARTLY_FAILED: "partly_failed",
    ExitCode.EXTRA_MISSING: "extra_missing",
    ExitCode.CANCELLED: "cancelled",
    ExitCode.TERMINATED: "terminated",
}
_BY_CLASS: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (InvalidConfigError, ExitCode.INVALID),
    (PlanFileError, ExitCode.INVALID),
    (RuntimeUnavailableError, ExitCode.UNREACHABLE),
    (OperationTimeoutError, ExitCode.TIMED_OUT),
    (OperationCancelledError, ExitCode.CANCELLED),
    (ToolNotFoundError, ExitCode.USAGE),
    (OperationNotFoundError, ExitCode.USAGE),
    (InvalidToolError, ExitCode.INVALID),
    (InvalidInputError, ExitCode.USAGE),
)


class CommandError(Exception):
    """Ends a command; ``data`` is what it has to show nevertheless."""

    def __init__(self, code: ExitCode, message: str, data: Any = None) -> None:
        super().__init__(code, message, data)
        self.code, self.message, self.data = code, message, data

    def __str__(self) -> str:
        return self.message


def code_of(error: BaseException) -> ExitCode:
    """Return the exit code that an error stands for.

    >>> code_of(InvalidConfigError("window", "too large")).name
    'INVALID'
    """
    if isinstance(error, CommandError):
        return error.code
    return next((code for kind, code in _BY_CLASS if isinstance(error, kind)), ExitCode.FAILED)


def described(error: BaseException, code: ExitCode) -> dict[str, Any]:
    """Return an error as JSON shows it."""
    shown: dict[str, Any] = {
        "code": NAMES[code],
        "exit_code": int(code),
        "message": str(error) or type(error).__name__,
        "type": type(error).__name__,
    }
    if isinstance(error, AiecsError):
        shown["error_code"] = error.error_code
    for name in ("file", "line", "step", "operation", "index"):
        if (value := getattr(error, name, None)) is not None:
            shown[name] = value
    return shown
