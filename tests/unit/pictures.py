"""Events and views as tests of pictures make them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from aiecs_ray.messages import Event, EventKind
from aiecs_ray.run_view import RunView

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGAN = 1_700_000_000.0


class Story:
    """Tells the events of a run, a second apart."""

    def __init__(self, steps: int, mode: str = "parallel", plan: dict[str, Any] | None = None) -> None:
        self.events: list[Event] = []
        self._numbers = itertools.count()
        self.clock = BEGAN
        data: dict[str, Any] = {"steps": steps, "mode": mode}
        if plan is not None:
            data["plan"] = plan
        self.tell(EventKind.RUN_STARTED, **data)

    def tell(self, kind: EventKind, step: int | None = None, *, after: float = 1.0, **data: Any) -> None:
        self.events.append(Event(next(self._numbers), kind, "r-1", self.clock, step, data))
        self.clock += after

    def start(self, step: int, spec: str = "tool.op", attempt: int = 1) -> None:
        self.tell(EventKind.STEP_STARTED, step, spec=spec, attempt=attempt)

    def complete(self, step: int, spec: str = "tool.op", *, after: float = 1.0, **more: Any) -> None:
        known = {"seconds": 0.5, "attempts": 1, "from_cache": False, "joined": False, "size": 8, "summary": "int"}
        data = {"spec": spec, "replica": "tool-1", "node": "node-1", **known, **more}
        self.tell(EventKind.STEP_COMPLETED, step, after=after, **data)

    def fail(self, step: int, message: str, spec: str = "tool.op", kind: EventKind = EventKind.STEP_FAILED) -> None:
        ran = kind is not EventKind.STEP_SKIPPED
        self.tell(kind, step, spec=spec, seconds=0.5 * ran, attempts=int(ran), code="E003", message=message)

    def retry(self, step: int, attempt: int = 1) -> None:
        self.tell(EventKind.STEP_RETRYING, step, attempt=attempt, seconds=1.0, code="E003", message="not yet")

    def finish(self, status: str = "completed", **counts: int) -> None:
        self.tell(EventKind.RUN_FINISHED, status=status, counts=counts, seconds=self.clock - BEGAN)

    @property
    def view(self) -> RunView:
        return view_of(self.events)


def view_of(events: Sequence[Event]) -> RunView:
    view = RunView()
    view.feed(events)
    return view
