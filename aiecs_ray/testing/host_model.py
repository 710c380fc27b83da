"""What a tool's host does, without threads: the protocol of :class:`~aiecs_ray.actors.tool.ToolHost` in coroutines.

A real host blocks a thread in the body of an operation, which no virtual time can pass. This model keeps the same rules
(when a body begins, which outcomes are held back, what ``stop`` and ``collect`` answer) and leaves the bodies to a
function. A test runs both through the same scripts and compares what they say.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from aiecs_ray.actors.made import Made
from aiecs_ray.actors.tool import QUICK, REMEMBERED
from aiecs_ray.backend import Running, Stopped
from aiecs_ray.messages import Elided, Mark

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from aiecs_ray.messages import Item, Outcome, Work


class LargeValue(NamedTuple):
    """Stands for a value that travels by reference."""

    value: Any


class ModelBody:
    """One running body."""

    __slots__ = ("asked", "since", "step", "wake", "work")

    def __init__(self, work: int, step: int, since: float) -> None:
        self.work, self.step, self.since = work, step, since
        self.asked = False
        self.wake: asyncio.Future[str] | None = None
        """What the body waits for, if it waits for anything."""

    def ask(self) -> None:
        """Tell the body that it should end."""
        self.asked = True
        if self.wake is not None and not self.wake.done():
            self.wake.set_result("asked")


class HostModel:
    """Runs work as a host does, with bodies that are given.

    Args:
        run_body: runs one body and says how it ended; called with the body, its work, its item and the payloads of
            earlier items of the same work.
        is_async: whether an operation is a coroutine function.
        clock: seconds.
        turns: how many sync bodies run side by side.
        hesitate: awaited at the points where threads of a real host may be interrupted; None for never.
    """

    def __init__(  # what it lives on, by name
        self,
        run_body: Callable[[ModelBody, Work, Item, dict[int, Any]], Awaitable[Outcome]],
        *,
        is_async: Callable[[str], bool],
        clock: Callable[[], float],
        turns: int = 1,
        hesitate: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._run_body = run_body
        self._is_async = is_async
        self._clock = clock
        self._turns = asyncio.Semaphore(turns)
        self._hesitate = hesitate
        self._running: dict[tuple[int, int], ModelBody] = {}
        self._recalled: dict[int, None] = {}
        self._held: dict[int, list[Outcome]] = {}
        self._told: dict[int, int] = {}
        self._begun: OrderedDict[int, list[int]] = OrderedDict()
        self._took: dict[str, float] = {}
        self.marks: dict[tuple[int, int], Mark] = {}
        """How far attempts have come: what the ledger of a real host says."""

    # --- work --------------------------------------------------------------------------------------------

    async def stream(self, work: Work, *, hold: bool = False) -> AsyncGenerator[list[Outcome], None]:
        """Run the items of ``work`` and yield their outcomes as a host does."""
        try:
            if not work.chain and len(work.items) > 1 and all(self._is_async(item.operation) for item in work.items):
                async for outcomes in self._together(work):
                    yield outcomes
            else:
                async for outcomes in self._one_by_one(work, hold=hold):
                    yield outcomes
        finally:
            self._recalled.pop(work.id, None)
            self._held.pop(work.id, None)
            self._told.pop(work.id, None)

    async def _one_by_one(self, work: Work, *, hold: bool) -> AsyncGenerator[list[Outcome], None]:
        ready = self._hold(work.id)
        made = Made(work)
        for place, item in enumerate(work.items):
            if work.id in self._recalled:
                break
            if ready and not hold and not self._is_quick(item):
                yield ready
                ready = self._hold(work.id)
            await self._maybe_hesitate()
            outcome = await self._run(work, item, made)
            if outcome is None:
                break
            await self._maybe_hesitate()
            made.add(item.step, outcome.payload, place)
            ready.append(_as_sent(item, outcome))
            if not hold and (_has_large(ready) or not item.idempotent):
                yield ready
                ready = self._hold(work.id)
            if work.chain and outcome.kind != "value":
                break
        if ready:
            yield ready

    def _hold(self, work: int) -> list[Outcome]:
        ready = self._held[work] = []
        self._told[work] = 0
        return ready

    def _is_quick(self, item: Item) -> bool:
        return item.idempotent and self._took.get(item.operation, QUICK) < QUICK

    async def _together(self, work: Work) -> AsyncGenerator[list[Outcome], None]:
        ended: asyncio.Queue[Outcome | None] = asyncio.Queue()

        async def run(item: Item) -> None:
            ended.put_nowait(await self._run(work, item, {}))

        items = {item.step: item for item in work.items}
        tasks = [asyncio.get_running_loop().create_task(run(item)) for item in work.items]
        try:
            left = len(work.items)
            while left:
                outcomes = [await ended.get()]
                while not ended.empty():
                    outcomes.append(ended.get_nowait())
                left -= len(outcomes)
                if ready := [outcome for outcome in outcomes if outcome is not None]:
                    yield [_as_sent(items[outcome.step], outcome) for outcome in ready]
        finally:
            for task in tasks:
                task.cancel()

    async def _run(self, work: Work, item: Item, made: dict[int, Any]) -> Outcome | None:
        if self._is_async(item.operation):
            return await self._body(work, item, made)
        async with self._turns:
            return await self._body(work, item, made)

    async def _body(self, work: Work, item: Item, made: dict[int, Any]) -> Outcome | None:
        if work.id in self._recalled:
            return None
        body = self._running[work.id, item.step] = ModelBody(work.id, item.step, self._clock())
        self.marks[work.id, item.step] = Mark.PREPARING
        self._begun.setdefault(work.id, []).append(item.step)
        if len(self._begun) > REMEMBERED:
            self._begun.popitem(last=False)
        try:
            outcome = await self._run_body(body, work, item, made)
        finally:
            self._running.pop((body.work, body.step), None)
            self.marks[work.id, item.step] = Mark.DONE
        if outcome.kind == "value":
            self._took[item.operation] = outcome.seconds
        return outcome

    async def _maybe_hesitate(self) -> None:
        if self._hesitate is not None:
            await self._hesitate()

    # --- asked from outside while a body runs --------------------------------------------------------------

    def status(self) -> list[Running]:
        """Return what is running, and for how long."""
        now = self._clock()
        return [Running(body.work, body.step, now - body.since) for body in self._running.values()]

    def stop(self, work: int, ask: Sequence[int] = ()) -> Stopped:
        """Begin nothing more of ``work``; tell the bodies of the steps ``ask`` that they should end."""
        self._recalled[work] = None
        for body in [body for body in self._running.values() if body.work == work and body.step in ask]:
            body.ask()
        return self.collect(work)

    def collect(self, work: int) -> Stopped:
        """Hand over the outcomes of ``work`` that wait for the end of a body after them; later they come again."""
        running = tuple(body.step for body in self._running.values() if body.work == work)
        held = self._held.get(work)
        waiting: list[Outcome] = []
        if running and held is not None and not _has_large(held):
            waiting = held[self._told[work] :]
            self._told[work] += len(waiting)
        return Stopped(running, tuple(self._begun.get(work, ())), waiting)


def _as_sent(item: Item, outcome: Outcome) -> Outcome:
    """Return an outcome without a large value that stays in the replica."""
    left_out = item.left_out and type(outcome.payload) is LargeValue
    return outcome._replace(payload=Elided.ELIDED) if left_out else outcome


def _has_large(outcomes: Sequence[Outcome]) -> bool:
    return any(type(outcome.payload) is LargeValue for outcome in outcomes)
