from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiecs_ray.breaker import (
    BUSY,
    SLICES,
    Admitted,
    Breaker,
    Circuit,
    Rejected,
    counts_as_failure,
    parse_breaker,
)
from aiecs_ray.errors import InvalidParamsError
from aiecs_ray.messages import BreakerOptions, ErrorInfo, RetryOptions

if TYPE_CHECKING:
    from collections.abc import Callable

OPTIONS = BreakerOptions(failure_rate=0.5, minimum_calls=4, window=20.0, open_seconds=10.0, probes=2)


def call(breaker: Breaker, now: float, *, well: bool) -> None:
    """Make a call that ends at once."""
    (breaker.succeeded if well else breaker.failed)(breaker.admit(now), now)


def opened(options: BreakerOptions = OPTIONS, now: float = 0.0) -> Breaker:
    breaker = Breaker(options)
    for _ in range(options.minimum_calls):
        call(breaker, now, well=False)
    assert breaker.circuit is Circuit.OPEN
    return breaker


def test_too_few_calls_open_nothing() -> None:
    breaker = Breaker(OPTIONS)

    for _ in range(3):
        call(breaker, 0.0, well=False)

    assert breaker.circuit is Circuit.CLOSED


@pytest.mark.parametrize(("well", "expected"), [(4, Circuit.OPEN), (5, Circuit.CLOSED)])
def test_it_opens_at_the_rate_of_failures(well: int, expected: Circuit) -> None:
    breaker = Breaker(OPTIONS)
    for _ in range(well):
        call(breaker, 0.0, well=True)

    for _ in range(4):
        call(breaker, 0.0, well=False)

    assert breaker.circuit is expected


def test_failures_that_are_older_than_the_window_count_no_more() -> None:
    breaker = Breaker(OPTIONS)
    for now in (0.0, 1.0, 2.0):
        call(breaker, now, well=False)

    call(breaker, 22.0, well=False)

    assert (breaker.circuit, breaker.totals(22.0)) == (Circuit.CLOSED, (1, 1))


def test_failures_within_the_window_count_together() -> None:
    breaker = Breaker(OPTIONS)

    for now in (0.0, 6.0, 12.0, 18.0):
        call(breaker, now, well=False)

    assert breaker.circuit is Circuit.OPEN


def test_an_open_breaker_says_when_to_come_again() -> None:
    breaker = opened(now=5.0)

    answers = [breaker.admit(5.0), breaker.admit(12.0), breaker.admit(14.5)]

    assert answers == [Rejected(10.0), Rejected(3.0), Rejected(0.5)]
    assert (breaker.opened, breaker.rejected, breaker.retry_after(12.0)) == (1, 3, 3.0)


def test_after_the_open_time_so_many_probes_are_let_through_and_no_more() -> None:
    breaker = opened()

    answers = [breaker.admit(10.0) for _ in range(4)]

    assert [type(answer) for answer in answers] == [Admitted, Admitted, Rejected, Rejected]
    assert breaker.circuit is Circuit.HALF_OPEN
    assert answers[-1] == Rejected(BUSY)


def test_it_closes_when_all_probes_went_well() -> None:
    breaker = opened()
    first, second = breaker.admit(10.0), breaker.admit(10.0)

    breaker.succeeded(first, 11.0)
    between = breaker.circuit
    breaker.succeeded(second, 11.0)

    assert (between, breaker.circuit) == (Circuit.HALF_OPEN, Circuit.CLOSED)
    assert breaker.totals(11.0) == (0, 0)


def test_a_probe_that_went_well_leaves_no_place_for_another() -> None:
    breaker = opened()
    probe = breaker.admit(10.0)
    breaker.admit(10.0)

    breaker.succeeded(probe, 11.0)

    assert type(breaker.admit(11.0)) is Rejected


def test_it_opens_again_when_one_probe_fails() -> None:
    breaker = opened()
    first, second = breaker.admit(10.0), breaker.admit(10.0)
    breaker.succeeded(first, 11.0)

    breaker.failed(second, 12.0)

    assert (breaker.circuit, breaker.admit(12.0), breaker.opened) == (Circuit.OPEN, Rejected(10.0), 2)


