from __future__ import annotations

import copy
import dataclasses
import enum
import hashlib
import itertools
import math
import struct
import threading
from collections import namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
from hypothesis import given, settings
from hypothesis import strategies as st

from aiecs_ray.keys import digest

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Shade(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Spot:
    x: Any
    y: Any = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Box(Generic[T]):
    content: T


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True, extra="allow")

    x: Any
    y: Any = 0


class Pair(NamedTuple):
    x: Any
    y: Any


Couple = namedtuple("Couple", "x y")  # noqa: PYI024  # the old form has another base

KINDS: list[Any] = [
    *(None, False, True, 0, 1, -1, 127, 128, 255, 256, -128, -129, 2**64, -(2**64), 10**5000),
    *(0.0, -0.0, 1.0, math.inf, -math.inf, math.nan, 5e-324, 0j, 1 + 0j, complex(0, -0.0), complex(-0.0, 0)),
    *("", "1", "None", "a", "é", "e\u0301", "\ud800", "?", "??", "\ud83d\ude00", "😀", "x" * 2000, "a\0b"),
    *(b"", b"1", b"a", bytearray(), bytearray(b"a"), b"x" * 2000, bytearray(b"x" * 2000)),
    *((), [], {}, set(), frozenset(), (1,), [1], {1}, frozenset({1}), {1: None}, (1, 2), ((1,), 2), (1, (2,))),
    *([[]], [[], []], [[[]]], [()], [None], ["ab"], ["a", "b"], {"a": "b"}, {"b": "a"}, {"a": {"b": 1}}),
    *({1: "x"}, {1.0: "x"}, {"1": "x"}, {b"1": "x"}, {None: "x"}, {(1, 2): "x"}, {True: "x"}, {"a": 1, "b": 2}),
    *(list(range(3000)), tuple(range(3000)), [*range(2999), 0], {"k": list(range(3000))}),
    *(Colour.RED, Colour.GREEN, Shade.RED, Level.LOW, Access.READ, Access.READ | Access.WRITE),
    *(date(2020, 1, 1), datetime(2020, 1, 1), datetime(2020, 1, 1, fold=1), datetime(2020, 1, 1, tzinfo=UTC)),  # noqa: DTZ001
    *(datetime(2020, 1, 1, tzinfo=ZoneInfo("UTC")), datetime(2020, 1, 1, tzinfo=ZoneInfo("Europe/Paris"))),
    *(
        datetime(2020, 1, 1, tzinfo=timezone(timedelta(0), "A")),
        datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    ),
    *(time(1), time(1, tzinfo=UTC), time(1, fold=1), timedelta(0), timedelta(1), timedelta(microseconds=-1)),
    *(Decimal(1), Decimal("1.0"), Decimal("-0"), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("1E+2")),
    *(Decimal(100), Fraction(1, 2), Fraction(1), UUID(int=0), UUID(int=1)),
    *(PurePosixPath("a/b"), PurePosixPath("/a/b"), PureWindowsPath("a/b"), PurePosixPath("a"), PureWindowsPath("a")),
    *(Point(1), Point(1, 1), Point(0, 1), Spot(1), Slotted(1), Slotted(0, 1), Box(1), Box("1"), Point(Point(1))),
    *(Model(x=1), Model(x=1, y=1), Model(x=1, z=1), Pair(1, 2), Couple(1, 2), Pair(2, 1)),
]


def frozen(value: Any) -> Any:  # noqa: PLR0911  # one line for each kind
    """Typed deep equality, written another way: what this makes equal must have equal digests, and no more."""
    kind = type(value)
    if kind is float:
        return kind, struct.pack("d", value)
    if kind is complex:
        return kind, struct.pack("dd", value.real, value.imag)
    if kind is int:
        return kind, hex(value)
    if kind in (list, tuple):
        return kind, tuple(map(frozen, value))
    if kind in (set, frozenset):
        return kind, tuple(sorted(repr(frozen(item)) for item in value))
    if kind is dict:
        return kind, tuple(sorted(repr((frozen(key), frozen(item))) for key, item in value.items()))
    if dataclasses.is_dataclass(value):
        return kind, tuple(frozen(getattr(value, part.name)) for part in dataclasses.fields(value))
    if kind is Decimal:
        return kind, value.as_tuple()
    return kind, repr(value)


