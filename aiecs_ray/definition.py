"""What a class offers as a tool: its operations, found by looking at the class and never by running it."""

from __future__ import annotations

import inspect
import re
import reprlib
from dataclasses import dataclass, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aiecs_ray.code_version import code_version
from aiecs_ray.errors import InvalidToolError
from aiecs_ray.hints import parameters_schema, result_schema
from aiecs_ray.options import (
    ASYNC_CONCURRENCY,
    OPERATION_NAME,
    OperationOptions,
    ToolOptions,
    check_tool_name,
    make_options,
)
from aiecs_ray.quoting import alternatives, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

OPERATION_ATTRIBUTE = "__aiecs_operation__"
TOOL_ATTRIBUTE = "__aiecs_tool__"
SYSTEM_NAMES = ("user_id", "task_id", "op")
"""Names of the envelope: a parameter of that name reaches an operation only if it declares it (C-09)."""

_Kind = inspect._ParameterKind  # noqa: SLF001  # the enumeration has no public name
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SHOWN = (type(None), bool, int, float, str, bytes, tuple, list, dict, set, frozenset)


@dataclass(frozen=True, slots=True)
class ParameterDef:
    """One parameter of an operation, as text: nothing of the tool is needed to show it."""

    name: str
    required: bool
    annotation: str = ""
    default: str | None = None
    """The default as Python shows it; None when there is none."""


@dataclass(frozen=True, eq=False)
class OperationDef:
    """One operation of a tool."""

    tool: str
    name: str
    function: Callable[..., Any]
    """As the class defines it, without an instance."""
    owner: type
    options: OperationOptions
    parameters: tuple[ParameterDef, ...]
    accepts_any: bool
    """It declares ``**kwargs``, so that any parameter name is right."""
    is_async: bool
    receiver: str | None
    """The name of ``self`` (of ``cls``); None for a static method."""

    @property
    def spec(self) -> str:
        """The name by which it is called, ``tool.operation``."""
        return f"{self.tool}.{self.name}"

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the parameters."""
        return frozenset(parameter.name for parameter in self.parameters)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The names of the parameters without a default, in order."""
        return tuple(parameter.name for parameter in self.parameters if parameter.required)

    @property
    def takes_user_id(self) -> bool:
        """Whether the signature declares ``user_id`` (contradiction C-09)."""
        return "user_id" in self.names

    @property
    def takes_task_id(self) -> bool:
        """Whether the signature declares ``task_id`` (contradiction C-09)."""
        return "task_id" in self.names

    @cached_property
    def doc(self) -> str:
        """The whole docstring, dedented; empty when there is none."""
        return inspect.getdoc(self.function) or ""

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return self.doc.partition("\n")[0]

    @cached_property
    def schema(self) -> Mapping[str, Any]:
        """The JSON Schema (2020-12) of the parameters.

        A type that JSON Schema cannot say, such as a DataFrame, is ``{}`` with a description that names it.
        """
        return parameters_schema(self.function, self.owner, self.names, any_name=self.accepts_any)

    @cached_property
    def result_schema(self) -> Mapping[str, Any] | None:
        """The JSON Schema of the result, as far as the return annotation says it; None without one."""
        return result_schema(self.function, self.owner)


