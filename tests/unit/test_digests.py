"""Many events in few words: nothing is counted twice, nothing is lost, and little is told."""

from __future__ import annotations

import random

import pytest

from aiecs_ray.digests import TOLD, digest
from aiecs_ray.messages import EventKind
from aiecs_ray.run_view import RunView
from tests.unit.pictures import BEGAN, Story, view_of


def busy(steps: int, seed: int) -> Story:
    """Tell a run of which some steps fail, some come from the cache, and some are tried again."""
    chance = random.Random(seed)  # noqa: S311
    story = Story(steps)
    for step in range(steps):
        draw = chance.random()
        if draw < 0.1:
            story.fail(step, f"no {step}")
        elif draw < 0.3:
            story.complete(step, from_cache=True, attempts=0, seconds=0.0, replica="", node="", after=0.01)
        elif draw < 0.4:
            story.start(step)
            story.retry(step)
            story.complete(step, attempts=2)
        else:
            story.complete(step, spec=f"tool.op{step % 3}", replica=f"tool-{step % 2}", after=0.01)
    story.finish("failed")
    return story


def test_few_events_are_told_as_they_are() -> None:
    events = busy(20, 1).events

    told = digest(events, 0, most=1000, over=True)

    assert (told.events, told.groups, told.over, told.following) == (tuple(events), (), True, len(events))


def test_without_events_the_same_one_is_wanted_again() -> None:
    assert digest([], 7, most=10, over=False).following == 7


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", [0, 10, 100_000])
def test_a_view_fed_with_digests_counts_what_one_fed_with_events_counts(seed: int, most: int) -> None:
    events = busy(3_000, seed).events
    one_by_one, digested = view_of(events), RunView()

    for start in range(0, len(events), 700):
        part = events[start : start + 700]
        digested.take(digest(part, start, most=most, over=False))

    for name in ("status", "total", "done", "bad", "hits", "size", "following", "missed", "ended"):
        assert getattr(digested, name) == getattr(one_by_one, name), name
    assert digested.ended_steps == one_by_one.ended_steps
    assert digested.retries >= one_by_one.retries


def test_a_digest_is_small_however_many_events_there_are() -> None:
    events = busy(50_000, 2).events

    told = digest(events, 0, most=1000, over=True)

    assert len(told.events) <= TOLD + 2
    assert len(told.groups) <= 17 * 4 * 3


def test_events_that_were_not_kept_are_counted() -> None:
    story = busy(2_000, 3)

    told = digest(story.events[500:], 100, most=10, over=True)

    assert told.missed == 400


def test_the_steps_of_a_group_ran_where_and_when_it_says() -> None:
    story = Story(100)
    for step in range(100):
        story.complete(step, after=0.001, seconds=0.25)

    told = digest(story.events, 0, most=10, over=False)

    assert sum(group.steps for group in told.groups) == 100
    assert {(group.spec, group.replica, group.node) for group in told.groups} == {("tool.op", "tool-1", "node-1")}
    assert min(group.began for group in told.groups) == pytest.approx(BEGAN + 1 - 0.25)
    assert sum(group.seconds for group in told.groups) == pytest.approx(25.0)


def test_identical_operations_that_waited_for_one_are_hits() -> None:
    story = Story(20)
    for step in range(20):
        story.complete(step, joined=step > 0, attempts=int(step == 0))

    told = digest(story.events, 0, most=0, over=False)

    assert (sum(group.hits for group in told.groups), sum(group.retries for group in told.groups)) == (19, 0)


def test_a_failure_beyond_the_told_ones_is_counted() -> None:
    story = Story(TOLD + 50)
    for step in range(TOLD + 50):
        story.fail(step, "no")

    told = digest(story.events, 0, most=10, over=False)

    assert dict(told.others) == {EventKind.STEP_FAILED.value: 51}
