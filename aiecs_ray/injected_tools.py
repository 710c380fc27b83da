"""What is known of injected tools, and the classes that stand for them in a runtime."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from aiecs_ray.definition import describe
from aiecs_ray.errors import InvalidToolError
from aiecs_ray.options import OPERATION_NAME, OperationOptions
from aiecs_ray.tool import operation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiecs_ray.definition import ToolDef
    from aiecs_ray.options import UnknownParams
    from aiecs_ray.runtime import Runtime

CONTEXT = ("user_id", "task_id")
"""Declared by every operation that stands for another, so that they arrive; passed on where the other declares them."""
LIMITS = frozenset({"rate", "burst", "max_concurrency", "breaker"})
_Kind = inspect._ParameterKind  # noqa: SLF001  # the enumeration has no public name


class Offer(NamedTuple):
    """One operation of an injected tool; of some only the name is known."""

    options: OperationOptions = OperationOptions()
    parameters: tuple[tuple[str, bool], ...] = ()
    """Their names, and whether each is required."""
    accepts_any: bool = True

    def own(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what reaches the operation: the context's ids only if it declares them (C-09)."""
        declared = {name for name, _ in self.parameters}
        return {name: value for name, value in params.items() if name not in CONTEXT or name in declared}


class Offered(NamedTuple):
    """What is known of an injected tool."""

    operations: dict[str, Offer]
    unknown_params: UnknownParams = "drop"
    stateful: bool = False


def of_instance(instance: Any) -> Offered:
    """Return what the class of a provided tool says of itself; of one that cannot be a tool, its methods' names."""
    try:
        definition = describe(type(instance))
    except InvalidToolError:
        names = filter(OPERATION_NAME.fullmatch, dir(type(instance)))
        return Offered({name: Offer() for name in names if callable(inspect.getattr_static(instance, name))})
    return of_definition(definition)


def of_definition(definition: ToolDef, without: frozenset[str] = frozenset()) -> Offered:
    """Return what a description says, but for some options."""
    plain = OperationOptions()
    operations = {}
    for one in definition.operations.values():
        options = replace(one.options, **{name: getattr(plain, name) for name in without})
        parameters = tuple((each.name, each.required) for each in one.parameters)
        operations[one.name] = Offer(options, parameters, one.accepts_any)
    return Offered(operations, definition.options.unknown_params, definition.options.stateful)


def of_registered(runtime: Runtime, name: str) -> Offered:
    """Return what a runtime knows of one of its tools; its limits are left out, as that runtime keeps them itself.

    Raises:
        ToolNotFoundError: it knows none of that name.
    """
    if runtime.registry.has(name):
        return of_definition(runtime.registry.get(name), LIMITS)
    spec, infos = runtime.catalog.tool(name)
    names = {field.name for field in fields(OperationOptions)} - LIMITS
    operations = {}
    for info in infos.values():
        options = OperationOptions(**{name: value for name, value in info.options.items() if name in names})
        required = tuple((name, name in info.required) for name in info.parameters)
        operations[info.name] = Offer(options, required, info.accepts_any)
    return Offered(operations, spec.options.get("unknown_params", "drop"), bool(spec.options.get("stateful")))


def tool_class(base: type, offered: Offered) -> type:
    """Return a subclass of ``base`` with an async operation for each that is offered; it calls ``self.execute``.

    The runtime keeps nothing of the results: whoever executes has the cache.
    """
    return type("Injected", (base,), {name: _method(name, offer) for name, offer in sorted(offered.operations.items())})


def _method(name: str, offer: Offer) -> Any:
    async def run(self: Any, /, **params: Any) -> Any:
        return await self.execute(name, params)

    run.__name__ = name
    run.__qualname__ = f"Injected.{name}"
    run.__annotations__ = {}
    run.__signature__ = _signature(offer)  # type: ignore[attr-defined]  # functions take any attribute
    uncached = replace(offer.options, cache=False, ttl=None, fingerprint={}, ignore=(), writable=(), scope="task")
    return operation(**{field.name: getattr(uncached, field.name) for field in fields(uncached)})(run)


def _signature(offer: Offer) -> inspect.Signature:
    required = {**dict.fromkeys(CONTEXT, False), **dict(offer.parameters)}
    parameters = [inspect.Parameter("self", _Kind.POSITIONAL_ONLY)]
    for name, needed in required.items():
        default = inspect.Parameter.empty if needed else None
        parameters.append(inspect.Parameter(name, _Kind.KEYWORD_ONLY, default=default))
    if offer.accepts_any:
        # A name that is longer than any other is none of them.
        parameters.append(inspect.Parameter("_".join(("others", *required)), _Kind.VAR_KEYWORD))
    return inspect.Signature(parameters)
