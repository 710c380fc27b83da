"""Type hints: resolved one by one, turned into validators and into JSON Schema by pydantic."""

from __future__ import annotations

import collections.abc
import inspect
import math
import re
import types
import typing
from typing import TYPE_CHECKING, Any, Optional, TypeVar

from pydantic import ConfigDict, PydanticUserError, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, SchemaError, to_jsonable_python

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from pydantic.json_schema import JsonSchemaValue

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_CONFIG = ConfigDict(arbitrary_types_allowed=True)
_LAZY = (
    collections.abc.Iterable,
    collections.abc.Iterator,
    collections.abc.Generator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
)
"""Pydantic would replace a value of these by an iterator of its own, which has no length and can be read once."""
_UNUSABLE = (PydanticUserError, SchemaError, NameError, TypeError, ValueError, AttributeError, RecursionError)
"""What pydantic and typing raise for a hint they can do nothing with."""
_SECTION = re.compile(r"(?:Args|Arguments|Parameters):\s*$", re.MULTILINE)
_ARGUMENT = re.compile(r"\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s*(.*)")
_SPHINX = re.compile(r"^\s*:param\s+(?:[^:]*\s)?(\w+):\s*(.*?)(?=^\s*:|\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


def resolve(function: Callable[..., Any], owner: type | None = None) -> dict[str, Any]:
    """Return the type hints of a function, without those that cannot be resolved.

    A name may be missing because it is imported for type checkers only, or local to another function.

    >>> def area(width: float, height: "float", unit: "Unknown"): ...
    >>> resolve(area)
    {'width': <class 'float'>, 'height': <class 'float'>}
    """
    plain = inspect.unwrap(function)
    try:
        return typing.get_type_hints(plain, include_extras=True)
    except _UNUSABLE:
        pass
    annotations = getattr(plain, "__annotations__", {})
    found = {name: _resolve_one(plain, owner, annotation) for name, annotation in annotations.items()}
    return {name: hint for name, hint in found.items() if hint is not inspect.Parameter.empty}


def _resolve_one(function: Callable[..., Any], owner: type | None, annotation: Any) -> Any:
    alone = types.SimpleNamespace(__annotations__={"it": annotation})
    names = getattr(function, "__globals__", {})
    for local in ({}, dict(vars(owner)) if owner is not None else {}):
        try:
            return typing.get_type_hints(alone, names, local, include_extras=True)["it"]
        except _UNUSABLE:
            continue
    return inspect.Parameter.empty


def parameter_hints(function: Callable[..., Any], owner: type | None = None) -> dict[str, Any]:
    """Return the hints of the parameters; a parameter whose default is None accepts None.

    >>> def head(n: int = None) -> list: ...
    >>> parameter_hints(head)
    {'n': typing.Optional[int]}
    """
    hints = resolve(function, owner)
    hints.pop("return", None)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            hints.pop(name, None)
        elif name in hints and parameter.default is None and hints[name] is not Any:
            hints[name] = Optional[hints[name]]  # noqa: UP045  # the hint may be text that "|" does not take
    return hints


def adapter(hint: Any) -> TypeAdapter[Any] | None:
    """Return what checks and coerces values of a hint; None where every value is right or the hint says nothing.

    >>> adapter(int).validate_python("3")
    3
    >>> adapter(Any) is None
    True
    """
    if hint is Any or hint is object or hint is inspect.Parameter.empty or isinstance(hint, TypeVar):
        return None
    if _mentions_lazy(hint):
        return None
    return _build(hint, _CONFIG)


def _build(hint: Any, config: ConfigDict | None) -> TypeAdapter[Any] | None:
    try:
        built: TypeAdapter[Any] = TypeAdapter(hint, config=config)
    except PydanticUserError as error:
        # A model, dataclass or TypedDict has a configuration of its own.
        return _build(hint, None) if error.code == "type-adapter-config-unused" else None
    except _UNUSABLE:
        return None
    # A model that mentions names still unknown would raise at the first value.
    return built if built.pydantic_complete else None


def _mentions_lazy(hint: Any) -> bool:
    if (typing.get_origin(hint) or hint) in _LAZY:
        return True
    return any(_mentions_lazy(part) for part in typing.get_args(hint) if not _is_literal(hint))


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Literal


def parameters_schema(
    function: Callable[..., Any], owner: type, names: Collection[str], *, any_name: bool
) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a function's parameters: an object, closed unless ``any_name``.

    >>> def head(n: int = 5): ...
    >>> parameters_schema(head, object, ["n"], any_name=False)["properties"]
    {'n': {'type': 'integer', 'default': 5}}
    """
    hints = parameter_hints(function, owner)
    schemas, definitions = _schemas({name: hints.get(name, Any) for name in names})
    described = argument_docs(inspect.getdoc(function) or "")
    properties: dict[str, Any] = {}
    required = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in names:
            continue
        schema = properties[name] = schemas[name]
        if name in described:
            schema.setdefault("description", described[name])
        if parameter.default is inspect.Parameter.empty:
            required.append(name)
        else:
            schema.update(_default(parameter.default))
    return {
        "$schema": DIALECT,
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": any_name,
        **definitions,
    }


def result_schema(function: Callable[..., Any], owner: type) -> dict[str, Any] | None:
    """Return the JSON Schema of what a function returns, as far as its annotation says; None without one."""
    hints = resolve(function, owner)
    if "return" not in hints:
        return None
    schemas, definitions = _schemas({"return": hints["return"]}, "serialization")
    schema = schemas["return"]
    reference = schema.pop("$ref", "")
    # Readers of a result's schema look for its type at the root.
    root = definitions.get("$defs", {}).get(reference.rpartition("/")[2], {})
    return {"$schema": DIALECT, **root, **schema, **definitions}


def argument_docs(doc: str) -> dict[str, str]:
    r"""Return what a docstring says of each parameter, in Google's or Sphinx's form.

    >>> argument_docs("Read.\n\nArgs:\n    path (str): where it\n        lies.\n    n: how many.")
    {'path': 'where it lies.', 'n': 'how many.'}
    """
    found = {name: " ".join(text.split()) for name, text in _SPHINX.findall(doc)}
    section = _SECTION.search(doc)
    if section is None:
        return found
    indent, current = -1, ""
    for line in doc[section.end() :].splitlines()[1:]:
        depth = len(line) - len(line.lstrip())
        if not line.strip() or depth == 0:
            break
        indent = depth if indent < 0 else indent
        argument = _ARGUMENT.match(line.strip()) if depth == indent else None
        if argument is not None:
            current = argument[1]
            found[current] = argument[2]
        elif current:
            found[current] = f"{found[current]} {line.strip()}".strip()
    return found


class _Generator(GenerateJsonSchema):
    """Says in words what JSON Schema cannot say, and never fails or warns for it."""

    ignored_warning_kinds = {  # noqa: RUF012  # the base class declares it so
        "skipped-choice",
        "non-serializable-default",
        "skipped-discriminator",
    }

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:  # noqa: ARG002
        cls = schema.get("cls")
        name = cls.__qualname__ if isinstance(cls, type) else str(schema.get("type", "unknown"))
        return {"description": _in_words(name)}


def _in_words(name: str) -> str:
    return f"A Python value of type {name}"


def _schemas(hints: Mapping[str, Any], mode: str = "validation") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a schema per name, and the definitions they share."""
    adapters = {name: adapter(hint) for name, hint in hints.items()}
    schemas: dict[str, Any] = {}
    inputs = []
    for name, built in adapters.items():
        if built is None:
            schemas[name] = {} if hints[name] is Any else {"description": _in_words(_hint_text(hints[name]))}
        else:
            inputs.append((name, mode, built))
    made, rest = TypeAdapter.json_schemas(inputs, schema_generator=_Generator)  # type: ignore[arg-type]
    schemas.update({name: dict(schema) for (name, _), schema in made.items()})
    return schemas, {key: value for key, value in rest.items() if key == "$defs"}


def _hint_text(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _default(value: Any) -> dict[str, Any]:
    """The default as JSON, where JSON has it."""
    if isinstance(value, float) and not math.isfinite(value):
        return {}
    try:
        return {"default": to_jsonable_python(value)}
    except (PydanticSerializationError, ValueError):
        return {}
