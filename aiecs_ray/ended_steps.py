"""Which steps of a run its follower has to be told of: each once, also where it was too slow to see every event."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from aiecs_ray.messages import EventKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aiecs_ray.messages import Event, Settled

ENDED = frozenset(
    {
        EventKind.STEP_COMPLETED,
        EventKind.STEP_FAILED,
        EventKind.STEP_TIMED_OUT,
        EventKind.STEP_CANCELLED,
        EventKind.STEP_SKIPPED,
    }
)
PORTION = 1000
"""Steps that are asked for at once."""


class EndedSteps:
    """The steps of one run that have ended, and which of them were told.

    >>> ended = EndedSteps(3)
    >>> list(ended.to_ask([], last=True))
    [[0, 1, 2]]
    """

    def __init__(self, total: int) -> None:
        self._untold = dict.fromkeys(range(total))
        self.number = 0
        """Of the next event to ask for."""

    def to_ask(self, events: Sequence[Event], *, last: bool) -> Iterator[list[int]]:
        """Take in some events; yield, in portions, the steps whose results have to be asked for.

        Where events are missing, because more passed than are kept, those are all that were not told yet.
        """
        gap = bool(events) and events[0].number > self.number
        if events:
            self.number = events[-1].number + 1
        steps = dict.fromkeys(event.step for event in events if event.kind in ENDED and event.step in self._untold)
        named = [step for step in steps if step is not None]
        others = [step for step in self._untold if step not in steps] if gap or last else []
        # What was missed came before what is known of.
        ordered = iter(others + named if gap else named + others)
        while portion := list(islice(ordered, PORTION)):
            yield portion

    def told(self, steps: Sequence[int], settled: Sequence[Settled | None]) -> tuple[list[int], list[Settled]]:
        """Return those of ``steps`` that have ended, and how; they are told now."""
        ended = [(step, one) for step, one in zip(steps, settled, strict=True) if one is not None]
        for step, _ in ended:
            self._untold.pop(step, None)
        return [step for step, _ in ended], [one for _, one in ended]
