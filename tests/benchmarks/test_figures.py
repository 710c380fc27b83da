"""The arithmetic of the benchmarks: what is compared with what, and what counts as met."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from benchmarks.figures import Row, Seen, Spread, Target, held_back, list_schedule, quantile, ratio, spread, turns
from benchmarks.harness import Case, Contender, Measured, best, checked, compare, measure
from benchmarks.picture import draw
from benchmarks.report import number, record, recorded, rounded, table
from benchmarks.world import World

if TYPE_CHECKING:
    from pathlib import Path


def test_a_spread_holds_the_middle_four_fifths() -> None:
    values = [float(value) for value in range(11)]

    assert spread(values) == Spread(5.0, 1.0, 9.0)


def test_one_slow_repetition_moves_the_high_end_and_not_the_median() -> None:
    assert spread([1.0] * 10 + [100.0]).median == 1.0


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 2.5), (1.0, 4.0)])
def test_a_quantile_lies_between_its_neighbours_in_proportion(share: float, value: float) -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0], share) == value


def test_a_ratio_is_that_of_the_medians_and_spreads_over_neighbours_in_time() -> None:
    assert ratio([2.0, 2.0, 2.0], [1.0, 2.0, 4.0]) == Spread(1.0, 0.6, 1.8)


def test_different_numbers_of_repetitions_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0], [1.0, 2.0])


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_every_contender_is_equally_often_at_every_place(count: int) -> None:
    names = [str(number) for number in range(count)]
    orders = [turns(names, repetition) for repetition in range(2 * count)]

    places = Counter(itertools.chain.from_iterable(enumerate(order) for order in orders))

    assert set(places.values()) == {2}
    assert len(places) == count * count


@pytest.mark.parametrize(
    ("target", "figure", "verdict"),
    [
        (Target(1.5), 1.5, "met"),
        (Target(1.5), 1.51, "missed"),
        (Target(100, "at least"), 100, "met"),
        (Target(100, "at least"), 99, "missed"),
        (None, 1.0, ""),
    ],
)
def test_a_target_is_met_up_to_its_limit(target: Target | None, figure: float, verdict: str) -> None:
    assert Row("what", Spread(figure, 0.0, 200.0), target=target).verdict == verdict


def test_the_bound_of_a_schedule_gives_each_operation_to_the_worker_free_first() -> None:
    assert list_schedule([1.0, 1.0, 4.0, 1.0, 1.0], 2) == 5.0
    assert list_schedule([2.0] * 6, 3) == 4.0
    assert list_schedule([1.0, 2.0], 1) == 3.0


def test_an_operation_that_starts_when_a_worker_is_free_is_held_back_by_none() -> None:
    seen = [Seen(1, 0.0, 5.0), Seen(2, 0.0, 1.0), Seen(2, 1.0, 2.0), Seen(2, 2.0, 3.0)]

    assert held_back(seen) == [0.0, 0.0, 0.0, 0.0]


def test_an_operation_behind_a_long_one_is_held_back_while_another_worker_rests() -> None:
    seen = [Seen(1, 0.0, 5.0), Seen(1, 5.0, 6.0), Seen(2, 0.0, 2.0), Seen(2, 4.5, 5.0)]

    assert held_back(seen) == [0.0, 2.5, 0.0, 2.5]


def test_a_wrong_result_ends_the_measurement() -> None:
    with pytest.raises(AssertionError, match="ours returned a wrong result: 3"):
        checked(Contender("ours", lambda: 3, 4))


def test_the_first_run_of_each_contender_does_not_count() -> None:
    runs: Counter[str] = Counter()

    def run(name: str) -> int:
        runs[name] += 1
        return 1

    samples = measure([Contender("a", lambda: run("a"), 1), Contender("b", lambda: run("b"), 1)], 3)

    assert runs == {"a": 4, "b": 4}
    assert {name: len(times) for name, times in samples.items()} == {"a": 3, "b": 3}


def test_a_peer_is_measured_in_its_fastest_form() -> None:
    assert best({"slow": lambda: sum(range(200_000)), "fast": lambda: None}) == "fast"


def test_the_table_says_what_was_met_and_what_was_missed() -> None:
    samples = {"ours": [1.0, 1.0], "theirs": [2.0, 2.0]}
    rows = [compare(samples, "ours", "theirs", Target(0.4)), Row("rate", Spread(30_000.0, 1.0, 2.0), "/s")]

    lines = table({"small": rows}).splitlines()

    assert lines[2:] == [
        "| small | ours / theirs | 0.5 x | 0.5 to 0.5 | ≤ 0.4 | missed |",
        "| small | rate | 30,000 /s | 1.00 to 2.00 |  |  |",
    ]


def test_a_file_holds_numbers_of_five_digits_and_whole_numbers_as_they_are() -> None:
    assert rounded({1: (0.123456789, 123456789, "text", None)}) == {"1": [0.12346, 123456789, "text", None]}


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (0.0123, "0.012"), (1.0, "1.00"), (99.999, "100.00")])
def test_a_number_has_the_digits_that_say_something(value: float, text: str) -> None:
    assert number(value) == text


def test_the_picture_is_a_png_file(tmp_path: Path) -> None:
    draw({"raw 10": [0.1, 0.2], "raw 100": [0.1, 0.1], "graph, whole": [1.0]}, tmp_path / "growth.png")

    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_recorded_is_shown_again(tmp_path: Path) -> None:
    rows = [
        Row("ours / theirs", Spread(0.5, 0.25, 1.0), target=Target(0.4, stretch=True)),
        Row("rate", Spread(1, 1, 1)),
    ]
    case = Case("small", "nothing", lambda _: Measured({"ours": [1.0]}, rows, {"operations": 7}))

    with World() as world:
        record(case, world, tmp_path)

    assert recorded("small", tmp_path) == rows
    assert recorded("never-measured", tmp_path) == []
