"""``ExecutionEngine``: one interface over several executors, chosen at run time (document S3, "ExecutionInterface")."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic_core import to_jsonable_python

from aiecs_ray.context import Context
from aiecs_ray.errors import (
    AiecsError,
    DSLEvaluationError,
    ExecutionError,
    InvalidInputError,
    InvalidOperationsError,
    OperationTimeoutError,
    RuntimeUnavailableError,
)
from aiecs_ray.executor import OperationExecutor
from aiecs_ray.failures import text_of
from aiecs_ray.interfaces import ExecutionInterface, IAsyncContextExecutor, IOperationExecutor
from aiecs_ray.model import TaskStatus, TaskStepResult
from aiecs_ray.operation import check_params, parse_operations, seconds, split_spec
from aiecs_ray.quoting import shorten
from aiecs_ray.templates import fill_inputs
from aiecs_ray.tool_executor import UNSAID, take

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from types import TracebackType


class Queue(NamedTuple):
    """How the tasks of a queue are served."""

    priority: int
    seconds: float
    """For a whole task, unless its context says otherwise."""


QUEUES = {"fast_tasks": Queue(priority=1, seconds=300.0), "heavy_tasks": Queue(priority=-1, seconds=3600.0)}
"""AIECS' two queues (contradiction C-61); what waits of the first is served before what waits of the second."""
ENVELOPE = frozenset({"task_id", "step", "mode", "service", "queue"})
"""What AIECS' callers put beside a task's parameters; no operation gets it as a parameter."""

_STATUSES = frozenset(status.value for status in TaskStatus)
_STATUS_OF = {"E002": "timed_out", "E004": "cancelled"}
_TASK_KEYS = frozenset({"task_name", "input_data", "context", "executor"})


class _Definition(NamedTuple):
    operations: list[dict[str, Any]]
    executor: str | None


