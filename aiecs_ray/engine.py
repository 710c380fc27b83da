"""``ExecutionEngine``: one interface over several executors, chosen at run time (document S3, "ExecutionInterface")."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic_core import PydanticSerializationError, to_jsonable_python

from aiecs_ray.context import Context
from aiecs_ray.errors import (
    AiecsError,
    DSLEvaluationError,
    InvalidInputError,
    InvalidOperationsError,
    RuntimeUnavailableError,
    shorten,
)
from aiecs_ray.executor import OperationExecutor
from aiecs_ray.failures import text_of
from aiecs_ray.interfaces import ExecutionInterface, IAsyncContextExecutor, IOperationExecutor
from aiecs_ray.model import TaskStepResult
from aiecs_ray.operation import check_params, parse_operations, seconds, split_spec
from aiecs_ray.templates import fill_inputs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence
    from types import TracebackType


class Queue(NamedTuple):
    """How the tasks of a queue are served."""

    priority: int
    seconds: float
    """For a whole task, unless its context says otherwise."""


QUEUES = {"fast_tasks": Queue(priority=1, seconds=300.0), "heavy_tasks": Queue(priority=-1, seconds=3600.0)}
"""AIECS' two queues (contradiction C-61); a task of the first is served before one of the second."""
ENVELOPE = ("task_id", "step", "mode", "service", "queue")
"""What AIECS' task callers put beside the parameters; it reaches no tool by itself."""


