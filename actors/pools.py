"""The replicas of all tools: who runs what, and how many of each there are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from itertools import count, groupby
from typing import TYPE_CHECKING, Any

from aiecs_ray.actors.flight import Flight
from aiecs_ray.actors.pool import PREFETCH_BELOW, Pool
from aiecs_ray.actors.scaler import Scaler
from aiecs_ray.actors.segments import chain_from, compose
from aiecs_ray.actors.tasks import Tasks
from aiecs_ray.actors.watch import SLOW, Watch
from aiecs_ray.backend import ReplicaDied
from aiecs_ray.deaths import judge
from aiecs_ray.messages import ErrorInfo
from aiecs_ray.plan_values import State
from aiecs_ray.scaling import PATIENCE, chunk_size, smooth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiecs_ray.actors.flight import Member
    from aiecs_ray.actors.run import Run
    from aiecs_ray.actors.services import Ticket
    from aiecs_ray.backend import Backend, Remains
    from aiecs_ray.config import Settings
    from aiecs_ray.messages import Outcome, ToolSpec


logger = logging.getLogger(__name__)

LAST_WAIT = 2.0
"""Seconds for which the end of the replicas is waited for when everything ends."""


class Pools:
    """Feeds the replicas of every tool. Runs on the coordinator's event loop."""

    def __init__(self, backend: Backend, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._watch = Watch(settings.grace, clock, self._land)
        self._pools: dict[str, Pool] = {}
        self._numbers = count(1)
        self._tasks = Tasks()
        self._scaler = Scaler(
            backend, self._pools, numbers=self._numbers, tasks=self._tasks, clock=clock, feed=self._feed
        )

    # --- what the coordinator asks -------------------------------------------------------------------------

    def register(self, spec: ToolSpec) -> None:
        """Make a tool known; an older version of it that the same name had is drained."""
        for pool in self._pools.values():
            if pool.spec.name == spec.name and pool.spec.key != spec.key:
                pool.replaced = True
        if spec.key not in self._pools:
            self._pools[spec.key] = Pool(spec, self._settings)
        self._pools[spec.key].replaced = False
        self._scaler.soon()

    def knows(self, key: str) -> bool:
        """Return whether a tool was registered."""
        return key in self._pools

    def unregister(self, name: str) -> bool:
        """Drain a tool's replicas and offer it no more; return whether there was one."""
        present = [pool for pool in self._pools.values() if pool.spec.name == name and not pool.replaced]
        for pool in present:
            pool.replaced = True
        self._scaler.soon()
        return bool(present)

    def specs(self) -> list[ToolSpec]:
        """Return every registered tool, in its present version."""
        return [pool.spec for pool in self._pools.values() if not pool.replaced]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return per tool name: replicas, busy ones, waiting steps."""
        counts: dict[str, dict[str, int]] = {}
        for pool in self._pools.values():
            pool.add_to(counts.setdefault(pool.spec.name, {"replicas": 0, "busy": 0, "queued": 0}))
        return counts

    def queued(self) -> int:
        """Return how many steps wait for a replica."""
        return sum(len(pool.queue) for pool in self._pools.values())

    def clear(self, names: Sequence[str] | None) -> int:
        """Stop the replicas of some tools, or of all, after their present work; return how many."""
        return self._scaler.clear([pool for pool in self._pools.values() if names is None or pool.spec.name in names])

    # --- what runs ask -------------------------------------------------------------------------------------

    def expect(self, run: Run) -> None:
        """A run begins: keep the versions of the tools that it was prepared for, whatever replaces them meanwhile."""
        for key in {policy.tool for policy in run.request.policies}:
            if (pool := self._pools.get(key)) is not None:
                pool.users.add(run.id)

    def enqueue(self, tool: str, tickets: Sequence[Ticket]) -> None:
        """Run these steps of one run as soon as a replica has room."""
        pool = self._pools.get(tool)
        if pool is None:
            # Only what is made anew for a finished run can come so late.
            for ticket in tickets:
                error = _gone(ticket.run.policy(ticket.step).spec)
                asyncio.get_running_loop().call_soon(ticket.run.refused, ticket.step, error)
            return
        pool.nested |= any(ticket.run.request.calls for ticket in tickets[:1])
        pool.runs.update((ticket.run.id, ticket.run) for ticket in tickets[:1])
        for priority, alike in groupby(tickets, lambda ticket: ticket.run.policy(ticket.step).priority):
            pool.queue.push(*alike, owner=tickets[0].run.owner, priority=priority)
        self._feed(pool)
        if pool.queue and tickets:
            self._make_way(pool, tickets[0])
        self._scaler.soon()

    def withdraw(self, run: Run) -> None:
        """Forget the waiting tickets of a run."""
        for pool in self._pools.values():
            pool.queue.remove(lambda ticket: ticket.run is run)

    def take_back(self, is_meant: Callable[[str], bool]) -> list[Ticket]:
        """Take out and return the waiting tickets of some operations."""
        return [
            ticket
            for pool in self._pools.values()
            for ticket in pool.queue.remove(lambda ticket: is_meant(ticket.run.policy(ticket.step).spec))
        ]

    def forget(self, run: Run) -> None:
        """A run is over: tell it nothing more."""
        for pool in self._pools.values():
            pool.runs.pop(run.id, None)
            pool.users.discard(run.id)

    def stop(self, run: Run, steps: Sequence[int], *, verdict: ErrorInfo | None) -> None:
        """Stop the work that holds these steps; without answer within the grace period its replica is killed."""
        wanted = set(steps)
        for pool in self._pools.values():
            for member in pool.members.values():
                for flight in list(member.flights.values()):
                    held = [step for step in flight.open if step in wanted] if flight.run is run else []
                    if held:
                        flight.verdicts.update(dict.fromkeys(held, verdict))
                        self._tasks.spawn(self._watch.end(member, flight, held))

    # --- feeding -------------------------------------------------------------------------------------------

    def _feed(self, pool: Pool) -> None:
        while pool.queue:
            member = self._choose(pool)
            if member is None:
                if pool.blocked_since is None:
                    pool.blocked_since = self._clock()
                return
            ticket = pool.queue.peek()
            suspect = pool.side_by_side and ticket.step in ticket.run.alone
            # What ended a process in company is tried by itself, so that a death has one cause.
            if member.flights and (suspect or not self._may_go_ahead(pool, member, ticket)):
                return
            pool.queue.pop()
            if ticket.run.claim(ticket.step):
                member.exclusive = suspect
                self._dispatch(pool, member, ticket)
        pool.blocked_since, pool.nested = None, False

    def _may_go_ahead(self, pool: Pool, member: Member, ticket: Ticket) -> bool:
        """Whether a step may be sent behind others; if the call before it ended the process, its start is in doubt."""
        if not ticket.run.policy(ticket.step).idempotent:
            return False
        # What has a rate is to start when it is sent; what runs beside others does.
        beside = pool.spec.has_async or len(member.flights) < pool.at_once
        return beside or not ticket.run.is_paced(ticket.step)

    def _make_way(self, pool: Pool, ticket: Ticket) -> None:
        """Somebody comes whose turn is next: one replica gives back what it has not begun of others' work."""
        now = self._clock()
        run = ticket.run
        if pool.queue.peek() is not ticket or now - pool.made_way < self._settings.chunk_seconds:
            return
        members = [member for member in pool.members.values() if member.ready and not member.yielding]
        member = min(members, key=lambda one: sum(len(flight.open) for flight in one.flights.values()), default=None)
        if member is None:
            return
        pool.made_way = now
        for flight in member.flights.values():
            if flight.run is not run and not flight.work.chain and len(flight.open) > 1:
                self._recall(member, flight)

    def _choose(self, pool: Pool) -> Member | None:
        """The replica with least work that has room; the second place only for work that is over soon."""
        free = [member for member in pool.members.values() if member.takes_work]
        if pool.spec.has_async:
            free = [member for member in free if not member.flights or pool.free_places(member)]
        if not free:
            return None
        member = min(free, key=lambda one: len(one.flights))
        load = len(member.flights)
        if load < pool.at_once or (pool.spec.has_async and load < pool.window):
            return member
        now = self._clock()
        quick = all(flight.is_over_soon(now) for flight in member.flights.values())
        return member if load < pool.window and quick and self._is_quick(pool) else None

    def _is_quick(self, pool: Pool) -> bool:
        return bool(pool.took) and max(pool.took.values()) < PREFETCH_BELOW

    def _dispatch(self, pool: Pool, member: Member, ticket: Ticket) -> None:
        run = ticket.run
        steps = chain_from(run, ticket.step)
        chain = len(steps) > 1
        if not chain:
            steps = [ticket.step, *self._companions(pool, member, ticket)]
        work = compose(run, next(self._numbers), steps, chain=chain)
        expected = sum(pool.took.get(item.operation, math.inf) for item in work.items)
        flight = Flight(work, run, self._clock(), expected)
        member.flights[work.id] = flight
        run.dispatched(steps, at_once=len(member.flights) <= pool.at_once, to=member.place)
        self._tasks.spawn(self._fly(pool, member, flight))

    def _companions(self, pool: Pool, member: Member, ticket: Ticket) -> list[int]:
        """Further independent steps of the same run, so many that the chunk is worth a message."""
        run, policy = ticket.run, ticket.run.policy(ticket.step)
        if not policy.idempotent or not pool.queue or ticket.step in run.alone:
            return []
        seconds = pool.took.get(policy.operation)
        queued = len(pool.queue) + 1
        replicas = max(1, len(pool.members)) * pool.at_once
        if policy.is_async:
            size = pool.free_places(member)
        else:
            size = chunk_size(seconds, queued, replicas, self._settings.chunk_seconds)

        def fits(other: Ticket) -> bool:
            if other.run is not run or other.step in run.alone:
                return False
            theirs = run.policy(other.step)
            # One pool is one version of a tool, so operations of one name are alike but for what was asked for them.
            alike = theirs is policy or (theirs.idempotent and theirs.operation == policy.operation)
            return alike and run.claim(other.step)

        taken = pool.queue.take(size - 1, owner=run.owner, priority=policy.priority, fits=fits)
        return [other.step for other in taken]

    # --- one call of a replica -----------------------------------------------------------------------------

    async def _fly(self, pool: Pool, member: Member, flight: Flight) -> None:
        loop = asyncio.get_running_loop()
        watch: asyncio.Task[Any] | None = None
        if flight.limits:
            watch = self._tasks.spawn(self._watch.over(member, flight))
        else:
            flight.pulse = loop.call_later(SLOW, self._watch.slow, flight)
        several = len(flight.work.items) > 1
        waits = len(member.flights) > pool.at_once
        ahead = sum(other.expected for other in member.flights.values() if other is not flight) if waits else 0.0
        stream = flight.together or (several and flight.work.chain)
        if several and flight.work.chain:
            self._listen(member, flight, PATIENCE)
        elif (several and not stream) or (ahead and not pool.spec.has_async):
            flight.timer = loop.call_later(ahead + flight.expected + PATIENCE, self._recall, member, flight)
        try:
            async for outcomes in member.replica.send(flight.work, stream=stream):
                self._land(pool, flight, outcomes)
                if flight.work.chain and flight.timer is None:
                    self._listen(member, flight, PATIENCE)
        except ReplicaDied as death:
            remains = await self._scaler.bury(member, death)
            self._lose(member, flight, remains)
        except Exception as error:
            # Neither an outcome nor a death: a full object store, for one. Its replica is as good as dead, and as each
            # step may be the cause, this counts as an attempt of all.
            logger.exception("a call of tool %s failed", pool.spec.name)
            broken = ReplicaDied(f"a call failed: {type(error).__name__}: {error}")
            remains = await self._scaler.bury(member, broken)
            self._lose(member, flight, remains, guilty=True)
        finally:
            for timer in (watch, flight.pulse, flight.timer):
                if timer is not None:
                    timer.cancel()
        self._close(pool, member, flight)

    def _land(self, pool: Pool, flight: Flight, outcomes: list[Outcome]) -> None:
        run = flight.run
        values: list[Outcome] = []
        for outcome in outcomes:
            item = flight.open.pop(outcome.step, None)
            if item is None:
                continue
            pool.took[item.operation] = smooth(pool.took.get(item.operation), outcome.seconds)
            if outcome.kind == "value":
                values.append(outcome)
                continue
            # In the order in which they came: after a failure others may not start.
            if values:
                run.completed(values)
                values = []
            run.failed(outcome, flight.verdicts.get(outcome.step), flight.input_of(outcome, item))
        if values:
            run.completed(values)
        flight.touched = self._clock()
        flight.changed.set()
        if flight.together and pool.queue:
            self._feed(pool)
        if flight.work.chain and flight.open:
            following = next(iter(flight.open))
            if run.plan.state(following) is State.HANDED and not flight.failed(outcomes):
                run.note_started(following)

    def _lose(self, member: Member, flight: Flight, remains: Remains, *, guilty: bool = False) -> None:
        assert member.died is not None
        first = next(iter(flight.open), 0)
        fates = {step: judge(flight.work, step, first, remains.marks) for step in flight.open}
        flight.open.clear()
        # Of a chain the last one first: the end of a step ends those that wait for it, as if they had not been sent.
        for step, fate in reversed(list(fates.items())) if flight.work.chain else fates.items():
            own = fate._replace(guilty=True, suspect=True) if guilty else fate
            flight.run.lost(step, member.died, flight.verdicts.get(step), own)

    def _close(self, pool: Pool, member: Member, flight: Flight) -> None:
        """The call is over: what it did not report never began."""
        member.flights.pop(flight.work.id, None)
        if not member.flights:
            member.idle_since = self._clock()
            member.exclusive = False
        # Of a chain the last one first: the end of a step ends those that wait for it, as if they had not been sent.
        flight.abandon(reversed(list(flight.open)) if flight.work.chain else list(flight.open))
        if member.yielding and not member.flights:
            self._scaler.remove(member)
        self._feed(pool)
        self._scaler.soon()

    def _collect(self, member: Member, flight: Flight) -> None:
        """A chain is quiet: quick steps may have been held back for a step that then took long."""
        flight.timer = None
        if not flight.open or member.died is not None:
            return
        quiet = self._clock() - flight.touched
        if quiet >= PATIENCE:
            self._tasks.spawn(self._watch.collect(member, flight))
        else:
            self._listen(member, flight, PATIENCE - quiet)

    def _listen(self, member: Member, flight: Flight, seconds: float) -> None:
        flight.timer = asyncio.get_running_loop().call_later(seconds, self._collect, member, flight)

    def _recall(self, member: Member, flight: Flight) -> None:
        """A call takes longer than expected: take its outcomes so far, and let others run what it has not begun."""
        if flight.open and member.died is None:
            self._tasks.spawn(self._watch.recall(member, flight))

    # --- housekeeping --------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at the cluster again: nodes come and go. Forget replaced tools that nobody uses any more."""
        self._scaler.look_again()
        for key, pool in list(self._pools.items()):
            if pool.draining and not pool.members and not pool.queue:
                del self._pools[key]
        if any(pool.queue for pool in self._pools.values()):
            self._scaler.soon()

    async def close(self) -> None:
        """End every replica, and wait for a moment until nothing of them runs any more."""
        self._scaler.close()
        replicas = [member.replica for pool in self._pools.values() for member in pool.members.values()]
        for pool in self._pools.values():
            pool.members.clear()
        self._tasks.cancel()
        for replica in replicas:
            replica.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WAIT):
                await asyncio.gather(*(replica.remains() for replica in replicas))


def _gone(spec: str) -> ErrorInfo:
    text = f"The version of {spec} that this step was prepared for was replaced since; send the run again"
    return ErrorInfo("E003", text, "ToolNotFoundError", ("ToolNotFoundError",))