@dataclass(frozen=True, eq=False)
class ToolDef:
    """A class, the name it is called by, and everything known of it without running it."""

    name: str
    cls: type
    options: ToolOptions
    operations: Mapping[str, OperationDef]

    def __repr__(self) -> str:
        return f"<tool {self.name}: {', '.join(self.operations)}>"

    @cached_property
    def version(self) -> str:
        """The code version: the author's, or one made from the source.

        It is computed when first asked for: a decorator runs before the rest of its module exists.
        """
        return self.options.version or code_version(self.cls)

    @property
    def has_async(self) -> bool:
        """Whether any operation is a coroutine function."""
        return any(operation.is_async for operation in self.operations.values())

    @property
    def doc(self) -> str:
        """The class's own docstring, dedented; empty when there is none."""
        return inspect.cleandoc(self.cls.__doc__) if isinstance(self.cls.__doc__, str) else ""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What ``@tool`` leaves on a class."""

    name: str
    options: ToolOptions


def describe(cls: type, name: str | None = None, **overrides: Any) -> ToolDef:
    """Return what ``cls`` offers as a tool; the class may be decorated or plain.

    Its operations are the public methods of the class and its bases. When at least one of them is decorated with
    ``@operation``, only the decorated ones are. Class methods and static methods are operations only if decorated.

    Args:
        cls: the class.
        name: the tool's name; otherwise the one of ``@tool``, otherwise the class name in snake_case.
        overrides: options of ``@tool`` that replace the decorated ones.

    Raises:
        InvalidToolError: the class cannot be a tool; the message says why.

    >>> class Greeter:
    ...     def greet(self, name: str) -> str:
    ...         return f"Hello, {name}!"
    >>> definition = describe(Greeter)
    >>> definition.name, list(definition.operations)
    ('greeter', ['greet'])

    """
    check_class(cls)
    declaration = cls.__dict__.get(TOOL_ATTRIBUTE)
    options = _options(cls, declaration, overrides)
    name = check_tool_name(name if name is not None else _default_name(cls, declaration))
    operations = {operation.name: operation for operation in _operations(cls, name)}
    if options.concurrency is None:
        any_async = any(operation.is_async for operation in operations.values())
        options = replace(options, concurrency=ASYNC_CONCURRENCY if any_async else 1)
    _check_config(cls, options)
    return ToolDef(name, cls, options, MappingProxyType(operations))


def check_class(cls: Any) -> None:
    """Raise InvalidToolError unless ``cls`` is a class that can be constructed."""
    if any(kind.__module__ == "ray.actor" for kind in type(cls).__mro__):
        raise InvalidToolError(
            "the class is already a Ray actor (@ray.remote); remove @ray.remote: a tool is a plain class, "
            "and its replicas are made by the runtime"
        )
    if not isinstance(cls, type):
        raise InvalidToolError(
            f"expected a class, got {shorten(cls)}; pass the class itself, and its constructor's arguments as config="
        )
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise InvalidToolError(f"{label(cls)} is abstract ({missing}): it cannot be constructed")


def label(thing: Any) -> str:
    """Return ``module.qualname`` of a class or function, for error messages."""
    return f"{getattr(thing, '__module__', '?')}.{getattr(thing, '__qualname__', type(thing).__name__)}"


def snake_case(name: str) -> str:
    """Return a class name in snake_case.

    >>> snake_case("HTTPClient2Tool")
    'http_client2_tool'
    """
    return _WORDS.sub("_", name.strip("_")).lower()


def find_member(cls: type, name: str) -> tuple[Any, type]:
    """Return what ``name`` is in the class that defines it, and that class; no descriptor runs.

    Raises:
        AttributeError: no class of the MRO defines it.

    """
    for owner in cls.__mro__:
        if name in owner.__dict__:
            return owner.__dict__[name], owner
    raise AttributeError(name)


def _default_name(cls: type, declaration: Declaration | None) -> str:
    return declaration.name if declaration is not None else snake_case(cls.__name__)


def _options(cls: type, declaration: Declaration | None, overrides: Mapping[str, Any]) -> ToolOptions:
    """A class decorated itself keeps its options; a subclass takes all but the version of its nearest base's."""
    if declaration is not None:
        options = declaration.options
    else:
        inherited: Declaration | None = getattr(cls, TOOL_ATTRIBUTE, None)
        options = ToolOptions() if inherited is None else replace(inherited.options, version=None)
    given = {option.name: getattr(options, option.name) for option in fields(options)}
    return make_options(ToolOptions, {**given, **overrides}, label(cls)) if overrides else options


def _operations(cls: type, tool: str) -> Iterator[OperationDef]:
    members = _members(cls)
    decorated = {name for name in members if _declared(cls, name) is not None}
    chosen = decorated or {name for name, (member, _) in members.items() if _is_method(member)}
    if not chosen:
        raise InvalidToolError(f"{label(cls)} has no public operations: give it a method whose name has no leading '_'")
    for name in members:
        if name in chosen:
            yield _operation(cls, tool, name, *members[name])


def _members(cls: type) -> dict[str, tuple[Any, type]]:
    """The public names of the class and what defines them, the bases' first."""
    names: dict[str, None] = {}
    for owner in reversed(cls.__mro__[:-1]):
        names.update(dict.fromkeys(owner.__dict__))
    public = {name: find_member(cls, name) for name in names if not name.startswith("_")}
    for name in names:
        if name.startswith("_") and not name.startswith("__") and _declared(cls, name) is not None:
            raise InvalidToolError(f"{label(cls)}.{name}: a private method cannot be an operation")
    return public


