"""What is known of the steps of one run: what they returned or failed with, and what is told of their ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs_ray.messages import Elided, ErrorInfo, EventKind, Settled
from aiecs_ray.model import TaskStatus
from aiecs_ray.packing import is_small

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiecs_ray.actors.events import EventLog
    from aiecs_ray.plan_values import Ending

_KINDS = {
    TaskStatus.COMPLETED: EventKind.STEP_COMPLETED,
    TaskStatus.FAILED: EventKind.STEP_FAILED,
    TaskStatus.TIMED_OUT: EventKind.STEP_TIMED_OUT,
    TaskStatus.CANCELLED: EventKind.STEP_CANCELLED,
}
_NO_RESULT = (0, "", 0.0)


class StepRecords:
    """Results and endings by step.

    Args:
        count: how many steps there are.
        log: where their ends are told.
        left_out: steps whose results stayed in a replica; kept up to date here.
    """

    def __init__(self, count: int, log: EventLog, left_out: set[int]) -> None:
        self.settled: list[Settled | None] = [None] * count
        self.payloads: dict[int, Any] = {}
        """Results that steps of the run may still read."""
        self.bytes = 0
        """Of all results and errors that are kept."""
        self.failures: dict[int, ErrorInfo] = {}
        """Of the last attempt of steps that may be tried again."""
        self._log = log
        self._left_out = left_out
        self._sizes: dict[int, tuple[int, str, float]] = {}
        self._hits: set[int] = set()
        self._places: dict[int, tuple[str, str]] = {}
        self._progress: dict[int, tuple[float, float | None, str]] = {}

    def sent(self, steps: Sequence[int], to: tuple[str, str]) -> None:
        """Steps were sent to a replica on a node."""
        self._places.update(dict.fromkeys(steps, to))

    def came_from_cache(self, step: int) -> None:
        """The result of a step is one that was made before, or elsewhere."""
        self._hits.add(step)

    def failed(self, step: int, error: ErrorInfo, seconds: float) -> None:
        """An attempt failed."""
        self._sizes[step] = (0, "", seconds)
        self.failures[step] = error

    def keep(self, step: int, payload: Any, size: int, summary: str, seconds: float) -> None:
        """A step has a result."""
        self.payloads[step] = payload
        self._sizes[step] = (size, summary, seconds)
        if payload is Elided.ELIDED:
            self._left_out.add(step)
        else:
            self.bytes += size

    def report(self, step: int, progress: tuple[float, float | None, str]) -> None:
        """An operation reported its progress; what comes after its outcome is of no interest."""
        if self.settled[step] is None and self._progress.get(step) != progress:
            self._progress[step] = progress
            done, total, message = progress
            self._log.add(EventKind.PROGRESS, step, {"done": done, "total": total, "message": message[:1000]})

    def end(self, ending: Ending, spec: str, tries: int, *, joined: bool, uncacheable: str | None) -> None:
        """A step has ended for good."""
        step, status, error, skipped = ending
        size, summary, seconds = self._sizes.pop(step, _NO_RESULT)
        self._progress.pop(step, None)
        self.failures.pop(step, None)
        from_cache = step in self._hits
        payload = self.payloads.get(step) if status is TaskStatus.COMPLETED else None
        dropped = payload is Elided.ELIDED
        payload = None if dropped else payload
        self.settled[step] = Settled(status.value, payload, error, from_cache, seconds, tries, size, dropped)
        data: dict[str, Any] = {"spec": spec, "seconds": seconds, "attempts": tries}
        if (place := self._places.pop(step, None)) is not None:
            data["replica"], data["node"] = place
        if error is not None:
            data["code"], data["message"] = error.code, error.message
            self.bytes += error.size
        else:
            data["from_cache"], data["joined"] = from_cache, joined
            data["size"], data["summary"] = size, summary
            if uncacheable:
                data["uncacheable"] = uncacheable
        self._log.add(EventKind.STEP_SKIPPED if skipped else _KINDS[status], step, data)

    def drop(self, step: int) -> None:
        """Nobody reads the result of a step any more."""
        payload = self.payloads.pop(step, None)
        settled = self.settled[step]
        if settled is not None:
            if payload is Elided.ELIDED:
                self._left_out.discard(step)
            else:
                self.bytes -= settled.size
            self.settled[step] = settled._replace(payload=None, dropped=True)

    def let_go(self) -> None:
        """Hold no large result any more."""
        for step, settled in enumerate(self.settled):
            if settled is not None and not is_small(settled.payload):
                self.settled[step] = settled._replace(payload=None, dropped=True)
