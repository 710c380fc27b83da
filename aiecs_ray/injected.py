"""Runs implementations of the interfaces that a caller injected, under the same plan as everything else."""

from __future__ import annotations

import inspect
import secrets
from typing import TYPE_CHECKING, Any

from aiecs_ray.config import Settings
from aiecs_ray.connecting import connect
from aiecs_ray.errors import ToolNotFoundError
from aiecs_ray.execution_utils import ExecutionUtils
from aiecs_ray.operation import split_spec
from aiecs_ray.options import OPERATION_NAME
from aiecs_ray.registry import Registry
from aiecs_ray.tool import operation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiecs_ray.interfaces import ICacheProvider, IToolExecutor, IToolProvider
    from aiecs_ray.operation import Requested

_INJECTIONS: dict[str, Injection] = {}


class Injection:
    """An injected tool executor, tool provider or cache, and a runtime in this process that drives it.

    Each tool that is asked for becomes a class whose methods call the injected executor. ``caching`` says whether the
    cache may be used at present.
    """

    def __init__(
        self,
        executor: IToolExecutor,
        provider: IToolProvider | None,
        cache: ICacheProvider | None,
        caching: Callable[[], bool],
    ) -> None:
        self._caching = caching
        self._executor = executor
        self._provider = provider
        self._cache = cache
        self._known: dict[str, set[str]] = {}
        self._registry = Registry()
        self._token = secrets.token_hex(8)
        _INJECTIONS[self._token] = self
        settings = Settings.load()
        self.runtime = connect("inprocess", settings=settings, registry=self._registry)

    def get_tool(self, name: str) -> Any:
        """Return a tool of the provider; without one, the executor gets the name itself.

        Raises:
            ToolNotFoundError: the provider has no such tool.
        """
        if self._provider is None:
            return name
        if not self._provider.has_tool(name):
            raise ToolNotFoundError(name)
        return self._provider.get_tool(name)

    def learn(self, operations: Sequence[Requested]) -> None:
        """Make the tools and operations known that a request names; one that does not exist stays unknown."""
        for requested in operations:
            tool, name = split_spec(requested.operation)
            names = self._known.setdefault(tool, set())
            if name in names or (self._provider is not None and not self._provider.has_tool(tool)):
                continue
            instance = self.get_tool(tool)
            found = _operations(instance) if not names and self._provider is not None else set()
            if self._provider is None or callable(getattr(instance, name, None)):
                found.add(name)
            if found <= names:
                continue
            names.update(found)
            self._registry.register(_tool_class(names), tool, replace=True, config={"token": self._token, "tool": tool})

    async def execute(self, tool: str, name: str, params: dict[str, Any], user_id: str, task_id: str) -> Any:
        """Run one operation through the injected executor, and the injected cache if there is one."""
        cache = self._cache if self._caching() else None
        key = ""
        if cache is not None:
            key = cache.generate_cache_key(f"{tool}.{name}", user_id, task_id, (), params)
            hit, found = _lookup(cache, key)
            if hit:
                return found
        result = self._executor.execute_async(self.get_tool(tool), name, **params)
        value = await result if inspect.isawaitable(result) else result
        if cache is not None:
            cache.add_to_cache(key, value)
        return value

    def close(self) -> None:
        """End the runtime."""
        _INJECTIONS.pop(self._token, None)
        self.runtime.close()


def _operations(instance: Any) -> set[str]:
    """The methods of a tool's class, so that a name which is none of them can be told apart from an unknown tool."""
    names = filter(OPERATION_NAME.fullmatch, dir(type(instance)))
    return {name for name in names if callable(inspect.getattr_static(instance, name))}


def _lookup(cache: ICacheProvider, key: str) -> tuple[bool, Any]:
    """Ask a cache; one of our own can tell a cached None from a miss (C-25)."""
    if isinstance(cache, ExecutionUtils):
        return cache.lookup(key)
    found = cache.get_from_cache(key)
    return found is not None, found


class _Injected:
    """The instance behind every injected tool."""

    def __init__(self, token: str, tool: str) -> None:
        self._injection = _INJECTIONS[token]
        self._tool = tool

    async def execute(self, name: str, params: dict[str, Any], user_id: str, task_id: str) -> Any:
        return await self._injection.execute(self._tool, name, params, user_id, task_id)


def _tool_class(names: set[str]) -> type:
    """Return a class with one async operation per name."""

    def method(name: str) -> Any:
        # The context's ids are declared, so that they arrive; the injected tool does not get them (S0-26).
        async def run(self: _Injected, user_id: str = "", task_id: str = "", **params: Any) -> Any:
            return await self.execute(name, params, user_id, task_id)

        run.__name__ = name
        run.__qualname__ = f"Injected.{name}"
        return operation(cache=False)(run)

    return type("Injected", (_Injected,), {name: method(name) for name in sorted(names)})