def test_the_place_of_a_probe_that_never_started_is_free_again() -> None:
    breaker = opened()
    probe = breaker.admit(10.0)
    breaker.admit(10.0)

    breaker.abandoned(probe)

    assert type(breaker.admit(10.0)) is Admitted
    assert type(breaker.admit(10.0)) is Rejected


def test_probes_of_which_nothing_is_heard_are_followed_by_others() -> None:
    breaker = opened()
    lost = [breaker.admit(10.0), breaker.admit(10.0)]

    early, late = breaker.admit(19.9), breaker.admit(20.0)
    for probe in lost:
        breaker.succeeded(probe, 21.0)

    assert (type(early), type(late)) == (Rejected, Admitted)
    assert breaker.circuit is Circuit.HALF_OPEN


@pytest.mark.parametrize("well", [True, False])
def test_calls_of_the_time_before_say_nothing_of_the_present(well: bool) -> None:  # noqa: FBT001  # a parameter
    breaker = Breaker(OPTIONS)
    early = [breaker.admit(0.0) for _ in range(8)]
    for one in early[:4]:
        breaker.failed(one, 0.0)
    breaker.admit(10.0)

    for one in early[4:]:
        (breaker.succeeded if well else breaker.failed)(one, 10.0)
        breaker.abandoned(one)

    assert (breaker.circuit, breaker.opened) == (Circuit.HALF_OPEN, 1)
    assert [type(breaker.admit(10.0)) for _ in range(2)] == [Admitted, Rejected]


def test_a_rejected_call_has_no_outcome() -> None:
    breaker = opened()
    rejected = breaker.admit(1.0)
    breaker.admit(10.0)

    breaker.failed(rejected, 10.0)
    breaker.succeeded(rejected, 10.0)
    breaker.abandoned(rejected)

    assert (breaker.circuit, breaker.opened) == (Circuit.HALF_OPEN, 1)


def test_it_can_be_closed_by_hand() -> None:
    breaker = opened()

    breaker.reset()

    assert type(breaker.admit(1.0)) is Admitted
    assert breaker.totals(1.0) == (0, 0)


def test_an_open_breaker_remembers_what_opened_it() -> None:
    breaker = opened()

    assert breaker.totals(9.0) == (4, 4)


@pytest.mark.parametrize(("window", "expected"), [(20.0, (3, 3)), (40.0, (0, 0))])
def test_other_options_hold_from_now_on(window: float, expected: tuple[int, int]) -> None:
    breaker = Breaker(OPTIONS)
    for _ in range(3):
        call(breaker, 0.0, well=False)

    breaker.adjust(BreakerOptions(minimum_calls=9, window=window))
    seen = breaker.totals(0.0)
    call(breaker, 0.0, well=False)

    assert (seen, breaker.circuit) == (expected, Circuit.CLOSED)


def test_it_remembers_no_more_than_its_window_has_parts() -> None:
    breaker = Breaker(BreakerOptions(window=1.0, minimum_calls=1_000_000))

    for number in range(10_000):
        call(breaker, number / 1000, well=False)

    assert len(breaker._counts._parts) <= SLICES


