"""The events of a run: which there are, what they say, and how their numbers run."""

from __future__ import annotations

from typing import Any

import pytest

from aiecs_ray import Runtime, progress
from tests.contract.probes import Gate, op, visit

pytestmark = pytest.mark.timeout(40)


class Reporter:
    def give(self, value: Any) -> Any:
        return value

    def fail(self) -> None:
        raise ValueError("no news")

    def count(self, gate: int) -> None:
        progress(1, 3, "first")
        visit(gate)
        progress(3, 3, "last")

    def count_fast(self, to: int) -> None:
        for n in range(1, to + 1):
            progress(n)


class Editor:
    def print(self, value: Any) -> str:
        return str(value)


@pytest.fixture
def reporter(rt: Runtime) -> Runtime:
    rt.register(Reporter)
    rt.register(Editor)
    return rt


def kinds(run: Any, *, step: int | None = None) -> list[str]:
    return [event.kind for event in run.events() if step is None or event.step == step]


@pytest.mark.parametrize("mode", ["sequence", "parallel", "batch"])
def test_a_run_tells_of_its_start_of_every_step_and_of_its_end(reporter: Runtime, mode: Any) -> None:
    run = reporter.submit([op("reporter.give", value=1), op("editor.print", value="$result[0]")], mode)

    events = list(run.events())

    assert [(event.kind, event.step) for event in events if event.kind != "replica_started"] == [
        ("run_started", None),
        ("step_started", 0),
        ("step_completed", 0),
        ("step_started", 1),
        ("step_completed", 1),
        ("run_finished", None),
    ]
    assert [event.number for event in events] == list(range(len(events)))
    assert {event.run for event in events} == {run.id}
    assert [event.time for event in events] == sorted(event.time for event in events)


def test_events_say_what_happened(reporter: Runtime) -> None:
    run = reporter.submit(
        [op("reporter.give", value=[1, 2]), op("reporter.fail"), op("editor.print", value="$result[1]")]
    )

    events = list(run.events())

    started, completed, failed, skipped, finished = (
        next(event for event in events if event.kind == kind).data
        for kind in ("run_started", "step_completed", "step_failed", "step_skipped", "run_finished")
    )
    assert (started["steps"], started["mode"]) == (3, "sequence")
    assert (completed["spec"], completed["attempts"], completed["from_cache"]) == ("reporter.give", 1, False)
    assert completed["summary"] == "list of 2"
    assert completed["seconds"] >= 0
    assert (failed["code"], failed["message"]) == ("E003", "Error executing fail: no news")
    assert (skipped["code"], skipped["message"]) == ("E007", "Skipped: step 1 (reporter.fail) failed")
    assert finished["status"] == "failed"
    assert finished["counts"] == {"completed": 1, "failed": 1, "cancelled": 1}


@pytest.mark.parametrize("mode", ["sequence", "batch"])
def test_every_step_ends_exactly_once(reporter: Runtime, mode: Any) -> None:
    operations = [op("reporter.fail") if n % 7 == 0 else op("reporter.give", value=n) for n in range(100)]
    run = reporter.submit(operations, mode)

    events = list(run.events())

    ended = [event.step for event in events if event.kind in ("step_completed", "step_failed")]
    assert sorted(ended, key=str) == sorted(range(100), key=str)
    assert [event.number for event in events] == list(range(len(events)))
    assert (events[0].kind, events[-1].kind) == ("run_started", "run_finished")


@pytest.mark.parametrize("mode", ["sequence", "parallel", "batch"])
def test_a_step_starts_at_most_once_and_before_it_ends(reporter: Runtime, mode: Any) -> None:
    run = reporter.submit([op("reporter.give", value=n) for n in range(30)], mode)

    by_step: dict[int, list[str]] = {}
    for event in run.events():
        if event.step is not None:
            by_step.setdefault(event.step, []).append(event.kind)

    # What began and ended between two reports of a replica is reported with its end alone.
    assert all(seen[-1:] == ["step_completed"] and seen[:-1] in ([], ["step_started"]) for seen in by_step.values())
    assert len(by_step) == 30


def test_a_step_that_the_cache_answers_says_so(reporter: Runtime) -> None:
    user = {"user_id": "events", "task_id": "cache"}
    reporter.cache.invalidate(user_id="events")
    reporter.run([op("reporter.give", value=1)], **user)  # type: ignore[arg-type]
    run = reporter.submit([op("reporter.give", value=1)], **user)  # type: ignore[arg-type]

    completed = next(event for event in run.events() if event.kind == "step_completed")

    assert completed.data["from_cache"] is True
    assert "step_started" not in kinds(run)


def test_an_empty_run_starts_and_finishes(reporter: Runtime) -> None:
    run = reporter.submit([])

    assert kinds(run) == ["run_started", "run_finished"]
    assert run.status() == "completed"


def test_a_step_that_was_cancelled_is_told_from_one_that_was_skipped(reporter: Runtime, gate: Gate) -> None:
    run = reporter.submit([op("reporter.count", gate=gate.port), op("editor.print", value="$result[0]")])
    gate.arrival()

    run.cancel()

    ended = [(event.kind, event.step) for event in run.events() if event.kind in ("step_cancelled", "step_skipped")]
    assert sorted(ended, key=str) in (
        [("step_cancelled", 0), ("step_cancelled", 1)],
        [("step_cancelled", 0), ("step_skipped", 1)],
    )


def test_a_run_that_waits_for_a_new_replica_says_when_it_is_there(rt: Runtime) -> None:
    class Newcomer:
        def work(self) -> None: ...

    rt.register(Newcomer)
    run = rt.submit([op("newcomer.work")])

    started = [event for event in run.events() if event.kind == "replica_started"]

    assert [event.data["tool"] for event in started] == ["newcomer"]
    assert started[0].data["seconds"] >= 0


def test_a_body_reports_its_progress_while_it_runs(reporter: Runtime, gate: Gate) -> None:
    run = reporter.submit([op("reporter.give", value=0), op("reporter.count", gate=gate.port)])
    events = run.events()

    first = next(event for event in events if event.kind == "progress")
    gate.arrival().let_go()
    rest = [event for event in events if event.kind == "progress"]

    assert (first.step, first.data) == (1, {"done": 1, "total": 3, "message": "first"})
    assert [event.data["message"] for event in rest] == ["last"]


def test_reports_are_thinned_out_and_the_last_one_arrives(reporter: Runtime) -> None:
    run = reporter.submit([op("reporter.count_fast", to=5000)])

    reports = [event.data["done"] for event in run.events() if event.kind == "progress"]

    assert reports[-1] == 5000
    assert reports == sorted(reports)
    assert len(reports) < 100


def test_progress_outside_of_an_operation_is_nothing() -> None:
    progress(1, 2, "nobody listens")
