from __future__ import annotations

import array
import contextlib
import enum
import gc
import io
import math
import operator
import pickle
import socket
import subprocess
import sys
import threading
import types
from collections import OrderedDict, namedtuple
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiecs_ray import packing
from aiecs_ray.errors import ResultInvalidError
from aiecs_ray.packing import (
    SHARED_BYTES,
    Packed,
    Slot,
    as_packed,
    from_payload,
    inline,
    is_foreign,
    pack,
    payload_identity,
    summarise,
    to_payload,
    unpack,
    writable,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LARGE = SHARED_BYTES // 8


class Colour(enum.Enum):
    RED = 1


class Point:
    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    __hash__ = None  # type: ignore[assignment]


class Pair(NamedTuple):
    left: Any
    right: Any


Couple = namedtuple("Couple", "left right")  # noqa: PYI024  # the old form has another base


class OneWay:
    """Can be pickled, and not be read again."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return operator.truediv, (1, 0)


class Stubborn:
    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("not me")


class Mute(Exception):  # noqa: N818  # its text is what matters
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Silent:
    def __reduce__(self) -> tuple[Any, ...]:
        raise Mute


def crossed(value: Any) -> Any:
    return unpack(pack(value, trial=True))


def refusal(value: Any, *, trial: bool = False) -> str:
    with pytest.raises(ResultInvalidError) as caught:
        pack(value, trial=trial)
    return str(caught.value)


async def nothing() -> None:
    """Be a coroutine."""


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        2**5000,
        1.5,
        -0.0,
        math.inf,
        "",
        "text \ud800 \0",
        b"bytes",
        bytearray(b"x"),
        [],
        (),
        {},
        {1: "a", None: 2, ("t",): 3},
        {"nested": [{"a": (1, {2})}]},
        frozenset({1}),
        1 + 2j,
        datetime(2026, 1, 1, tzinfo=UTC),
        Decimal("1.10"),
        Colour.RED,
        Point([1]),
        Pair(1, [2]),
        Couple(1, 2),
        OrderedDict(b=1, a=2),
        range(3),
        slice(1, 2),
        array.array("d", [1.0]),
        [None] * 65,
        {str(index): index for index in range(100)},
        ("long " * 10_000,),
    ],
)
def test_a_value_arrives_equal_and_of_its_type(value: Any) -> None:
    arrived = crossed(value)

    assert arrived == value
    assert type(arrived) is type(value)


def test_nan_arrives() -> None:
    assert math.isnan(crossed(math.nan))
    assert math.isnan(crossed([math.nan])[0])


def test_containers_arrive_as_private_copies() -> None:
    value = {"rows": [1, 2], "plain": "x"}
    packed = pack(value)

    first, second = unpack(packed), unpack(packed)
    first["rows"].append(3)
    value["rows"] = []

    assert second == {"rows": [1, 2], "plain": "x"}
    assert unpack(packed) == second


def test_what_is_shared_inside_a_value_stays_shared() -> None:
    row: list[Any] = [1]
    loop: list[Any] = []
    loop.append(loop)

    rows, arrived = crossed([row, row]), crossed(loop)

    assert rows[0] is rows[1]
    assert arrived[0] is arrived


def test_a_large_array_is_shared_and_read_only() -> None:
    source = np.arange(LARGE, dtype=float)
    packed = pack({"array": source})

    arrived = unpack(packed)["array"]

    assert len(packed.buffers) == 1
    assert np.shares_memory(arrived, source)
    assert not arrived.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        arrived[0] = 1.0


def test_a_small_array_is_a_private_copy() -> None:
    source = np.arange(LARGE - 20, dtype=float)
    packed = pack(source)

    arrived = unpack(packed)
    arrived[0] = 7.0

    assert packed.buffers == ()
    assert source[0] == 0.0


def test_nothing_keeps_a_value_alive_once_its_packed_form_is_gone() -> None:
    source = np.zeros(LARGE)
    gc.collect()
    gc.disable()
    try:
        before = sys.getrefcount(source)
        value = unpack(pack({"array": source, "points": [Point(1)]}, trial=True))
        while_read = sys.getrefcount(source)
        del value
        writable(pack(source))
        after = sys.getrefcount(source)
    finally:
        gc.enable()

    assert while_read > before == after


def test_the_size_of_a_packed_value_counts_header_and_buffers() -> None:
    packed = pack(np.zeros(LARGE))

    assert packed.size == len(packed.header) + LARGE * 8
    assert len(packed.header) < 500
    assert pack("x" * 1000).size == len(pickle.dumps("x" * 1000, 5))


@pytest.mark.parametrize(
    "source",
    [
        np.asfortranarray(np.arange(LARGE, dtype=float).reshape(2, -1)),
        np.arange(LARGE * 4, dtype=float)[::2],
        np.arange(LARGE * 2, dtype=float).reshape(2, -1).T,
        np.zeros((0, 5)),
        np.array(3.0),
        np.array(["a", None], dtype=object),
        np.array([("x", 1)], dtype=[("name", "U5"), ("n", "i4")]),
        np.arange(LARGE, dtype=">f8"),
        np.ma.masked_array([1, 2], mask=[True, False]),
        np.datetime64("2026-01-01"),
        np.float32(1.5),
    ],
    ids=str,
)
@pytest.mark.parametrize("way", [unpack, lambda p: from_payload(to_payload(p)), writable])
def test_arrays_of_every_kind_arrive(source: Any, way: Callable[[Packed], Any]) -> None:
    arrived = way(pack(source))

    assert (type(arrived), arrived.dtype, arrived.shape) == (type(source), source.dtype, source.shape)
    assert np.array_equal(arrived, source)


def test_a_data_frame_arrives_with_its_index_and_types() -> None:
    frame = pd.DataFrame(
        {"x": np.arange(LARGE, dtype=float), "name": ["a"] * LARGE, "when": pd.Timestamp("2026-01-01")},
        index=pd.RangeIndex(5, LARGE + 5, name="row"),
    ).astype({"name": "category"})

    packed = pack(frame, trial=True)

    pd.testing.assert_frame_equal(unpack(packed), frame)
    pd.testing.assert_frame_equal(from_payload(to_payload(packed)), frame)
    assert packed.buffers


def test_buffers_of_other_shapes_are_copied_in_their_own_order() -> None:
    grid = np.asfortranarray(np.arange(LARGE, dtype=float).reshape(2, -1))
    packed = pack(pickle.PickleBuffer(grid.data))

    copied = to_payload(packed)

    assert packed.size > grid.nbytes
    assert copied.buffers[0] == grid.tobytes("F")
    assert payload_identity(copied) == payload_identity(packed)
    assert bytes(from_payload(copied)) == bytes(unpack(packed))


@pytest.mark.parametrize("size", [10, LARGE])
@pytest.mark.parametrize("frozen", [True, False])
def test_writable_gives_arrays_that_can_be_written(size: int, *, frozen: bool) -> None:
    source = np.zeros(size)
    source.setflags(write=not frozen)
    arrived = unpack(pack([source, source]))

    first, second = writable(pack(arrived))
    first[0] = 1.0

    assert second is first
    assert (source[0], arrived[0][0]) == (0.0, 0.0)


def test_writable_gives_data_frames_that_can_be_written() -> None:
    source = pd.DataFrame({"x": np.zeros(LARGE), "y": np.zeros(LARGE), "name": ["a"] * LARGE})
    arrived = unpack(pack(source))

    frame = writable(pack(arrived))
    frame["x"].array[:] = 1.0
    frame.loc[0, "y"] = 5.0
    frame.loc[0, "name"] = "b"

    assert (frame["x"].sum(), frame["y"].sum(), frame["name"][0]) == (LARGE, 5.0, "b")
    pd.testing.assert_frame_equal(arrived, source)
    assert not source["x"].any()


def test_writable_gives_each_array_its_own() -> None:
    arrays = writable(pack([np.full(LARGE, float(n)) for n in range(3)] + [np.array([{"a": 1}], dtype=object)]))

    assert [array[0] for array in arrays] == [0.0, 1.0, 2.0, {"a": 1}]


def test_writable_keeps_the_order_of_an_array() -> None:
    source = np.asfortranarray(np.zeros((3, LARGE)))

    assert writable(pack(source)).flags.f_contiguous


def generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (generator, "a generator cannot leave its process; send the value itself"),
        (nothing, "a coroutine cannot leave its process; send the value itself"),
        (lambda: iter_async(), "an async generator cannot leave its process; send the value itself"),  # noqa: PLW0108
        (threading.Lock, "cannot be serialised: TypeError: cannot pickle '_thread.lock' object"),
        (socket.socket, "cannot be serialised: TypeError: cannot pickle 'socket' object"),
        (Stubborn, "cannot be serialised: RuntimeError: not me"),
        (Silent, "cannot be serialised: Mute"),
    ],
)
@pytest.mark.parametrize("inside", [lambda value: value, lambda value: {"deep": [value]}, Point])
def test_what_is_bound_to_its_process_is_refused(
    make: Callable[[], Any], reason: str, inside: Callable[[Any], Any]
) -> None:
    with contextlib.ExitStack() as stack:
        bound = make()
        if isinstance(bound, (socket.socket, types.CoroutineType)):
            stack.callback(bound.close)
        value = inside(bound)

        said = refusal(value)

    whole = f"a value of type {type(value).__name__} {reason}"
    assert said == (reason if "leave its process" in reason else whole)


async def iter_async() -> Any:
    yield 1


@pytest.mark.parametrize("mode", ["r", "rb", "wb", "r+b"])
def test_an_open_file_is_refused_in_every_mode(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"secret content")

    with path.open(mode) as file:
        assert "an open file" in refusal([file])
    with path.open("rb", buffering=0) as raw:
        assert "an open file" in refusal(raw)


def test_a_class_that_is_only_named_like_a_file_is_a_value() -> None:
    kind = type("FileIO", (), {"__module__": "shop.orders", "__reduce__": lambda _: (int, (1,))})

    assert crossed(kind()) == 1


def test_files_in_memory_are_values() -> None:
    assert crossed(io.BytesIO(b"x")).read() == b"x"
    assert crossed(io.StringIO("x")).read() == "x"


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        ("ray._raylet", "ObjectRef", "an ObjectRef"),
        ("ray._raylet", "ObjectRefGenerator", "an ObjectRef generator"),
        ("ray.actor", "ActorHandle", "an actor handle"),
        ("ray.util.client.common", "ClientObjectRef", "an ObjectRef"),
        ("ray.util.client.common", "ClientActorHandle", "an actor handle"),
    ],
)
def test_references_to_what_others_own_are_refused(module: str, name: str, said: str) -> None:
    kind = type(name, (), {"__module__": module, "__reduce__": lambda _: (int, (1,))})

    assert is_foreign(kind())
    assert refusal({"refs": [kind()]}) == f"{said} cannot leave its process; send the value itself"


def test_a_class_of_the_same_name_from_elsewhere_is_a_value() -> None:
    kind = type("ObjectRef", (), {"__module__": "shop.orders", "__reduce__": lambda _: (int, (1,))})

    assert not is_foreign(kind())
    assert not is_foreign(type("Dataset", (), {"__module__": "ray.data"})())
    assert not is_foreign(type("ObjectRef", (), {"__module__": None})())
    assert not is_foreign(generator())
    assert crossed(kind()) == 1


def test_a_value_nested_too_deep_is_refused() -> None:
    value: list[Any] = []
    for _ in range(50_000):
        value = [value]

    assert "a value of type list cannot be serialised" in refusal(value)


def test_a_value_that_cannot_be_read_again_is_refused_in_a_trial_only() -> None:
    packed = pack(OneWay())

    assert (
        refusal([OneWay()], trial=True)
        == "a value of type list cannot be read again: ZeroDivisionError: division by zero"
    )
    with pytest.raises(ZeroDivisionError):
        unpack(packed)


def test_only_values_that_hold_something_of_a_users_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Packed] = []
    monkeypatch.setattr(packing, "unpack", tried.append)

    frame = pd.DataFrame({"x": [1.5], "name": ["a"], "kind": pd.Categorical(["b"])})
    trusted = [
        frame,
        np.zeros(3),
        datetime(2026, 1, 1, tzinfo=UTC),
        Decimal(1),
        OrderedDict(a=pd.Timestamp(0)),
        Slot(0),
        [[1]],
    ]
    for value in trusted:
        pack(value, trial=True)
    before = len(tried)
    pack([Point(1)], trial=True)

    assert (before, len(tried)) == (0, 1)


def test_an_error_with_arguments_of_its_own_fails_the_trial() -> None:
    class Refusal(Exception):  # noqa: N818  # a name of the trade
        def __init__(self, code: int, *, text: str) -> None:
            super().__init__(f"{code}: {text}")

    assert "cannot be read again: TypeError" in refusal(Refusal(1, text="no"), trial=True)


def test_long_reasons_are_cut() -> None:
    class Chatty:
        def __reduce__(self) -> tuple[Any, ...]:
            raise RuntimeError("x" * 100_000)

    assert len(refusal(Chatty())) < 600


def test_a_class_that_hides_its_module_is_a_value_all_the_same() -> None:
    kind = type("Nowhere", (), {"__module__": None})

    assert type(crossed(kind())).__name__ == "Nowhere"


def test_a_class_that_cannot_be_hashed_is_refused_and_nothing_worse() -> None:
    class Meta(type):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(cls, other: object) -> bool:
            raise RuntimeError("not comparable")

    class Odd(metaclass=Meta):
        pass

    assert "cannot be serialised: TypeError" in refusal([Odd()])
    assert summarise(Odd()) == "Odd"
    assert not inline(Odd())


SCRIPT = """
import pickle, sys
from aiecs_ray import packing

class Local:
    scale = 3
    def times(self, x):
        return x * self.scale

packed = packing.pack([Local()], trial=True)
sys.stdout.buffer.write(packed.header)
"""


def test_a_class_of_a_script_travels_with_its_instances() -> None:
    made = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)  # noqa: S603  # our own text

    (arrived,) = unpack(Packed(made.stdout))

    assert arrived.times(2) == 6
    assert type(arrived).__module__ == "__main__"


def test_functions_and_lambdas_travel() -> None:
    offset = 3

    assert crossed(lambda x: x + offset)(4) == 7
    assert crossed(math.sqrt) is math.sqrt
    assert crossed(Point) is Point


def test_a_slot_is_filled_where_the_value_is_read() -> None:
    packed = pack({"a": Slot(1), "b": [Slot(0), Slot(1)], "c": 5})

    value = unpack(packed, inputs=["zero", {"one": 1}])

    assert value == {"a": {"one": 1}, "b": ["zero", {"one": 1}], "c": 5}
    assert value["a"] is value["b"][1]


def test_slots_are_filled_from_the_inputs_of_their_own_value_only() -> None:
    class Opener:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return opened, (pack(Slot(0)),)

    value = unpack(pack([Slot(0), Opener(), Slot(0)]), inputs=["mine"])

    assert value == ["mine", "theirs", "mine"]
    with pytest.raises(IndexError):
        unpack(pack(Slot(0)))


def opened(packed: Packed) -> Any:
    return unpack(packed, inputs=["theirs"])


def test_inputs_are_forgotten_when_reading_fails() -> None:
    with pytest.raises(ZeroDivisionError):
        unpack(pack([OneWay()]), inputs=["mine"])
    with pytest.raises(IndexError):
        unpack(pack(Slot(0)))


def test_threads_fill_their_own_slots() -> None:
    packed = pack([Slot(0)] * 3)
    found: list[bool] = []

    def read(name: str) -> None:
        found.append(all(unpack(packed, inputs=[name]) == [name] * 3 for _ in range(2000)))

    threads = [threading.Thread(target=read, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [True] * 4


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
plain = scalars | st.lists(scalars) | st.dictionaries(st.text(max_size=5), scalars) | st.lists(scalars).map(tuple)


@settings(max_examples=200, deadline=None)
@given(plain)
def test_the_short_cut_for_plain_values_changes_nothing(value: Any) -> None:
    assert packing.is_plain(value)
    assert packing.is_plain([0] * 64)
    slow = io.BytesIO()
    packing._Pickler(slow, [], SHARED_BYTES).dump(value)

    fast = pack(value, trial=True)

    assert repr(unpack(fast)) == repr(pickle.loads(slow.getvalue())) == repr(value)
    assert fast.buffers == ()


@pytest.mark.parametrize(
    "value",
    [
        [[1]],
        {"a": [1]},
        {1: 1},
        [b"x"],
        b"x",
        {1},
        [1] * 65,
        {str(index): 0 for index in range(65)},
        np.float64(1),
        [np.float64(1)],
        Colour.RED,
        Pair(1, 2),
        OrderedDict(a=1),
        type("Text", (str,), {})("x"),
        {type("Text", (str,), {})("x"): 1},
    ],
)
def test_everything_else_takes_the_long_way(value: Any) -> None:
    assert not packing.is_plain(value)


@pytest.mark.parametrize("value", [None, True, False, 0, -5, 2**4095 - 1, 1.5, math.inf])
def test_scalars_travel_bare(value: Any) -> None:
    assert inline(value)
    assert from_payload(value) is value
    assert unpack(as_packed(value)) == value


@pytest.mark.parametrize(
    "value",
    [2**4095, "text", b"bytes", [], (), {}, Colour.RED, np.float64(1), type("Number", (int,), {})(1), Packed(b"")],
)
def test_nothing_else_travels_bare(value: Any) -> None:
    assert not inline(value)


@pytest.mark.parametrize("value", [b"bytes", [1, {"a": "b"}], "text", np.arange(LARGE), pd.DataFrame({"x": [1]})])
def test_a_payload_gives_the_value_back(value: Any) -> None:
    payload = to_payload(pack(value))

    again = pickle.loads(pickle.dumps(payload, 5))

    assert type(payload) is (Packed if isinstance(value, np.ndarray) else bytes)
    assert np.array_equal(from_payload(again), value)
    assert as_packed(again) == (Packed(again) if type(again) is bytes else again)


def test_a_payload_is_independent_of_the_memory_it_came_from() -> None:
    source = np.zeros(LARGE)
    payload = to_payload(pack(source))

    source[:] = 1.0

    assert not from_payload(payload).any()


def test_equal_contents_have_one_identity() -> None:
    def identity(value: Any) -> bytes:
        return payload_identity(to_payload(pack(value)))

    different: list[Any] = [
        0,
        0.0,
        -0.0,
        False,
        None,
        "",
        b"",
        [],
        (),
        {},
        [0],
        np.zeros(LARGE),
        np.ones(LARGE),
        np.zeros(LARGE + 1),
    ]

    assert len({identity(value) for value in different}) == len(different)
    assert [identity(value) for value in different] == [identity(value) for value in different]
    assert {len(identity(value)) for value in different} == {16}
    assert payload_identity(1) == identity(1)
    assert payload_identity(1) != payload_identity(True)  # noqa: FBT003  # it is the value


def test_the_same_bytes_divided_otherwise_have_another_identity() -> None:
    parts = [pickle.PickleBuffer(b"a" * LARGE * 8), pickle.PickleBuffer(b"a" * LARGE * 9)]

    assert payload_identity(pack(parts)) != payload_identity(pack(parts[::-1]))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, 2, 3], "list of 3"),
        ((), "tuple of 0"),
        ({"a": 1}, "dict of 1"),
        ("text", "str of 4"),
        (b"xy", "bytes of 2"),
        ({1}, "set of 1"),
        (5, "int"),
        (None, "NoneType"),
        (Point(1), "Point"),
        (Pair(1, 2), "Pair"),
        (np.zeros((3, 4)), "ndarray 3x4"),
        (np.float64(1), "float64"),
        (pd.DataFrame({"x": [1, 2]}), "DataFrame 2x1"),
        (pd.Series([1, 2]), "Series 2"),
        (pd.Timestamp("2026-01-01"), "Timestamp"),
    ],
)
def test_a_summary_says_type_and_shape(value: Any, text: str) -> None:
    assert summarise(value) == text


def test_a_summary_runs_no_code_of_the_value() -> None:
    ran: list[str] = []

    def trap(name: str) -> Any:
        return lambda *_: ran.append(name)

    answers = {"__name__": property(trap("name")), "__eq__": trap("eq"), "__hash__": lambda _: 0}
    meta: Any = type("Meta", (type,), answers)
    methods = {"__len__": trap("len"), "__repr__": trap("repr"), "shape": property(trap("shape"))}
    guarded = meta("Guarded", (list,), {**methods, "__getattribute__": trap("get"), "__module__": "numpy.x"})
    plain = type("Plain", (), {**methods, "__module__": "shop.orders"})

    assert (summarise(guarded()), summarise(plain())) == ("Guarded", "Plain")
    assert ran == []
