"""References from one step to another: ``$result[2].rows[0].name``, ``$result["load"].rows``.

Grammar, over a whole string: ``$result`` then ``[index]`` or ``["id"]``, then any number of ``.name``, ``[index]`` or
``["key"]``. ``$$result[...]`` is the literal text. A look-up reads data only: exact dict keys, list and tuple indexes,
fields of dataclasses, pydantic models and named tuples, entries of an instance's ``__dict__``, columns of a
DataFrame. It runs no property, no descriptor and no method of a user's class, and returns nothing callable.
"""

from __future__ import annotations

import json
import re
import sys
from types import GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiecs_ray.errors import (
    InvalidParamsError,
    ReferenceForbiddenError,
    ReferencePathError,
    ReferenceSyntaxError,
)
from aiecs_ray.packing import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

Path = tuple[str | int, ...]

MAX_DEPTH = 64
"""How deep parameters may nest."""
MAX_REFERENCES = 256
"""How many different references one operation may contain."""
_SHOWN_NAMES = 10
_MAX_DIGITS = 100

_HEAD = "$result"
_ELEMENT = re.compile(
    r"""\.(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | \[(?P<index>0|[1-9][0-9]*)\]
      | \[(?P<key>"(?:[^"\\]|\\.)*")\]""",
    re.VERBOSE | re.ASCII,
)
_ESCAPED = re.compile(r"\$\$+result")
_MISSING: Final = object()


class Reference(NamedTuple):
    """A parsed reference: the step it names, by index or by id, and the path into its result."""

    target: int | str
    path: Path
    text: str


def is_reference(text: str) -> bool:
    """Whether ``text`` has to be a reference: it starts as one and is not escaped.

    >>> is_reference("$result[0]"), is_reference("total: $result[0]"), is_reference("$results of the year")
    (True, False, False)
    """
    if not text.startswith(_HEAD):
        return False
    following = text[len(_HEAD) : len(_HEAD) + 1]
    return not (following.isalpha() or following.isspace() or following == "_")


def parse(text: str) -> Reference:
    """Return the reference that ``text`` is.

    Raises:
        ReferenceSyntaxError: it does not follow the grammar.
        ReferenceForbiddenError: it names something private.

    >>> parse('$result[2].rows[0]["first name"]').path
    ('rows', 0, 'first name')
    """
    elements: list[str | int] = []
    position = len(_HEAD)
    while position < len(text):
        match = _ELEMENT.match(text, position)
        if match is None:
            raise ReferenceSyntaxError(text, _problem(text, position))
        elements.append(_element(match, text))
        position = match.end()
    if not elements or text[len(_HEAD)] != "[":
        raise ReferenceSyntaxError(text, "it needs the index or the id of a step, as in $result[0]")
    return Reference(elements[0], tuple(elements[1:]), text)


def _element(match: re.Match[str], text: str) -> str | int:
    if (digits := match["index"]) is not None:
        # An index of thousands of digits is only ever out of range; int() would refuse it.
        return int(digits[:_MAX_DIGITS])
    if (name := match["name"]) is None:
        try:
            name = json.loads(match["key"])
        except ValueError:
            raise ReferenceSyntaxError(text, "the quoted key is not a valid string") from None
    if name.startswith("_"):
        raise ReferenceForbiddenError(text, "names that start with '_' are private")
    return name


def _problem(text: str, position: int) -> str:
    rest = text[position:]
    if rest.startswith("["):
        return 'an index is written in digits, as in [0], and a key in double quotes, as in ["key"]'
    return f"unexpected {rest[:10]!r}"


