from __future__ import annotations

import itertools
import subprocess
import sys
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aiecs_ray.errors import UncacheableValueError
from aiecs_ray.keys import digest

pa = pytest.importorskip("pyarrow")

ARRAYS: list[Any] = [
    *(
        np.array(1.0),
        np.float64(1.0),
        np.float32(1.0),
        np.int64(1),
        np.int32(1),
        np.True_,
        np.str_("a"),
        np.bytes_(b"a"),
    ),
    *(np.array([]), np.array([], dtype="i8"), np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(3), -np.zeros(3)),
    *(np.arange(6), np.arange(6.0), np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2), np.arange(6, dtype="i4")),
    *(np.arange(6, dtype=">i8"), np.array([True]), np.array([1], dtype="u1"), np.array([1j]), np.array([np.nan])),
    *(np.array(["a", "b"]), np.array(["a", "b"], dtype="U5"), np.array([b"a"]), np.array(["a", "b"], dtype=object)),
    *(np.array([1, "b"], dtype=object), np.array([1.0, "b"], dtype=object), np.array([[1], [2]], dtype=object)),
    *(np.array(["2020"], dtype="M8[D]"), np.array(["2020"], dtype="M8[s]"), np.array([1], dtype="m8[s]")),
    *(
        np.array(["NaT"], dtype="M8[s]"),
        np.datetime64("2020"),
        np.timedelta64(1, "s"),
        np.zeros(2, "V4"),
        np.zeros(2, "S0"),
    ),
    *(np.zeros(2, dtype=[("a", "i1"), ("b", "f8")]), np.zeros(2, dtype=[("a", "i1"), ("c", "f8")])),
    *(np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)), np.zeros(2, dtype=[("a", "i1", (2,))])),
    *(np.array(["a"], dtype=np.dtypes.StringDType()), np.array(["b"], dtype=np.dtypes.StringDType())),
    *(np.array([1], dtype=np.longdouble), np.array([1], dtype=np.clongdouble), np.longdouble(1) / 3),
]

STRINGS: list[Any] = ["str", "object", pd.StringDtype("python"), pd.StringDtype("pyarrow"), "category"]
COLUMNS: list[Any] = [
    *(pd.Series(["a", None, "b"], dtype=kind) for kind in STRINGS),
    *(pd.Series(["a", "", "b"], dtype=kind) for kind in STRINGS),
    *(
        pd.Series([1, 2, 3]),
        pd.Series([1.0, 2.0, 3.0]),
        pd.Series([1, 2, 3], name="x"),
        pd.Series([1, 2, 3], index=[1, 2, 3]),
    ),
    *(
        pd.Series([1, 2, 3], dtype=kind)
        for kind in ("i4", "Int64", "Int32", "Float64", "int64[pyarrow]", "datetime64[ns]")
    ),
    *(pd.Series([1, None, 3], dtype=kind) for kind in ("Int64", "Float64", "int64[pyarrow]", "f8", "object")),
    *(
        pd.Series([1, 0, 3], dtype="Int64"),
        pd.Series([True, None, False], dtype="boolean"),
        pd.Series([True, False, False]),
    ),
    *(pd.Series(pd.Categorical(["a", "b"], ["a", "b"])), pd.Series(pd.Categorical(["a", "b"], ["b", "a"]))),
    *(pd.Series(pd.Categorical(["a", "b"], ["a", "b", "c"])), pd.Series(pd.Categorical(["a", "b"], ordered=True))),
    *(pd.Series(pd.date_range("2020", periods=3, tz=zone)) for zone in (None, "UTC", "Europe/Paris")),
    *(pd.Series(pd.date_range("2020", periods=3, unit="s")), pd.Series(pd.to_timedelta([1, 2, 3]))),
    *(pd.Series(pd.period_range("2020", periods=3, freq=freq)) for freq in ("D", "M")),
    *(pd.Series(pd.interval_range(0, 3, closed=closed)) for closed in ("left", "right")),
    *(pd.Series([Decimal(1), pd.NA, pd.NaT], dtype=object), pd.Series([Decimal(1), pd.NA, None], dtype=object)),
    *(pd.Series([], dtype="f8"), pd.Series([], dtype="i8"), pd.Series([], dtype="str")),
]

INDEXES: list[Any] = [
    *(pd.RangeIndex(3), pd.RangeIndex(0, 6, 2), pd.RangeIndex(3, name="n"), pd.Index([0, 1, 2]), pd.Index([0.0, 1, 2])),
    *(pd.Index(["a", "b"]), pd.Index(["a", "b"], dtype=object), pd.CategoricalIndex(["a", "b"])),
    *(
        pd.MultiIndex.from_product([["a", "b"], [1, 2]]),
        pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["x", "y"]),
    ),
    *(
        pd.date_range("2020", periods=2),
        pd.DatetimeIndex(["2020-01-01", "2020-01-02"]),
        pd.period_range("2020", periods=2),
    ),
    *(pd.date_range("2020", periods=2, freq="B"), pd.interval_range(0, 2), pd.to_timedelta([1, 2])),
]

