"""Whatever a reference says and whatever a value is: only data comes out, and no code of the value's class runs."""

from __future__ import annotations

import dataclasses
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiecs_ray.errors import ReferenceForbiddenError, ReferencePathError, ReferenceSyntaxError
from aiecs_ray.packing import Slot
from aiecs_ray.reference import References, is_reference, look_up, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Detonated(BaseException):
    """Code of a value's class ran."""


class Field:
    """A field of mines: harmless until it is armed."""

    armed = False


@contextmanager
def armed() -> Iterator[None]:
    Field.armed = True
    try:
        yield
    finally:
        Field.armed = False


def mine(base: type, name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **options: Any) -> Any:
        if Field.armed:
            raise Detonated(name)
        return getattr(base, name)(self, *args, **options)

    return method


def bang(*_: Any) -> Any:
    if Field.armed:
        raise Detonated
    return "harmless"


_LEFT_ALONE = frozenset({"__class__", "__init__", "__new__", "__init_subclass__", "__subclasshook__", "__del__", "mro"})


def mines(base: type) -> dict[str, Any]:
    """Return a method for every method of ``base``, and for those that only an attribute access would find."""
    names = [name for name in dir(base) if callable(getattr(base, name, None)) and name not in _LEFT_ALONE]
    return {name: mine(base, name) for name in names} | {"__getattr__": bang, "__missing__": bang}


class Descriptor:
    """Explodes when it is read."""

    __get__ = __set__ = __delete__ = bang


def answers(*names: str) -> dict[str, Any]:
    return {name: property(bang) for name in names}


Meta: Any = type("Meta", (type,), {**mines(type), **answers("__name__", "__module__", "__mro__", "__dict__")})
"""A metaclass that runs code at every question about its classes."""

TRAPS = {**answers("prop", "a", "x"), "desc": Descriptor()}


def mined(base: type, meta: type, **entries: Any) -> Any:
    """Return a class derived from ``base`` that explodes whatever is done with its instances."""
    return meta(f"Mined{base.__name__.title()}", (base,), mines(base) | TRAPS | entries)


@dataclasses.dataclass(slots=True)
class Slotted:
    x: Any


@dataclasses.dataclass
class Record:
    x: Any


class Pair(NamedTuple):
    left: Any
    right: Any


def makers(meta: type) -> list[Callable[[Any], Any]]:
    """Return functions that make a mined value around another one."""
    table, row, pair = mined(dict, meta), mined(list, meta), mined(tuple, meta)
    named = mined(Pair, meta) if meta is type else mined(tuple, meta, _fields=("left", "right"))
    plain, closed = mined(object, meta), mined(object, meta, __dict__=property(bang))
    liar = mined(object, meta, __dataclass_fields__={"x": None, "left": None}, __slots__=("left",))
    tuple_liar = mined(tuple, meta, _fields=mined(list, type)(["left"]))
    name_liar = mined(tuple, meta, _fields=(mined(str, type)("left"), "right"))
    short = mined(tuple, meta, _fields=("left", "right", "x"))
    foreign = mined(object, meta, __dict__=vars(type(bang))["__dict__"])
    borrowed = mined(object, meta, __dataclass_fields__={"x": 1}, x=vars(Slotted)["x"])
    thief = mined(object, meta, __dict__=vars(type)["__dict__"])

    def filled(cls: Any) -> Callable[[Any], Any]:
        def make(inner: Any) -> Any:
            value = object.__new__(cls)
            object.__getattribute__(value, "__dict__").update({"a": inner, "left": inner, "_x": SECRET})
            return value

        return make

    return [
        lambda inner: table({"a": inner, 0: inner, "_x": SECRET}),
        lambda inner: row([inner, inner]),
        lambda inner: pair((inner, inner)),
        (lambda inner: named(inner, inner)) if meta is type else (lambda inner: named((inner, inner))),
        filled(plain),
        lambda _: object.__new__(closed),
        lambda _: object.__new__(liar),
        lambda inner: tuple_liar((inner,)),
        lambda inner: name_liar((inner, inner)),
        lambda inner: short((inner,)),
        lambda _: object.__new__(foreign),
        lambda _: object.__new__(borrowed),
        lambda _: object.__new__(thief),
        lambda _: plain,
        lambda _: mined(str, meta)("text"),
        lambda _: mined(int, meta)(5),
    ]


SECRET = ["private"]
MAKERS = [*makers(type), *makers(Meta)]
NAMES = ("a", "x", "left", "right", "prop", "desc", "rows", "get", "keys", "append", "count", "columns", "mro")
PRIVATE = tuple({*dir(type), *dir(dict), *dir(tuple), *dir(pd.DataFrame), "__getattr__", "_x", "_fields", "__dict__"})

leaves = st.sampled_from(MAKERS).map(lambda make: make(1)) | st.none() | st.integers() | st.text(max_size=3)
values = st.recursive(
    leaves,
    lambda inner: (
        st.builds(lambda make, value: make(value), st.sampled_from(MAKERS), inner)
        | st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=2)
        | st.builds(Slotted, inner)
        | st.builds(Record, inner)
        | st.builds(lambda value: Pair(value, value), inner)
    ),
    max_leaves=4,
)
elements = st.sampled_from(NAMES) | st.integers(0, 2) | st.sampled_from(PRIVATE)
paths = st.lists(elements, min_size=1, max_size=4).map(tuple)