class References:
    """Takes the references out of one operation's parameters and leaves slots in their place."""

    __slots__ = ("_known", "_visit", "inputs")

    def __init__(self, visit: Callable[[Any], Any] | None = None) -> None:
        self.inputs: list[Any] = []
        """What each slot reads, in order: a :class:`Reference`, or what ``visit`` returned."""
        self._known: dict[Any, Slot] = {}
        self._visit = visit

    def take_from(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return ``params`` with a slot for every reference and escaped texts unescaped.

        Containers without either are returned as they are.

        Raises:
            InvalidParamsError: they nest deeper than 64 levels or contain themselves, or hold over 256 references.
            ReferenceSyntaxError: a string starts as a reference and is none.
        """
        return self._walk(params, 0)  # type: ignore[no-any-return]

    def slot(self, key: Any, source: Any) -> Slot:
        """Return the slot that reads ``source``; the same one for the same ``key``."""
        if (slot := self._known.get(key)) is None:
            if len(self.inputs) >= MAX_REFERENCES:
                raise InvalidParamsError(f"An operation may contain at most {MAX_REFERENCES} different references")
            slot = self._known[key] = Slot(len(self.inputs))
            self.inputs.append(source)
        return slot

    def _walk(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            return self._text(value) if value[:1] == "$" else value
        if kind is dict or kind is list or kind is tuple:
            if depth >= MAX_DEPTH:
                raise InvalidParamsError(f"Parameters nest deeper than {MAX_DEPTH} levels, or contain themselves")
            return self._container(kind, value, depth + 1)
        if self._visit is not None and (source := self._visit(value)) is not None:
            return self.slot(id(value), source)
        return value

    def _container(self, kind: type, value: Any, depth: int) -> Any:
        # A list that another thread is changing must be read once.
        before = list(value.values()) if kind is dict else list(value)
        after = [self._walk(part, depth) for part in before]
        if all(new is old for new, old in zip(after, before, strict=True)):
            return value
        if kind is dict:
            return dict(zip(value, after, strict=True))
        return after if kind is list else tuple(after)

    def _text(self, text: str) -> Any:
        if is_reference(text):
            reference = parse(text)
            return self.slot((reference.target, reference.path), reference)
        return text[1:] if _ESCAPED.match(text) else text


def look_up(value: Any, path: Path, text: str = "") -> Any:
    """Return what ``path`` leads to inside ``value``, running no user code.

    Raises:
        ReferencePathError: there is no such element; lists up to ten that there are.

    >>> look_up({"rows": [{"name": "Ada"}]}, ("rows", 0, "name"))
    'Ada'
    """
    for element in path:
        found = _entry(value, element)
        if found is _MISSING or _is_code(found):
            raise ReferencePathError(text, _shown(element), f"a value of type {type(value).__name__}", _names(value))
        value = found
    return value


def _entry(value: Any, element: str | int) -> Any:
    kind = type(value)
    if type(element) is str and element.startswith("_"):
        return _MISSING
    if issubclass(kind, dict):
        # The methods of dict itself: a subclass may have replaced its own.
        found = dict.get(value, element, _MISSING)
        if found is not _MISSING or kind is dict:
            return found
    if type(element) is int:
        return _indexed(kind, value, element)
    if (fields := _class_entry(kind, "_fields")) is not _MISSING and issubclass(kind, tuple):
        return tuple.__getitem__(value, fields.index(element)) if element in fields else _MISSING
    if _is_frame(kind):
        return value[element] if element in value.columns else _MISSING
    if (found := dict.get(_instance_dict(kind, value), element, _MISSING)) is not _MISSING:
        return found
    member = _class_entry(kind, element) if element in _dataclass_fields(kind) else _MISSING
    if type(member) is MemberDescriptorType:
        try:
            return member.__get__(value, kind)
        except AttributeError:
            return _MISSING
    return _MISSING


def _indexed(kind: type, value: Any, index: int) -> Any:
    if issubclass(kind, list):
        return list.__getitem__(value, index) if index < list.__len__(value) else _MISSING
    if issubclass(kind, tuple):
        return tuple.__getitem__(value, index) if index < tuple.__len__(value) else _MISSING
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is numpy.ndarray and value.ndim and value.dtype.kind != "O":
        return value[index] if index < len(value) else _MISSING
    return _MISSING


def _class_entry(kind: type, name: str | int) -> Any:
    for owner in type.mro(kind):
        namespace = type.__dict__["__dict__"].__get__(owner)
        if name in namespace:
            return namespace[name]
    return _MISSING


def _instance_dict(kind: type, value: Any) -> dict[str, Any]:
    descriptor = _class_entry(kind, "__dict__")
    if type(descriptor) is GetSetDescriptorType:
        entries = descriptor.__get__(value, kind)
        if type(entries) is dict:
            return entries
    return {}


def _dataclass_fields(kind: type) -> dict[str, Any]:
    fields = _class_entry(kind, "__dataclass_fields__")
    return fields if type(fields) is dict else {}


def _is_frame(kind: type) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and kind is pandas.DataFrame


def _is_code(value: Any) -> bool:
    return callable(value)


def _names(value: Any) -> tuple[str, ...]:
    """Return what a path could have named in ``value``, at most ten."""
    kind = type(value)
    names: list[Any]
    if issubclass(kind, dict):
        names = list(dict.keys(value))
    elif (fields := _class_entry(kind, "_fields")) is not _MISSING and issubclass(kind, tuple):
        names = list(fields)
    elif issubclass(kind, (list, tuple)):
        length = list.__len__(value) if issubclass(kind, list) else tuple.__len__(value)
        return (f"indexes 0 to {length - 1}",) if length else ("nothing: it is empty",)
    elif _is_frame(kind):
        names = list(value.columns)
    else:
        names = [*_instance_dict(kind, value), *(n for n in _dataclass_fields(kind))]
    public = dict.fromkeys(_shown(name) for name in names if type(name) in (str, int) and not _is_private(name))
    return tuple(public)[:_SHOWN_NAMES]


def _is_private(name: str | int) -> bool:
    return isinstance(name, str) and name.startswith("_")


def _shown(element: str | int) -> str:
    return repr(element)[:40]
