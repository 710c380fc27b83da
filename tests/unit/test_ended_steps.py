"""A follower of a run is told of every step once, whatever it missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from aiecs_ray.ended_steps import PORTION, EndedSteps
from aiecs_ray.messages import Event, EventKind

if TYPE_CHECKING:
    from collections.abc import Iterable


def event(number: int, step: int | None, kind: EventKind = EventKind.STEP_COMPLETED) -> Event:
    return Event(number, kind, "run", 0.0, step, {})


def tell(ended: EndedSteps, events: list[Event], have_ended: Iterable[int], *, last: bool = False) -> list[int]:
    """Ask as a follower does; return what it is told."""
    there = set(have_ended)
    told: list[int] = []
    for asked in ended.to_ask(events, last=last):
        settled: list[Any] = ["settled" if step in there else None for step in asked]
        told += ended.told(asked, settled)[0]
    return told


def test_steps_are_told_as_their_events_come() -> None:
    ended = EndedSteps(3)

    first = tell(ended, [event(0, None, EventKind.RUN_STARTED), event(1, 2), event(2, 0)], {0, 2})

    assert first == [2, 0]
    assert ended.number == 3


def test_after_a_gap_everything_that_has_ended_is_told_once() -> None:
    ended = EndedSteps(5)
    tell(ended, [event(0, 0)], {0})

    after_gap = tell(ended, [event(7, 3)], {0, 1, 2, 3})
    later = tell(ended, [event(8, 1), event(9, 4)], {0, 1, 2, 3, 4})

    assert after_gap == [1, 2, 3]
    assert later == [4]


def test_the_last_events_are_told_in_their_order() -> None:
    ended = EndedSteps(3)

    told = tell(ended, [event(0, 2), event(1, 0), event(2, 1)], {0, 1, 2}, last=True)

    assert told == [2, 0, 1]


def test_many_steps_are_asked_for_in_portions() -> None:
    ended = EndedSteps(2 * PORTION + 1)

    portions = list(ended.to_ask([], last=True))

    assert [len(portion) for portion in portions] == [PORTION, PORTION, 1]


@given(st.integers(1, 30), st.randoms(use_true_random=False), st.integers(1, 5))
def test_each_step_is_told_exactly_once_whatever_was_missed(total: int, random: Any, limit: int) -> None:
    ended = EndedSteps(total)
    order = random.sample(range(total), total)
    told: list[int] = []
    read = 0

    while read < total:
        read = min(total, read + random.randint(1, 10))
        kept = [event(number, order[number]) for number in range(max(0, read - limit), read)]
        told += tell(ended, [one for one in kept if one.number >= ended.number], order[:read], last=read == total)

    assert sorted(told) == list(range(total))
    assert len(told) == total
