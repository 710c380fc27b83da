"""What the readers of :mod:`aiecs_ray.canonical` share: a value taken apart, and safe looks at a class.

A class is read with the descriptors of ``type`` itself: a metaclass of the user's may redefine attribute access.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

mro_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
namespace_of: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__
_module_of: Callable[[type], Any] = type.__dict__["__module__"].__get__
_qualname_of: Callable[[type], str] = type.__dict__["__qualname__"].__get__


class Parts(NamedTuple):
    """A value taken apart: what kind it is, and its parts, each with its step in a path (``""`` where none)."""

    kind: str
    items: list[tuple[str, object]]


class Raw(NamedTuple):
    """The content of a buffer, or of several as if they were one."""

    buffers: Sequence[bytes | memoryview]


class UnencodableError(Exception):
    """``value`` has no exact encoding. ``steps`` lead to it, innermost first."""

    def __init__(self, value: object, reason: str) -> None:
        super().__init__(reason)
        self.type_name, self.reason = class_name(type(value)), reason
        self.steps: list[str] = []

    @property
    def path(self) -> str:
        """Where the value is, such as ``['rows'][0].name``."""
        return "".join(reversed(self.steps))


def module_of(kind: type) -> str:
    """Return the name of the module that ``kind`` says it is from, or ``"?"``."""
    module = _module_of(kind)
    return module if type(module) is str else "?"


def class_name(kind: type) -> str:
    """Return ``module:qualified.name`` of a class.

    >>> class_name(int)
    'builtins:int'
    """
    return f"{module_of(kind)}:{_qualname_of(kind)}"


def class_attribute(kind: type, name: str) -> Any:
    """Return what ``name`` is in the namespaces of ``kind`` and its bases, untouched by descriptors, or None."""
    for base in mro_of(kind):
        if name in namespace_of(base):
            return namespace_of(base)[name]
    return None
