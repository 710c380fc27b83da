"""Stops what runs too long, and what nobody wants any more: ask, wait, kill."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from aiecs_ray.backend import ReplicaDied
from aiecs_ray.messages import ErrorInfo, EventKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiecs_ray.actors.flight import Flight, Member
    from aiecs_ray.actors.pool import Pool
    from aiecs_ray.backend import Stopped
    from aiecs_ray.messages import Outcome

SLOW = 60.0
"""Seconds between two events that say an operation without a time limit is still running."""


class Watch:
    """Ends operations that overstay.

    Args:
        grace: seconds between asking a body to end and killing its replica.
        clock: seconds of the event loop.
        land: takes outcomes that arrived.
    """

    def __init__(
        self, grace: float, clock: Callable[[], float], land: Callable[[Pool, Flight, list[Outcome]], None]
    ) -> None:
        self._grace = grace
        self._clock = clock
        self._land = land

    async def over(self, member: Member, flight: Flight) -> None:
        """Stop operations of a flight that run longer than they may."""
        pause = min(flight.limits.values())
        while flight.open:
            await asyncio.sleep(pause)
            pause = await self._check(member, flight)

    def slow(self, flight: Flight, waited: float = SLOW) -> None:
        """Tell the run that an operation without a time limit takes long; once a minute."""
        if flight.open:
            flight.run.log.add(EventKind.STEP_SLOW, next(iter(flight.open)), {"seconds": waited})
            flight.pulse = asyncio.get_running_loop().call_later(SLOW, self.slow, flight, waited + SLOW)

    async def _check(self, member: Member, flight: Flight) -> float:
        """Return the seconds until the next check."""
        shortest = min((flight.limits[step] for step in flight.open if step in flight.limits), default=60.0)
        try:
            async with asyncio.timeout(self._grace):
                running = await member.replica.status()
        except ReplicaDied:
            return shortest
        except TimeoutError:
            # It does not even answer: its interpreter is held by a C call, or the process is stopped.
            return min(shortest, self._judge_silence(member, flight))
        left = [shortest]
        over = []
        for work, step, seconds in running:
            limit = flight.limits.get(step)
            if work != flight.work.id or limit is None or step not in flight.open:
                continue
            if seconds >= limit:
                self._time_out(flight, step)
                over.append(step)
            else:
                left.append(limit - seconds)
        if over:
            # All at once: of many that run side by side the last one must not wait for the grace periods of the others.
            await self.end(member, flight, over)
        return max(min(left), 0.005)

    def _judge_silence(self, member: Member, flight: Flight) -> float:
        """Kill a replica that does not answer once something is over its time; return seconds until the next look."""
        elapsed = self._clock() - flight.touched
        left = {step: flight.limits.get(step, math.inf) - elapsed for step in flight.open}
        if not left or not _runs(member, flight):
            return math.inf
        overdue = [step for step, seconds in left.items() if seconds <= 0.0]
        for step in overdue:
            # Which of them had begun its ledger will tell.
            self._time_out(flight, step)
        if overdue:
            member.replica.kill()
            return math.inf
        # Only as long as it may still take: a whole limit more would be too late.
        return min(left.values())

    async def recall(self, member: Member, flight: Flight) -> None:
        """Take back what has not begun, and the outcomes that are there."""
        stopped = await self._take(flight, member, member.replica.stop(flight.work.id))
        if stopped is not None:
            flight.abandon(step for step in flight.open if step not in stopped.begun)

    async def collect(self, member: Member, flight: Flight) -> None:
        """Take the outcomes that are there."""
        await self._take(flight, member, member.replica.collect(flight.work.id))

    async def _take(self, flight: Flight, member: Member, asked: Awaitable[Stopped]) -> Stopped | None:
        """Return what the replica says, None when it does not; its death and its silence are judged elsewhere."""
        try:
            async with asyncio.timeout(self._grace):
                stopped = await asked
        except (ReplicaDied, TimeoutError):
            return None
        if stopped.outcomes:
            self._land(member.pool, flight, list(stopped.outcomes))
        return stopped

    async def end(self, member: Member, flight: Flight, steps: Sequence[int]) -> None:
        """End some steps of a flight: ask their bodies, wait for the grace period, kill the replica."""
        stopped = await self._take(flight, member, member.replica.stop(flight.work.id, steps))
        if stopped is not None:
            # What does not run was taken back: it will not begin, and a call that waits behind another is spared.
            flight.abandon(step for step in steps if step in flight.open and step not in stopped.begun)
        left = await self._wait(flight, steps)
        if stopped is not None:
            left = [step for step in left if step in stopped.running]
        if not left:
            return
        member.yielding = True
        if stopped is not None:
            # All at once: one that does not answer in time is not waited for again and again.
            others = [other for other in member.flights.values() if other is not flight]
            await asyncio.gather(*(self.recall(member, other) for other in others))
        member.replica.kill()

    async def _wait(self, flight: Flight, steps: Sequence[int]) -> list[int]:
        """Wait until none of ``steps`` is open, for the grace period at most; return those that still are."""
        try:
            async with asyncio.timeout(self._grace):
                while any(step in flight.open for step in steps):
                    flight.changed.clear()
                    await flight.changed.wait()
        except TimeoutError:
            return [step for step in steps if step in flight.open]
        return []

    def _time_out(self, flight: Flight, step: int) -> None:
        text = f"Operation timed out after {flight.limits[step]:g}s"
        flight.verdicts[step] = ErrorInfo("E002", text, "OperationTimeoutError", ("OperationTimeoutError",))


def _runs(member: Member, flight: Flight) -> bool:
    """Whether a call runs, as far as can be told from outside: where one waits for the other, the first open one."""
    first = next((other for other in member.flights.values() if other.open), None)
    return flight is first or member.pool.side_by_side
