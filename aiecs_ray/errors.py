"""Every error that aiecs-ray raises: one tree, each with a code of the documents (E001 to E007).

::

    AiecsError
    ├── InvalidInputError (ValueError)             E001
    │   ├── InvalidSpecError
    │   │   └── OperationForbiddenError
    │   ├── InvalidParamsError
    │   │   └── ParamTooLargeError
    │   ├── InvalidOperationsError
    │   │   └── DuplicateNameError
    │   ├── InvalidConfigError
    │   ├── PlanFileError
    │   ├── InvalidTimeoutError
    │   ├── InvalidToolError
    │   │   └── ToolConflictError
    │   ├── InvalidStepResultError
    │   ├── StatusTransitionError
    │   ├── InterfaceMismatchError (TypeError)
    │   └── ReferenceRangeError
    │       └── ReferenceForwardError
    ├── DSLEvaluationError (ValueError)            E007
    │   ├── ReferenceSyntaxError
    │   │   └── ReferenceForbiddenError
    │   ├── ReferencePathError
    │   └── UpstreamFailedError
    ├── ExecutionError                             E003
    │   ├── ToolNotFoundError (AttributeError, ValueError)
    │   │   └── ToolImportError
    │   ├── OperationNotFoundError (AttributeError, ValueError)
    │   ├── OperationFailedError
    │   │   ├── DatabaseError                      E006
    │   │   └── RetryExhaustedError                E005
    │   ├── OperationTimeoutError (TimeoutError)   E002
    │   ├── OperationCancelledError                E004
    │   ├── ToolInitError
    │   ├── ReplicaLostError
    │   ├── OutcomeUnknownError
    │   ├── ResultInvalidError
    │   │   └── ResultTooLargeError
    │   ├── ResultLostError
    │   ├── ResultExpiredError
    │   ├── InfeasibleResourcesError
    │   ├── ReentrancyError
    │   ├── BusyError
    │   │   └── CircuitOpenError
    │   └── HistoryError
    ├── UncacheableValueError (ValueError)         E003
    └── RuntimeUnavailableError (ConnectionError)  E003
        ├── AuthenticationError
        ├── ClusterLostError
        └── RunLostError

An error carries facts as positional arguments and makes its text in ``__str__``, so that it survives
pickling between processes with every field intact.
"""

from __future__ import annotations

import re

from aiecs_ray.error_base import AiecsError
from aiecs_ray.input_errors import (
    DSLEvaluationError,
    DuplicateNameError,
    InterfaceMismatchError,
    InvalidConfigError,
    InvalidInputError,
    InvalidOperationsError,
    InvalidParamsError,
    InvalidSpecError,
    InvalidStepResultError,
    InvalidTimeoutError,
    InvalidToolError,
    OperationForbiddenError,
    ParamTooLargeError,
    PlanFileError,
    ReferenceForbiddenError,
    ReferenceForwardError,
    ReferencePathError,
    ReferenceRangeError,
    ReferenceSyntaxError,
    StatusTransitionError,
    ToolConflictError,
    UpstreamFailedError,
)
from aiecs_ray.quoting import did_you_mean, shorten

__all__ = [
    "AiecsError",
    "AuthenticationError",
    "BusyError",
    "CircuitOpenError",
    "ClusterLostError",
    "DSLEvaluationError",
    "DatabaseError",
    "DuplicateNameError",
    "ExecutionError",
    "HistoryError",
    "InfeasibleResourcesError",
    "InterfaceMismatchError",
    "InvalidConfigError",
    "InvalidInputError",
    "InvalidOperationsError",
    "InvalidParamsError",
    "InvalidSpecError",
    "InvalidStepResultError",
    "InvalidTimeoutError",
    "InvalidToolError",
    "OperationCancelledError",
    "OperationFailedError",
    "OperationForbiddenError",
    "OperationNotFoundError",
    "OperationTimeoutError",
    "OutcomeUnknownError",
    "ParamTooLargeError",
    "PlanFileError",
    "ReentrancyError",
    "ReferenceForbiddenError",
    "ReferenceForwardError",
    "ReferencePathError",
    "ReferenceRangeError",
    "ReferenceSyntaxError",
    "ReplicaLostError",
    "ResultExpiredError",
    "ResultInvalidError",
    "ResultLostError",
    "ResultTooLargeError",
    "RetryExhaustedError",
    "RunLostError",
    "RuntimeUnavailableError",
    "StatusTransitionError",
    "ToolConflictError",
    "ToolImportError",
    "ToolInitError",
    "ToolNotFoundError",
    "UncacheableValueError",
    "UpstreamFailedError",
]


_RUN_ID = re.compile(r"[A-Za-z0-9]+-[0-9a-f]{16}", re.ASCII)


class ExecutionError(AiecsError):
    """An operation was accepted and did not succeed (document S3, "异常类型定义")."""


class _NotFoundError(ExecutionError, AttributeError, ValueError):
    """The documents raise AttributeError here, AIECS raises ValueError: both must catch it (C-02)."""

    def __init__(self, name: str, owner: str = "", nearest: tuple[str, ...] = ()) -> None:
        super().__init__(name, owner, nearest)
        self.name, self.owner, self.nearest = name, owner, nearest


class ToolNotFoundError(_NotFoundError):
    """No tool is registered under a name."""

    def __str__(self) -> str:
        return f"Tool '{shorten(self.name)}' is not registered{did_you_mean(self.nearest)}"


