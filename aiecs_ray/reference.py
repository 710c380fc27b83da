"""References from one step to another: ``$result[2].rows[0].name``, ``$result["load"].rows``.

Grammar, over a whole string: ``$result`` then ``[index]`` or ``["id"]``, then any number of ``.name``, ``[index]`` or
``["key"]``. ``$$result[...]`` is the literal text. A look-up reads data only: exact dict keys, list and tuple indexes,
fields of dataclasses, pydantic models and named tuples, entries of an instance's ``__dict__``, columns of a
DataFrame. It runs no property, no descriptor and no method of a user's class (but the ``==`` of a dict's own keys), and
returns nothing callable.
"""

from __future__ import annotations

import json
import operator
import re
import sys
from itertools import chain, islice
from types import GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiecs_ray.errors import InvalidParamsError, ReferenceForbiddenError, ReferencePathError, ReferenceSyntaxError
from aiecs_ray.packing import Slot
from aiecs_ray.quoting import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Path = tuple[str | int, ...]

MAX_DEPTH = 64
"""How deep parameters may nest."""
MAX_REFERENCES = 256
"""How many different references one operation may contain."""
_SHOWN_NAMES = 10
_SHOWN_TEXT = 40
_MAX_DIGITS = 100
# Known by identity: hashing or comparing a class would run its metaclass's code.
_ATOMS = frozenset(map(id, (type(None), bool, int, float, bytes)))
_REMEMBERED = 16
"""Containers with so many others inside are walked once only, wherever they stand."""

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
        element = _element(match, text)
        if elements and type(element) is str and element.startswith("_"):
            raise ReferenceForbiddenError(text, "names that start with '_' are private")
        elements.append(element)
        position = match.end()
    if not elements or text[len(_HEAD)] != "[":
        raise ReferenceSyntaxError(text, "it needs the index or the id of a step, as in $result[0]")
    return Reference(elements[0], tuple(elements[1:]), text)


def _element(match: re.Match[str], text: str) -> str | int:
    if (digits := match["index"]) is not None:
        # An index of thousands of digits is only ever out of range; int() would refuse it.
        return int(digits[:_MAX_DIGITS])
    if (name := match["name"]) is not None:
        return name
    try:
        return str(json.loads(match["key"]))
    except ValueError:
        raise ReferenceSyntaxError(text, "the quoted key is not a valid string") from None


def _problem(text: str, position: int) -> str:
    rest = text[position:]
    if rest.startswith("["):
        return 'an index is written in digits, as in [0], and a key in double quotes, as in ["key"]'
    return f"unexpected {rest[:10]!r}"


def is_literal(params: dict[str, Any]) -> bool:
    """Whether ``params`` are plain values without structure, among which there is no reference and no escaped text.

    >>> is_literal({"n": 3, "path": "a.csv"}), is_literal({"rows": [1]}), is_literal({"n": "$result[0]"})
    (True, False, False)
    """
    for value in params.values():
        if id(type(value)) not in _ATOMS and (type(value) is not str or value[:1] == "$"):
            return False
    return True


class References:
    """Takes the references out of one operation's parameters and leaves slots in their place."""

    __slots__ = ("_known", "_seen", "_visit", "_walked", "inputs")

    def __init__(self, visit: Callable[[Any], Any] | None = None) -> None:
        self.inputs: list[Any] = []
        """What each slot reads, in order: a :class:`Reference`, or what ``visit`` returned."""
        self._known: dict[Any, Slot] = {}
        self._visit = visit
        self._walked = 0
        self._seen: dict[int, tuple[Any, int, Any]] = {}

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
            return self._once(kind, value, depth)
        if self._visit is not None and (source := self._visit(value)) is not None:
            return self.slot(id(value), source)
        return value

    def _once(self, kind: type, value: Any, depth: int) -> Any:
        """Walk a container; lists that hold one another many times over would otherwise take for ever."""
        if (seen := self._seen.get(id(value))) is not None and depth <= seen[1]:
            return seen[2]
        before = self._walked
        self._walked += 1
        after = self._container(kind, value, depth + 1)
        if self._walked - before > _REMEMBERED:
            # With the container itself, so that its id stays its own.
            self._seen[id(value)] = (value, depth, after)
        return after

    def _container(self, kind: type, value: Any, depth: int) -> Any:
        # A container that another thread is changing must be read once.
        names, before = zip(*value.items(), strict=True) if kind is dict and value else ((), list(value))
        walk = self._walk
        after = [part if id(type(part)) in _ATOMS else walk(part, depth) for part in before]
        if all(map(operator.is_, after, before)):
            return value
        if kind is dict:
            return dict(zip(names, after, strict=True))
        return after if kind is list else tuple(after)

    def _text(self, text: str) -> Any:
        if is_reference(text):
            reference = parse(text)
            return self.slot((reference.target, reference.path), reference)
        return text[1:] if _ESCAPED.match(text) and is_reference(text[text.rindex("$") :]) else text


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
            where = f"a value of type {_class_name(type(value))}"
            raise ReferencePathError(text, _shown(element), where, _names(value))
        value = found
    return value