scalars = st.one_of(
    st.sampled_from([None, False, True, 0, 1, 1.0, 0.0, -0.0, "", "1", b"", b"1", "a", (), 0j, Colour.RED, Level.LOW]),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters(), max_size=5),
    st.binary(max_size=5),
    st.decimals().filter(lambda number: not number.is_snan()),  # a signalling NaN cannot be a key
    st.fractions(),
    st.datetimes(timezones=st.sampled_from([None, UTC, ZoneInfo("Europe/Paris")])),
    st.timedeltas(),
    st.uuids(),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(scalars, inner, max_size=3),
        st.sets(scalars, max_size=3),
        st.frozensets(scalars, max_size=3),
        st.builds(Point, inner, inner),
        st.builds(Slotted, inner, inner),
    ),
    max_leaves=8,
)


def test_values_of_different_kinds_have_different_digests() -> None:
    for one, other in itertools.combinations(KINDS, 2):
        assert digest(one) != digest(other), (one, other)


def test_a_digest_is_32_bytes_and_the_same_each_time() -> None:
    for value in KINDS:
        assert len(digest(value)) == 32
        assert digest(value) == digest(value) == digest(copy.deepcopy(value))


def test_what_stands_around_a_value_counts() -> None:
    around: list[Any] = [
        lambda v: v,
        lambda v: [v],
        lambda v: (v,),
        lambda v: {"k": v},
        lambda v: [[v]],
        lambda v: [v, v],
    ]
    wrapped = [wrap(value) for value in KINDS for wrap in around]

    assert len(set(map(digest, wrapped))) == len(set(map(repr, map(frozen, wrapped))))


@given(values, values)
@settings(max_examples=300, deadline=None)
def test_digests_are_equal_exactly_where_values_are(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) == (frozen(one) == frozen(other))


@given(values)
@settings(max_examples=200, deadline=None)
def test_a_copy_has_the_same_digest(value: Any) -> None:
    assert digest(copy.deepcopy(value)) == digest(value)


@given(st.dictionaries(scalars, values, max_size=5), st.randoms())
@settings(max_examples=100, deadline=None)
def test_the_order_of_a_dict_does_not_count(value: dict[Any, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)

    assert digest(dict(items)) == digest(value)


@given(st.lists(st.binary(max_size=3), max_size=4), st.lists(st.binary(max_size=3), max_size=4))
def test_neighbours_are_never_taken_for_each_other(one: list[bytes], other: list[bytes]) -> None:
    assert (digest(one) == digest(other)) == (one == other)
    assert (digest(tuple(one)) == digest(tuple(other))) == (one == other)


def test_large_contents_differ_in_any_place() -> None:
    for size in (1023, 1024, 1025, 100_000):
        for place in (0, size // 2, size - 1):
            changed = bytearray(size)
            changed[place] = 1
            assert digest(bytes(changed)) != digest(bytes(size))
            assert digest(list(changed)) != digest([0] * size)


def test_a_digest_is_no_encoding_of_another_value() -> None:
    large = ["x" * 5000]
    folded = hashlib.sha256(b"aiecs-ray/1 ").digest()

    assert digest(large) != digest(digest(large))
    assert digest([digest(large)]) != digest([large])
    assert digest(b"#" + folded) != digest(folded)


def test_ignored_names_are_left_out_of_the_outermost_dict_only() -> None:
    value = {"x": 1, "timestamp": 2, "inner": {"timestamp": 3}}

    assert digest(value, ignore=["timestamp"]) == digest({"x": 1, "inner": {"timestamp": 3}})
    assert digest(value, ignore=["timestamp"]) != digest({"x": 1, "inner": {}})
    assert digest(["timestamp"], ignore=["timestamp"]) == digest(["timestamp"])
    assert digest({"x": 1, "lock": threading.Lock()}, ignore={"lock"}) == digest({"x": 1})


def test_ten_thousand_small_parameter_sets_never_collide() -> None:
    parameters = [{"x": number, "y": kind(number)} for number in range(5_000) for kind in (str, float)]

    assert len(set(map(digest, parameters))) == len(parameters)
