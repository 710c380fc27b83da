"""A pacer lets no more than its rate start in any second, and is told the time."""

from __future__ import annotations

import copy
import math
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiecs_ray.errors import InvalidInputError
from aiecs_ray.limits import MAX_RATE, Meter, Pacer, check_limits
from aiecs_ray.messages import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

rates = st.integers(1, 50)
pauses = st.lists(st.floats(0, 3), min_size=1, max_size=150)


def most_in_a_second(starts: list[float]) -> int:
    """Return how many starts the fullest second holds; it can be taken to begin with a start."""
    return max(sum(1 for other in starts[i:] if other - first < 1.0) for i, first in enumerate(starts))


def reserve_after(pacer: Pacer, waits: list[float], now: float = 0.0) -> list[float]:
    starts = []
    for wait in waits:
        now += wait
        starts.append(pacer.reserve(now))
    return starts


@settings(deadline=None)
@given(rate=rates, burst=st.integers(1, 60), waits=pauses, begin=st.sampled_from([0.0, 0.1, 1e6, 1.7e9]))
def test_no_second_holds_more_starts_than_the_rate(rate: int, burst: int, waits: list[float], begin: float) -> None:
    starts = reserve_after(Pacer(rate, burst), waits, begin)

    assert most_in_a_second(starts) <= rate


@settings(deadline=None)
@given(rate=rates, burst=st.integers(1, 10), count=st.integers(60, 200))
def test_many_at_once_are_spread_so_that_no_second_holds_more_than_the_rate(rate: int, burst: int, count: int) -> None:
    starts = reserve_after(Pacer(rate, burst), [0.0] * count)

    assert most_in_a_second(starts) <= rate
    assert starts[-1] <= (count - 1) / rate * (1 + 1e-9)


@settings(deadline=None)
@given(rate=st.floats(0.1, 50), waits=pauses)
def test_a_fractional_rate_holds_on_average(rate: float, waits: list[float]) -> None:
    starts = reserve_after(Pacer(rate), waits)

    allowed = (starts[-1] - starts[0]) * rate + 1
    assert len(starts) <= allowed * (1 + 1e-9)


@settings(deadline=None)
@given(rate=rates, burst=st.integers(1, 10), waits=pauses)
def test_a_start_is_never_in_the_past_and_never_before_the_one_ahead(rate: int, burst: int, waits: list[float]) -> None:
    pacer = Pacer(rate, burst)
    now, last = 0.0, 0.0

    for wait in waits:
        now += wait
        start = pacer.reserve(now)

        assert start >= now
        assert start >= last
        last = start


@settings(deadline=None)
@given(rate=rates, burst=st.integers(1, 60), waits=pauses)
def test_available_is_exactly_how_many_may_start_now(rate: int, burst: int, waits: list[float]) -> None:
    pacer = Pacer(rate, burst)
    now = 0.0

    for wait in waits:
        now += wait
        free = pacer.available(now)

        assert [pacer.reserve(now) for _ in range(free)] == [now] * free
        if free < burst:
            assert pacer.reserve(now) > now


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(rates, st.lists(st.floats(0, 0.5), max_size=20)), min_size=2, max_size=6),
    burst=st.integers(1, 60),
)
def test_a_changed_rate_holds_for_every_start_that_follows(steps: list[tuple[int, list[float]]], burst: int) -> None:
    pacer = Pacer(steps[0][0], burst)
    starts: list[float] = []
    now = 0.0

    for rate, waits in steps:
        pacer.set_rate(rate)
        for wait in waits:
            now += wait
            starts.append(pacer.reserve(now))

            assert len(starts) <= rate or starts[-1] - starts[-1 - rate] >= 1.0


def test_starts_are_evenly_spaced() -> None:
    pacer = Pacer(4)

    starts = [pacer.reserve(10.0) for _ in range(5)]

    assert starts == [10.0, 10.25, 10.5, 10.75, 11.0]


def test_a_burst_may_start_at_once_and_the_rest_is_paced() -> None:
    pacer = Pacer(4, burst=3)

    starts = [pacer.reserve(0.0) for _ in range(6)]

    assert starts[:3] == [0.0, 0.0, 0.0]
    assert starts[3:] == pytest.approx([0.25, 1.0, 1.0])


def test_a_pause_earns_no_more_than_one_burst() -> None:
    pacer = Pacer(4, burst=2)
    pacer.reserve(0.0)

    starts = [pacer.reserve(1000.0) for _ in range(3)]

    assert starts == [1000.0, 1000.0, 1000.25]


