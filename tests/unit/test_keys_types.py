from __future__ import annotations

import copy
import dataclasses
import enum
import math
import threading
import time
from collections import OrderedDict, defaultdict
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pydantic
import pytest

from aiecs_ray.errors import UncacheableValueError
from aiecs_ray.keys import digest


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0

    @cached_property
    def norm(self) -> float:
        return math.hypot(self.x, self.y)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: Any
    y: Any = 0


class Pair(NamedTuple):
    x: Any
    y: Any


class Unknown:
    pass


def make_liars() -> list[Any]:
    """Return objects whose every hook raises: classes of the user's, and of a metaclass of the user's."""

    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("code of the value's author ran")

    hooks = ["__eq__", "__hash__", "__iter__", "__len__", "__getattribute__", "__getattr__", "__repr__", "__str__"]
    hooks += [
        "__reduce_ex__",
        "__bool__",
        "__index__",
        "__array__",
        "__dataframe__",
        "__fspath__",
        "__lt__",
        "__bytes__",
    ]
    namespace = {**dict.fromkeys(hooks, refuse), "__class__": property(refuse)}
    meta = type(
        "Meta",
        (type,),
        {"__hash__": refuse, "__eq__": refuse, "__instancecheck__": refuse, "__subclasscheck__": refuse},
    )
    bases: list[tuple[type, ...]] = [
        (),
        (dict,),
        (list,),
        (str,),
        (int,),
        (float,),
        (tuple,),
        (bytes,),
        (set,),
        (datetime,),
    ]
    liars: list[Any] = []
    for base in bases:
        kind = meta("Liar", base, namespace)
        arguments = (2020, 1, 1) if base == (datetime,) else ()
        make = object.__new__ if base == () else base[0].__new__
        liars.append(make(kind, *arguments))
    return liars


@pytest.mark.parametrize("index", range(10))
def test_no_code_of_the_author_of_an_unknown_type_runs(index: int) -> None:
    liar = make_liars()[index]

    for value in ([liar], {"k": liar}, (1, (liar,)), Point(liar), Pair(1, liar)):
        with pytest.raises(UncacheableValueError):
            digest(value)


def test_no_code_of_a_record_runs() -> None:
    def refuse(*_: object) -> Any:
        raise AssertionError("code of the value's author ran")

    @dataclasses.dataclass(eq=False)
    class Guarded:
        x: int

        __eq__ = __hash__ = __repr__ = __getattribute__ = __iter__ = __reduce__ = refuse  # type: ignore[assignment]

    class GuardedPair(NamedTuple):
        x: int
        __eq__ = __hash__ = __iter__ = __len__ = __getitem__ = __repr__ = refuse  # type: ignore[assignment]

    class GuardedColour(enum.Enum):
        RED = 1

    GuardedColour.__getattribute__ = refuse  # type: ignore[method-assign, assignment]

    assert digest(Guarded(1)) != digest(Guarded(2))
    assert digest(GuardedPair(1)) != digest(GuardedPair(2))
    assert len(digest(GuardedColour.RED)) == 32


