"""Starts, replaces and ends replicas, as scaling decides."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from aiecs_ray.actors.flight import Member
from aiecs_ray.actors.pool import total
from aiecs_ray.backend import ReplicaDied
from aiecs_ray.messages import ErrorInfo, EventKind
from aiecs_ray.scaling import decide, fits_a_node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from aiecs_ray.actors.pool import Pool
    from aiecs_ray.actors.tasks import Tasks
    from aiecs_ray.backend import Backend, Remains

logger = logging.getLogger(__name__)

CRASHES = 3
CRASH_WINDOW = 60.0


class Scaler:
    """Keeps the right number of replicas of every tool. Runs on the coordinator's event loop.

    Args:
        backend: makes replicas.
        pools: the tools, by key; the scaler reads it and changes the members.
        numbers: where replicas get their numbers from.
        tasks: who answers for what runs.
        clock: seconds of the event loop.
        feed: called when a pool has a new replica.
    """

    def __init__(  # noqa: PLR0913  # what it lives on, by name
        self,
        backend: Backend,
        pools: Mapping[str, Pool],
        *,
        numbers: Iterator[int],
        tasks: Tasks,
        clock: Callable[[], float],
        feed: Callable[[Pool], None],
    ) -> None:
        self._backend = backend
        self._pools = pools
        self._numbers = numbers
        self._tasks = tasks
        self._clock = clock
        self._feed = feed
        self._nodes: Sequence[Mapping[str, float]] = ()
        self._balancing = False
        self._closed = False
        self._wake: asyncio.TimerHandle | None = None

    def look_again(self) -> None:
        """Ask for the cluster's nodes before the next decision: they come and go."""
        self._nodes = ()

    def clear(self, pools: Sequence[Pool]) -> int:
        """Stop the replicas of some tools after their present work; return how many."""
        members = [member for pool in pools for member in pool.members.values()]
        for member in members:
            self._retire(member)
        return len(members)

    def close(self) -> None:
        """Make no more replicas."""
        self._closed = True

    def soon(self) -> None:
        """Decide about replicas once the present callback is over."""
        if not self._balancing and not self._closed:
            self._balancing = True
            self._tasks.spawn(self._balance())

    async def _balance(self) -> None:
        try:
            if not self._nodes:
                self._nodes = await self._backend.nodes()
        finally:
            self._balancing = False
        now = self._clock()
        totals = total(self._nodes)
        cpus = max(1, int(totals.get("CPU", 1)))
        self._refuse_broken(now)
        self._refuse_infeasible()
        free = dict(totals)
        for pool in self._pools.values():
            for name, amount in pool.needs.items():
                free[name] = free.get(name, 0.0) - amount * len(pool.members)
        decision = decide([pool.view(cpus) for pool in self._pools.values()], free, now)
        for number in decision.stop:
            self.remove(self._member(int(number)))
        for key in decision.start:
            self._start(self._pools[key])
        for key in decision.borrow:
            self._start(self._pools[key], borrowed=True)
        for key in decision.give_back:
            self._give_back(self._pools[key])
        if decision.wake_at is not None:
            self._wake_at(decision.wake_at)

    def _wake_at(self, when: float) -> None:
        if self._wake is not None:
            self._wake.cancel()
        delay = max(0.0, when - self._clock()) + 0.001
        self._wake = asyncio.get_running_loop().call_later(delay, self.soon)

    def _refuse_broken(self, now: float) -> None:
        """A constructor that has just failed would fail again: work gets its error until it is tried once more."""
        for pool in self._pools.values():
            if pool.broken is not None and not pool.members:
                until, error = pool.broken
                if now < until and pool.queue:
                    text = f"{error.message} (it is tried again in {until - now:.1f}s)"
                    self._refuse(pool, error._replace(message=text))
                elif now >= until:
                    pool.broken = None

    def _refuse_infeasible(self) -> None:
        for pool in self._pools.values():
            if pool.queue and not pool.members and not fits_a_node(pool.needs, self._nodes):
                self._refuse(pool, pool.infeasible(self._nodes))

    def _refuse(self, pool: Pool, error: ErrorInfo) -> None:
        for ticket in pool.queue.remove(lambda _: True):
            ticket.run.refused(ticket.step, error)

    def _give_back(self, pool: Pool) -> None:
        busy = [member for member in pool.members.values() if member.ready and not member.yielding]
        if busy and not any(member.yielding for member in pool.members.values()):
            self._retire(busy[0])

    def _member(self, number: int) -> Member:
        return next(pool.members[number] for pool in self._pools.values() if number in pool.members)

    def _start(self, pool: Pool, *, borrowed: bool = False) -> None:
        spec = replace(pool.spec, options={**pool.spec.options, "num_cpus": 0}) if borrowed else pool.spec
        try:
            replica = self._backend.create(spec)
        except Exception as problem:
            # A runtime_env that is refused, for one: other tools must get their replicas all the same.
            logger.exception("a replica of tool %s cannot be asked for", pool.spec.name)
            text = f"Tool '{pool.spec.name}' cannot be constructed: {type(problem).__name__}: {problem}"
            error = ErrorInfo("E003", text, "ToolInitError", ("ToolInitError",))
            pool.built_last, pool.broken = False, (self._clock() + pool.init_pause, error)
            self._give_up(pool, error)
            return
        member = Member(next(self._numbers), pool, replica, self._clock())
        pool.members[member.number] = member
        self._tasks.spawn(self._build(pool, member))

    async def _build(self, pool: Pool, member: Member) -> None:
        try:
            async with asyncio.timeout(pool.init_timeout):
                error = await member.replica.start()
        except TimeoutError:
            text = (
                f"Tool '{pool.spec.name}' cannot be constructed: not done after {pool.init_timeout:g}s (init_timeout)"
            )
            error = ErrorInfo("E003", text, "ToolInitError", ("ToolInitError",))
        except ReplicaDied as death:
            self._crashed(pool, member, death)
            return
        pool.built_last = error is None
        if error is not None:
            pool.broken = (self._clock() + pool.init_pause, error)
            self.remove(member)
            self._give_up(pool, error)
            return
        pool.crashes.clear()
        pool.broken = None
        pool.tell(EventKind.REPLICA_STARTED, {"seconds": self._clock() - member.idle_since})
        member.ready = True
        member.idle_since = member.ready_since = self._clock()
        self._feed(pool)
        self.soon()

    def _crashed(self, pool: Pool, member: Member, death: ReplicaDied) -> None:
        """A replica died while it was made: try again with growing pauses, three times in a minute at most."""
        if member.number not in pool.members:
            return
        now = self._clock()
        self.remove(member)
        pool.crashes = [*(crash for crash in pool.crashes if crash > now - CRASH_WINDOW), now]
        if len(pool.crashes) >= CRASHES:
            text = f"Tool '{pool.spec.name}' cannot be constructed: its process died {CRASHES} times, last of: {death}"
            pool.crashes.clear()
            pool.built_last = False
            self._give_up(pool, ErrorInfo("E003", text, "ToolInitError", ("ToolInitError",)))
        self.soon()

    def _give_up(self, pool: Pool, error: ErrorInfo) -> None:
        """A replica cannot be made: its work gets the error, unless there are others, who can do it."""
        if not pool.members:
            self._refuse(pool, error)
            return
        logger.warning("tool %s goes on with %d replicas: %s", pool.spec.name, len(pool.members), error.message)
        pool.tell(EventKind.REPLICA_DIED, {"message": error.message})

    async def bury(self, member: Member, death: ReplicaDied) -> Remains:
        """A replica died while it worked: forget it, wait until nothing of it can run, and return what it left."""
        if member.funeral is None:
            member.died = _died(member.pool, str(death))
            self._end(member)
            member.funeral = self._tasks.spawn(self._examine(member, death))
        return await asyncio.shield(member.funeral)

    async def _examine(self, member: Member, death: ReplicaDied) -> Remains:
        remains = await member.replica.remains()
        cause = remains.last_words or str(death)
        if death.of_memory and "memory" in member.pool.needs:
            cause += f"; it asks for memory={member.pool.needs['memory']:.0f} bytes"
        member.died = _died(member.pool, cause)
        for run in {flight.run.id: flight.run for flight in member.flights.values()}.values():
            run.log.add(EventKind.REPLICA_DIED, data={"tool": member.pool.spec.name, "message": cause})
        return remains

    def remove(self, member: Member) -> None:
        """End a replica now that does nothing."""
        self._end(member)
        # What its ledger says is of no use any more; the files are deleted.
        self._tasks.spawn(member.replica.remains())

    def _end(self, member: Member) -> None:
        member.pool.members.pop(member.number, None)
        member.replica.kill()
        self.soon()

    def _retire(self, member: Member) -> None:
        member.yielding = True
        if not member.flights:
            self.remove(member)


def _died(pool: Pool, cause: str) -> ErrorInfo:
    return ErrorInfo(
        "E003", f"A replica of tool '{pool.spec.name}' died: {cause}", "ReplicaLostError", ("ReplicaLostError",)
    )