SCALARS: list[Any] = [
    *(pd.NaT, pd.NA, pd.Timestamp("2020"), pd.Timestamp("2020", tz="UTC"), pd.Timestamp("2020", tz="Europe/Paris")),
    *(
        pd.Timestamp("2020").as_unit("ns"),
        pd.Timedelta("1s"),
        pd.Period("2020"),
        pd.Period("2020", "M"),
        pd.Interval(0, 1),
    ),
]

FRAMES: list[Any] = [
    pd.DataFrame(),
    pd.DataFrame({"a": [1, 2], "b": [3, 4]}),
    pd.DataFrame({"b": [3, 4], "a": [1, 2]}),
    pd.DataFrame({"a": [1, 2], "c": [3, 4]}),
    pd.DataFrame({"a": [1, 2], "b": [3, 5]}),
    pd.DataFrame({"a": [1, 2], "b": [3.0, 4.0]}),
    pd.DataFrame({"a": [1, 2], "b": [3, 4]}, index=[1, 2]),
    pd.DataFrame({"a": [1, 2], "b": [3, 4]}, index=pd.Index([0, 1])),
    pd.DataFrame([[1, 3], [2, 4]], columns=["a", "a"]),
    pd.DataFrame([[1, 3], [2, 4]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])),
]


def table() -> Any:
    return pa.table(
        {
            "a": [1, 2, None, 4],
            "s": ["x", None, "yy", ""],
            "b": [True, None, False, True],
            "l": [[1], None, [], [2, 3]],
            "st": [{"x": 1}, None, {"x": None}, {"x": 3}],
            "d": pa.array(["u", "v", None, "u"]).dictionary_encode(),
            "ts": pa.array([1, 2, 3, None], type=pa.timestamp("us", "UTC")),
            "dec": pa.array([Decimal("1.5"), None, None, None]),
            "fs": pa.array([[1, 2], None, [3, 4], [5, 6]], type=pa.list_(pa.int32(), 2)),
            "n": pa.nulls(4),
            "bin": pa.array([b"a", None, b"", b"q"], type=pa.large_binary()),
        }
    )


ARROW: list[Any] = [
    *(table(), table().slice(1), table().drop_columns(["a"]), table().rename_columns([*"abcdefghijk"])),
    *(
        table().replace_schema_metadata({"k": "v"}),
        table().to_batches()[0],
        table()["a"],
        *table().to_batches()[0].columns,
    ),
    *(
        pa.array([1, 2]),
        pa.array([1, None]),
        pa.array([None, 1]),
        pa.array([1, 0]),
        pa.array([1.0, 2.0]),
        pa.array([1, 2], type=pa.int32()),
    ),
    *(
        pa.array(["ab", "c"]),
        pa.array(["a", "bc"]),
        pa.array(["ab", None]),
        pa.array(["ab", ""]),
        pa.array([b"ab", b"c"]),
    ),
    *(
        pa.array(["ab", "c"], type=pa.large_string()),
        pa.array([[1], [2, 3]]),
        pa.array([[1, 2], [3]]),
        pa.array([[1], []]),
    ),
    *(
        pa.array([[1], None]),
        pa.array([{"x": 1}]),
        pa.array([{"y": 1}]),
        pa.array([None, None]),
        pa.array([], type=pa.int8()),
    ),
    *(pa.chunked_array([[1, 2]]), pa.array([True, False]), pa.array([False, True])),
]


@pytest.mark.parametrize("family", [ARRAYS, COLUMNS, INDEXES, SCALARS, FRAMES, ARROW], ids=range(6))
def test_values_that_differ_have_different_digests(family: list[Any]) -> None:
    digests = [digest(value) for value in family]

    for (one, first), (other, second) in itertools.combinations(zip(family, digests, strict=True), 2):
        assert first != second, (one, other)


@pytest.mark.parametrize("family", [ARRAYS, COLUMNS, INDEXES, FRAMES], ids=range(4))
def test_a_copy_has_the_same_digest(family: list[Any]) -> None:
    for value in family:
        assert digest(value.copy()) == digest(value) == digest([value][0])


def test_values_of_different_libraries_have_different_digests() -> None:
    values = [[1, 2], np.array([1, 2]), pd.Series([1, 2]), pd.Index([1, 2]), pd.array([1, 2]), pa.array([1, 2])]
    values += [pd.DataFrame({"a": [1, 2]}), pa.table({"a": [1, 2]}), {"a": [1, 2]}, pa.chunked_array([[1, 2]])]

    assert len(set(map(digest, values))) == len(values)


@given(hnp.arrays(st.sampled_from(["i2", "f4", "?", "U2", "M8[s]"]), hnp.array_shapes(max_dims=3, max_side=4)))
@settings(max_examples=60, deadline=None)
def test_how_an_array_lies_in_memory_does_not_count(array: np.ndarray[Any, Any]) -> None:
    spread = np.zeros(tuple(2 * side for side in array.shape), dtype=array.dtype)
    spread[tuple(slice(None, None, 2) for _ in array.shape)] = array

    expected = digest(array)

    assert digest(np.asfortranarray(array)) == expected
    assert digest(spread[tuple(slice(None, None, 2) for _ in array.shape)]) == expected
    assert digest(np.flip(np.flip(array).copy())) == expected