def _entry(value: Any, element: str | int) -> Any:
    kind = type(value)
    if _is_private(element):
        return _MISSING
    if issubclass(kind, dict):
        # The methods of dict itself: a subclass may have replaced its own.
        found = dict.get(value, element, _MISSING)
        if found is not _MISSING or kind is dict:
            return found
    if _is_frame(kind):
        return value[element] if element in value.columns else _MISSING
    return _indexed(kind, value, element) if type(element) is int else _field(kind, value, str(element))


def _field(kind: type, value: Any, name: str) -> Any:
    if name in (fields := _tuple_fields(kind)):
        return _indexed(kind, value, fields.index(name))
    if (found := dict.get(_instance_dict(kind, value), name, _MISSING)) is not _MISSING:
        return found
    return _slot_field(kind, value, name)


def _indexed(kind: type, value: Any, index: int) -> Any:
    if issubclass(kind, list):
        return list.__getitem__(value, index) if index < list.__len__(value) else _MISSING
    if issubclass(kind, tuple):
        return tuple.__getitem__(value, index) if index < tuple.__len__(value) else _MISSING
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is numpy.ndarray and value.ndim and value.dtype.kind != "O":
        return value[index] if index < len(value) else _MISSING
    return _MISSING


def _slot_field(kind: type, value: Any, name: str) -> Any:
    """The field of a dataclass with slots; what a class only claims to be one is none."""
    member = _class_entry(kind, name) if name in _dataclass_fields(kind) else _MISSING
    if type(member) is not MemberDescriptorType:
        return _MISSING
    try:
        return member.__get__(value, kind)
    except (AttributeError, TypeError):
        return _MISSING


def _class_entry(kind: type, name: str) -> Any:
    # Not ``kind.__mro__``: a metaclass may answer that itself.
    for owner in type.__dict__["__mro__"].__get__(kind):
        namespace = type.__dict__["__dict__"].__get__(owner)
        if name in namespace:
            return namespace[name]
    return _MISSING


def _class_name(kind: type) -> str:
    return str(type.__dict__["__name__"].__get__(kind))


def _instance_dict(kind: type, value: Any) -> dict[str, Any]:
    descriptor = _class_entry(kind, "__dict__")
    if type(descriptor) is not GetSetDescriptorType:
        return {}
    try:
        entries = descriptor.__get__(value, kind)
    except (AttributeError, TypeError):
        return {}
    return entries if type(entries) is dict else {}


def _tuple_fields(kind: type) -> tuple[str, ...]:
    """The field names of a named tuple; a class that only looks like one has none."""
    fields = _class_entry(kind, "_fields") if issubclass(kind, tuple) else ()
    return fields if type(fields) is tuple and all(type(name) is str for name in fields) else ()


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
    names: Iterable[Any]
    if issubclass(kind, dict):
        names = list(dict.keys(value))
    elif fields := _tuple_fields(kind):
        names = fields
    elif issubclass(kind, (list, tuple)):
        length = list.__len__(value) if issubclass(kind, list) else tuple.__len__(value)
        return (f"indexes 0 to {length - 1}",) if length else ("nothing: it is empty",)
    elif _is_frame(kind):
        names = value.columns
    else:
        names = chain(_instance_dict(kind, value), _dataclass_fields(kind))
    return tuple(islice(_public(names), _SHOWN_NAMES))


def _public(names: Iterable[Any]) -> Iterator[str]:
    shown: set[str] = set()
    for name in names:
        # Told apart by identity: a metaclass may compare for itself.
        plain = type(name) is str or type(name) is int
        if plain and not _is_private(name) and (text := _shown(name)) not in shown:
            shown.add(text)
            yield text


def _is_private(name: str | int) -> bool:
    return type(name) is str and name.startswith("_")


def _shown(element: str | int) -> str:
    return repr(element[:_SHOWN_TEXT])[:_SHOWN_TEXT] if type(element) is str else shorten(element, _SHOWN_TEXT)