def test_available_counts_what_may_start_without_waiting() -> None:
    pacer = Pacer(4, burst=3)

    free = [pacer.available(0.0)]
    pacer.reserve(0.0)
    free.append(pacer.available(0.0))
    free.append(pacer.available(0.25))

    assert free == [3, 2, 3]


def test_asking_what_is_available_counts_nothing() -> None:
    pacer = Pacer(1)

    for _ in range(5):
        pacer.available(0.0)

    assert pacer.reserve(0.0) == 0.0


def test_a_clock_that_goes_back_gains_no_starts() -> None:
    pacer = Pacer(1)
    pacer.reserve(100.0)

    assert pacer.reserve(50.0) == 101.0


def test_no_rate_is_no_limit() -> None:
    pacer = Pacer(None)

    assert [pacer.reserve(7.0) for _ in range(1000)] == [7.0] * 1000
    assert pacer.available(7.0) == MAX_RATE
    assert pacer.rate is None


def test_a_faster_rate_shortens_the_pause_that_is_running() -> None:
    pacer = Pacer(0.01)
    pacer.reserve(1000.0)

    pacer.set_rate(10)

    assert pacer.reserve(1000.0) == pytest.approx(1000.1)


def test_a_slower_rate_lengthens_the_pause_that_is_running() -> None:
    pacer = Pacer(10)
    pacer.reserve(0.0)

    pacer.set_rate(0.5)

    assert pacer.reserve(0.0) == pytest.approx(2.0)


def test_lowering_and_raising_the_rate_forgets_no_start() -> None:
    pacer = Pacer(10, burst=10)
    first = [pacer.reserve(0.0) for _ in range(10)]
    pacer.set_rate(1)
    pacer.set_rate(10)

    following = pacer.reserve(0.5)

    assert first == [0.0] * 10
    assert following == 1.0


def test_a_limit_can_be_lifted_and_set_again() -> None:
    pacer = Pacer(1)
    pacer.reserve(0.0)
    pacer.set_rate(None)
    lifted = pacer.reserve(0.0)

    pacer.set_rate(2)

    assert lifted == 0.0
    assert [pacer.reserve(0.0), pacer.reserve(0.0)] == [0.0, 0.5]


def test_a_pacer_remembers_no_more_than_one_second_of_starts() -> None:
    pacer = Pacer(5)

    reserve_after(pacer, [0.1] * 1000)

    assert len(pacer._starts) == 5


def test_the_next_start_can_be_asked_for_without_being_taken() -> None:
    pacer = Pacer(2)
    pacer.reserve(0.0)

    asked = [pacer.next_start(0.0), pacer.next_start(0.0), pacer.next_start(3.0)]

    assert asked == [0.5, 0.5, 3.0]
    assert pacer.reserve(0.0) == 0.5
    assert Pacer(None).next_start(7.0) == 7.0


def test_a_rate_can_be_changed_before_the_first_start() -> None:
    pacer = Pacer(1)
    pacer.set_rate(4)

    assert [pacer.reserve(0.0), pacer.reserve(0.0)] == [0.0, 0.25]


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), "x", "5", True, 100_001, [5]])
def test_what_is_no_rate_is_refused(rate: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"rate is .*expected a number above 0"):
        Pacer(rate)


@pytest.mark.parametrize("burst", [0, -1, 1.5, "2", True])
def test_what_is_no_burst_is_refused(burst: Any) -> None:
    with pytest.raises(ValueError, match=r"burst is .*expected a whole number"):
        Pacer(5, burst)


def test_a_refused_change_leaves_the_limit_as_it_was() -> None:
    pacer = Pacer(2)

    with pytest.raises(InvalidInputError):
        pacer.set_rate(0)

    assert pacer.rate == 2
    assert [pacer.reserve(0.0), pacer.reserve(0.0)] == [0.0, 0.5]


