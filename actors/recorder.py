"""Tells the history what runs do: in batches, without ever making a run wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
from array import array
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, NamedTuple

from aiecs_ray import packing
from aiecs_ray.actors.tasks import Tasks
from aiecs_ray.backend import HistoryGone
from aiecs_ray.history_facts import Batch, BulkFact, EndFact, EventsFact, Fact, RunFact, StepFact
from aiecs_ray.messages import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from aiecs_ray.actors.run import Run
    from aiecs_ray.backend import HistoryLink
    from aiecs_ray.config import Settings
    from aiecs_ray.messages import Event, Step

logger = logging.getLogger(__name__)

INTERVAL = 0.2
"""Seconds between two batches."""
HEARTBEAT = 15.0
"""Seconds without a batch after which an empty one says that the runs still go on."""
BRIEF = 0.5
"""Seconds for which a history is waited for at the end, however long it was waited for before."""
KEPT_BYTES = 64 * 2**20
PAUSES = (0.1, 0.5, 2.0)
"""Seconds between attempts to reach it."""
ENDED = {
    EventKind.STEP_COMPLETED: "completed",
    EventKind.STEP_FAILED: "failed",
    EventKind.STEP_TIMED_OUT: "timed_out",
    EventKind.STEP_CANCELLED: "cancelled",
    EventKind.STEP_SKIPPED: "cancelled",
}


class _Sent(NamedTuple):
    """A batch on its way."""

    content: bytes
    facts: int


class Recorder:
    """Collects the events of runs and sends them to the history.

    Args:
        link: the way to the history.
        settings: what is recorded.
        feed: names this coordinator.
        clock: seconds since the epoch.
        kept_bytes: how much waits for a history that does not answer; beyond it the oldest is lost.
    """

    def __init__(
        self,
        link: HistoryLink,
        settings: Settings,
        feed: str,
        clock: Callable[[], float],
        *,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._link, self._settings, self._feed, self._clock = link, settings, feed, clock
        self._kept_bytes = kept_bytes
        self._runs: dict[str, _Feed] = {}
        self._queue: deque[_Sent] = deque()
        self._bytes = 0
        self._number = 0
        self._last = clock()
        self._written = 0
        self._lost = 0
        self._awaited: float | None = None
        """Since when somebody waits in vain for everything to be written."""
        self._tasks = Tasks()
        self._ticking = False
        self._sending = False
        self._hurry = asyncio.Event()
        self._empty = asyncio.Event()

    def follow(self, run: Run) -> None:
        """Record a run from its beginning on."""
        feed = self._runs[run.id] = _Feed(run, self._settings)
        run.log.sinks.append(feed.events.append)
        if not self._ticking:
            self._ticking = True
            self._tasks.spawn(self._tick())

    def stats(self) -> dict[str, int]:
        """Return how many facts were written, wait to be, and were lost."""
        waiting = sum(batch.facts for batch in self._queue)
        return {"written": self._written, "waiting": waiting, "lost": self._lost}

    async def drain(self, seconds: float) -> bool:
        """Send what there is, waiting up to ``seconds``; return whether everything was written."""
        self._collect()
        self._hurry.set()
        if self._awaited is None and self._queue:
            self._awaited = asyncio.get_running_loop().time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._queue:
                    self._empty.clear()
                    await self._empty.wait()
        return not self._queue

    async def close(self, seconds: float) -> None:
        """Say of every run that it is over, write everything, and end."""
        now = self._clock()
        for feed in self._runs.values():
            feed.give_up(now)
        waited = 0.0 if self._awaited is None else asyncio.get_running_loop().time() - self._awaited
        await self.drain(max(BRIEF, seconds - waited))
        self._tasks.cancel()

    # --- collecting ----------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while self._runs:
            await asyncio.sleep(INTERVAL)
            self._collect()
        self._ticking = False

    def _collect(self) -> None:
        facts: list[Fact] = []
        for feed in list(self._runs.values()):
            facts.extend(feed.take())
            if feed.over:
                del self._runs[feed.run.id]
        now = self._clock()
        if not facts and not (self._runs and now - self._last >= HEARTBEAT):
            return
        self._last = now
        self._number += 1
        content = pickle.dumps(Batch(self._feed, self._number, now, self._lost, tuple(facts)), 5)
        self._queue.append(_Sent(content, len(facts)))
        self._bytes += len(content)
        while self._bytes > self._kept_bytes and len(self._queue) > 1:
            # The first one may be under way.
            dropped = self._queue[1]
            del self._queue[1]
            self._bytes -= len(dropped.content)
            self._lost += dropped.facts
        if not self._sending:
            self._sending = True
            self._tasks.spawn(self._send())

    # --- sending -------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        """One batch at a time, each until it is written: what was written twice is known by its number."""
        attempt = 0
        while self._queue:
            batch = self._queue[0]
            try:
                await self._link.append(batch.content)
            except HistoryGone as error:
                if not attempt:
                    logger.warning("the history does not answer, so runs go on without it: %s", error)
                await self._pause(PAUSES[min(attempt, len(PAUSES) - 1)])
                attempt += 1
                continue
            attempt = 0
            self._queue.popleft()
            self._bytes -= len(batch.content)
            self._written += batch.facts
        self._sending = False
        self._awaited = None
        self._empty.set()

    async def _pause(self, seconds: float) -> None:
        self._hurry.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()


class _Feed:
    """What was not told yet of one run."""

    def __init__(self, run: Run, settings: Settings) -> None:
        self.run = run
        self.events: list[Event] = []
        self._request = run.request
        self._limit = settings.history_value_bytes
        self._compact = len(run.request.steps) > settings.history_detail
        self._detailed = settings.history_detail
        """Steps of a compact run that may still be recorded one by one: those that did not complete."""
        self._told: set[int] = set()
        self._begun = False
        self.over = False

    def take(self) -> Iterator[Fact]:
        """Yield what is new."""
        if not self.events:
            return
        events = self.events.copy()
        self.events.clear()
        request = self._request
        if not self._begun:
            self._begun = True
            yield RunFact(
                self.run.id,
                request.user_id,
                request.task_id,
                request.mode,
                len(request.steps),
                request.detach,
                self._compact,
                events[0].time,
            )
        kept = events
        if self._compact:
            completed = [event for event in events if event.kind is EventKind.STEP_COMPLETED]
            others = [event for event in events if event.kind is not EventKind.STEP_COMPLETED]
            failed = [event for event in others if event.kind in ENDED]
            single = failed[: self._detailed]
            self._detailed -= len(single)
            chosen = {event.number for event in single}
            kept = [event for event in others if event.step is None or event.number in chosen]
            yield from self._in_bulk(completed, failed[len(single) :])
        yield from self._steps(kept)
        if kept:
            yield EventsFact(self.run.id, tuple((e.number, e.kind.value, e.time, e.step, e.data) for e in kept))
        if events[-1].kind is EventKind.RUN_FINISHED:
            data = events[-1].data
            self.over = True
            yield EndFact(self.run.id, data["status"], events[-1].time, data["seconds"], data["counts"])

    def give_up(self, now: float) -> None:
        """The runtime is closed before the run has ended."""
        if not self.run.finished.is_set():
            data = {"status": "cancelled", "counts": {}, "seconds": now - self.run.began}
            self.run.log.add(EventKind.RUN_FINISHED, data=data)

    def _steps(self, events: Sequence[Event]) -> Iterator[StepFact]:
        ended = {event.step: event for event in events if event.kind in ENDED}
        for step in dict.fromkeys(event.step for event in events if event.step is not None):
            fresh = step not in self._told
            self._told.add(step)
            if (event := ended.get(step)) is not None:
                yield self._fact(step, ENDED[event.kind], fresh=fresh, **self._ending(event))
            elif fresh:
                yield self._fact(step, "running", fresh=True)

    def _fact(self, step: int, status: str, *, fresh: bool, **ending: Any) -> StepFact:
        spec: Step = self._request.steps[step]
        name = self._request.policies[spec.policy].spec
        slots = tuple(source.text or "<given elsewhere>" for source in spec.inputs)
        return StepFact(self.run.id, step, fresh, name, status, spec.id, spec.params, slots, **ending)

    def _ending(self, event: Event) -> dict[str, Any]:
        assert event.step is not None
        data, settled = event.data, self.run.settled[event.step]
        ending: dict[str, Any] = {
            "ended": event.time,
            "key": self.run.key(event.step),
            **{name: data[name] for name in _COPIED if name in data},
        }
        if settled is not None and settled.status == "completed" and not settled.dropped:
            small = type(settled.payload) in (bytes, packing.Packed) or packing.inline(settled.payload)
            if small and settled.size <= self._limit:
                ending.update(payload=settled.payload, has_payload=True)
        return ending

    def _in_bulk(self, completed: Sequence[Event], failed: Sequence[Event]) -> Iterator[BulkFact]:
        """Group the steps that are not recorded one by one."""
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for event in completed:
            data = event.data
            if (group := groups.get(data["spec"])) is None:
                group = groups[data["spec"]] = []
            group.append(data)
        lost: dict[str, Counter[str]] = {}
        for event in failed:
            lost.setdefault(event.data["spec"], Counter())[ENDED[event.kind]] += 1
        last = [*completed[-1:], *failed[-1:]]
        for spec in {**groups, **lost}:
            group = groups.get(spec, [])
            computed = [data["seconds"] for data in group if not data["from_cache"]]
            counts = {"completed": len(group)} if group else {}
            yield BulkFact(
                self.run.id,
                spec,
                {**counts, **lost.get(spec, {})},
                array("d", computed).tobytes(),
                sum([data["size"] for data in group]),
                len(group) - len(computed),
                sum([data["attempts"] for data in group]) - len(computed),
                last[-1].time,
            )


_COPIED = ("attempts", "seconds", "from_cache", "size", "summary", "replica", "node", "code", "message")