class ToolImportError(ToolNotFoundError):
    """An installed package announces a tool but cannot be imported; the cause says why."""

    def __init__(self, name: str, source: str, problem: str) -> None:
        super(_NotFoundError, self).__init__(name, source, problem)
        self.name, self.owner, self.nearest = name, "", ()
        self.source, self.problem = source, problem

    def __str__(self) -> str:
        problem = shorten(self.problem, 500)
        return f"Tool '{shorten(self.name)}' is not registered: {self.source} cannot be imported: {problem}"


class OperationNotFoundError(_NotFoundError):
    """A tool has no operation of that name."""

    def __str__(self) -> str:
        return f"Operation '{shorten(self.name)}' not found in tool '{shorten(self.owner)}'{did_you_mean(self.nearest)}"


class OperationFailedError(ExecutionError):
    """A tool's own code raised.

    ``type_name`` is the class of the tool's exception, ``remote_traceback`` its text; the exception itself is
    ``__cause__`` where it survived the way between processes.
    """

    def __init__(
        self, message: str, type_name: str = "", remote_traceback: str = "", type_names: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, type_name, remote_traceback, type_names)
        self.message, self.type_name = message, type_name
        self.remote_traceback, self.type_names = remote_traceback, type_names

    def __str__(self) -> str:
        return self.message


class DatabaseError(OperationFailedError):
    """A tool's database failed."""

    error_code = "E006"


class RetryExhaustedError(OperationFailedError):
    """Every allowed attempt failed with an error that might have passed."""

    error_code = "E005"


class OperationTimeoutError(ExecutionError, TimeoutError):
    """An attempt or a deadline ran out of time and the work was stopped."""

    error_code = "E002"


class OperationCancelledError(ExecutionError):
    """The operation was cancelled, or skipped because an earlier step failed."""

    error_code = "E004"


class ToolInitError(ExecutionError):
    """A tool could not be constructed."""


class ReplicaLostError(ExecutionError):
    """The process of a tool died; the message says of what."""


class OutcomeUnknownError(ExecutionError):
    """A non-idempotent operation had started when its process died: it may or may not have taken effect."""


class ResultInvalidError(ExecutionError):
    """An operation returned something that cannot leave its process, or cannot be read by others."""


class ResultTooLargeError(ResultInvalidError):
    """An operation returned more bytes than one result may have (``max_result_bytes``)."""


class ResultLostError(ExecutionError):
    """A large result died with its node and cannot be made again without repeating a side effect."""


class ResultExpiredError(ExecutionError):
    """The results of a finished run were dropped (``result_ttl``, ``result_bytes`` or ``release()``)."""


class InfeasibleResourcesError(ExecutionError):
    """No node of the cluster can ever give the resources that a tool asks for."""


class ReentrancyError(ExecutionError):
    """An operation asked for one that would have to wait for it, or calls nest too deep.

    ``calls`` are the operations inside of which ``spec`` was asked for, outermost first.
    """

    def __init__(self, spec: str, calls: tuple[str, ...], most: int) -> None:
        super().__init__(spec, calls, most)
        self.spec, self.calls, self.most = spec, calls, most

    def __str__(self) -> str:
        chain = " -> ".join(map(shorten, (*self.calls, self.spec)))
        tool = self.spec.partition(".")[0]
        if any(call.partition(".")[0] == tool for call in self.calls):
            return (
                f"Tool '{shorten(tool)}' is called by its own operation, which it would wait for: {chain} "
                "(call the method itself, or move one of the two to another tool)"
            )
        return f"Operations call each other deeper than {self.most} levels: {chain}"


class BusyError(ExecutionError):
    """The queue is full. ``retry_after`` says in how many seconds to try again."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message, retry_after)
        self.message, self.retry_after = message, retry_after

    def __str__(self) -> str:
        return f"{self.message}; try again in {self.retry_after:.3g} s"


class CircuitOpenError(BusyError):
    """The circuit breaker of an operation lets no call through, because too many failed; nothing has run."""


class HistoryError(ExecutionError):
    """The history cannot be opened, read or written; runs go on without it."""


class UncacheableValueError(AiecsError, ValueError):
    """A value has no exact cache key; the operation that takes it runs uncached.

    ``path`` leads to the value inside the whole, ``type_name`` is its type, ``reason`` says what is missing.
    """

    def __init__(self, path: str, type_name: str, reason: str = "no exact encoding") -> None:
        super().__init__(path, type_name, reason)
        self.path, self.type_name, self.reason = path, type_name, reason

    def __str__(self) -> str:
        where = f" at {shorten(self.path, 200)}" if self.path else ""
        return f"A value of type {shorten(self.type_name)}{where} has no cache key: {self.reason}"


class RuntimeUnavailableError(AiecsError, ConnectionError):
    """The cluster cannot be reached, or was closed."""


class AuthenticationError(RuntimeUnavailableError):
    """The cluster asks for a token, and there is none or another one."""


class ClusterLostError(RuntimeUnavailableError):
    """The head of the cluster is gone, or another one stands in its place."""


class RunLostError(RuntimeUnavailableError):
    """The coordinator was restarted, and a run that it held is gone."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id

    def __str__(self) -> str:
        if _RUN_ID.fullmatch(self.run_id) is None:
            return f"Run {shorten(self.run_id)!r} never was: a run's id has another form (run.id)"
        return f"Run {shorten(self.run_id)!r} was lost: the coordinator that held it was restarted; submit it again"
