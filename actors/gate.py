"""Lets steps through their limits: at most so many units started in any second, and so many in flight.

A step may have several limits: of its run, its tool, its operation. It passes all of them at once or none, so nobody
holds one limit while waiting for another, and no start is counted that does not happen.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aiecs_ray.queueing import AGEING, FairQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aiecs_ray.limits import Meter

Key = tuple[int, int]


class Passer(Protocol):
    """Whose steps wait."""

    def again(self, steps: list[int]) -> None:
        """Let steps that were let through, or taken back, pass again."""


class Entry(NamedTuple):
    """A step that waits at its limits."""

    passer: Passer
    step: int
    go: Callable[[list[int]], object]
    """Called with the step once it is let through."""
    weight: int = 1
    owner: str = ""
    priority: int = 0
    spec: str = ""
    """The operation, when the step waits for its limits and not for its run's alone."""

    @property
    def key(self) -> Key:
        """What stands for the step."""
        return id(self.passer), self.step


class _Line:
    """Steps that wait for the same limits."""

    __slots__ = ("meters", "queue", "since")

    def __init__(self, meters: tuple[Meter, ...], since: int) -> None:
        self.meters = meters
        self.queue: FairQueue[Entry] = FairQueue()
        self.since = since
        """How many steps had been let through when the line began to wait for its turn."""


class Gates:
    """Where steps wait for their limits: by priority, users in turn, and no line for ever behind another.

    A step that was let through counts as a start when it reaches a replica (or the cache answers it), because it may
    wait for a replica in between; until then no other is let through a limit that has a rate.
    """

    def __init__(self, *, clock: Callable[[], float], call_at: Callable[..., object]) -> None:
        self._clock = clock
        self._call_at = call_at
        self._lines: dict[tuple[Meter, ...], _Line] = {}
        self._at: dict[Meter, list[_Line]] = {}
        self._inside: dict[Key, tuple[Meter, ...]] = {}
        self._wakes: dict[Meter, float] = {}
        self._changed: dict[Meter, None] = {}
        self._opening = False
        self._passed = 0

    def waiting(self, meter: Meter) -> int:
        """Return how many steps wait for a limit."""
        return sum(len(line.queue) for line in self._at.get(meter, ()))

    def enter(self, meters: tuple[Meter, ...], entries: Iterable[Entry]) -> None:
        """Let steps wait for limits; one that was let through before comes back to pass again."""
        line = self._lines.get(meters)
        if line is None:
            line = self._lines[meters] = _Line(meters, self._passed)
            for meter in meters:
                self._at.setdefault(meter, []).append(line)
        for entry in entries:
            self._forget(entry.key)
            line.queue.push(entry, owner=entry.owner, priority=entry.priority)
        self.open(meters)

    def holds(self, passer: Passer, step: int) -> bool:
        """Return whether a step was let through and has not left."""
        return (id(passer), step) in self._inside

    def dispatched(self, passer: Passer, steps: Iterable[int]) -> None:
        """Steps reached a replica, or were answered from the cache."""
        if not self._inside:
            return
        for step in steps:
            key = (id(passer), step)
            now = self._clock()
            started = [meter for meter in self._inside.get(key, ()) if meter.started(key, now)]
            if started:
                self.open(started)

    def left(self, passer: Passer, step: int) -> None:
        """A step ended, or waits for its next attempt."""
        if self._inside:
            self.open(self._forget((id(passer), step)))

    def withdraw(self, passer: Passer) -> None:
        """The steps of a run that were not let through never will be."""
        self._take(lambda entry: entry.passer is passer)

    def take_back(self, is_meant: Callable[[str], bool]) -> list[Entry]:
        """Take out and return the steps that wait for the limits of some operations."""
        return self._take(lambda entry: bool(entry.spec) and is_meant(entry.spec))

    def open(self, meters: Sequence[Meter]) -> None:
        """Let through what may pass, after something changed at ``meters``."""
        self._changed.update(dict.fromkeys(meters))
        # A step that ended while it stood in line leaves as soon as it is let through, which opens the gate again.
        if self._opening:
            return
        self._opening = True
        try:
            while self._changed:
                lines = self._touched()
                self._changed.clear()
                self._serve(lines)
        finally:
            self._opening = False

    def readjusted(self, meter: Meter) -> None:
        """The limits of a meter were changed."""
        # A wake-up that was asked for at the old rate may be too late; one too many is harmless.
        self._wakes.pop(meter, None)
        self.open([meter])

    def _take(self, is_meant: Callable[[Entry], bool]) -> list[Entry]:
        taken: list[Entry] = []
        for line in list(self._lines.values()):
            if removed := line.queue.remove(is_meant):
                taken.extend(removed)
                self._changed.update(dict.fromkeys(line.meters))
        self.open(())
        return taken

    def _forget(self, key: Key) -> tuple[Meter, ...]:
        meters = self._inside.pop(key, ())
        for meter in meters:
            meter.leave(key)
        return meters

    def _touched(self) -> list[_Line]:
        """Return the lines that the change concerns, and those that share a limit with them, best first."""
        lines = {id(line): line for meter in self._changed for line in self._at.get(meter, ())}
        if len(lines) == 1 and len(next(iter(lines.values())).meters) == 1:
            return list(lines.values())
        for line in list(lines.values()):
            for meter in line.meters:
                lines.update((id(other), other) for other in self._at[meter])
        return sorted(lines.values(), key=self._rank)

    def _rank(self, line: _Line) -> tuple[bool, int, int]:
        starved = self._passed - line.since >= AGEING * len(self._lines)
        return not starved, -line.queue.peek().priority if line.queue else 0, line.since

    def _serve(self, lines: list[_Line]) -> None:
        """Let one step through, the first that may pass."""
        now = self._clock()
        claimed: set[Meter] = set()
        for line in lines:
            if not line.queue:
                self._drop(line)
                continue
            entry = line.queue.peek()
            refusing = [meter for meter in line.meters if not self._passes(meter, entry.weight, now)]
            if len(refusing) == 1:
                # What is lighter must not slip in for ever before what needs more room.
                claimed.update(refusing)
            if not refusing and claimed.isdisjoint(line.meters):
                self._let_through(line, line.queue.pop())
                return

    def _passes(self, meter: Meter, weight: int, now: float) -> bool:
        wait = meter.wait(now, weight)
        if wait and wait != math.inf and not now < self._wakes.get(meter, -math.inf) <= wait:
            self._wakes[meter] = wait
            self._call_at(wait, lambda: self._wake(meter, wait))
        return not wait

    def _wake(self, meter: Meter, when: float) -> None:
        if self._wakes.get(meter) == when:
            del self._wakes[meter]
        self.open([meter])

    def _let_through(self, line: _Line, entry: Entry) -> None:
        self._passed += 1
        line.since = self._passed + 1
        self._inside[entry.key] = line.meters
        for meter in line.meters:
            meter.admit(entry.key, entry.weight)
        self._changed.update(dict.fromkeys(line.meters))
        entry.go([entry.step])

    def _drop(self, line: _Line) -> None:
        del self._lines[line.meters]
        for meter in line.meters:
            self._at[meter].remove(line)
            if not self._at[meter]:
                del self._at[meter]
