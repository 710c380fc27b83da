"""How values reach operations and come back: whole, private, large ones by reference and read-only."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import threading
from typing import Any

import numpy as np
import pytest

from aiecs_ray import Runtime, operation
from aiecs_ray.errors import InvalidParamsError
from tests.contract.probes import Gate, Ledger, note, op, visit

pytestmark = pytest.mark.timeout(40)
KIB = 1024


class Store:
    def __init__(self) -> None:
        self.rows: list[int] = []

    @operation
    def give(self, value: Any) -> Any:
        return value

    @operation
    def make(self, size: int, fill: int = 1) -> bytes:
        return bytes([fill]) * size

    @operation
    def size(self, value: Any) -> int:
        return len(value)

    @operation
    def append(self, rows: list[int]) -> list[int]:
        rows.append(99)
        return rows

    @operation
    def overwrite(self, array: Any) -> float:
        array[0] = -1.0
        return float(array.sum())

    @operation(writable=("array",))
    def overwrite_copy(self, array: Any) -> float:
        array[0] = -1.0
        return float(array.sum())

    @operation
    def total(self, array: Any) -> float:
        return float(array.sum())

    @operation
    def ones(self, count: int) -> Any:
        return np.ones(count)

    @operation
    def remember(self, row: int) -> list[int]:
        self.rows.append(row)
        return self.rows

    @operation
    def visit(self, gate: int, value: Any) -> Any:
        visit(gate)
        return value


class Diary:
    """Keeps what it was told; it is registered as stateful."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.array = np.zeros(50_000)

    def add(self, line: Any) -> list[Any]:
        self.lines.append(line)
        return self.lines

    def raise_all(self) -> Any:
        self.array += 1
        return self.array

    def count(self, ledger: str) -> int:
        note(ledger)
        self.lines.append("")
        return len(self.lines)


@pytest.fixture
def store(rt: Runtime) -> Runtime:
    rt.register(Store)
    rt.register(Diary, stateful=True)
    return rt


