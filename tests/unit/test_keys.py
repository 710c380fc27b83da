from __future__ import annotations

import copy
import dataclasses
import enum
import hashlib
import itertools
import math
import struct
import threading
import time as clock
from collections import OrderedDict, defaultdict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiecs_ray.errors import UncacheableValueError
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

    @cached_property
    def norm(self) -> float:
        return math.hypot(self.x, self.y)


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
    *("", "1", "None", "a", "é", "e\u0301", "\ud800", "\ud83d\ude00", "😀", "x" * 2000, "a\0b"),
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
    *(PurePosixPath("a/b"), PurePosixPath("/a/b"), PureWindowsPath("a/b"), PurePosixPath("a")),
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
    "a time": clock.gmtime(0),
    "a record that is a dict": DictRecord(1),
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
    deep.append("x" * 5000)
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


def test_a_small_dict_takes_microseconds() -> None:
    def seconds() -> float:
        start = clock.perf_counter()
        for _ in range(2_000):
            digest({"x": 1})
        return (clock.perf_counter() - start) / 2_000

    assert min(seconds() for _ in range(5)) < 30e-6
