"""The abstract interfaces between the parts of an execution, with the documents' signatures (document S3).

Each stands alone: an executor works with any implementation of the interfaces it is given. The checks of an
implementation are in ``interface_checks``, wrappers around any tool executor in ``tool_executors``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable  # noqa: TC003 - the hints of an interface can be read at run time
from types import TracebackType  # noqa: TC003
from typing import Any, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

from aiecs_ray.model import TaskStepResult  # noqa: TC001

T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class IToolProvider(ABC):
    """Finds tools by name (document S3, "IToolProvider").

    An implementation should let tools be registered and unregistered while it is in use.
    """

    @abstractmethod
    def get_tool(self, tool_name: str) -> Any:
        """Return the tool of that name, or raise ``ToolNotFoundError``."""

    @abstractmethod
    def has_tool(self, tool_name: str) -> bool:
        """Return whether there is a tool of that name, without making one."""


class IToolExecutor(ABC):
    """Runs one operation of one tool (document S3, "IToolExecutor").

    An implementation must check and convert the parameters, and should handle errors and retries.
    """

    @abstractmethod
    def execute(self, tool: Any, operation_name: str, **params: Any) -> Any:
        """Run the operation to its end and return its result; raises what the operation raises."""

    @abstractmethod
    async def execute_async(self, tool: Any, operation_name: str, **params: Any) -> Any:
        """Run the operation without blocking the event loop and return its result."""


class ICacheProvider(ABC):
    """Keeps results under keys that know their context (document S3, "ICacheProvider").

    An implementation must be safe to use from several threads, and should let entries expire.
    """

    @abstractmethod
    def generate_cache_key(
        self, operation_type: str, user_id: str, task_id: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str:
        """Return the key of a call: the same for equal calls, another for any other call or context."""

    @abstractmethod
    def get_from_cache(self, cache_key: str) -> Any | None:
        """Return the value under the key, or ``None`` if there is none or its time has passed."""

    @abstractmethod
    def add_to_cache(self, cache_key: str, value: Any, ttl: float | None = None) -> None:
        """Keep the value for ``ttl`` seconds, or for the provider's own time (``ttl``: contradiction C-24)."""


class IOperationExecutor(ABC):
    """Runs operations: one, many at once, in order, or in parallel (document S3, "IOperationExecutor").

    An operation is ``{"operation": "tool_name.operation_name", "params": {...}}``. An implementation must
    pass results on where an operation refers to an earlier one.
    """

    @abstractmethod
    async def execute_operation(self, operation_spec: str, params: dict[str, Any]) -> Any:
        """Run ``tool_name.operation_name`` and return its result; raises what it raises."""

    @abstractmethod
    async def batch_execute_operations(self, operations: list[dict[str, Any]]) -> list[Any]:
        """Run all and return, in input order, the result of each or the exception it raised."""

    @abstractmethod
    async def execute_operations_sequence(
        self,
        operations: list[dict[str, Any]],
        user_id: str,
        task_id: str,
        stop_on_failure: bool = False,  # noqa: FBT001, FBT002 - the document's signature
        save_callback: Callable[..., Any] | None = None,
    ) -> list[TaskStepResult]:
        """Run one after the other and return a result for each; with ``stop_on_failure``, up to the first failure."""

    @abstractmethod
    async def execute_parallel_operations(self, operations: list[dict[str, Any]]) -> list[TaskStepResult]:
        """Run all at once and return a result for each, in input order, failed or not."""


class ExecutionInterface(ABC):
    """An execution engine: runs operations and tasks, and may take in other engines (document S3)."""

    @abstractmethod
    async def execute_operation(self, operation_spec: str, params: dict[str, Any]) -> Any:
        """Run ``tool_name.operation_name`` and return its result; raises what it raises."""

    @abstractmethod
    async def execute_task(self, task_name: str, input_data: dict[str, Any], context: dict[str, Any]) -> Any:
        """Run a task, which is a name for work that the engine knows, and return its result."""

    @abstractmethod
    async def batch_execute_operations(self, operations: list[dict[str, Any]]) -> list[Any]:
        """Run all and return, in input order, the result of each or the exception it raised."""

    @abstractmethod
    async def batch_execute_tasks(self, tasks: list[dict[str, Any]]) -> list[Any]:
        """Run tasks, each ``{"task_name", "input_data", "context"}``, and return a result for each in order."""

    def register_executor(self, executor_type: str, executor_instance: Any) -> None:
        """Take in another engine under the name ``executor_type``; raises ``NotImplementedError`` here."""
        raise NotImplementedError("Executor registration is not implemented in this interface")


class IToolExecutorV1(ABC):
    """The first version of a tool executor (document S3, "接口版本控制")."""

    @abstractmethod
    def execute(self, tool: Any, operation_name: str, **params: Any) -> Any:
        """Run the operation to its end and return its result."""


class IToolExecutorV2(IToolExecutorV1):
    """The second version, which measures what it runs."""

    @abstractmethod
    async def execute_with_metrics(self, tool: Any, operation_name: str, **params: Any) -> Any:
        """Run the operation, record how long it took, and return its result."""


ToolExecutorInterface: TypeAlias = IToolExecutorV1 | IToolExecutorV2
"""A tool executor of either version."""


class IAsyncContextExecutor(ABC):
    """An executor that holds resources between ``async with`` and its end (document S3, "异步上下文管理")."""

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Take the resources and return the executor."""

    @abstractmethod
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool | None:
        """Give the resources back, whatever happened."""

    @abstractmethod
    async def execute_in_context(self, operation: str, **params: Any) -> Any:
        """Run ``tool_name.operation_name`` with the resources that are held, and return its result."""


class ITypedToolExecutor(Protocol[T_contra, R_co]):
    """A tool executor whose tool and result types a type checker knows."""

    def execute(self, tool: T_contra, operation_name: str, **params: Any) -> R_co:
        """Run the operation and return its result."""
        ...


class ITypedOperationExecutor(Protocol[T_co]):
    """An operation executor whose result type a type checker knows."""

    async def execute_operation(self, operation_spec: str, params: dict[str, Any]) -> T_co:
        """Run ``tool_name.operation_name`` and return its result."""
        ...


@runtime_checkable
class VersionedInterface(Protocol):
    """Anything that says which version of its interface it implements, such as ``"1.10.0"``."""

    version: str

    def get_version(self) -> str:
        """Return the version of the interface."""
        return self.version
