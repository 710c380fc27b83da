"""What a coordinator answers about a run: pages of its results, and where it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aiecs_ray.columns import Columns, to_columns, to_rows
from aiecs_ray.messages import Settled
from aiecs_ray.model import TaskStatus

if TYPE_CHECKING:
    from aiecs_ray.actors.run import Run

PAGE_BYTES = 16 * 2**20
PAGE_STEPS = 2_000
"""Bytes of inline results and number of steps in one answer; a reader's event loop must not be held up by more."""
OVERHEAD = 200
"""Bytes of a result beside its value."""


class Page(NamedTuple):
    """Some results of a run, and the index of the next one (None: there are no more)."""

    settled: list[Settled]
    following: int | None

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _page, (to_columns(self.settled), self.following)


def _page(settled: Columns, following: int | None) -> Page:
    return Page(to_rows(Settled, settled), following)


class Answer(NamedTuple):
    """What ``execute`` returns: the run and its first results."""

    run: str
    page: Page | None = None
    stranger: bool = False
    """Nothing was done: the coordinator was restarted; the client has to say ``hello`` and to send its tools again."""


class RunStatus(NamedTuple):
    """Where a run stands."""

    run: str
    status: str
    total: int
    ended: int
    specs: tuple[str, ...] = ()


def status_of(run: Run) -> RunStatus:
    """Return where a run stands."""
    ended = sum(settled is not None for settled in run.settled)
    status = run.status.value if run.finished.is_set() else TaskStatus.RUNNING.value
    specs = tuple(run.policy(step).spec for step in range(len(run.settled)))
    return RunStatus(run.id, status, len(run.settled), ended, specs)


def page_of(run: Run, start: int, inline_limit: int) -> Page:
    """Return results of a finished run from index ``start`` on, as many as one answer should have."""
    settled: list[Settled] = []
    size = 0
    for index in range(start, len(run.settled)):
        step = run.settled[index]
        assert step is not None
        settled.append(step)
        size += min(step.size, inline_limit) + OVERHEAD + (0 if step.error is None else step.error.size)
        if size > PAGE_BYTES or len(settled) == PAGE_STEPS:
            following = index + 1
            return Page(settled, following if following < len(run.settled) else None)
    return Page(settled, None)
