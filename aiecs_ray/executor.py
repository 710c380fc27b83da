"""``OperationExecutor``: the documents' asynchronous API over a runtime (document S0)."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from itertools import count
from typing import TYPE_CHECKING, Any, Self, TypeVar

from aiecs_ray.collector import undisturbed
from aiecs_ray.config import ExecutorConfig
from aiecs_ray.context import Context
from aiecs_ray.errors import AiecsError, ExecutionError, InvalidParamsError, ReferenceRangeError, UpstreamFailedError
from aiecs_ray.execution_utils import ExecutionUtils
from aiecs_ray.executor_parts import cache_stats, check_parts, context_of, context_of_list, retries_of, timeouts_of
from aiecs_ray.injected import Injection
from aiecs_ray.interfaces import IOperationExecutor
from aiecs_ray.messages import Limits
from aiecs_ray.operation import parse_operations
from aiecs_ray.results import to_error, to_step_result, to_value
from aiecs_ray.run_options import Prepared, RunOptions
from aiecs_ray.saving import follow, saver
from aiecs_ray.templates import extract_tool_calls
from aiecs_ray.tool_calls import ToolCalls, to_operations
from aiecs_ray.tool_executor import ToolExecutor
from aiecs_ray.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from types import TracebackType

    from aiecs_ray.interfaces import ICacheProvider, IToolExecutor, IToolProvider
    from aiecs_ray.model import TaskStepResult
    from aiecs_ray.proxies import ToolProxy
    from aiecs_ray.results import Opened
    from aiecs_ray.run import Run
    from aiecs_ray.runtime import Runtime
    from aiecs_ray.saving import Save

T = TypeVar("T")

logger = logging.getLogger(__name__)

ITEM_ERRORS = (ExecutionError, InvalidParamsError, UpstreamFailedError)
"""Errors of one operation of a list that become its own result; the others refuse the list before anything runs."""
CONCURRENT_ITEM_ERRORS = (*ITEM_ERRORS, ReferenceRangeError)
"""Where operations do not depend on their order, a reference that cannot resolve is its own item's error (C-07)."""


