"""What the coordinator tells the history, and what becomes of it when the history does not answer."""

from __future__ import annotations

import asyncio
import pickle
from collections import Counter
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.actors import recorder as recorder_module
from aiecs_ray.actors.events import EventLog
from aiecs_ray.actors.recorder import Recorder
from aiecs_ray.backend import HistoryGone
from aiecs_ray.config import Settings
from aiecs_ray.history_facts import Batch, BulkFact, EndFact, EventsFact, Fact, RunFact, StepFact
from aiecs_ray.messages import EventKind, Policy, RunRequest, Settled, Step

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(recorder_module, "PAUSES", (0.001,))
    return


class Link:
    """Takes batches, when it is there."""

    def __init__(self) -> None:
        self.there = True
        self.batches: list[Batch] = []
        self.asked = 0

    async def append(self, batch: bytes) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if not self.there:
            raise HistoryGone("it is away")
        self.batches.append(pickle.loads(batch))

    @property
    def facts(self) -> list[Fact]:
        return [fact for batch in self.batches for fact in batch.facts]

    def of(self, kind: type) -> list[Any]:
        return [fact for fact in self.facts if isinstance(fact, kind)]


def run_of(steps: int, name: str = "run") -> Any:
    """Return a run as far as a recorder looks at it."""
    request = RunRequest((Step(0, b"params"),) * steps, (Policy("t.op", "t@1", "op"),), mode="batch", user_id="ann")
    log = EventLog(name, limit=10, clock=count(1000.0).__next__)
    settled = [Settled("completed", b"payload", size=7)] * steps
    return SimpleNamespace(
        id=name,
        request=request,
        log=log,
        settled=settled,
        key=lambda step: f"key{step}",
        finished=asyncio.Event(),
        began=0.0,
    )


def start(run: Any) -> None:
    run.log.add(EventKind.RUN_STARTED, data={"steps": len(run.settled), "mode": "batch"})


def finish(run: Any, **counts: int) -> None:
    run.log.add(EventKind.RUN_FINISHED, data={"status": "completed", "counts": counts, "seconds": 1.0})
    run.finished.set()


def complete(run: Any, step: int, kind: EventKind = EventKind.STEP_COMPLETED) -> None:
    data: dict[str, Any] = {"spec": "t.op", "seconds": 0.5, "attempts": 1, "replica": "t-1", "node": "n"}
    more = (
        {"from_cache": False, "size": 7, "summary": "int"}
        if kind is EventKind.STEP_COMPLETED
        else {"code": "E003", "message": "no"}
    )
    run.log.add(kind, step, {**data, **more})


def recorder_of(link: Link, **options: Any) -> Recorder:
    settings = Settings(history_detail=10, **options.pop("settings", {}))
    return Recorder(link, settings, "feed", lambda: 5000.0, **options)


async def test_a_run_is_told_from_its_start_to_its_end() -> None:
    link, run = Link(), run_of(2)
    recorder = recorder_of(link)

    recorder.follow(run)
    start(run)
    for step in range(2):
        complete(run, step)
    finish(run, completed=2)

    assert await recorder.drain(5.0)
    assert [type(fact) for fact in link.facts] == [RunFact, StepFact, StepFact, EventsFact, EndFact]
    assert (link.facts[0].user_id, link.facts[0].compact) == ("ann", False)
    first = link.of(StepFact)[0]
    assert (first.status, first.payload, first.key, first.replica, first.seconds) == (
        "completed",
        b"payload",
        "key0",
        "t-1",
        0.5,
    )
    assert [event[0] for event in link.of(EventsFact)[0].events] == [0, 1, 2, 3]
    assert recorder.stats() == {"written": 5, "waiting": 0, "lost": 0}


async def test_a_step_is_told_when_it_is_first_heard_of_and_when_it_ends() -> None:
    link, run = Link(), run_of(1)
    recorder = recorder_of(link)
    recorder.follow(run)
    start(run)
    run.log.add(EventKind.STEP_STARTED, 0, {"spec": "t.op", "attempt": 1})
    await recorder.drain(5.0)

    complete(run, 0)
    await recorder.drain(5.0)

    assert [(fact.fresh, fact.status) for fact in link.of(StepFact)] == [(True, "running"), (False, "completed")]


async def test_a_large_result_is_not_sent() -> None:
    link, run = Link(), run_of(1)
    recorder = recorder_of(link, settings={"history_value_bytes": 6})
    recorder.follow(run)

    complete(run, 0)
    await recorder.drain(5.0)

    assert not link.of(StepFact)[0].has_payload


async def test_many_steps_are_told_together_and_those_that_failed_alone() -> None:
    link, run = Link(), run_of(1000)
    recorder = recorder_of(link)
    recorder.follow(run)
    start(run)
    for step in range(1000):
        complete(run, step, EventKind.STEP_FAILED if step % 50 == 0 else EventKind.STEP_COMPLETED)
    finish(run, completed=980, failed=20)

    await recorder.drain(5.0)

    assert link.facts[0].compact
    assert [fact.step for fact in link.of(StepFact)] == list(range(0, 500, 50))
    bulk = link.of(BulkFact)
    assert sum((Counter(fact.counts) for fact in bulk), Counter()) == {"completed": 980, "failed": 10}
    assert sum(len(fact.seconds) for fact in bulk) == 980 * 8
    assert sum(fact.size for fact in bulk) == 980 * 7


async def test_what_is_not_written_is_sent_again_once_the_history_is_back() -> None:
    link, run = Link(), run_of(2)
    recorder = recorder_of(link)
    recorder.follow(run)
    link.there = False
    start(run)
    complete(run, 0)
    assert not await recorder.drain(0.05)

    link.there = True
    complete(run, 1)
    finish(run, completed=2)

    assert await recorder.drain(5.0)
    assert [batch.number for batch in link.batches] == [1, 2]
    assert [event[0] for fact in link.of(EventsFact) for event in fact.events] == [0, 1, 2, 3]
    assert recorder.stats()["lost"] == 0


async def test_beyond_its_room_the_oldest_is_lost_and_counted() -> None:
    link, run = Link(), run_of(10)
    recorder = recorder_of(link, kept_bytes=2000)
    recorder.follow(run)
    link.there = False
    for step in range(10):
        complete(run, step)
        assert not await recorder.drain(0.01)

    link.there = True
    finish(run)
    assert await recorder.drain(5.0)

    lost = recorder.stats()["lost"]
    assert lost > 0
    assert 0 < link.batches[-1].lost <= lost
    assert len(link.facts) == recorder.stats()["written"]


async def test_a_run_that_is_cut_off_is_told_to_be_cancelled() -> None:
    link, run = Link(), run_of(1)
    recorder = recorder_of(link)
    recorder.follow(run)
    start(run)

    await recorder.close(5.0)

    assert [fact.status for fact in link.of(EndFact)] == ["cancelled"]


async def test_without_events_nothing_is_sent() -> None:
    link = Link()
    recorder = recorder_of(link)
    recorder.follow(run_of(1))

    assert await recorder.drain(5.0)
    assert link.asked == 0


async def test_who_closes_does_not_wait_again_for_what_was_waited_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "BRIEF", 0.01)
    link = Link()
    link.there = False
    recorder, run = recorder_of(link), run_of(1)
    recorder.follow(run)
    start(run)
    loop = asyncio.get_running_loop()
    first = loop.create_task(recorder.drain(1.0))
    await asyncio.sleep(0.9)
    begun = loop.time()

    await recorder.close(1.0)

    assert loop.time() - begun < 0.5
    assert not await first