class _Order(NamedTuple):
    """Whose work a task is, and how it is served."""

    owner: Context
    priority: int
    seconds: float


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
        """Run what names no executor on this one from now on; what runs already goes on where it is.

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

    async def execute_operation(self, operation_spec: str, params: dict[str, Any]) -> Any:
        """Run one operation on the current executor and return its result; raises what it raises."""
        return await self._executor(None).execute_operation(operation_spec, params)

    async def batch_execute_operations(self, operations: list[dict[str, Any]]) -> list[Any]:
        """Run operations on the current executor; return a value or an exception for each, in their order."""
        return await self._executor(None).batch_execute_operations(operations)

    def define_task(self, name: str, operations: Sequence[Mapping[str, Any]], *, executor: str | None = None) -> None:
        """Give a plan a name; a plan of that name is replaced.

        The operations run one after the other up to the first failure, and may refer to each other. ``$input.name``
        stands for an entry of the task's ``input_data``. ``executor`` is the type that runs it, unless the task's
        context names another; None: the current one.

        Raises:
            InvalidInputError: the name is empty or has a dot, or an operation is malformed.
        """
        if type(name) is not str or not name or "." in name:
            raise InvalidInputError(f"a task's name must be a non-empty string without a dot, got {shorten(name)}")
        if not parse_operations(operations):
            raise InvalidOperationsError(f"task {shorten(name)!r} has no operations")
        self._tasks[name] = _Definition([dict(operation) for operation in operations], executor)

    async def execute_task(self, task_name: str, input_data: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
        """Run a task and return what came of it, as plain JSON values (contradiction C-61).

        Args:
            task_name: a defined task, or an operation ``"tool.op"``, whose parameters are ``input_data``. An executor
                that is an ``ExecutionInterface`` gets the name and ``input_data`` as they are: it knows its own tasks.
            input_data: beside the parameters the task's envelope: ``task_id``, ``queue`` ("fast_tasks" or
                "heavy_tasks"), and ``step``, ``mode`` and ``service``, which change nothing here.
            context: ``user_id``, ``task_id``, ``executor`` (a type) and ``timeout`` (seconds for the whole task; 300,
                for heavy tasks 3600).

        Returns:
            The seven entries of ``TaskStepResult.dict()``. A defined task has the result and the error of its last
            step, and ``steps``: the same entries of each step that was run.

        Raises:
            InvalidInputError, DSLEvaluationError: the task or the executor is unknown, or an input is missing or
                wrong; nothing has run. Every later failure is in what is returned.
        """
        work = self._work(task_name, input_data, context)
        try:
            return await work
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
        parsed = [_parse(task, index) for index, task in enumerate(tasks)]
        return list(await asyncio.gather(*(self._one(*task) for task in parsed)))

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

    def _work(self, name: Any, input_data: Any, context: Any) -> Coroutine[Any, Any, dict[str, Any]]:
        """Check everything that can be checked before anything runs."""
        order = _order(input_data, context)
        defined = self._tasks.get(name) if isinstance(name, str) else None
        executor = self._executor(context.get("executor") or (defined.executor if defined is not None else None))
        if isinstance(executor, ExecutionInterface):
            rest = {key: value for key, value in context.items() if key != "executor"}
            return _delegate(executor, name, input_data, rest, order.seconds)
        if defined is not None:
            return _run_plan(executor, name, fill_inputs(defined.operations, input_data, name), order)
        if type(name) is not str or "." not in name:
            known = ", ".join(self._tasks) or "none"
            text = f"Task {shorten(name)!r} is not defined; known: {known}; an operation is 'tool_name.operation_name'"
            raise InvalidInputError(text)
        split_spec(name)
        params = {key: value for key, value in check_params(input_data).items() if key not in ENVELOPE}
        return _run_one(executor, {"operation": name, "params": params}, order)


class ContextExecutor(IAsyncContextExecutor):
    """Runs operations between ``async with`` and its end, where whatever still runs is cancelled (document S3).

    Without an executor it connects one of its own and closes it at the end; one that is given stays open.
    ``user_id`` and ``task_id`` are the context of every operation.

    >>> import aiecs_ray
    >>> class Desk:
    ...     def add(self, a: int, b: int) -> int:
    ...         return a + b
    >>> runtime = aiecs_ray.connect("inprocess", registry=aiecs_ray.Registry())
    >>> tool = runtime.register(Desk)
    >>> async def main():
    ...     async with ContextExecutor(OperationExecutor(runtime=runtime), user_id="ann") as executor:
    ...         return await executor.execute_in_context("desk.add", a=41, b=1)
    >>> asyncio.run(main())
    42
    >>> runtime.close()
    """

    def __init__(
        self, executor: IOperationExecutor | None = None, *, user_id: str | None = None, task_id: str | None = None
    ) -> None:
        self._given = executor
        context = Context(user_id, task_id)
        self._ids = {"user_id": context.user_id, "task_id": context.task_id} if not context.empty else {}
        self._executor: IOperationExecutor | None = None
        self._calls: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        if self._executor is not None:
            raise InvalidInputError("this executor has been entered already; make one for each 'async with'")
        self._executor = self._given if self._given is not None else await OperationExecutor().__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        executor, self._executor = self._executor, None
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        if self._given is None and isinstance(executor, OperationExecutor):
            await executor.__aexit__(exc_type, exc_val, exc_tb)

    async def execute_in_context(self, operation: str = UNSAID, /, **params: Any) -> Any:
        """Run ``"tool.op"`` and return its result.

        Raises:
            RuntimeUnavailableError: outside ``async with``.
            ValueError, AttributeError, TimeoutError, ExecutionError: as :meth:`OperationExecutor.execute_operation`.
        """
        (operation,) = take(params, operation=operation)
        if self._executor is None:
            raise RuntimeUnavailableError("the executor is closed; use it inside 'async with'")
        call = asyncio.ensure_future(self._executor.execute_operation(operation, {**self._ids, **params}))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return await call


def _order(input_data: Any, context: Any) -> _Order:
    for what, given in (("input_data", input_data), ("context", context)):
        if not isinstance(given, dict):
            raise InvalidInputError(f"{what} must be a dict, got {shorten(given)}")
    queue = input_data.get("queue", "fast_tasks")
    if type(queue) is not str or queue not in QUEUES:
        raise InvalidInputError(f"queue must be one of {', '.join(QUEUES)}, got {shorten(queue)}")
    owner = Context(context.get("user_id"), input_data.get("task_id", context.get("task_id")))
    limit = context.get("timeout")
    return _Order(owner, QUEUES[queue].priority, QUEUES[queue].seconds if limit is None else seconds(limit))


def _parse(task: Any, index: int) -> tuple[Any, Any, Any]:
    problem = None
    if type(task) is not dict:
        problem = f"got {shorten(task)}"
    elif unknown := [key for key in task if key not in _TASK_KEYS]:
        problem = f"got the key {shorten(unknown[0])!r}"
    elif "task_name" not in task:
        problem = "the key 'task_name' is missing"
    if problem is not None:
        text = f"task {index} must be a dict of {', '.join(sorted(_TASK_KEYS))}; {problem}"
        raise InvalidOperationsError(text).locate(index=index)
    context = task.get("context", {})
    if task.get("executor") is not None and isinstance(context, dict):
        context = {"executor": task["executor"], **context}
    return task["task_name"], task.get("input_data", {}), context


async def _delegate(
    executor: ExecutionInterface, name: str, input_data: dict[str, Any], context: dict[str, Any], limit: float
) -> dict[str, Any]:
    return _report(name, await _within(limit, name, executor.execute_task(name, input_data, context)))


async def _run_one(executor: IOperationExecutor, operation: dict[str, Any], order: _Order) -> dict[str, Any]:
    return (await _run(executor, operation["operation"], [operation], order))[0]


async def _run_plan(
    executor: IOperationExecutor, name: str, operations: list[dict[str, Any]], order: _Order
) -> dict[str, Any]:
    steps = await _run(executor, name, operations, order)
    place, ended = next(((i, step) for i, step in enumerate(steps) if not step["completed"]), (-1, steps[-1]))
    message = f"Completed task {name}" if place < 0 else f"Failed task {name} at step {place} ({ended['step']})"
    return {**ended, "step": name, "message": message, "steps": steps}


async def _run(
    executor: IOperationExecutor, name: str, operations: list[dict[str, Any]], order: _Order
) -> list[dict[str, Any]]:
    user, task = order.owner.user_id, order.owner.task_id
    if isinstance(executor, OperationExecutor):
        served = [{"priority": order.priority, **operation} for operation in operations]
        found = await executor.execute_operations_sequence(
            served, user, task, stop_on_failure=True, deadline=order.seconds
        )
    else:
        work = executor.execute_operations_sequence(operations, user, task, stop_on_failure=True)
        found = await _within(order.seconds, name, work)
    if not found:
        raise ExecutionError(f"the executor returned no result for {name}")
    return [_report(operation["operation"], one) for operation, one in zip(operations, found, strict=False)]


async def _within(limit: float, name: str, work: Coroutine[Any, Any, Any]) -> Any:
    try:
        async with asyncio.timeout(limit) as scope:
            return await work
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise OperationTimeoutError(f"Task {name} timed out after {limit:g}s") from error


def _report(step: str, found: Any) -> dict[str, Any]:
    """Return what an executor returned as the entries of a step's result, of plain JSON values."""
    if isinstance(found, TaskStepResult):
        fields = found.dict()
    elif isinstance(found, Mapping) and _is_status(status := found.get("status")):
        completed = status in (TaskStatus.COMPLETED, "completed")
        fields = {**TaskStepResult(step, None, completed).dict(), **found}
    else:
        fields = TaskStepResult(step, found, True, f"Completed operation {step}", "completed").dict()  # noqa: FBT003
    try:
        return _plain(fields)
    except (ValueError, RecursionError) as error:
        text = f"{type(fields['result']).__name__}: no JSON value ({text_of(error)})"
        return _plain({**fields, "result": text})


def _is_status(value: Any) -> bool:
    return isinstance(value, TaskStatus) or (isinstance(value, str) and value in _STATUSES)


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return to_jsonable_python(fields, bytes_mode="base64", inf_nan_mode="null", fallback=_fall_back)  # type: ignore[no-any-return]  # a dict stays one


def _fall_back(value: Any) -> Any:
    """Arrays become lists, tables lists of records, and what has no JSON form the name of its type."""
    for method, args in (("tolist", ()), ("to_dict", ("records",))):
        if callable(convert := getattr(value, method, None)):
            return convert(*args)
    return shorten(value)


def _failure(name: str, error: Exception) -> dict[str, Any]:
    code = "E002" if isinstance(error, TimeoutError) else "E003"
    if isinstance(error, AiecsError):
        code = error.error_code
    status = _STATUS_OF.get(code, "failed")
    return TaskStepResult(name, None, False, f"Failed task {name}", status, code, text_of(error)).dict()  # noqa: FBT003