class Zone(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta:
        raise AssertionError("code of the value's author ran")


@dataclasses.dataclass
class DictRecord(dict):  # type: ignore[type-arg]
    x: int = 0


@dataclasses.dataclass
class FloatRecord(float):
    x: int = 0

    __hash__ = float.__hash__


@dataclasses.dataclass
class RecordError(ValueError):
    x: int = 0


UNKNOWN = {
    "an object": Unknown(),
    "a class": int,
    "a function": len,
    "a generator": (n for n in ()),
    "a lock": threading.Lock(),
    "a module": math,
    "a memory view": memoryview(b"a"),
    "a range": range(3),
    "a subclass of dict": OrderedDict(a=1),
    "another subclass of dict": defaultdict(int),
    "a time zone of the user's": datetime(2020, 1, 1, tzinfo=Zone()),
    "a time": time.gmtime(0),
    "a record that is a dict": DictRecord(1),
    "a record that is a number": FloatRecord(1),
    "a record that is an error": RecordError(1),
    "a secret": pydantic.SecretStr("hush"),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_has_no_exact_encoding_has_no_digest(what: str) -> None:
    for value in (UNKNOWN[what], [UNKNOWN[what]], {"k": UNKNOWN[what]}):
        with pytest.raises(UncacheableValueError):
            digest(value)


def test_the_error_says_where_and_what() -> None:
    with pytest.raises(UncacheableValueError) as caught:
        digest({"rows": [1, {"box": Point(1, (0, Unknown()))}]})

    assert caught.value.path == "['rows'][1]['box'].y[1]"
    assert caught.value.type_name.endswith(":Unknown")
    assert caught.value.path in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_the_error_does_not_show_keys_of_unknown_types() -> None:
    with pytest.raises(UncacheableValueError) as caught:
        digest({Unknown(): 1})

    assert caught.value.path.endswith(":Unknown]")


def test_a_cycle_has_no_digest() -> None:
    cycles: list[Any] = [[], {}, Point(0)]
    cycles[0].append(cycles[0])
    cycles[1]["me"] = cycles[1]
    cycles[2].x = [cycles[2]]

    for value in cycles:
        with pytest.raises(UncacheableValueError, match="contains itself"):
            digest(value)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_sixty_four_levels_are_allowed_and_no_more() -> None:
    assert len(digest(nested(64))) == 32

    with pytest.raises(UncacheableValueError, match="64"):
        digest(nested(65))


def test_a_value_met_again_deeper_is_still_too_deep() -> None:
    deep = nested(40)
    deep.extend(range(2000))
    further: Any = deep
    for _ in range(30):
        further = [further]

    with pytest.raises(UncacheableValueError, match="64"):
        digest([deep, further])


def test_a_value_shared_many_times_takes_no_longer() -> None:
    def bomb(leaf: int) -> Any:
        value: Any = {"leaf": leaf}
        for _ in range(60):
            value = [value, value]
        return value

    assert digest(bomb(1)) == digest(copy.deepcopy(bomb(1)))
    assert digest(bomb(1)) != digest(bomb(2))


def test_attributes_that_are_no_fields_count() -> None:
    plain, extended = Point(1), Point(1)
    extended.extra = 2  # type: ignore[attr-defined]

    assert digest(plain) != digest(extended)


def test_attributes_of_a_named_tuple_count() -> None:
    class Extended(Pair):
        pass

    plain, extended = Extended(1, 2), Extended(1, 2)
    extended.extra = 3  # type: ignore[attr-defined]

    assert digest(plain) != digest(extended)
    assert digest(plain) == digest(Extended(1, 2)) != digest(Pair(1, 2))


def test_the_value_of_an_enum_member_counts() -> None:
    def member(value: int) -> enum.Enum:
        class Size(enum.Enum):
            SMALL = value

        return Size.SMALL

    assert digest(member(1)) == digest(member(1)) != digest(member(2))


def test_a_cached_property_does_not_count() -> None:
    fresh, used = Point(3, 4), Point(3, 4)

    assert used.norm == 5.0
    assert digest(fresh) == digest(used)


def test_the_private_state_of_a_model_counts() -> None:
    class Private(pydantic.BaseModel):
        x: int = 1
        _secret: int = pydantic.PrivateAttr(default=0)

    one, other = Private(), Private()
    other._secret = 1

    assert digest(one) == digest(Private())
    assert digest(one) != digest(other)
    assert digest(Private(x=1)) != digest(one), "model_fields_set tells them apart"


def test_an_unset_slot_differs_from_any_value() -> None:
    empty = object.__new__(Slotted)

    assert digest(empty) not in {digest(Slotted(None, None)), digest(Slotted(0))}


@dataclasses.dataclass(frozen=True)
class Marker:
    token: bytes


def marker_token(value: object) -> bytes | None:
    return value.token if type(value) is Marker else None


def test_the_hook_stands_for_values_of_the_callers_own_types() -> None:
    digests = {digest({"df": Marker(token)}, encode=marker_token) for token in (b"", b"a", b"b")}

    assert len(digests) == 3
    assert digest([Marker(b"a")], encode=marker_token) != digest([b"a"])
    assert digest([Marker(b"a")], encode=marker_token) != digest([Marker(b"a")])


def test_a_hook_that_knows_nothing_changes_nothing() -> None:
    value = {"a": [1, Point(2)], "b": Colour.RED}

    assert digest(value, encode=lambda _: None) == digest(value)
    with pytest.raises(UncacheableValueError):
        digest([Unknown()], encode=lambda _: None)


def test_the_hook_is_not_asked_about_plain_values() -> None:
    asked: list[object] = []

    def hook(value: object) -> None:
        asked.append(value)

    digest({"a": [1, "x", (None, {2.0}), date(2020, 1, 1), Decimal(1), PurePosixPath("a")]}, encode=hook)

    assert asked == []