@settings(max_examples=600, deadline=None)
@given(values, paths)
def test_a_look_up_runs_no_code_and_returns_only_data(value: Any, path: tuple[str | int, ...]) -> None:
    with armed():
        try:
            found = look_up(value, path, "$result[0]")
        except ReferencePathError:
            return

        assert not any(type(element) is str and element.startswith("_") for element in path)
        assert not callable(found)
        assert found is not SECRET


@pytest.mark.parametrize("maker", range(len(MAKERS)))
def test_no_trap_of_any_kind_of_value_goes_off(maker: int) -> None:
    value = MAKERS[maker](1)
    names: tuple[str | int, ...] = (*NAMES, *PRIVATE, 0, 1, 5)

    with armed():
        outcomes = [outcome(value, name) for name in names]

    assert all(found in (1, None) for found, _ in outcomes)
    assert not any(SECRET[0] in text for _, text in outcomes)


def outcome(value: Any, name: str | int) -> tuple[Any, str]:
    try:
        return look_up(value, (name,), "$result[0]"), ""
    except ReferencePathError as error:
        return None, str(error)


def test_the_traps_do_go_off_when_somebody_looks_in_another_way() -> None:
    value = MAKERS[len(MAKERS) // 2 + 4](1)

    with armed(), pytest.raises(Detonated):
        value.a  # noqa: B018  # reading it is the point
    with armed(), pytest.raises(Detonated):
        type(value).__name__  # noqa: B018  # as above


@pytest.mark.parametrize("value", [{}, [], (), Pair(1, 2), Record(1), Slotted(1), pd.DataFrame(), np.zeros(3), 1, "a"])
def test_no_attribute_of_a_built_in_is_found(value: Any) -> None:
    names = [name for name in dir(value) if name not in ("x", "left", "right")]

    for name in names:
        with pytest.raises(ReferencePathError):
            look_up(value, (name,))


data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


def walk(value: Any, path: tuple[str | int, ...]) -> Any:
    for element in path:
        if (type(value), type(element)) not in ((dict, str), (list, int)):
            raise LookupError
        value = value[element]
    return value


@settings(max_examples=300, deadline=None)
@given(data, st.data())
def test_a_look_up_in_plain_data_finds_what_indexing_finds(value: Any, choose: st.DataObject) -> None:
    path: list[str | int] = []
    here = value
    while here and type(here) in (dict, list) and choose.draw(st.booleans()):
        options = list(here) if type(here) is dict else list(range(len(here)))
        step = choose.draw(st.sampled_from(options) | st.text(max_size=2) | st.integers(0, 4))
        path.append(step)
        try:
            here = walk(here, (step,))
        except LookupError:
            break

    try:
        expected = walk(value, tuple(path))
    except LookupError:
        expected = ReferencePathError
    if any(type(step) is str and step.startswith("_") for step in path):
        expected = ReferencePathError

    if expected is ReferencePathError:
        with pytest.raises(ReferencePathError):
            look_up(value, tuple(path))
    else:
        assert look_up(value, tuple(path)) is expected


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet='[]".\\_$01aé \n-', max_size=12) | st.text(max_size=8))
def test_any_text_is_a_reference_or_refused_or_text(tail: str) -> None:
    text = f"$result{tail}"
    references = References()

    try:
        taken = references.take_from({"text": text})["text"]
    except ReferenceSyntaxError:
        taken = None

    if taken is None:
        assert is_reference(text)
    elif is_reference(text):
        (reference,) = references.inputs
        assert type(taken) is Slot
        assert not any(type(part) is str and part.startswith("_") for part in reference.path)
    else:
        assert (taken, references.inputs) == (text, [])


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)
parts = st.integers(0, 10**30) | names | st.text(max_size=6)


def written(part: str | int, *, dotted: bool) -> str:
    if type(part) is int:
        return f"[{part}]"
    name = str(part)
    return f".{name}" if dotted and name.isascii() and name.isidentifier() else f"[{json.dumps(name)}]"


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 99) | st.text(max_size=6), st.lists(parts, max_size=4), st.booleans())
def test_what_was_written_is_what_is_read(target: int | str, path: list[int | str], dotted: Any) -> None:
    text = "$result" + written(target, dotted=False) + "".join(written(part, dotted=dotted) for part in path)

    if any(type(part) is str and part.startswith("_") for part in path):
        with pytest.raises(ReferenceForbiddenError):
            parse(text)
    else:
        assert parse(text) == (target, tuple(path), text)


literals = st.text(max_size=6) | st.builds(
    "{}result{}".format, st.text("$", max_size=3), st.text(" [0].s_", max_size=4)
)


@settings(max_examples=300, deadline=None)
@given(literals)
def test_every_text_can_be_said_literally(text: str) -> None:
    needs_escape = text.startswith("$") and is_reference("$" + text.lstrip("$"))
    escaped = f"${text}" if needs_escape else text
    references = References()

    assert references.take_from({"text": escaped}) == {"text": text}
    assert references.inputs == []
