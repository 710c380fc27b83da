"""``rt.map``: one operation over any number of parameters, in bounded memory."""

from __future__ import annotations

from itertools import count, islice
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.errors import InvalidInputError, InvalidParamsError, OperationFailedError, OperationNotFoundError
from tests.contract.probes import Gate, Ledger, eventually, note, visit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiecs_ray import Runtime

pytestmark = pytest.mark.timeout(40)


class Mapper:
    def double(self, n: int) -> int:
        return 2 * n

    def invert(self, n: int) -> float:
        return 1 / n

    def note(self, ledger: str, n: int) -> int:
        note(ledger, str(n))
        return n

    def visit_first(self, gate: int, n: int) -> int:
        if n == 0:
            visit(gate)
        return n


@pytest.fixture
def mapper(rt: Runtime) -> Runtime:
    rt.register(Mapper)
    return rt


def numbers(*values: int) -> list[dict[str, Any]]:
    return [{"n": value} for value in values]


class Source:
    """Parameters without an end, that knows how many were taken."""

    def __init__(self, **more: Any) -> None:
        self.taken = 0
        self._more = more

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for n in count():
            self.taken += 1
            yield {"n": n, **self._more}


def test_values_come_in_input_order(mapper: Runtime) -> None:
    values = list(mapper.map("mapper.double", numbers(*range(1000))))

    assert values == [2 * n for n in range(1000)]


@pytest.mark.parametrize("window", [1, 2, 3, 7, 100])
def test_a_window_of_any_size_loses_nothing(mapper: Runtime, window: int) -> None:
    values = list(mapper.map("mapper.double", numbers(*range(25)), window=window))

    assert values == [2 * n for n in range(25)]


def test_nothing_in_gives_nothing_out(mapper: Runtime) -> None:
    assert list(mapper.map("mapper.double", [])) == []


@pytest.mark.timeout(20)
def test_unordered_values_come_as_they_are_there(mapper: Runtime, gate: Gate) -> None:
    params = [{"gate": gate.port, "n": n} for n in range(8)]
    values = mapper.map("mapper.visit_first", params, ordered=False, window=8)

    early = list(islice(values, 6))
    gate.arrival().let_go()
    late = list(values)

    assert 0 not in early
    assert sorted(early + late) == list(range(8))


def test_the_first_failure_ends_the_map(mapper: Runtime) -> None:
    values = mapper.map("mapper.invert", numbers(2, 4, 0, 5))
    seen = [next(values), next(values)]

    with pytest.raises(OperationFailedError, match="division by zero") as caught:
        next(values)

    assert seen == [0.5, 0.25]
    assert (caught.value.error_code, caught.value.operation) == ("E003", "mapper.invert")
    assert next(values, "over") == "over"


@pytest.mark.parametrize("ordered", [True, False])
def test_failures_take_the_place_of_their_values_when_asked(mapper: Runtime, *, ordered: bool) -> None:
    values = list(mapper.map("mapper.invert", numbers(2, 0, 4, 0), ordered=ordered, on_error="return"))

    failures = [value for value in values if isinstance(value, OperationFailedError)]
    assert len(failures) == 2
    assert {value for value in values if value not in failures} == {0.5, 0.25}
    if ordered:
        assert [type(value) for value in values] == [float, OperationFailedError, float, OperationFailedError]


def test_an_endless_source_is_taken_from_as_needed(mapper: Runtime) -> None:
    source = Source()
    values = mapper.map("mapper.double", source, window=20)

    first = list(islice(values, 30))
    taken = source.taken
    values.close()  # type: ignore[attr-defined]

    assert first == [2 * n for n in range(30)]
    assert taken <= 30 + 20 + 5


def test_a_map_that_is_closed_early_starts_nothing_more(mapper: Runtime, ledger: Ledger) -> None:
    source = Source(ledger=ledger.path)
    values = mapper.map("mapper.note", source, window=40)
    next(values)

    values.close()  # type: ignore[attr-defined]
    mapper.call("mapper.double", {"n": 1})

    lines = len(ledger)
    mapper.call("mapper.double", {"n": 1})
    assert lines == len(ledger) <= source.taken <= 60


@pytest.mark.parametrize("backend", ["inprocess"], indirect=True)
def test_a_map_that_is_left_early_leaves_no_results_behind(rt: Runtime) -> None:
    class Large:
        def make(self, n: int) -> bytes:
            return bytes([n % 256]) * 100_000

    rt.register(Large)
    values = rt.map("large.make", ({"n": n} for n in range(40)), window=20)
    next(values)

    values.close()  # type: ignore[attr-defined]

    eventually(lambda: rt.stats()["runs"]["kept"] == 0)


def test_a_source_that_raises_ends_the_map_with_its_own_error(mapper: Runtime) -> None:
    def source() -> Iterator[dict[str, Any]]:
        yield {"n": 1}
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(mapper.map("mapper.double", source()))

    assert mapper.stats()["runs"]["active"] == 0


@pytest.mark.parametrize("bad", [5, None, [("n", 1)], {"m": 1}, {1: 1}], ids=repr)
def test_parameters_that_are_none_are_refused(mapper: Runtime, bad: Any) -> None:
    with pytest.raises(InvalidParamsError):
        list(mapper.map("mapper.double", [{"n": 1}, bad]))


def test_an_unknown_operation_is_refused(mapper: Runtime) -> None:
    with pytest.raises(OperationNotFoundError):
        list(mapper.map("mapper.triple", numbers(1)))


@pytest.mark.parametrize("options", [{"window": 0}, {"window": -1}, {"window": 1.5}, {"on_error": "ignore"}], ids=repr)
def test_wrong_options_are_refused_at_once(mapper: Runtime, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        mapper.map("mapper.double", numbers(1), **options)


def test_two_maps_run_side_by_side(mapper: Runtime) -> None:
    pairs = zip(
        mapper.map("mapper.double", numbers(*range(50)), window=10),
        mapper.map("mapper.invert", numbers(*range(1, 51)), window=10),
        strict=True,
    )

    assert list(pairs) == [(2 * n, 1 / (n + 1)) for n in range(50)]
