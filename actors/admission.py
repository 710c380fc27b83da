"""What stands between a ready step of one run and the queue of its tool.

First the limit of the run; then, for what the cache did not answer, the breaker and the limits of the operation.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aiecs_ray import failures
from aiecs_ray.actors.gate import Entry
from aiecs_ray.errors import CircuitOpenError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiecs_ray.actors.breakers import Breakers
    from aiecs_ray.actors.events import EventLog
    from aiecs_ray.actors.gate import Gates
    from aiecs_ray.actors.limit_table import LimitTable
    from aiecs_ray.breaker import Admitted
    from aiecs_ray.limits import Meter
    from aiecs_ray.messages import ErrorInfo, Limits, Policy


class Guards(NamedTuple):
    """What all runs of a coordinator pass."""

    gates: Gates
    table: LimitTable
    breakers: Breakers


class Admissible(Protocol):
    """A run, as far as its admission knows it."""

    log: EventLog
    owner: str

    def policy(self, step: int) -> Policy:
        """Return how a step is to be run."""

    def admit(self, steps: list[int]) -> None:
        """Go on with steps that have passed the limit of the run."""

    def queue(self, steps: list[int]) -> None:
        """Go on with steps that have passed everything."""

    def rejected(self, step: int, error: ErrorInfo, seconds: float) -> None:
        """A breaker did not let a step through; it may for ``seconds`` not."""


class Admission:
    """Where the steps of one run stand."""

    def __init__(self, run: Admissible, guards: Guards, limits: Limits) -> None:
        # Not in a circle with its run, which would keep its results until the next collection.
        self._ref = weakref.ref(run)
        self._gates, self._table, self._breakers = guards
        self._meter: Meter | None = guards.table.meter_of_run(limits)
        self._calls: dict[int, Admitted] = {}

    @property
    def _run(self) -> Admissible:
        """The run, which is there as long as one of its steps is open."""
        run = self._ref()
        assert run is not None
        return run

    def enter(self, steps: list[int]) -> None:
        """Steps are ready: those that pass the limit of the run go on."""
        if self._meter is None:
            self._run.admit(steps)
        else:
            entries = [self._entry(step, self._run.policy(step), "") for step in steps]
            self._gates.enter((self._meter,), entries)

    def proceed(self, steps: list[int]) -> None:
        """The cache has no answer for these steps: those that pass their breakers and limits go on."""
        if not (self._breakers.active or self._table.active):
            self._run.queue(steps)
            return
        free = []
        lines: dict[tuple[Meter, ...], list[Entry]] = {}
        for step in steps:
            policy = self._run.policy(step)
            if not self._is_let_through(step, policy.spec):
                continue
            meters = self._table.meters_of(policy.spec)
            if not meters and (self._meter is None or self._gates.holds(self, step)):
                free.append(step)
                continue
            if self._meter is not None:
                # All at once: while it waits here, it must not hold up what else the run could start.
                self._gates.left(self, step)
                meters = (self._meter, *meters)
            lines.setdefault(meters, []).append(self._entry(step, policy, policy.spec))
        for meters, entries in lines.items():
            self._gates.enter(meters, entries)
        if free:
            self._run.queue(free)

    def again(self, steps: list[int]) -> None:
        """What was let through and has not been sent has to pass again: limits or a breaker have changed."""
        for step in steps:
            self._abandon(step)
            self._gates.left(self, step)
        self.proceed(steps)

    def stands_alone(self, step: int) -> bool:
        """Return whether a step has to pass something of its own, so that no other takes it along."""
        if self._meter is not None:
            return True
        if not (self._breakers.active or self._table.active):
            return False
        spec = self._run.policy(step).spec
        return self._breakers.guards(spec) or bool(self._table.meters_of(spec))

    def is_paced(self, step: int) -> bool:
        """Return whether the start of a step counts against a rate."""
        if self._meter is None and not self._table.active:
            return False
        meters = (self._meter, *self._table.meters_of(self._run.policy(step).spec))
        return any(meter is not None and meter.limits.rate is not None for meter in meters)

    def dispatched(self, steps: Sequence[int]) -> None:
        """Steps were sent to a replica, or answered by the cache."""
        self._gates.dispatched(self, steps)

    def ended(self, step: int, error: ErrorInfo | None) -> None:
        """An attempt of a step has ended by itself, by its time limit or with its replica."""
        call = self._calls.pop(step, None)
        if call is not None:
            self._breakers.ended(self._run.policy(step), call, error)

    def left(self, step: int) -> None:
        """A step ended, or waits for its next attempt."""
        self._abandon(step)
        self._gates.left(self, step)

    def withdraw(self) -> None:
        """What was not let through never will be."""
        self._gates.withdraw(self)

    def over(self) -> None:
        """The run has ended."""
        if self._meter is not None:
            self._meter.users -= 1

    def _is_let_through(self, step: int, spec: str) -> bool:
        if step in self._calls:
            return True
        answer = self._breakers.admit(spec, self._run.log)
        if isinstance(answer, CircuitOpenError):
            # Not at once: what follows it in a sequence is rejected in turn, and may be any number.
            error = failures.of_runtime(answer)
            asyncio.get_running_loop().call_soon(self._run.rejected, step, error, answer.retry_after)
            return False
        if answer is not None:
            self._calls[step] = answer
        return True

    def _abandon(self, step: int) -> None:
        call = self._calls.pop(step, None)
        if call is not None:
            self._breakers.abandoned(self._run.policy(step).spec, call)

    def _entry(self, step: int, policy: Policy, spec: str) -> Entry:
        go = self._run.queue if spec else self._run.admit
        return Entry(self, step, go, policy.weight, self._run.owner, policy.priority, spec)