@pytest.mark.parametrize(
    "value",
    [
        math.inf,
        -0.0,
        10**5000,
        "\x00 ü \U0001f600",
        b"\x00\xff",
        {1, 2},
        frozenset({("a", 1)}),
        {"nested": [{"deep": (1, [2, {3}])}]},
        {1: "a", None: "b", (1, 2): "c"},
        decimal.Decimal("1.10"),
        dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
        complex(1, -2),
        range(5),
        ...,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_crosses_unchanged(store: Runtime, value: Any) -> None:
    first, second = store.run([op("store.give", value=value), op("store.give", value="$result[0]")])

    assert first.result == second.result == value
    assert type(second.result) is type(value)


def test_nan_crosses(store: Runtime) -> None:
    assert math.isnan(store.call("store.give", {"value": math.nan}))


@pytest.mark.parametrize("size", [0, 1, 60 * KIB, 64 * KIB, 70 * KIB, 300 * KIB, 3 * KIB * KIB])
def test_a_value_of_any_size_crosses_whole(store: Runtime, size: int) -> None:
    value = bytes(range(256)) * (size // 256) + b"!" * (size % 256)

    operations = [op("store.give", value=value), op("store.give", value=["$result[0]"]), op("store.make", size=size)]
    given, passed_on, made = store.run(operations)

    assert given.result == value
    assert passed_on.result == [value]
    assert made.result == b"\x01" * size


def test_a_large_value_passes_between_tools_and_back(store: Runtime) -> None:
    class Shelf:
        def part(self, rows: list[Any]) -> Any:
            return rows[-1]

    store.register(Shelf)
    value = {"rows": [{"blob": b"a" * 200_000}, {"blob": b"b" * 200_000}]}

    results = store.run(
        [
            op("store.give", value=value),
            op("shelf.part", rows="$result[0].rows"),
            op("store.size", value="$result[1].blob"),
            op("store.size", value='$result[0]["rows"][0].blob'),
        ],
        "parallel",
    )

    assert [result.result for result in results[1:]] == [{"blob": b"b" * 200_000}, 200_000, 200_000]


def test_many_large_results_of_one_batch_do_not_mix(store: Runtime) -> None:
    operations = [op("store.make", size=100_000 + n, fill=n) for n in range(24)]

    results = store.run(operations, "batch")

    assert [(len(r.result), r.result[0]) for r in results] == [(100_000 + n, n) for n in range(24)]


def test_large_and_small_results_of_one_sequence_do_not_mix(store: Runtime) -> None:
    sizes = [10, 200_000, 20, 300_000, 300_001, 30]
    operations = [op("store.make", size=size, fill=n) for n, size in enumerate(sizes)]
    operations += [op("store.size", value=f"$result[{n}]") for n in range(len(sizes))]

    results = store.run(operations)

    assert [result.result for result in results[len(sizes) :]] == sizes
    assert [result.result for result in results[: len(sizes)]] == [bytes([n]) * size for n, size in enumerate(sizes)]


@pytest.mark.parametrize("size", [3, 500_000], ids=["small", "large"])
def test_a_value_that_was_put_stands_anywhere_inside_parameters(store: Runtime, size: int) -> None:
    handle = store.put(b"x" * size)

    results = store.run(
        [
            op("store.size", value=handle),
            op("store.give", value={"a": [handle, {"b": (handle,)}]}),
            op("store.give", value=["$result[0]", handle]),
        ]
    )

    value = b"x" * size
    assert [result.result for result in results] == [size, {"a": [value, {"b": (value,)}]}, [size, value]]


def test_a_value_that_was_put_serves_many_runs(store: Runtime) -> None:
    handle = store.put(list(range(20_000)))

    totals = {store.call("store.size", {"value": handle}) for _ in range(3)}
    batch = store.run([op("store.size", value=handle) for _ in range(40)], "batch")

    assert totals == {20_000}
    assert {result.result for result in batch} == {20_000}


def test_a_value_that_was_put_is_as_it_was_then(store: Runtime) -> None:
    rows = [1, 2]
    handle = store.put(rows)

    rows.append(3)

    assert store.call("store.give", {"value": handle}) == [1, 2]


def test_a_parameter_is_as_it_was_when_sent(store: Runtime, gate: Gate) -> None:
    array = np.ones(100_000)
    run = store.submit([op("store.visit", gate=gate.port, value=0), op("store.total", array=array)])
    visitor = gate.arrival()

    array[:] = 7.0
    visitor.let_go()

    assert run.result()[1].result == 100_000.0


def test_what_cannot_be_put_is_refused(store: Runtime) -> None:
    with pytest.raises(InvalidParamsError, match="lock"):
        store.call("store.give", {"value": [threading.Lock()]})


@pytest.mark.parametrize("mode", ["sequence", "parallel", "batch"])
def test_a_reader_that_changes_its_input_changes_nobody_elses(store: Runtime, mode: Any) -> None:
    operations = [
        op("store.give", value=[1]),
        op("store.append", rows="$result[0]"),
        op("store.append", rows="$result[0]"),
        op("store.give", value="$result[0]"),
    ]

    results = store.run(operations, mode)

    assert [result.result for result in results] == [[1], [1, 99], [1, 99], [1]]


def test_a_reader_that_changes_what_was_put_changes_nobody_elses(store: Runtime) -> None:
    handle = store.put([1])

    results = store.run([op("store.append", rows=handle) for _ in range(3)])

    assert [result.result for result in results] == [[1, 99]] * 3


def test_a_result_is_as_it_was_when_returned(store: Runtime) -> None:
    before = len(store.call("diary.add", {"line": "before"}))
    operations = [op("diary.add", line=str(n)) for n in range(3)]

    results = store.run([*operations, op("diary.add", line="$result[0]")])

    assert [result.result[before:] for result in results[:3]] == [["0"], ["0", "1"], ["0", "1", "2"]]
    assert results[3].result[-1][before:] == ["0"]


def test_a_large_result_of_a_stateful_tool_is_as_it_was_when_returned(store: Runtime) -> None:
    results = store.run([op("diary.raise_all"), op("diary.raise_all"), op("store.total", array="$result[0]")])

    first, second = results[0].result[0], results[1].result[0]
    assert second == first + 1
    assert results[2].result == 50_000 * first


def test_a_result_that_a_tool_goes_on_changing_is_as_it_was_when_returned(store: Runtime) -> None:
    results = store.run(
        [op("store.remember", row=1), op("store.remember", row=2), op("store.give", value="$result[0]")]
    )

    assert results[0].result == results[2].result == results[1].result[:-1]


@pytest.mark.parametrize("source", ["result", "handle", "parameter"])
def test_a_large_buffer_is_read_only(store: Runtime, source: str) -> None:
    array: Any = np.ones(50_000)
    first = op("store.give", value=0)
    if source == "result":
        first, array = op("store.ones", count=50_000), "$result[0]"
    elif source == "handle":
        array = store.put(array)

    results = store.run(
        [
            first,
            op("store.overwrite", array=array),
            op("store.total", array=array),
            op("store.overwrite_copy", array=array),
            op("store.total", array=array),
        ]
    )

    assert [result.status for result in results] == ["completed", "failed", *["completed"] * 3]
    assert results[1].error_code == "E003"
    assert "read-only" in str(results[1].error_message)
    assert [result.result for result in results[2:]] == [50_000.0, 49_998.0, 50_000.0]


def test_what_the_next_step_reads_is_read_only_though_nothing_was_copied(store: Runtime) -> None:
    made, changed = store.run([op("store.ones", count=50_000), op("store.overwrite", array="$result[0]")])

    assert (made.status, changed.status) == ("completed", "failed")
    assert "read-only" in str(changed.error_message)


def test_what_the_caller_gets_is_read_only_too(store: Runtime) -> None:
    array = store.call("store.ones", {"count": 50_000})

    assert array.sum() == 50_000.0
    assert not array.flags.writeable


@pytest.mark.parametrize("mode", ["sequence", "parallel", "batch"])
def test_a_stateful_tool_is_one_instance(store: Runtime, ledger: Ledger, mode: Any) -> None:
    results = store.run([op("diary.count", ledger=ledger.path) for _ in range(40)], mode)

    assert sorted(result.result for result in results) == [results[0].result + n for n in range(40)]
    assert len(ledger) == 40


def test_a_stateful_tool_is_not_answered_from_the_cache(store: Runtime, ledger: Ledger) -> None:
    first = store.call("diary.count", {"ledger": ledger.path}, user_id="ann")
    second = store.call("diary.count", {"ledger": ledger.path}, user_id="ann")

    assert second == first + 1
    assert len(ledger) == 2