@pytest.mark.parametrize("clone", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_pacer_is_never_copied(clone: Callable[[Pacer], object]) -> None:
    with pytest.raises(TypeError, match="a second limit"):
        clone(Pacer(5))


def test_a_heavy_start_takes_the_time_of_as_many_light_ones() -> None:
    pacer = Pacer(10)

    starts = [pacer.reserve(0.0, weight) for weight in (5, 1, 2, 1)]

    assert starts == pytest.approx([0.0, 0.5, 0.6, 0.8])


def test_a_start_that_is_heavier_than_the_rate_waits_for_an_empty_second_and_takes_its_time() -> None:
    pacer = Pacer(2)

    starts = [pacer.reserve(0.0, weight) for weight in (1, 6, 1)]

    assert starts == pytest.approx([0.0, 1.0, 4.0])


@settings(deadline=None)
@given(
    rate=st.integers(1, 40), burst=st.integers(1, 40), steps=st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 50)))
)
def test_no_second_holds_more_units_than_the_rate(rate: int, burst: int, steps: list[tuple[float, int]]) -> None:
    pacer, now, starts = Pacer(rate, burst), 100.0, []

    for wait, weight in steps:
        now += wait
        expected = pacer.next_start(now, weight)
        starts.append((pacer.reserve(now, weight), min(weight, rate)))
        assert starts[-1][0] == expected
        now = max(now, expected)

    for place, (begin, _) in enumerate(starts):
        assert sum(units for start, units in starts[place:] if start - begin < 1.0) <= rate


def test_a_start_that_comes_a_little_late_leaves_the_others_their_times() -> None:
    pacer = Pacer(50)

    for number in range(200):
        planned = pacer.next_start(0.0)
        start = pacer.reserve(max(planned, 10.0 + number / 50) + 0.002)

    assert start - 10.0 <= 199 / 50 + 0.02


def test_a_start_that_comes_much_later_begins_a_new_row() -> None:
    pacer = Pacer(10)

    starts = [pacer.reserve(now) for now in (0.0, 0.15, 0.15)]

    assert starts == pytest.approx([0.0, 0.15, 0.25])


def test_so_many_units_are_inside_and_no_more() -> None:
    meter = Meter(Limits(concurrency=4))
    meter.admit("a", 3)

    waits = [meter.wait(0.0, weight) for weight in (1, 2)]
    meter.leave("a")

    assert (waits, meter.wait(0.0, 2), meter.inside) == ([0.0, math.inf], 0.0, 0)


def test_what_is_heavier_than_the_whole_limit_goes_in_alone() -> None:
    meter = Meter(Limits(concurrency=2))

    alone = meter.wait(0.0, 5)
    meter.admit("a", 1)
    beside = meter.wait(0.0, 5)

    assert (alone, beside) == (0.0, math.inf)


def test_with_a_rate_one_operation_at_a_time_is_under_way() -> None:
    meter = Meter(Limits(rate=10.0))
    meter.admit("a", 2)

    waiting = meter.wait(5.0, 1)
    counted = [meter.started("b", 5.0), meter.started("a", 5.0), meter.started("a", 5.0)]

    assert (waiting, counted) == (math.inf, [False, True, False])
    assert meter.wait(5.0, 1) == pytest.approx(5.2)


def test_a_start_that_does_not_happen_costs_nothing() -> None:
    meter = Meter(Limits(rate=0.01))
    meter.admit("a", 1)

    meter.leave("a")

    assert meter.wait(5.0, 1) == 0.0


def test_leaving_twice_makes_no_more_room() -> None:
    meter = Meter(Limits(concurrency=2))
    meter.admit("a", 1)
    meter.admit("b", 1)

    meter.leave("a")
    meter.leave("a")

    assert (meter.wait(0.0, 1), meter.wait(0.0, 2)) == (0.0, math.inf)


def test_a_meter_is_fresh_when_nothing_of_it_is_left() -> None:
    meter = Meter(Limits(rate=1.0))
    seen = [meter.is_fresh(0.0)]
    meter.admit("a", 1)
    meter.started("a", 0.0)
    seen.append(meter.is_fresh(5.0))
    meter.leave("a")
    seen += [meter.is_fresh(0.5), meter.is_fresh(1.0)]

    assert seen == [True, False, False, True]


def test_another_burst_holds_from_now_on() -> None:
    meter = Meter(Limits(rate=10.0))

    meter.adjust(Limits("", 10.0, None, 3))
    starts = 0
    while meter.wait(100.0, 1) == 0.0:
        meter.admit(starts, 1)
        starts += meter.started(starts, 100.0)

    assert starts == 3


@pytest.mark.parametrize("clone", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_meter_is_never_copied(clone: Callable[[Meter], object]) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        clone(Meter(Limits(rate=5.0)))


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, "2", True, 1_000_001])
def test_what_is_no_concurrency_is_refused(concurrency: Any) -> None:
    with pytest.raises(InvalidInputError, match="concurrency is"):
        check_limits(None, concurrency)