class OperationExecutor(IOperationExecutor):
    """Runs operations of tools, one, in sequence, in parallel and in batches.

    Args:
        tool_executor: a :class:`ToolExecutor`, whose runtime is used, or any other implementation of the interface,
            which then runs the tools in this process.
        execution_utils: its retry strategy and its operation timeouts apply to every operation.
        config: ``rate_limit_requests_per_second`` (5), ``batch_size`` (10), ``enable_cache`` (True), ``timeout``
            (seconds an attempt, 30), ``parallel_step_naming`` ("prefixed" or "spec"), ``strict_references`` (True).
        runtime: shares a runtime; otherwise one is connected when first needed, and closed by :meth:`close`.
        tool_provider: another source of tools; they run in this process.
        cache_provider: another cache.

    Raises:
        InvalidConfigError: the configuration has an unknown name or a bad value.
        InvalidInputError: another argument cannot be what it is given as; the message names it.
    """

    def __init__(  # noqa: PLR0913  # the documents' three, and what can be injected
        self,
        tool_executor: IToolExecutor | None = None,
        execution_utils: ExecutionUtils | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        runtime: Runtime | None = None,
        tool_provider: IToolProvider | None = None,
        cache_provider: ICacheProvider | None = None,
    ) -> None:
        parts = {"runtime": runtime, "tool_provider": tool_provider, "cache_provider": cache_provider}
        check_parts(config, tool_executor=tool_executor, execution_utils=execution_utils, **parts)
        self.config: dict[str, Any] = {**ExecutorConfig().model_dump(), **(config or {})}
        self._check_config()
        self.execution_utils = ExecutionUtils() if execution_utils is None else execution_utils
        # By its class: a mock made for ToolExecutor only says that it is one.
        given = issubclass(type(tool_executor), ToolExecutor)
        own: Any = tool_executor if given else ToolExecutor(runtime=runtime)
        self.tool_executor: IToolExecutor = own if tool_executor is None else tool_executor
        if runtime is not None:
            own.use(runtime)
        self._own: ToolExecutor = own
        self._injection: Injection | None = None
        if tool_provider is not None or cache_provider is not None or self.tool_executor is not own:
            self._injection = Injection(
                self.tool_executor, tool_provider, cache_provider, lambda: self._check_config().enable_cache
            )
        self._name = secrets.token_hex(8)
        # The tools that were used; None until somebody asks for the proxy itself.
        self._proxies: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._total = 0
        self._failed = 0
        self._tool_calls: ToolCalls | None = None

    def _check_config(self) -> ExecutorConfig:
        # The documents let callers change the dict after construction (C-21), so it is read at each call.
        return ExecutorConfig(**self.config)

    # --- the documents' methods ------------------------------------------------------------------------------

    async def execute_operation(self, operation_spec: str, params: dict[str, Any]) -> Any:
        """Run one operation and return its result.

        ``user_id`` and ``task_id`` among ``params`` are the context; they reach the tool only if it declares them.

        Raises:
            ValueError: the spec or the parameters are wrong.
            AttributeError: no such tool or operation.
            TimeoutError: it ran out of time.
            OperationFailedError: the tool raised; text "Error executing {operation}: {its message}".
        """
        context = context_of([params])
        try:
            prepared = await self._prepare([{"operation": operation_spec, "params": params}], context=context)
        except AiecsError:
            self._add(1, 1)
            raise
        return await self._execute(prepared, lambda opened: to_value(opened[0], operation_spec))

    async def batch_execute_operations(
        self, operations: list[dict[str, Any]], *, context_results: Sequence[Any] | None = None
    ) -> list[Any]:
        """Run operations side by side within the rate and the batch size; return a value or an exception for each.

        An operation that refers to others waits for them. The exceptions carry ``error_code``, ``operation`` and
        ``index`` (C-15).
        """
        prepared = await self._prepare(
            operations,
            mode="batch",
            context=context_of_list(operations),
            limits=self._limits(),
            context_results=context_results,
            tolerate=CONCURRENT_ITEM_ERRORS,
        )
        return await self._execute(prepared, lambda opened: list(map(_value_or_error, opened, prepared.specs, count())))

    async def execute_operations_sequence(  # noqa: PLR0913  # the documents' signature
        self,
        operations: list[dict[str, Any]],
        user_id: str,
        task_id: str,
        stop_on_failure: bool = False,  # noqa: FBT001, FBT002
        save_callback: Callable[..., Any] | None = None,
        *,
        context_results: Sequence[Any] | None = None,
        deadline: float | None = None,
    ) -> list[TaskStepResult]:
        """Run operations one after the other; ``$result[i]`` in parameters is an earlier result.

        With ``stop_on_failure`` the failing step is the last one of the list. ``save_callback`` gets
        (user_id, task_id, index, result) or, with two parameters, (step, result), for each step as it ends, the
        failing one too; it may be async, and what it raises is logged and loses nothing (C-16, C-17). ``deadline`` is
        seconds for the whole list; with it, an attempt has no limit of its own unless its operation says so.

        Raises:
            ValueError: an operation is malformed, a reference can never resolve, or ``save_callback`` takes neither two
                nor four arguments; nothing has run (C-04).
        """
        save = None if save_callback is None else saver(save_callback, user_id, task_id)
        tolerate = ITEM_ERRORS if self._check_config().strict_references else CONCURRENT_ITEM_ERRORS
        prepared = await self._prepare(
            operations,
            mode="sequence",
            context=Context(user_id, task_id),
            stop_on_failure=stop_on_failure,
            context_results=context_results,
            deadline=deadline,
            tolerate=tolerate,
        )
        return await self._execute(prepared, lambda opened: list(map(to_step_result, opened, prepared.specs)), save)

    async def execute_parallel_operations(
        self, operations: list[dict[str, Any]], *, context_results: Sequence[Any] | None = None
    ) -> list[TaskStepResult]:
        """Run operations all at once and return one result each, in input order; none affects another."""
        prefixed = self._check_config().parallel_step_naming == "prefixed"
        prepared = await self._prepare(
            operations,
            mode="parallel",
            context=context_of_list(operations),
            context_results=context_results,
            tolerate=CONCURRENT_ITEM_ERRORS,
        )

        def result(one: Opened, spec: str, index: int) -> TaskStepResult:
            name = f"parallel_{index}_{spec}" if prefixed else spec
            return to_step_result(one, spec, step=name, kind="parallel operation")

        return await self._execute(prepared, lambda opened: list(map(result, opened, prepared.specs, count())))

    async def batch_tool_calls(
        self, tool_calls: list[dict[str, Any]], tool_executor_func: Callable[..., Any] | None = None
    ) -> list[Any]:
        """Run calls ``{"tool": name, "params": {...}}``; return a value or an exception for each.

        The operation is named by the tool, ``"tool.op"``, by ``params["op"]``, or by its name in the JSON forms; calls
        may have the forms of OpenAI, Anthropic and MCP. With ``tool_executor_func``, ``tool_executor_func(tool,
        params)``, async or not, runs each call here, within the same rate, batch size and cache; one that is not async
        holds up the event loop.
        """
        if tool_executor_func is None:
            operations = await asyncio.to_thread(lambda: to_operations(tool_calls, self.runtime.catalog))
            return await self.batch_execute_operations(operations)
        if self._tool_calls is None:
            self._tool_calls = ToolCalls(self.execution_utils)
        results = await self._tool_calls.run(tool_calls, tool_executor_func, self._check_config())
        self._add(len(results), sum(isinstance(result, BaseException) for result in results))
        return results

    extract_tool_calls = staticmethod(extract_tool_calls)

    def get_tool_instance(self, tool_name: str) -> ToolProxy:
        """Return the tool: an object whose methods run in its replicas. The same object at each call.

        Raises:
            AttributeError: no such tool.
        """
        if self._proxies.get(tool_name) is None:
            injection = self._injection
            found = self.runtime.tools[tool_name] if injection is None else injection.get_instance(tool_name)
            self._proxies[tool_name] = found
        return self._proxies[tool_name]  # type: ignore[no-any-return]  # an injected provider may give anything

    def clear_tool_cache(self) -> None:
        """Forget the tool instances and stop their replicas; they are made again when next needed."""
        names, self._proxies = list(self._proxies), {}
        if names and self._injection is not None:
            self._injection.clear(names)
        elif names and self._own.connected:
            self.runtime.request("clear_tools", names)

    def get_stats(self) -> dict[str, Any]:
        """Return the documents' statistics: tools, configuration, operations, failures, cache (C-20)."""
        config = self._check_config()
        rate = config.rate_limit_requests_per_second
        done = self._total - self._failed
        injected = None if self._injection is None else self._injection.cache
        return {
            "cached_tools": len(self._proxies),
            "tool_names": list(self._proxies),
            "semaphore_value": config.batch_size if rate is None else max(1, int(rate)),
            "config": {"batch_size": config.batch_size, "rate_limit": rate, "enable_cache": config.enable_cache},
            "total_operations": self._total,
            "failed_operations": self._failed,
            "success_rate": done / self._total if self._total else 0.0,
            "cache": cache_stats(self._own, self.execution_utils) if injected is None else injected.stats(),
        }

    # --- life ------------------------------------------------------------------------------------------------

    @property
    def runtime(self) -> Runtime:
        """The runtime; connected when first needed."""
        return self._injection.runtime if self._injection is not None else self._own.runtime

    def close(self) -> None:
        """Close what this executor connected itself."""
        if self._injection is not None:
            self._injection.close()
        self._own.close()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(lambda: self.runtime)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    # --- how -------------------------------------------------------------------------------------------------

    def _limits(self) -> Limits:
        config = self._check_config()
        return Limits(self._name, config.rate_limit_requests_per_second, config.batch_size)

    async def _prepare(self, operations: Any, **options: Any) -> Prepared:
        config = self._check_config()
        options["retry"] = retries_of(self.execution_utils)
        options["timeout"] = config.timeout if options.get("deadline") is None else None
        options["timeouts"] = timeouts_of(self.execution_utils)
        options["cache"] = None if config.enable_cache else "off"

        def prepare() -> Prepared:
            # Connecting, sending classes and checking thousands of operations must not hold up the caller's loop.
            if self._injection is not None:
                self._injection.learn(parse_operations(operations))
            return self.runtime.prepare(operations, RunOptions(**options))

        prepared = await asyncio.to_thread(prepare)
        for tool in prepared.tools.values():
            self._proxies.setdefault(tool.name)
        return prepared

    async def _execute(self, prepared: Prepared, convert: Callable[[list[Opened]], T], save: Save | None = None) -> T:
        found = await (wait_for(self.runtime, prepared) if save is None else self._follow(prepared, save))

        def take() -> T:
            # Thousands of results are read beside the caller's loop, not on it.
            with undisturbed(len(prepared.specs)):
                opened = found if isinstance(found, list) else self.runtime.open_answer(found, prepared)
                if prepared.request.stop_on_failure:
                    opened = opened[: next((end for end, one in enumerate(opened, 1) if one.error is not None), None)]
                self._count(opened, prepared)
                return convert(opened)

        return await asyncio.to_thread(take)

    async def _follow(self, prepared: Prepared, save: Save) -> list[Opened]:
        runtime = self.runtime
        starting = asyncio.ensure_future(asyncio.to_thread(runtime.start, prepared))
        found: dict[int, Opened] = {}
        failed = False
        try:
            async for index, one in follow(runtime, await asyncio.shield(starting), prepared.specs):
                found[index] = one
                if not (failed and prepared.request.stop_on_failure):
                    await save(index, to_step_result(one, prepared.specs[index]))
                failed = failed or one.error is not None
        finally:
            # What still runs, because this was cancelled, is stopped before it is forgotten.
            await asyncio.shield(_release(starting))
        return [found[index] for index in sorted(found)]

    def _add(self, total: int, failed: int) -> None:
        with self._lock:
            self._total += total
            self._failed += failed

    def _count(self, opened: Sequence[Opened], prepared: Prepared) -> None:
        self._add(len(opened), sum(one.error is not None for one in opened))
        if not logger.isEnabledFor(logging.DEBUG):
            return
        for index, (one, spec) in enumerate(zip(opened, prepared.specs, strict=False)):
            logger.debug("operation %d (%s) %s in %.3fs", index, spec, one.settled.status, one.settled.seconds)


async def _release(starting: Awaitable[Run]) -> None:
    await asyncio.to_thread((await starting).release)


def _value_or_error(opened: Opened, spec: str, index: int) -> Any:
    return opened.value if opened.error is None else to_error(opened, spec, index)
