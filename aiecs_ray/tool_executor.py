"""``ToolExecutor``: runs one operation of a tool, which is a name, a proxy, or an object of this process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
from typing import TYPE_CHECKING, Any

from aiecs_ray.binding import Binder
from aiecs_ray.config import ExecutionUtilsConfig, Settings
from aiecs_ray.connecting import connect
from aiecs_ray.context import Context
from aiecs_ray.errors import AiecsError, InvalidToolError
from aiecs_ray.failures import of_tool, to_exception
from aiecs_ray.interfaces import IToolExecutor
from aiecs_ray.proxies import ToolProxy
from aiecs_ray.results import to_value
from aiecs_ray.run_options import RunOptions
from aiecs_ray.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from aiecs_ray.runtime import Runtime


UNSAID: Any = object()
"""Stands for an argument that is given by its name, if at all."""


class ToolExecutor(IToolExecutor):
    """Runs operations of tools (document S0, "ToolExecutor"; interface of document S3).

    Args:
        config: names of :class:`ExecutionUtilsConfig`; otherwise ``EXECUTION_*`` and ``TOOL_EXECUTOR_*`` of the
            environment: CACHE_SIZE and CACHE_TTL of the runtime that it connects, MAX_WORKERS for its threads.
        runtime: shares a runtime; otherwise one is connected when first needed.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, *, runtime: Runtime | None = None) -> None:
        self.config = ExecutionUtilsConfig.from_env(**dict(config or {}))
        self._runtime = runtime
        self._connected: Runtime | None = None
        self._lock = threading.Lock()
        self._threads = concurrent.futures.ThreadPoolExecutor(self.config.MAX_WORKERS, thread_name_prefix="tool")

    # --- the interface ---------------------------------------------------------------------------------------

    def execute(self, tool: Any = UNSAID, operation_name: str = UNSAID, /, **params: Any) -> Any:
        """Run an operation and return its result; an async one is run to its end (C-57).

        ``tool`` is a name or a proxy (it runs in a replica), or an object of this process. Given by position it leaves
        its name to the operation's parameters (D-23).

        Raises:
            OperationFailedError: the tool raised; text "Error executing {operation}: {its message}".
            AttributeError: no such tool or operation.
        """
        tool, operation_name = take(params, tool=tool, operation_name=operation_name)
        if (name := name_of(tool)) is not None:
            return self.runtime.call(f"{name}.{operation_name}", params)
        method, arguments = _bind(tool, operation_name, params)
        try:
            result = method(**arguments)
            return self._run(_wait(result)) if inspect.isawaitable(result) else result
        except Exception as error:
            raise to_exception(of_tool(error, operation_name)) from error

    def _run(self, waiting: Coroutine[Any, Any, Any]) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(waiting)
        # A loop runs in this thread, and another cannot.
        return self._threads.submit(asyncio.run, waiting).result()

    async def execute_async(self, tool: Any = UNSAID, operation_name: str = UNSAID, /, **params: Any) -> Any:
        """Run an operation without holding up the event loop; a sync one runs in a thread or a replica."""
        tool, operation_name = take(params, tool=tool, operation_name=operation_name)
        loop = asyncio.get_running_loop()
        if name_of(tool) is None and inspect.iscoroutinefunction(getattr(type(tool), operation_name, None)):
            method, arguments = _bind(tool, operation_name, params)
            try:
                return await method(**arguments)
            except Exception as error:
                raise to_exception(of_tool(error, operation_name)) from error
        return await loop.run_in_executor(self._threads, lambda: self.execute(tool, operation_name, **params))

    async def execute_once(
        self, tool: Any, operation_name: str, params: dict[str, Any], user_id: str = "", task_id: str = ""
    ) -> Any:
        """Run an operation for somebody who has the retries and the cache: one attempt, and nothing is cached."""
        name = name_of(tool)
        if name is None:
            return await self.execute_async(tool, operation_name, **params)
        spec = f"{name}.{operation_name}"
        request = {"operation": spec, "params": params, "retry": 1, "cache": "off"}
        options = RunOptions(context=Context(user_id, task_id))
        # In threads without the caller's context: this call stands for the one that it is made in.
        loop = asyncio.get_running_loop()
        prepared = await loop.run_in_executor(self._threads, lambda: self.runtime.prepare([request], options))
        answer = await wait_for(self.runtime, prepared)
        opened = await loop.run_in_executor(self._threads, lambda: self.runtime.open_answer(answer, prepared))
        return to_value(opened[0], spec, 0)

    # --- the runtime -----------------------------------------------------------------------------------------

    def use(self, runtime: Runtime) -> None:
        """Share a runtime."""
        self._runtime = runtime

    @property
    def connected(self) -> bool:
        """Whether there is a runtime."""
        return self._runtime is not None

    @property
    def runtime(self) -> Runtime:
        """The runtime; connected when first needed."""
        with self._lock:
            if self._runtime is None:
                settings = Settings.load(cache_entries=self.config.CACHE_SIZE, cache_ttl=self.config.CACHE_TTL)
                self._runtime = self._connected = connect(settings=settings)
            return self._runtime

    def close(self) -> None:
        """Close the runtime if this object connected it."""
        self._threads.shutdown(wait=False)
        with self._lock:
            if self._connected is not None:
                self._connected.close()
                self._connected = self._runtime = None


def take(params: dict[str, Any], **arguments: Any) -> list[Any]:
    """Return arguments given by position; one that was not is taken out of ``params``, where it is by its name.

    Raises:
        TypeError: it is not there either.
    """
    for name, value in arguments.items():
        if value is UNSAID and name not in params:
            raise TypeError(f"the argument {name!r} is missing")
    return [params.pop(name) if value is UNSAID else value for name, value in arguments.items()]


def name_of(tool: Any) -> str | None:
    """Return the name of a tool that runs in replicas, None for an object of this process."""
    if isinstance(tool, ToolProxy):
        return tool.tool_name
    return tool if isinstance(tool, str) else None


def _bind(tool: Any, operation_name: str, params: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if tool is None or isinstance(tool, type):
        got = f"the class {tool.__name__}: pass an instance of it" if isinstance(tool, type) else "None"
        raise InvalidToolError(f"a tool must be a name, a proxy or an instance, got {got}")
    try:
        arguments = Binder(type(tool)).bind(operation_name, params)
    except AiecsError as error:
        raise error.locate(operation=operation_name) from None
    return getattr(tool, operation_name), arguments


async def _wait(result: Any) -> Any:
    return await result
