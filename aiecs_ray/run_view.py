"""What is known of a run from its events, and nothing else: what cards, charts and progress lines are drawn from.

A view is fed events in their order, one by one or in digests, and stays small however long the run is.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from aiecs_ray.digests import ENDINGS, Digest
from aiecs_ray.messages import EventKind
from aiecs_ray.outlines import heard
from aiecs_ray.timelines import Timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aiecs_ray.digests import Group
    from aiecs_ray.messages import Event
    from aiecs_ray.outlines import Outline

DETAIL = 2_000
"""Steps up to which each is known by itself."""
PROBLEMS = 100
"""Failures that are kept."""
NOTES = 50
WELL = "completed"
ENDED_BADLY = ("failed", "timed_out")
_SEVERITY = {"failed": 0, "timed_out": 1, "cancelled": 2, "skipped": 3}


class Bar(NamedTuple):
    """One attempt of a step."""

    start: float
    """Seconds since the epoch, as all times here."""
    end: float
    status: str
    told: bool = True
    """Its beginning was told; else it is reckoned back from its end."""


@dataclass(slots=True)
class StepView:
    """One step."""

    index: int
    spec: str
    id: str | None = None
    status: str = "pending"
    """"pending", "running", "retrying", or how it ended: "completed", "failed", "timed_out", "cancelled", "skipped"."""
    bars: list[Bar] = field(default_factory=list)
    since: float | None = None
    """When the attempt under way began."""
    seconds: float = 0.0
    attempts: int = 0
    from_cache: bool = False
    """Answered from the cache, or by an identical operation under way."""
    size: int = 0
    """Bytes of its result."""
    summary: str = ""
    """Type and shape of its result."""
    code: str = ""
    message: str = ""
    replica: str = ""
    node: str = ""
    progress: tuple[float, float | None, str] | None = None
    ended: float | None = None


class Problem(NamedTuple):
    """A step that did not complete."""

    step: int
    spec: str
    status: str
    code: str
    message: str


@dataclass(slots=True)
class ReplicaView:
    """What one replica did."""

    replica: str
    node: str
    steps: int = 0
    seconds: float = 0.0
    specs: set[str] = field(default_factory=set)


class Start(NamedTuple):
    """A replica was made."""

    tool: str
    start: float
    end: float


class Note(NamedTuple):
    """Something that happened beside the steps."""

    time: float
    text: str


class RunView:
    """A run as its events tell it."""

    def __init__(self, run: str = "") -> None:
        self.run = run
        self.status = "running"
        self.mode = ""
        self.total = 0
        self.began: float | None = None
        self.last = 0.0
        """When the last event happened."""
        self.ended: float | None = None
        self.following = 0
        """The number of the next event that it wants."""
        self.missed = 0
        """Events that were not there any more."""
        self.ended_steps: Counter[str] = Counter()
        """Steps by how they ended."""
        self.hits = self.retries = self.size = 0
        self.specs: Counter[str] = Counter()
        """Ended steps by operation."""
        self.steps: dict[int, StepView] = {}
        """Every step of a run of at most ``DETAIL``; of a longer one, those under way."""
        self.problems: list[Problem] = []
        self.replicas: dict[str, ReplicaView] = {}
        self.notes: deque[Note] = deque(maxlen=NOTES)
        self.starts: deque[Start] = deque(maxlen=NOTES)
        self.outline: Outline | None = None
        self.timeline = Timeline()

    # --- what is asked ---------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self.ended is not None

    @property
    def done(self) -> int:
        """How many steps have ended."""
        return self.ended_steps.total()

    @property
    def bad(self) -> int:
        """How many steps failed or timed out."""
        return sum(self.ended_steps[status] for status in ENDED_BADLY)

    @property
    def detailed(self) -> bool:
        """Whether every step is known by itself."""
        return 0 < self.total <= DETAIL

    def seconds(self, now: float) -> float:
        """Return how long the run has taken, ``now`` in seconds since the epoch."""
        if self.began is None:
            return 0.0
        return max(0.0, (self.ended if self.ended is not None else now) - self.began)

    def under_way(self) -> list[StepView]:
        """Return the steps that run, the oldest first."""
        found = [step for step in self.steps.values() if step.status in ("running", "retrying")]
        return sorted(found, key=lambda step: (step.since or 0.0, step.index))

    def worst(self) -> list[Problem]:
        """Return the steps that did not complete: failures first, then what followed from them."""
        return sorted(self.problems, key=lambda one: (_SEVERITY.get(one.status, 9), one.step))

    def conclude(self, counts: Mapping[str, int], now: float) -> None:
        """The run is over, and its last events were not seen: ``counts`` says how its steps ended."""
        if self.over:
            return
        self._correct(counts)
        self.total, self.began = max(self.total, sum(counts.values())), now if self.began is None else self.began
        self.ended, bad = now, sum(count for status, count in counts.items() if status != WELL)
        self.status = "failed" if bad else WELL

    # --- what it is told -------------------------------------------------------------------------------------

    def take(self, digest: Digest) -> None:
        """Take in what has happened."""
        self.missed += digest.missed
        self.feed(digest.events)
        for group in digest.groups:
            self._take_group(group)
        for kind, count in digest.others:
            self.ended_steps[ENDINGS[EventKind(kind)]] += count
        self.following = max(self.following, digest.following)

    def feed(self, events: Iterable[Event]) -> None:
        """Take in events."""
        for event in events:
            if event.number >= self.following:
                self.following = event.number + 1
            self.last = max(self.last, event.time)
            if event.step is None:
                self._of_run(event)
            else:
                self._of_step(event, event.step)

    def take_bulk(self, row: Mapping[str, Any]) -> None:
        """Take in what the history keeps of steps that it did not record one by one."""
        counts = {status: count for status, count in row["counts"].items() if count}
        self.ended_steps.update(counts)
        self.specs[row["spec"]] += sum(counts.values())
        self.hits += row["from_cache"]
        self.size += row["size"]

    def _of_run(self, event: Event) -> None:
        data = event.data
        if event.kind is EventKind.RUN_STARTED:
            self.began, self.total, self.mode = event.time, int(data["steps"]), str(data["mode"])
            self.run = self.run or event.run
            self.timeline.begin(event.time)
            if data.get("plan"):
                self.outline = heard(data["plan"], self.mode)
                for index, vertex in enumerate(self.outline.vertices):
                    self.steps.setdefault(index, StepView(index, vertex.spec, vertex.id))
        elif event.kind is EventKind.RUN_FINISHED:
            self.status, self.ended = str(data["status"]), event.time
            if self.began is None:
                self.began = event.time - data["seconds"]
            self.total = max(self.total, sum(data["counts"].values()))
            if self.missed:
                self._correct(data["counts"])
        elif event.kind is EventKind.REPLICA_STARTED:
            self.starts.append(Start(str(data["tool"]), event.time - float(data["seconds"]), event.time))
        elif event.kind is EventKind.REPLICA_DIED:
            self.notes.append(Note(event.time, f"a replica of {data['tool']} died: {data.get('message', '')}"))
        elif event.kind is EventKind.BREAKER_OPENED:
            text = f"calls of {data['spec']} are rejected for {data['seconds']:g} s: {data['failures']} of"
            self.notes.append(Note(event.time, f"{text} {data['calls']} failed"))

    def _correct(self, counts: Mapping[str, int]) -> None:
        """Some events were missed: how many steps ended how is known from the last one."""
        for status, count in counts.items():
            told = count - (self.ended_steps["skipped"] if status == "cancelled" else 0)
            self.ended_steps[status] = max(self.ended_steps[status], told)

    def _of_step(self, event: Event, step: int) -> None:
        data, kind = event.data, event.kind
        if (ending := ENDINGS.get(kind)) is not None:
            self._end(event, step, ending)
            return
        view = self._step(step, str(data.get("spec", "")))
        if kind is EventKind.STEP_STARTED:
            view.status, view.since, view.attempts = "running", event.time, int(data.get("attempt", 1))
        elif kind is EventKind.STEP_RETRYING:
            self.retries += 1
            if view.since is not None:
                view.bars.append(Bar(view.since, event.time, "failed"))
            view.status, view.since = "retrying", None
            view.code, view.message = str(data.get("code", "")), str(data.get("message", ""))
        elif kind is EventKind.PROGRESS:
            view.progress = (data["done"], data["total"], str(data["message"]))
        elif kind is EventKind.STEP_SLOW:
            self.notes.append(Note(event.time, f"step {step} ({view.spec}) runs for {data['seconds']:g} s"))
        elif kind is EventKind.STEP_REMADE:
            self.notes.append(Note(event.time, f"the result of step {step} had been lost and was made anew"))

    def _step(self, step: int, spec: str) -> StepView:
        if (view := self.steps.get(step)) is None:
            view = self.steps[step] = StepView(step, spec)
        view.spec = view.spec or spec
        return view

    def _end(self, event: Event, step: int, status: str) -> None:
        data = event.data
        spec, seconds = str(data["spec"]), float(data["seconds"])
        view = self._step(step, spec)
        if view.ended is None:
            self.ended_steps[status] += 1
            self.specs[spec] += 1
        view.status, view.seconds, view.attempts, view.ended = status, seconds, int(data["attempts"]), event.time
        view.from_cache = bool(data.get("from_cache") or data.get("joined"))
        view.replica, view.node = str(data.get("replica", "")), str(data.get("node", ""))
        view.size, view.summary = int(data.get("size", 0)), str(data.get("summary", ""))
        view.code, view.message = str(data.get("code", "")), str(data.get("message", ""))
        self.size += view.size
        self.hits += view.from_cache
        if view.attempts and not view.from_cache:
            start = view.since if view.since is not None else max(event.time - seconds, self.began or 0.0)
            view.bars.append(Bar(start, event.time, status, view.since is not None))
            self._work(spec, view.replica, view.node, (start, event.time, seconds or event.time - start), 1)
        view.since = view.progress = None
        if status != WELL and len(self.problems) < PROBLEMS:
            self.problems.append(Problem(step, spec, status, view.code, view.message))
        if not self.detailed:
            del self.steps[step]

    def _take_group(self, group: Group) -> None:
        self.ended_steps[WELL] += group.steps
        self.specs[group.spec] += group.steps
        self.hits += group.hits
        self.retries += group.retries
        self.size += group.size
        self.last = max(self.last, group.ended)
        computed = group.steps - group.hits
        if computed:
            start = max(group.began, self.began or group.began)
            self._work(group.spec, group.replica, group.node, (start, group.ended, group.seconds), computed)

    def _work(self, spec: str, replica: str, node: str, when: tuple[float, float, float], steps: int) -> None:
        self.timeline.add((spec, replica), *when, steps)
        if not replica:
            return
        if (view := self.replicas.get(replica)) is None:
            view = self.replicas[replica] = ReplicaView(replica, node)
        view.steps += steps
        view.seconds += when[2]
        view.specs.add(spec)
