"""The parts of an ``OperationExecutor``: checked when it is made, and read at each call."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiecs_ray.context import Context
from aiecs_ray.errors import InvalidInputError, InvalidOperationsError
from aiecs_ray.execution_utils import ExecutionUtils
from aiecs_ray.messages import RetryOptions
from aiecs_ray.operation import check_params
from aiecs_ray.quoting import shorten
from aiecs_ray.runtime import Runtime

if TYPE_CHECKING:
    from aiecs_ray.tool_executor import ToolExecutor

logger = logging.getLogger(__name__)

_PARTS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "tool_executor": (("execute_async",), "a ToolExecutor or another IToolExecutor"),
    "execution_utils": (("create_retry_strategy",), "an ExecutionUtils"),
    "runtime": (("prepare",), "a Runtime, which connect() returns"),
    "tool_provider": (("get_tool", "has_tool"), "an IToolProvider"),
    "cache_provider": (("generate_cache_key", "get_from_cache", "add_to_cache"), "an ICacheProvider"),
}
"""What each argument must be able to do; whatever can will do, a mock too (C-18)."""


def check_parts(config: object, **parts: object) -> None:
    """Refuse what cannot be a part of an executor, before anything is asked of it.

    Raises:
        InvalidInputError: the message names the argument, and what it takes.
    """
    if config is not None and not isinstance(config, Mapping):
        raise InvalidInputError(f"config must be a dict, got {shorten(config)}")
    for argument, part in parts.items():
        methods, expected = _PARTS[argument]
        able = not isinstance(part, type) and all(callable(getattr(part, method, None)) for method in methods)
        if part is None or able:
            continue
        raise InvalidInputError(f"{argument} must be {expected}, got {shorten(part)}{_way_out(argument, part)}")


def _way_out(argument: str, part: object) -> str:
    if isinstance(part, type):
        return f": pass an instance, {part.__name__}()"
    if isinstance(part, Runtime):
        return ": pass it as runtime="
    if isinstance(part, Mapping) and argument != "runtime":
        return ": the configuration is the third argument, config="
    return ""


def retries_of(utils: ExecutionUtils) -> RetryOptions:
    """Return the retries that apply to every operation: those of ``utils`` as they are now.

    Something in its place that has no numbers, such as a mock, has the documents' defaults.
    """
    default = RetryOptions()
    attempts, backoff = getattr(utils, "retry_attempts", None), getattr(utils, "retry_backoff", None)
    if not issubclass(type(utils), ExecutionUtils):
        attempts = attempts if isinstance(attempts, int) else default.attempts
        backoff = backoff if isinstance(backoff, (int, float)) else default.multiplier
    return RetryOptions(attempts=attempts, multiplier=float(backoff))  # type: ignore[arg-type]  # numbers of ours


def timeouts_of(utils: ExecutionUtils) -> Mapping[str, float]:
    """Return the limits that :meth:`ExecutionUtils.set_operation_timeout` set, none of a mock."""
    limits = getattr(utils, "operation_timeouts", None)
    return limits if isinstance(limits, Mapping) else {}


def cache_stats(own: ToolExecutor, utils: ExecutionUtils) -> dict[str, Any]:
    """Return hits, misses and the hit rate of the runtime's cache, or while there is none of ``utils``."""
    if own.connected:
        return own.runtime.cache.stats()
    found = utils.statistics()
    statistics: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    return {name: statistics.get(name, 0) for name in ("hits", "misses", "hit_rate")}


def context_of_list(operations: Any) -> Context:
    """Return the context that all operations name; none when they differ, so that nothing is shared between users."""
    if not isinstance(operations, (list, tuple)):
        raise InvalidOperationsError(f"operations must be a list of dicts, got {shorten(operations)}")
    return context_of([one.get("params", {}) if isinstance(one, dict) else {} for one in operations])


def context_of(params: Sequence[Any]) -> Context:
    """Return the context that all these parameters name."""
    found = set()
    for index, one in enumerate(params):
        if type(one) is not dict:
            _refuse_params(one, index if len(params) > 1 else None)
        found.add((one.get("user_id"), one.get("task_id")))
    if len(found) != 1:
        if found:
            logger.debug("operations of one list name %d different contexts: nothing of it is cached", len(found))
        return Context()
    user_id, task_id = found.pop()
    try:
        return Context(user_id, task_id)
    except InvalidInputError:
        # Parameters of these names that are no ids belong to the tool.
        return Context()


def _refuse_params(params: Any, index: int | None) -> None:
    try:
        check_params(params)
    except InvalidInputError as error:
        if index is not None:
            error.add_note(f"in operation {index}")
        raise error.locate(index=index) from None