class ExecutionEngine(ExecutionInterface):
    """Runs operations and tasks on one of the executors that are registered with it.

    An executor is an :class:`OperationExecutor`, any other ``IOperationExecutor``, or another ``ExecutionInterface``.
    The first one registered is used until :meth:`use` says otherwise. Whoever made an executor closes it.

    >>> import aiecs_ray
    >>> class Desk:
    ...     def add(self, a: int, b: int) -> int:
    ...         return a + b
    >>> runtime = aiecs_ray.connect("inprocess", registry=aiecs_ray.Registry())
    >>> tool = runtime.register(Desk)
    >>> engine = ExecutionEngine()
    >>> engine.register_executor("local", OperationExecutor(runtime=runtime))
    >>> engine.define_task("sum", [{"operation": "desk.add", "params": {"a": "$input.first", "b": 1}}])
    >>> asyncio.run(engine.execute_task("sum", {"first": 41}, {"user_id": "ann"}))["result"]
    42
    >>> runtime.close()
    """

    def __init__(self) -> None:
        self._executors: dict[str, IOperationExecutor | ExecutionInterface] = {}
        self._current: str | None = None
        self._tasks: dict[str, _Definition] = {}

    # --- executors -------------------------------------------------------------------------------------------

    def register_executor(self, executor_type: str, executor_instance: Any) -> None:
        """Take in an executor under a name of your choice, such as "local" or "ray"; it replaces one of that name.

        Raises:
            InvalidInputError: the name is no text, or the instance is no executor.
        """
        if type(executor_type) is not str or not executor_type:
            raise InvalidInputError(f"an executor's type must be a non-empty string, got {shorten(executor_type)}")
        if not isinstance(executor_instance, (IOperationExecutor, ExecutionInterface)) or executor_instance is self:
            text = "an executor must be an IOperationExecutor or another ExecutionInterface"
            raise InvalidInputError(f"{text}, got {shorten(executor_instance)}")
        self._executors[executor_type] = executor_instance
        if self._current is None:
            self._current = executor_type

    def use(self, executor_type: str) -> None:
        """Run everything that names no executor on this one from now on; what runs already goes on where it is.

        Raises:
            InvalidInputError: no such executor; the message names those there are.
        """
        self._executor(executor_type)
        self._current = executor_type

    @property
    def executors(self) -> tuple[str, ...]:
        """The types that are registered, in that order."""
        return tuple(self._executors)

    @property
    def current(self) -> str | None:
        """The type that is used where none is named."""
        return self._current

    # --- tasks -----------------------------------------------------------------------------------------------

    def define_task(
        self, name: str, operations: Sequence[Mapping[str, Any]], *, executor: str | None = None
    ) -> None:
        """Give a plan a name; a plan of that name is replaced.

        The operations run one after the other up to the first failure, and may refer to each other. ``$input.name``
        stands for an entry of the task's ``input_data``, ``executor`` for the type that runs it.

        Raises:
            InvalidInputError, DSLEvaluationError: the name holds a dot or is empty, or an operation is malformed.
        """
        if type(name) is not str or not name or "." in name:
            raise InvalidInputError(f"a task's name must be a non-empty string without a dot, got {shorten(name)}")
        plan = [dict(operation) for operation in operations]
        if not parse_operations(plan):
            raise InvalidOperationsError(f"task {shorten(name)!r} has no operations")
        self._tasks[name] = _Definition(plan, executor)

    async def execute_task(self, task_name: str, input_data: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
        """Run a task and return what came of it, as plain JSON values (contradiction C-61).

        Args:
            task_name: a defined task, or an operation ``"tool.op"``, whose parameters are ``input_data``.
            input_data: also the task's envelope: ``task_id``, ``queue`` ("fast_tasks" or "heavy_tasks"), and ``step``,
                ``mode`` and ``service``, which only an executor that is itself an ``ExecutionInterface`` gets.
            context: ``user_id``, ``task_id``, ``executor`` (a type) and ``timeout`` (seconds for the whole task; 300,
                or 3600 for heavy tasks).

        Returns:
            The seven entries of ``TaskStepResult.dict()``. A defined task has the last step's result and error, and
            ``steps``, the same entries for each step that was run.

        Raises:
            InvalidInputError, DSLEvaluationError: the task or an executor is unknown, or an input is missing or wrong;
                nothing has run. Every later failure is in what is returned.
        """
        task = self._task(task_name, input_data, context)
        try:
            return await task.work
        except (InvalidInputError, DSLEvaluationError):
            raise
        except Exception as error:  # noqa: BLE001  # an executor is anybody's code: how it fails is the task's result
            return _failure(task_name, error)

    async def batch_execute_tasks(self, tasks: list[dict[str, Any]]) -> list[Any]:
        """Run tasks side by side and return what :meth:`execute_task` returns for each, in their order.

        A task is ``{"task_name", "input_data", "context", "executor"}``, all but the name optional. One that is refused
        is a failure of its own.

        Raises:
            InvalidOperationsError: ``tasks`` is no list of such dicts; nothing has run.
        """
        if not isinstance(tasks, (list, tuple)):
            raise InvalidOperationsError(f"tasks must be a list of dicts, got {shorten(tasks)}")
        return list(await asyncio.gather(*[self._one(*_parse(task, index)) for index, task in enumerate(tasks)]))

    async def execute_operation(self, operation_spec: str, params: dict[str, Any]) -> Any:
        """Run one operation on the current executor and return its result; raises what it raises."""
        return await self._executor(None).execute_operation(operation_spec, params)

    async def batch_execute_operations(self, operations: list[dict[str, Any]]) -> list[Any]:
        """Run operations on the current executor; return a value or an exception for each, in their order."""
        return await self._executor(None).batch_execute_operations(operations)

    # --- how -------------------------------------------------------------------------------------------------

    async def _one(self, name: Any, input_data: Any, context: Any) -> dict[str, Any]:
        try:
            return await self.execute_task(name, input_data, context)
        except AiecsError as error:
            return _failure(shorten(name), error)

    def _executor(self, executor_type: Any) -> IOperationExecutor | ExecutionInterface:
        name = self._current if executor_type is None else executor_type
        if name is None:
            raise InvalidInputError("no executor is registered; call register_executor(executor_type, instance) first")
        if type(name) is not str or name not in self._executors:
            known = ", ".join(self._executors) or "none"
            raise InvalidInputError(f"Executor {shorten(name)!r} is not registered; known: {known}")
        return self._executors[name]
