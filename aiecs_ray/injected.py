"""Runs implementations of the interfaces that a caller injected, under the same plan as everything else."""

from __future__ import annotations

import asyncio
import inspect
import secrets
import threading
import weakref
from typing import TYPE_CHECKING, Any

from aiecs_ray.config import Settings
from aiecs_ray.connecting import connect
from aiecs_ray.errors import AiecsError, InvalidParamsError, RuntimeUnavailableError, ToolNotFoundError
from aiecs_ray.failures import RelayedError
from aiecs_ray.injected_cache import InjectedCache
from aiecs_ray.injected_tools import CONTEXT, Offer, Offered, of_instance, of_registered, tool_class
from aiecs_ray.operation import split_spec
from aiecs_ray.registry import Registry
from aiecs_ray.running import current
from aiecs_ray.tool_executor import ToolExecutor, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiecs_ray.interfaces import ICacheProvider, IToolExecutor, IToolProvider
    from aiecs_ray.operation import Requested
    from aiecs_ray.runtime import Runtime

# Whoever holds an injection keeps it; the replicas of its runtime only know its token, so that it can go away.
_INJECTIONS: weakref.WeakValueDictionary[str, Injection] = weakref.WeakValueDictionary()


class Injection:
    """An injected tool executor, tool provider or cache, and a runtime in this process that drives it.

    Each tool that is asked for becomes a class whose methods call the injected executor, with the options that the
    tool declares, where they can be seen. ``caching`` says whether the cache may be used at present.
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
        self._own = executor if isinstance(executor, ToolExecutor) and _runs_as_ours(executor) else None
        self._provider = provider
        self.cache = None if cache is None else InjectedCache(cache)
        self._known: dict[str, Offered] = {}
        self._registry = Registry()
        self._token = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._runtime: Runtime | None = None
        _INJECTIONS[self._token] = self

    @property
    def runtime(self) -> Runtime:
        """The runtime in this process; made when first needed."""
        with self._lock:
            if self._runtime is None:
                self._runtime = connect("inprocess", settings=Settings.load(), registry=self._registry)
            return self._runtime

    def get_tool(self, name: str) -> Any:
        """Return what the executor gets as its tool: the provider's, or without one the name itself.

        Raises:
            ToolNotFoundError: the provider has no such tool.
        """
        if self._provider is None:
            return name
        if not self._provider.has_tool(name):
            raise ToolNotFoundError(name)
        return self._provider.get_tool(name)

    def get_instance(self, name: str) -> Any:
        """Return the tool for a caller: an object with methods wherever there is one.

        Raises:
            ToolNotFoundError: the provider, or the runtime behind our own executor, has no such tool.
        """
        tool = self.get_tool(name)
        return self._own.runtime.tools[tool] if self._own is not None and isinstance(tool, str) else tool

    def clear(self, names: Sequence[str]) -> None:
        """Stop the replicas of tools that run in the runtime behind our own executor."""
        if self._own is not None and self._own.connected:
            self._own.runtime.request("clear_tools", list(names))

    def learn(self, operations: Sequence[Requested]) -> None:
        """Make the tools and operations known that a request names; one that does not exist stays unknown."""
        for requested in operations:
            tool, name = split_spec(requested.operation)
            known = self._known.get(tool, Offered({}))
            if name in known.operations or (self._provider is not None and not self._provider.has_tool(tool)):
                continue
            found = self._look_at(self.get_tool(tool), name)
            operations_of = {**found.operations, **known.operations}
            if operations_of.keys() <= known.operations.keys():
                continue
            offered = self._known[tool] = found._replace(operations=operations_of)
            config = {"token": self._token, "tool": tool}
            options = {"unknown_params": offered.unknown_params, "config": config}
            self._registry.register(tool_class(_Injected, offered), tool, replace=True, **options)

    def _look_at(self, target: Any, name: str) -> Offered:
        """Return what can be known of a tool; ``name`` is the operation that is asked for."""
        registered = name_of(target)
        if self._own is not None and registered is not None:
            try:
                return of_registered(self._own.runtime, registered)
            except ToolNotFoundError:
                return Offered({})
        if self._provider is None:
            return Offered({name: Offer()})
        offered = of_instance(target)
        if callable(getattr(target, name, None)):
            offered.operations.setdefault(name, Offer())
        return offered

    async def execute(self, tool: str, name: str, params: dict[str, Any]) -> Any:
        """Run one operation through the injected executor, and the injected cache if there is one."""
        offered = self._known[tool]
        offer = offered.operations[name]
        owner = _owner(params)
        params = offer.own(params)
        key = None
        if self.cache is not None and self._caching() and _may_be_cached(offer, offered, owner):
            key = await asyncio.to_thread(self.cache.key, f"{tool}.{name}", owner, params, offer.options)
        if self.cache is None or key is None:
            return await self._run(tool, name, params, owner)
        hit, found = self.cache.lookup(key)
        if hit:
            return found
        value = await self._run(tool, name, params, owner)
        self.cache.add(key, value, offer.options)
        return value

    async def _run(self, tool: str, name: str, params: dict[str, Any], owner: tuple[str, str]) -> Any:
        target = self.get_tool(tool)
        if self._own is not None:
            return await self._own.execute_once(target, name, params, *owner)
        _check_collisions(self._executor, target, f"{tool}.{name}", params)
        result = self._executor.execute_async(target, name, **params)
        return await result if inspect.isawaitable(result) else result

    def close(self) -> None:
        """End the runtime."""
        _INJECTIONS.pop(self._token, None)
        with self._lock:
            if self._runtime is not None:
                self._runtime.close()


def _runs_as_ours(executor: Any) -> bool:
    """Whether it runs operations as a ToolExecutor does; a mock only says that it is one, a subclass may not."""
    kind = type(executor)
    return (
        issubclass(kind, ToolExecutor)
        and kind.execute is ToolExecutor.execute
        and kind.execute_async is ToolExecutor.execute_async
    )


def _owner(params: dict[str, Any]) -> tuple[str, str]:
    """Whose call it is: as its own parameters say, otherwise the context."""
    attempt = current()
    context = ("", "") if attempt is None else (attempt.user_id, attempt.task_id)
    given = [params.get(name) for name in CONTEXT]
    user_id, task_id = (one if type(one) is str and one else other for one, other in zip(given, context, strict=True))
    return user_id, task_id


def _may_be_cached(offer: Offer, offered: Offered, owner: tuple[str, str]) -> bool:
    """As everywhere: where the operation says so, otherwise in a context, if nothing speaks against it."""
    if offer.options.cache is not None or not offer.options.idempotent:
        return bool(offer.options.cache)
    return any(owner) and not offered.stateful


def _check_collisions(executor: IToolExecutor, target: Any, spec: str, params: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(executor.execute_async)
    except (TypeError, ValueError):
        return
    try:
        taken = signature.bind_partial(target, "").arguments
    except TypeError:
        return
    positional = {name for name in taken if signature.parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD}
    if names := sorted(positional & params.keys()):
        text = f"{spec}: the injected executor has a parameter {names[0]!r} of its own, so it cannot pass on that one"
        raise InvalidParamsError(f"{text}; write 'def execute_async(self, tool, operation_name, /, **params)'")


class _Injected:
    """The instance behind every injected tool."""

    def __init__(self, token: str, tool: str) -> None:
        self._token = token
        self._tool = tool

    async def execute(self, name: str, params: dict[str, Any]) -> Any:
        injection = _INJECTIONS.get(self._token)
        if injection is None:
            raise RelayedError(RuntimeUnavailableError("the executor with injected parts was closed"))
        try:
            return await injection.execute(self._tool, name, params)
        except AiecsError as error:
            # What it is was found out already; as an error of a tool's own it would be another one.
            raise RelayedError(error) from error
