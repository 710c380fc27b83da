"""``batch_tool_calls``: calls named by tool, run by the runtime or by a function of the caller's."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any

from aiecs_ray.callbacks import describe_callable, takes
from aiecs_ray.errors import AiecsError, InvalidInputError, InvalidOperationsError, OperationFailedError
from aiecs_ray.failures import text_of, type_names
from aiecs_ray.function_calls import as_tool_call, spec_of
from aiecs_ray.limits import Pacer
from aiecs_ray.operation import check_params
from aiecs_ray.quoting import shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs_ray.catalog import Catalog
    from aiecs_ray.config import ExecutorConfig
    from aiecs_ray.execution_utils import ExecutionUtils


def _checked(tool_calls: Any) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(tool_calls, (list, tuple)):
        raise InvalidOperationsError(f"tool_calls must be a list of dicts, got {shorten(tool_calls)}")
    checked = []
    for index, given in enumerate(tool_calls):
        try:
            call = as_tool_call(given)
            checked.append((call["tool"], check_params(call["params"])))
        except InvalidInputError as error:
            raise type(error)(f"tool call {index} {error}").locate(index=index) from None
    return checked


def to_operations(tool_calls: Any, catalog: Catalog) -> list[dict[str, Any]]:
    """Return tool calls as operations; ``catalog`` knows the tools behind the names of the JSON forms.

    Raises:
        InvalidOperationsError, InvalidParamsError: one is malformed, or names no operation.
    """
    operations = []
    for index, (name, params) in enumerate(_checked(tool_calls)):
        tool = spec_of(name, catalog)
        if "." in tool:
            operations.append({"operation": tool, "params": params})
            continue
        operation = params.get("op")
        if type(operation) is not str:
            text = f"tool call {index} names no operation: write 'tool.op', or give params['op']"
            raise InvalidOperationsError(text).locate(operation=tool, index=index)
        rest = {name: value for name, value in params.items() if name != "op"}
        operations.append({"operation": f"{tool}.{operation}", "params": rest})
    return operations


class ToolCalls:
    """Runs tool calls through a function of the caller's, in the caller's event loop."""

    def __init__(self, utils: ExecutionUtils) -> None:
        self._utils = utils
        self._pacer = Pacer(None)

    async def run(
        self, tool_calls: Any, function: Callable[[str, dict[str, Any]], Any], config: ExecutorConfig
    ) -> list[Any]:
        """Return a value or an exception for each call, in order; a call that is in the cache is not made.

        Raises:
            InvalidOperationsError: a call is malformed; nothing has run.
            InvalidInputError: ``function`` cannot be called with a tool and parameters.
        """
        if not takes(function, 2):
            text = "tool_executor_func must be a function of (tool, params)"
            raise InvalidInputError(f"{text}, got {describe_callable(function)}")
        calls = _checked(tool_calls)
        if self._pacer.rate != config.rate_limit_requests_per_second:
            self._pacer.set_rate(config.rate_limit_requests_per_second)
        slots, turn = asyncio.Semaphore(config.batch_size), asyncio.Lock()

        async def one(index: int, tool: str, params: dict[str, Any]) -> Any:
            async with slots:
                async with turn:
                    await self._pace()
                try:
                    return await self._cached(tool, params, function, enabled=config.enable_cache)
                except Exception as error:  # noqa: BLE001  # a caller's function failed: that is this call's result
                    return _as_result(error, tool, index)

        return await asyncio.gather(*(one(index, *call) for index, call in enumerate(calls)))

    async def _pace(self) -> None:
        """Wait until a call may start, and count it then: a busy loop may wake it late, and others with it."""
        while (wait := self._pacer.next_start(now := time.monotonic()) - now) > 0:  # noqa: ASYNC110  # time passes unseen
            await asyncio.sleep(wait)
        self._pacer.reserve(now)

    async def _cached(
        self,
        tool: str,
        params: dict[str, Any],
        function: Callable[[str, dict[str, Any]], Any],
        *,
        enabled: bool,
    ) -> Any:
        user, task = str(params.get("user_id") or ""), str(params.get("task_id") or "")
        if not (enabled and (user or task)):
            return await _result(function(tool, params))
        key = self._utils.generate_cache_key(f"tool_call:{tool}", user, task, (), params)
        hit, value = self._utils.lookup(key)
        if not hit:
            value = await _result(function(tool, params))
            self._utils.add_to_cache(key, value)
        return value


async def _result(made: Any) -> Any:
    return await made if inspect.isawaitable(made) else made


def _as_result(error: Exception, tool: str, index: int) -> AiecsError:
    if isinstance(error, AiecsError):
        return error.locate(operation=tool, index=index)
    failed = OperationFailedError(
        f"Error executing {tool}: {text_of(error)}", type(error).__name__, "", type_names(error)
    )
    failed.__cause__ = error
    return failed.locate(operation=tool, index=index)