def test_one_changed_element_of_a_large_array_counts() -> None:
    array = np.zeros((1000, 1000))
    before = digest(array)

    array[500, 500] = 1e-300

    assert digest(array) != before


def test_bytes_between_the_content_do_not_count() -> None:
    kind = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    records, numbers = bytearray(b"\xff" * 32), bytearray(b"\xff" * 32)
    np.frombuffer(records, kind)["a"] = np.frombuffer(records, kind)["b"] = 0
    np.frombuffer(numbers, np.longdouble)[:] = 1

    assert records.count(0xFF) > 0
    assert digest(np.frombuffer(records, kind)) == digest(np.zeros(2, kind))
    assert digest(np.frombuffer(numbers, np.longdouble)) == digest(np.ones(2, np.longdouble))


def test_what_stands_under_a_mask_does_not_count() -> None:
    mask = np.array([False, True])
    one, other = (pd.arrays.IntegerArray(np.array([1, hidden]), mask) for hidden in (2, 3))
    valid = pa.py_buffer(b"\x01")
    arrow = [
        pa.Array.from_buffers(pa.int64(), 2, [valid, pa.py_buffer(np.array([1, hidden]).tobytes())])
        for hidden in (2, 3)
    ]

    assert digest(pd.Series(one)) == digest(pd.Series(other))
    assert digest(arrow[0]) == digest(arrow[1]) == digest(pa.array([1, None]))


def test_how_a_frame_is_cut_into_blocks_does_not_count() -> None:
    one = pd.DataFrame(np.arange(6.0).reshape(3, 2), columns=["a", "b"])
    other = pd.DataFrame({"a": [0.0, 2.0, 4.0]})
    other["b"] = [1.0, 3.0, 5.0]

    assert digest(one) == digest(other)


def test_rows_and_columns_of_a_frame_keep_their_order() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})

    assert digest(frame.iloc[::-1]) != digest(frame)
    assert digest(frame[["b", "a"]]) != digest(frame)


def test_attributes_and_flags_of_a_frame_count() -> None:
    frame = pd.DataFrame({"a": [1]})
    described = frame.copy()
    described.attrs["unit"] = "m"

    assert digest(described) != digest(frame)
    assert digest(frame.set_flags(allows_duplicate_labels=False)) != digest(frame)


def test_how_a_table_is_cut_into_chunks_does_not_count() -> None:
    whole = table()
    cut = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 2), whole.slice(3)])

    assert digest(cut) == digest(whole) == digest(cut.combine_chunks())
    for name in whole.column_names:
        assert digest(cut[name]) == digest(whole[name])


def test_where_an_array_starts_in_its_buffers_does_not_count() -> None:
    whole = table().drop_columns(["d"])  # a slice of a dictionary array keeps all words of its dictionary

    for name in whole.column_names:
        part = whole[name].chunk(0).slice(1, 2)
        fresh = pa.array(part.to_pylist(), type=part.type)
        assert digest(part) == digest(fresh), name


UNKNOWN = {
    "a masked array": np.ma.array([1]),
    "an array of objects": np.array([object()]),
    "a column of objects": pd.DataFrame({"x": [1, object()]}),
    "a sparse column": pd.Series(pd.arrays.SparseArray([0, 1])),
    "a frame of the user's own class": type("Frame", (pd.DataFrame,), {})({"a": [1]}),
    "a class that poses as pandas'": type("DataFrame", (), {"__module__": "pandas"})(),
    "a class that poses as numpy's": type("float64", (np.float64,), {"__module__": "numpy"})(1.0),
    "an arrow map": pa.array([[("a", 1)]], type=pa.map_(pa.string(), pa.int32())),
    "an arrow scalar": pa.scalar(1),
    "labels without a digest": pd.Series([1], index=[object()]),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_has_no_exact_encoding_has_no_digest(what: str) -> None:
    with pytest.raises(UncacheableValueError):
        digest(UNKNOWN[what])


def test_the_error_names_the_column() -> None:
    with pytest.raises(UncacheableValueError) as caught:
        digest({"df": pd.DataFrame({"x": [1, object()]})})

    assert caught.value.path == "['df']['x'][1]"


def test_a_library_that_hides_its_content_makes_the_value_uncacheable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pd.Categorical, "codes", property(lambda self: self.renamed))

    with pytest.raises(UncacheableValueError, match="pandas"):
        digest(pd.Series(["a"], dtype="category"))


def test_frames_have_the_same_digest_in_every_process() -> None:
    program = """
import numpy as np, pandas as pd, pyarrow as pa
from aiecs_ray.keys import digest
frame = pd.DataFrame({"a": [1, 2], "s": ["x", None], "c": pd.Categorical(["u", "v"]), "o": [{"k": {"a", "b", "c"}}, 1]})
print(digest([frame, np.arange(5), pa.table({"a": ["x", None]})]).hex())
"""
    outputs = {
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }

    assert len(outputs) == 1
