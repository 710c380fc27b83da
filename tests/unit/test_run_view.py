"""What is known of a run from its events."""

from __future__ import annotations

import itertools

import pytest

from aiecs_ray.digests import Digest
from aiecs_ray.messages import EventKind
from aiecs_ray.run_view import DETAIL, PROBLEMS, RunView
from aiecs_ray.timelines import LANES, STRETCHES, Timeline
from tests.unit.pictures import BEGAN, Story


def test_a_run_that_has_not_begun_is_nothing_yet() -> None:
    view = RunView("r-1")

    assert (view.status, view.total, view.done, view.over, view.seconds(BEGAN)) == ("running", 0, 0, False, 0.0)


def test_steps_go_from_waiting_to_their_end() -> None:
    story = Story(2, plan={"specs": ["tool.op"], "steps": [[0, "a", [], []], [0, None, [0], []]]})
    seen = [[story.view.steps[step].status for step in (0, 1)]]

    for tell in (lambda: story.start(0), lambda: story.complete(0), lambda: story.fail(1, "no")):
        tell()
        seen.append([story.view.steps[step].status for step in (0, 1)])

    assert seen == [["pending"] * 2, ["running", "pending"], ["completed", "pending"], ["completed", "failed"]]


def test_each_attempt_is_a_bar() -> None:
    story = Story(1)
    story.start(0)
    story.retry(0)
    story.start(0, attempt=2)
    story.complete(0, attempts=2)

    view = story.view

    assert [(bar.start - BEGAN, bar.end - BEGAN, bar.status) for bar in view.steps[0].bars] == [
        (1, 2, "failed"),
        (3, 4, "completed"),
    ]
    assert view.retries == 1


def test_a_step_whose_beginning_was_not_told_began_when_it_took_so_long() -> None:
    story = Story(1)
    story.complete(0, seconds=0.25)

    (bar,) = story.view.steps[0].bars

    assert bar.start == pytest.approx(bar.end - 0.25)


@pytest.mark.parametrize("how", ["from_cache", "joined"])
def test_what_was_not_computed_is_a_hit_and_no_work(how: str) -> None:
    story = Story(1)
    story.complete(0, **{how: True})

    view = story.view

    assert (view.hits, view.steps[0].from_cache, view.steps[0].bars, view.replicas) == (1, True, [], {})


def test_the_latest_progress_of_a_step_is_known_while_it_runs() -> None:
    story = Story(1)
    story.start(0)
    story.tell(EventKind.PROGRESS, 0, done=3, total=10, message="rows")
    running = story.view.steps[0].progress
    story.complete(0)

    assert (running, story.view.steps[0].progress) == ((3, 10, "rows"), None)


def test_failures_come_before_what_followed_from_them() -> None:
    story = Story(3)
    story.fail(0, "skipped", kind=EventKind.STEP_SKIPPED)
    story.fail(2, "late", kind=EventKind.STEP_TIMED_OUT)
    story.fail(1, "bad")

    assert [(one.step, one.status) for one in story.view.worst()] == [(1, "failed"), (2, "timed_out"), (0, "skipped")]


def test_replicas_are_known_with_what_they_did() -> None:
    story = Story(3)
    for step, replica in enumerate(("a", "b", "a")):
        story.complete(step, replica=replica, seconds=0.5)

    replicas = story.view.replicas

    assert {name: (one.steps, one.seconds) for name, one in replicas.items()} == {"a": (2, 1.0), "b": (1, 0.5)}


def test_the_end_of_a_run_is_its_status_and_time() -> None:
    story = Story(1)
    story.complete(0)
    story.finish("completed", completed=1)

    view = story.view

    assert (view.status, view.over, view.seconds(BEGAN + 100)) == ("completed", True, 2.0)


def test_counts_are_right_in_the_end_though_events_were_missed() -> None:
    story = Story(10)
    for step in range(10):
        story.complete(step)
    story.finish("completed", completed=10)
    view = RunView()

    view.take(Digest(5, tuple(story.events[:3])))
    view.take(Digest(12, tuple(story.events[8:]), over=True, missed=5))

    assert (view.done, view.missed, view.over) == (10, 5, True)


def test_a_run_whose_end_was_not_seen_is_concluded_from_its_results() -> None:
    story = Story(3)
    story.complete(0)
    view = story.view

    view.conclude({"completed": 2, "failed": 1}, BEGAN + 5)

    assert (view.status, view.done, view.bad, view.over) == ("failed", 3, 1, True)


def test_a_long_run_is_known_in_little() -> None:
    steps = 20_000
    story = Story(steps)
    for step in range(steps):
        story.complete(step, spec=f"tool.op{step % 100}", replica=f"r{step % 100}", after=0.001)
    story.fail(1, "no")

    view = story.view

    assert not view.detailed
    assert view.done == steps + 1
    assert (len(view.steps), len(view.problems)) == (0, 1)
    assert len(view.timeline.lanes) <= LANES + 1


def test_many_failures_are_counted_and_few_are_kept() -> None:
    story = Story(DETAIL)
    for step in range(DETAIL):
        story.fail(step, "no")

    view = story.view

    assert (view.bad, len(view.problems)) == (DETAIL, PROBLEMS)


def test_a_timeline_holds_everything_however_long_it_becomes() -> None:
    timeline = Timeline()
    timeline.begin(0.0)

    for second in itertools.accumulate([0.001] * 10 + [1.0] * 10 + [500.0] * 10):
        timeline.add(("t.op", "r"), max(0.0, second - 0.7), second, 0.7)

    counts = timeline.lanes["t.op", "r"]
    assert len(counts) == STRETCHES
    assert sum(counts) == pytest.approx(30)
    assert timeline.width * STRETCHES > 5010
