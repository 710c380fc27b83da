"""Enum members, named tuples, dataclass instances and pydantic models, taken apart without running their code.

A record is its class's qualified name and *all* of its state: the entries of its ``__dict__`` and its slots. An
attribute that is no field may change what an operation computes, so leaving it out would make a weaker key.
"""

from __future__ import annotations

import sys
from enum import Enum
from functools import cached_property
from types import GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, Generic

from aiecs_ray.canonical.parts import Parts, UnencodableError, class_attribute, class_name, mro_of, namespace_of

if TYPE_CHECKING:
    from collections.abc import Callable

_flags_of: Callable[[type], int] = type.__dict__["__flags__"].__get__
_basic_size_of: Callable[[type], int] = type.__dict__["__basicsize__"].__get__

_HEAP_TYPE = 1 << 9
_IMMUTABLE_TYPE = 1 << 8
_POINTER = 8
_HEADER = object.__basicsize__


def record_parts(value: object, kind: type) -> Parts | None:
    """Return the parts of a record, or None where ``value`` is none."""
    if issubclass(kind, Enum):
        return _enum_parts(value, kind)
    if issubclass(kind, tuple):
        return _named_tuple_parts(value, kind)
    if type(class_attribute(kind, "__dataclass_fields__")) is dict or _is_pydantic_model(kind):
        return Parts("record", [("", class_name(kind)), *_state(value, kind)])
    return None


def _is_pydantic_model(kind: type) -> bool:
    model = getattr(sys.modules.get("pydantic.main"), "BaseModel", None)
    return any(base is model for base in mro_of(kind))


def _enum_parts(value: object, kind: type) -> Parts:
    members = dict(_dict_entries(value, kind))
    return Parts("enum", [("", class_name(kind)), ("", members.get("_name_")), (".value", members.get("_value_"))])


def _named_tuple_parts(value: Any, kind: type) -> Parts | None:
    fields = class_attribute(kind, "_fields")
    content = list(tuple.__iter__(value))
    if type(fields) is not tuple or any(type(field) is not str for field in fields) or len(fields) != len(content):
        return None
    if not all(base in (tuple, object) or _is_python_class(base) for base in mro_of(kind)):
        return None
    items: list[tuple[str, object]] = [("", class_name(kind)), ("", fields)]
    items += [(f".{field}", item) for field, item in zip(fields, content, strict=True)]
    items.append(("", tuple(entry for item in sorted(_dict_entries(value, kind)) for entry in item)))
    return Parts("namedtuple", items)


def _is_python_class(kind: type) -> bool:
    """Whether a ``class`` statement made ``kind``: a class made in C may keep state that nobody sees."""
    flags = _flags_of(kind)
    return kind is Generic or (bool(flags & _HEAP_TYPE) and not flags & _IMMUTABLE_TYPE)


def _state(value: object, kind: type) -> list[tuple[str, object]]:
    """Return every attribute of ``value``: each name, followed by its content."""
    bases = [base for base in mro_of(kind) if base is not object]
    slots = [
        (name, slot)
        for base in bases
        for name, slot in namespace_of(base).items()
        if type(slot) is MemberDescriptorType
    ]
    # Beside its slots an instance holds at most one pointer to its dict and one to its weak references.
    if not all(map(_is_python_class, bases)) or _basic_size_of(kind) > _HEADER + _POINTER * (len(slots) + 2):
        raise UnencodableError(value, "its class is built on a type that may hold more than its attributes")
    entries = _dict_entries(value, kind)
    for name, slot in slots:
        try:
            entries.append((name, slot.__get__(value)))
        except AttributeError:
            continue
    entries.sort(key=lambda entry: entry[0])
    return [part for name, item in entries for part in (("", name), (f".{name}", item))]


def _dict_entries(value: object, kind: type) -> list[tuple[str, Any]]:
    """Return what is in the instance's ``__dict__``, but for the cached properties: those follow from the rest."""
    descriptor = class_attribute(kind, "__dict__")
    if descriptor is None:
        return []
    if type(descriptor) is not GetSetDescriptorType:
        raise UnencodableError(value, "its class redefines __dict__")
    entries = list(dict.items(descriptor.__get__(value)))
    if any(type(name) is not str for name, _ in entries):
        raise UnencodableError(value, "its __dict__ has a name that is not a str")
    return [entry for entry in entries if type(class_attribute(kind, entry[0])) is not cached_property]
