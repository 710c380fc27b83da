"""What a tool author imports: the decorators :func:`tool` and :func:`operation`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from aiecs_ray.definition import (
    OPERATION_ATTRIBUTE,
    TOOL_ATTRIBUTE,
    Declaration,
    OperationDef,
    ParameterDef,
    ToolDef,
    check_class,
    describe,
    label,
    snake_case,
)
from aiecs_ray.errors import InvalidToolError
from aiecs_ray.options import OperationOptions, ToolOptions, check_tool_name, make_options
from aiecs_ray.quoting import shorten
from aiecs_ray.registry import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aiecs_ray.messages import RetryOptions, Scope
    from aiecs_ray.options import Fingerprint, UnknownParams

__all__ = [
    "OperationDef",
    "OperationOptions",
    "ParameterDef",
    "ToolDef",
    "ToolOptions",
    "describe",
    "operation",
    "tool",
]

F = TypeVar("F", bound="Callable[..., Any]")
T = TypeVar("T", bound=type)


@overload
def operation(function: F, /) -> F: ...


@overload
def operation(
    *,
    timeout: float | None = None,
    deadline: float | None = None,
    retry: RetryOptions | Mapping[str, Any] | None = None,
    idempotent: bool = True,
    cache: bool | None = None,
    ttl: float | Callable[[Any], float | None] | None = None,
    scope: Scope = "task",
    writable: Iterable[str] = (),
    fingerprint: Mapping[str, Fingerprint] | None = None,
    ignore: Iterable[str] = (),
    tags: Iterable[str] = (),
) -> Callable[[F], F]: ...


def operation(function: Any = None, /, **options: Any) -> Any:
    """Declare a method an operation and say how it is run; the method itself stays as it is.

    The options are those of :class:`OperationOptions`. Works bare too: ``@operation``.

    Raises:
        InvalidToolError: an option is wrong, or this is no method; the message names the method and the value.

    >>> class Mail:
    ...     @operation(idempotent=False, timeout=30)
    ...     def send(self, to: str) -> bool:
    ...         return True
    >>> describe(Mail).operations["send"].options.timeout
    30.0

    """
    if function is not None:
        return _declare_operation(function, options)
    return lambda decorated: _declare_operation(decorated, options)


@overload
def tool(cls: T, /) -> T: ...


@overload
def tool(
    name: str | None = None,
    /,
    *,
    max_replicas: int | None = None,
    min_replicas: int = 0,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: int | None = None,
    resources: Mapping[str, float] | None = None,
    stateful: bool = False,
    concurrency: int | None = None,
    idle_timeout: float = 300.0,
    init_timeout: float = 600.0,
    runtime_env: Mapping[str, Any] | None = None,
    version: str | None = None,
    config: Mapping[str, Any] | None = None,
    unknown_params: UnknownParams = "drop",
) -> Callable[[T], T]: ...


def tool(name: Any = None, /, **options: Any) -> Any:
    """Declare a class a tool and register it; importing its module makes it known.

    The options are those of :class:`ToolOptions`; without a name it is the class name in snake_case.
    Works bare too: ``@tool``.

    Raises:
        InvalidToolError: an option is wrong, or the class cannot be a tool; the message names class and value.
        ToolConflictError: another class has the name.

    >>> @tool("doubler", num_cpus=0.5)
    ... class Doubler:
    ...     def double(self, x: float) -> float:
    ...         return 2 * x
    >>> DEFAULT.unregister("doubler").operations["double"].required
    ('x',)

    """
    if isinstance(name, type) and not options:
        return _declare_tool(name, None, options)
    if name is not None and not isinstance(name, str):
        _refuse_decorating(name)
    return lambda cls: _declare_tool(cls, name, options)


def _declare_operation(function: Any, options: Mapping[str, Any]) -> Any:
    target = function.__func__ if isinstance(function, (staticmethod, classmethod)) else function
    if isinstance(target, (type, property)) or not (callable(target) and hasattr(target, "__get__")):
        raise InvalidToolError(f"@operation decorates methods, got {shorten(target)}")
    setattr(target, OPERATION_ATTRIBUTE, make_options(OperationOptions, options, label(target)))
    return function


def _refuse_decorating(thing: Any) -> NoReturn:
    """Raise for what ``@tool`` was put on, or was called with, and is neither a class nor a name."""
    if inspect.isroutine(thing):
        name = thing.__name__
        text = (
            f"@tool decorates classes, got the function {name!r}: make it a method of a class, @tool class Tools: ..."
        )
        raise InvalidToolError(text)
    if isinstance(thing, type):
        raise InvalidToolError(
            f"@tool got the class {label(thing)} and options together; write @tool(name, ...) above it"
        )
    raise InvalidToolError(f"@tool takes a name and options, and decorates classes; got {shorten(thing)}")


def _declare_tool(cls: Any, name: str | None, options: Mapping[str, Any]) -> Any:
    if inspect.isroutine(cls):
        _refuse_decorating(cls)
    check_class(cls)
    checked = make_options(ToolOptions, options, label(cls))
    setattr(
        cls, TOOL_ATTRIBUTE, Declaration(check_tool_name(snake_case(cls.__name__) if name is None else name), checked)
    )
    DEFAULT.register(cls)
    return cls
