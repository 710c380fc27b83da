"""Filling a cache before its users come (document S1, "warm_up_cache"; contradiction C-35)."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from aiecs_ray.attempts import name_of
from aiecs_ray.errors import InvalidInputError
from aiecs_ray.failures import text_of
from aiecs_ray.keys import UNCACHEABLE
from aiecs_ray.quoting import shorten

logger = logging.getLogger("aiecs.execution_utils")

Compute = Callable[[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]], Awaitable[Any]]
Run = Callable[[str, Mapping[str, Any]], Any]


class Cache(Protocol):
    """What is filled."""

    def generate_cache_key(
        self, func_name: str, user_id: str, task_id: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> str:
        """Return the key of a call in a context."""
        ...

    def lookup(self, cache_key: str) -> tuple[bool, Any]:
        """Return whether there is a value, and the value."""
        ...

    def add_to_cache(self, cache_key: str, result: Any, ttl: float | None) -> None:
        """Keep the value."""
        ...


@dataclass(frozen=True, slots=True)
class WarmUpReport:
    """How many operations were computed, how many were there already, and which failed."""

    warmed: int
    cached: int
    failed: tuple[tuple[str, str], ...] = ()
    """(name, message) of each."""


@dataclass(frozen=True, slots=True)
class _Operation:
    """One entry of the list, its defaults filled in."""

    func: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None
    func_name: str = ""
    user_id: str = "system"
    task_id: str = "warmup"
    ttl: float | None = None


async def warm_up(
    cache: Cache, operations: Sequence[Mapping[str, Any]], compute: Compute, run: Run | None
) -> WarmUpReport:
    """Compute at once what ``cache`` does not have yet; equal operations are computed once."""
    chosen: dict[str, _Operation] = {}
    failed: list[tuple[str, str]] = []
    for given in operations:
        try:
            operation = _read(given, run)
            key = _key(cache, operation)
        except InvalidInputError as error:
            failed.append(_failure("operation", error))
            continue
        if key not in chosen and not cache.lookup(key)[0]:
            chosen[key] = operation
    cached = len(operations) - len(chosen) - len(failed)
    outcomes = await asyncio.gather(*(_fill(cache, key, operation, compute) for key, operation in chosen.items()))
    failed += [outcome for outcome in outcomes if outcome is not None]
    return WarmUpReport(outcomes.count(None), cached, tuple(failed))


async def _fill(cache: Cache, key: str, operation: _Operation, compute: Compute) -> tuple[str, str] | None:
    try:
        result = await compute(operation.func, operation.args, operation.kwargs or {})
    except Exception as error:  # noqa: BLE001  # an operation's own failure becomes a line of the report
        return _failure(operation.func_name, error)
    cache.add_to_cache(key, result, operation.ttl)
    return None


def _failure(name: str, error: Exception) -> tuple[str, str]:
    logger.warning("预热操作失败: %s", text_of(error))
    return name, text_of(error)


def _read(given: Mapping[str, Any], run: Run | None) -> _Operation:
    entry = dict(given)
    if "operation" in entry:
        spec, params = entry.pop("operation"), entry.pop("params", {})
        if run is None:
            raise InvalidInputError(f"warming up {shorten(spec)} needs run=, which runs an operation with its params")
        entry |= {"func": functools.partial(_run, run, spec), "kwargs": params, "func_name": spec}
    known = [field.name for field in fields(_Operation)]
    if unknown := [name for name in entry if name not in known]:
        raise InvalidInputError(f"a warm-up operation has no {shorten(unknown[0])!r} (there are {', '.join(known)})")
    if not callable(entry.get("func")):
        raise InvalidInputError("a warm-up operation needs func, a function, or operation and params")
    return _Operation(**{"func_name": name_of(entry["func"]), **entry})


def _run(run: Run, spec: str, /, **params: Any) -> Any:
    return run(spec, params)


def _key(cache: Cache, operation: _Operation) -> str:
    key = cache.generate_cache_key(
        operation.func_name, operation.user_id, operation.task_id, operation.args, operation.kwargs or {}
    )
    if key.startswith(UNCACHEABLE):
        raise InvalidInputError(f"{operation.func_name} has arguments without an exact key; it cannot be cached")
    return key