def _declared(cls: type, name: str) -> OperationOptions | None:
    """An override keeps the options of the method it overrides, unless it is decorated itself."""
    for owner in cls.__mro__:
        member = owner.__dict__.get(name)
        if member is None:
            continue
        options = getattr(_plain(member), OPERATION_ATTRIBUTE, None)
        if isinstance(options, OperationOptions):
            return options
    return None


def _plain(member: Any) -> Any:
    return member.__func__ if isinstance(member, (staticmethod, classmethod)) else member


def _is_method(member: Any) -> bool:
    """Functions, and wrappers of functions that bind as methods do (``functools.lru_cache``)."""
    if isinstance(member, (staticmethod, classmethod, type)):
        return False
    return inspect.isfunction(member) or (inspect.isfunction(inspect.unwrap(member)) and hasattr(member, "__get__"))


def _operation(cls: type, tool: str, name: str, member: Any, owner: type) -> OperationDef:
    where = f"{label(cls)}.{name}"
    if OPERATION_NAME.fullmatch(name) is None:
        raise InvalidToolError(
            f"{where}: an operation's name is up to 64 ASCII letters, digits and '_', a small letter first; "
            "rename it, or decorate only the others with @operation"
        )
    function = _plain(member)
    if not callable(function):
        raise InvalidToolError(f"{where} hides an operation of a base class, but is no method")
    signature = list(inspect.signature(function).parameters.values())
    receiver = None
    if not isinstance(member, staticmethod):
        receiver = _receiver(where, signature)
        signature = signature[1:]
    _check_parameters(where, signature)
    named = [parameter for parameter in signature if parameter.kind is not _Kind.VAR_KEYWORD]
    operation = OperationDef(
        tool=tool,
        name=name,
        function=function,
        owner=owner,
        options=_declared(cls, name) or OperationOptions(),
        parameters=tuple(map(_parameter, named)),
        accepts_any=len(named) < len(signature),
        is_async=inspect.iscoroutinefunction(function),
        receiver=receiver,
    )
    _check_names(where, operation)
    return operation


def _receiver(where: str, signature: list[inspect.Parameter]) -> str:
    if signature and signature[0].kind in (_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD):
        return signature[0].name
    raise InvalidToolError(f"{where} takes no self: make it a method, or decorate it with @operation and @staticmethod")


def _check_parameters(where: str, signature: list[inspect.Parameter]) -> None:
    for parameter in signature:
        if parameter.kind is _Kind.POSITIONAL_ONLY:
            raise InvalidToolError(f"{where}: {parameter.name} is positional-only, but parameters are passed by name")
        if parameter.kind is _Kind.VAR_POSITIONAL:
            raise InvalidToolError(f"{where}: *{parameter.name} cannot be passed by name; take a list")


def _check_names(where: str, operation: OperationDef) -> None:
    if operation.accepts_any:
        return
    options = operation.options
    named = (("writable", options.writable), ("ignore", options.ignore), ("fingerprint", tuple(options.fingerprint)))
    for option, names in named:
        for name in names:
            if name not in operation.names:
                raise InvalidToolError(
                    f"{where}: {option} names {shorten(name)!r}, which is no parameter"
                    f"{alternatives(name, sorted(operation.names))}"
                )


def _parameter(parameter: inspect.Parameter) -> ParameterDef:
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        text = ""
    else:
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    required = parameter.default is inspect.Parameter.empty
    return ParameterDef(parameter.name, required, text, None if required else _shown(parameter.default))


def _shown(default: object) -> str:
    if type(default) in _SHOWN:
        return reprlib.repr(default)
    return default.__qualname__ if isinstance(default, type) else f"a value of type {type(default).__name__}"


def check_complete(tool: ToolDef) -> None:
    """Raise InvalidToolError where the constructor needs arguments that ``config`` does not give."""
    try:
        signature = inspect.signature(tool.cls)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(**tool.options.config)
    except TypeError as error:
        raise InvalidToolError(
            f"{label(tool.cls)} cannot be constructed: {error}; give its constructor's arguments as config={{...}}"
        ) from None


def _check_config(cls: type, options: ToolOptions) -> None:
    """A name the constructor does not know is wrong for ever; a missing one may still be given at registration."""
    try:
        signature = inspect.signature(cls)
    except (TypeError, ValueError):
        return
    try:
        signature.bind_partial(**options.config)
    except TypeError as error:
        known = ", ".join(signature.parameters) or "none"
        raise InvalidToolError(
            f"{label(cls)}: config does not fit the constructor: {error} (it takes {known})"
        ) from None
