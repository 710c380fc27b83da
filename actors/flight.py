"""A replica as the coordinator sees it, and one call that it was sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiecs_ray.scaling import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiecs_ray.actors.pool import Pool
    from aiecs_ray.actors.run import Run
    from aiecs_ray.backend import Remains, Replica
    from aiecs_ray.messages import ErrorInfo, Item, Outcome, Work

SHORT = 0.1
"""Seconds that a call may be expected to take for another to wait behind it."""


class Member:
    """One replica of a pool."""

    __slots__ = (
        "died",
        "exclusive",
        "flights",
        "funeral",
        "idle_since",
        "number",
        "pool",
        "ready",
        "ready_since",
        "replica",
        "yielding",
    )

    def __init__(self, number: int, pool: Pool, replica: Replica, now: float) -> None:
        self.number, self.pool, self.replica = number, pool, replica
        self.ready = False
        """Its tool is built."""
        self.yielding = False
        """It gets no more work and is stopped after what it has."""
        self.exclusive = False
        """It runs one operation that may have ended its process before, and gets no other meanwhile."""
        self.died: ErrorInfo | None = None
        self.funeral: asyncio.Task[Remains] | None = None
        """What finds out how far its attempts had come, once it has died."""
        self.idle_since = self.ready_since = now
        self.flights: dict[int, Flight] = {}

    @property
    def takes_work(self) -> bool:
        """Whether it is built and may get more work."""
        return self.ready and not self.yielding and not self.exclusive

    @property
    def place(self) -> tuple[str, str]:
        """Its name, and the node on which it runs."""
        return f"{self.pool.spec.name}-{self.number}", self.replica.node

    @property
    def is_idle(self) -> bool:
        """Whether it is built and holds no work."""
        return self.ready and not self.flights and not self.yielding


class Flight:
    """One call: the work, what of it is still open, and what its end will mean."""

    __slots__ = (
        "changed",
        "expected",
        "limits",
        "open",
        "pulse",
        "run",
        "timer",
        "together",
        "touched",
        "verdicts",
        "work",
    )

    def __init__(self, work: Work, run: Run, now: float, expected: float) -> None:
        self.work, self.run = work, run
        self.together = not work.chain and len(work.items) > 1 and run.policy(work.items[0].step).is_async
        """Its operations run side by side."""
        self.expected = expected
        """Seconds that it will probably take; infinite when one of its operations was never measured."""
        self.open: dict[int, Item] = {item.step: item for item in work.items}
        self.limits = {item.step: limit for item in work.items if (limit := run.policy(item.step).timeout) is not None}
        self.verdicts: dict[int, ErrorInfo | None] = {}
        """Steps that were told to stop; with an error when their time was over."""
        self.touched = now
        """When it was sent, or last reported something."""
        self.timer: asyncio.TimerHandle | None = None
        """When to ask for outcomes that are held back, or for what has not begun."""
        self.pulse: asyncio.TimerHandle | None = None
        """When to say again that it takes long."""
        self.changed = asyncio.Event()
        """Set when something was reported, or the call is over."""

    @property
    def places(self) -> int:
        """How many of its operations run at once."""
        return len(self.open) if self.together else min(1, len(self.open))

    def failed(self, outcomes: Iterable[Outcome]) -> bool:
        """Return whether an outcome ends the chain."""
        return self.work.chain and any(outcome.kind != "value" for outcome in outcomes)

    def is_over_soon(self, now: float) -> bool:
        """Whether other work may wait behind this: it is short, and does not take longer than it should."""
        # What must not run twice has to be answered for before anything else can end its process.
        repeatable = all(item.idempotent for item in self.open.values())
        return repeatable and self.expected < SHORT and now - self.touched < self.expected + PATIENCE

    def input_of(self, outcome: Outcome, item: Item) -> Any:
        """Return the payload that a step was sent and could not read; None when that is not what happened to it."""
        if outcome.lost is None:
            return None
        return self.work.values[item.inputs[outcome.lost][1]]

    def abandon(self, steps: Iterable[int]) -> None:
        """Give back steps that have not begun, and will not."""
        for step in list(steps):
            if self.open.pop(step, None) is not None:
                self.run.returned(step)
        self.changed.set()