@settings(deadline=None)
@given(
    events=st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=120),
    least=st.integers(1, 5),
    rate=st.sampled_from([0.25, 0.5, 1.0]),
)
def test_it_opens_exactly_when_enough_of_the_windows_calls_failed(
    events: list[tuple[float, bool]], least: int, rate: float
) -> None:
    breaker = Breaker(BreakerOptions(rate, least, window=5.0, open_seconds=10.0))
    now, part, seen = 0.0, 5.0 / SLICES, []

    for pause, well in events:
        now += pause
        seen.append((now // part, well))
        within = [good for place, good in seen if place > now // part - SLICES]
        must_open = not well and len(within) >= least and within.count(False) >= rate * len(within)
        call(breaker, now, well=well)

        assert (breaker.circuit is Circuit.OPEN) == must_open
        if must_open:
            breaker.reset()
            seen.clear()


def end(breaker: Breaker, one: Admitted, how: str, now: float) -> None:
    if how == "well":
        breaker.succeeded(one, now)
    elif how == "bad":
        breaker.failed(one, now)
    else:
        breaker.abandoned(one)


@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.floats(0, 8), st.sampled_from(["admit", "well", "bad", "leave", "reset"])), max_size=150
    ),
    probes=st.integers(1, 3),
)
def test_whatever_happens_the_probes_are_bounded_and_it_never_stays_shut(
    steps: list[tuple[float, str]], probes: int
) -> None:
    breaker = Breaker(BreakerOptions(0.5, 2, 20.0, 10.0, probes))
    now, out = 0.0, []

    for pause, what in steps:
        now += pause
        before = breaker.circuit
        if what == "admit":
            answer = breaker.admit(now)
            if type(answer) is Admitted:
                out.append(answer)
            else:
                assert 0 < answer.retry_after <= 10.0
                assert before is not Circuit.CLOSED
        elif what == "reset":
            breaker.reset()
        elif out:
            end(breaker, out.pop(0), what, now)
        if breaker.circuit is Circuit.HALF_OPEN:
            assert breaker._out >= 0
            assert breaker._out + breaker._well <= probes

    assert type(breaker.admit(now + 30.0)) is Admitted


def error(code: str, *names: str, transient: bool = False) -> ErrorInfo:
    return ErrorInfo(code, "no", names[0] if names else "", names, transient=transient)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (error("E003", "ConnectionResetError", "ConnectionError"), True),
        (error("E002", "OperationTimeoutError"), True),
        (error("E003", "ReplicaLostError"), True),
        (error("E003", "RateLimited", transient=True), True),
        (error("E003", "DriverError"), True),
        (error("E003", "Throttled"), True),
        (error("E003", "ValueError"), False),
        (error("E006", "OperationalError"), False),
        (error("E001", "InvalidParamsError"), None),
        (error("E004", "OperationCancelledError"), None),
        (error("E007", "ReferencePathError"), None),
    ],
    ids=lambda value: value.type_name if isinstance(value, ErrorInfo) else None,
)
def test_what_counts_as_a_failure(info: ErrorInfo, expected: bool | None) -> None:  # noqa: FBT001  # a parameter
    options, retry = BreakerOptions(on=("DriverError",)), RetryOptions(on=("Throttled",))

    assert counts_as_failure(info, options, retry) is expected


@pytest.mark.parametrize(("value", "expected"), [(None, None), (False, None), (True, BreakerOptions())])
def test_a_breaker_may_be_left_out_or_switched_on(value: Any, expected: BreakerOptions | None) -> None:
    assert parse_breaker(value) == expected


def test_options_are_taken_from_a_dict_and_checked() -> None:
    parsed = parse_breaker({"failure_rate": 1, "window": 5, "open_seconds": 1, "on": KeyError})

    assert parsed == BreakerOptions(failure_rate=1.0, window=5.0, open_seconds=1.0, on=("KeyError",))
    assert parse_breaker(parsed) == parsed


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "breaker is 5, expected True, None or a dict"),
        ({"open_second": 5}, "breaker has no option 'open_second' (did you mean 'open_seconds'?)"),
        ({"failure_rate": 0}, "breaker failure_rate is 0, expected a number above 0 and up to 1"),
        ({"failure_rate": 1.01}, "failure_rate is 1.01"),
        ({"failure_rate": True}, "failure_rate is True"),
        ({"minimum_calls": 0}, "breaker minimum_calls is 0, expected a whole number from 1"),
        ({"probes": 1.5}, "probes is 1.5"),
        ({"window": 0}, "breaker window is 0, expected seconds above 0"),
        ({"open_seconds": float("nan")}, "open_seconds is nan"),
        ({"on": [3]}, "breaker on holds 3"),
        (BreakerOptions(probes=0), "probes is 0"),
    ],
    ids=repr,
)
def test_wrong_options_are_refused_by_name(value: Any, message: str) -> None:
    with pytest.raises(InvalidParamsError) as caught:
        parse_breaker(value)

    assert message in str(caught.value)


@pytest.mark.parametrize("clone", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_breaker_is_never_copied(clone: Callable[[Breaker], object]) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        clone(Breaker(OPTIONS))
