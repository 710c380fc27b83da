"""How many replicas a tool gets, and which one makes room for another: pure decisions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WORTH_A_REPLICA = 0.25
"""Seconds of waiting work per replica from which another replica is worth its start."""
PATIENCE = 0.1
"""Seconds for which work waits for a busy replica before another one is started, whatever it was expected to take."""
TURN = 1.0
"""Seconds for which a tool that has work keeps its only replica although another tool has none: what a start takes."""
MAX_CHUNK = 512
LEAST_TURN, TURNS = 100, 50
"""A chunk of many is at least so many operations where they are quick, and at most one so-many-th of what waits."""
ASYNC_CHUNK = 128
MOST_CALLS = 512
"""Calls that a replica with async operations holds at once; each may hold many operations, and takes a thread."""
_ROUNDING = 1e-6
"""Fractions of a CPU do not add up exactly."""


class IdleReplica(NamedTuple):
    """A replica that holds no work."""

    id: str
    since: float
    """When it became idle."""


class PoolView(NamedTuple):
    """What a decision needs to know of one tool's replicas."""

    key: str
    queued: int
    replicas: int
    """Those that are starting, too."""
    starting: int
    idle: tuple[IdleReplica, ...]
    room: int
    """How many more calls its ready replicas would take."""
    seconds: float | None
    """Expected duration of one queued operation; None when none was measured."""
    needs: Mapping[str, float]
    most: int
    least: int
    idle_timeout: float
    draining: bool = False
    retry_at: float = 0.0
    """Earliest time of the next start, after replicas died."""
    blocked_since: float | None = None
    """Since when work waits that no ready replica takes."""
    nested: bool = False
    """Operations wait for this work, and hold CPUs that they do not use meanwhile."""
    ready_since: float | None = None
    """Since when it has had a replica that is ready."""


class Decision(NamedTuple):
    """What to do: tools to start a replica of, replicas to stop, tools that must give one back."""

    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    give_back: tuple[str, ...] = ()
    wake_at: float | None = None
    """When to decide again, if nothing happens before."""
    borrow: tuple[str, ...] = ()
    """Tools to start a replica of that takes no CPU: those who wait for it have it already."""


def fits_a_node(needs: Mapping[str, float], nodes: Iterable[Mapping[str, float]]) -> bool:
    """Return whether any node could ever hold a replica.

    >>> fits_a_node({"GPU": 1.0}, [{"CPU": 2.0}])
    False
    """
    return any(not _lacking(needs, node) for node in nodes)


def decide(pools: Sequence[PoolView], free: Mapping[str, float], now: float) -> Decision:
    """Decide which replicas to start and to stop.

    ``free`` is what the cluster has beyond the replicas there are. A tool that has work and no replica comes first;
    for it, the replica that has been idle longest is stopped, or, when none is idle, the tool with most replicas
    gives one back after its present work; one that has a single replica and work for it has had a turn before. For a
    replica that only fills up a minimum no other tool goes below its own: two of them would take the room from each
    other for ever.
    """
    room = _Room(dict(free), sorted((replica.since, replica.id, pool) for pool in pools for replica in pool.idle))
    start: list[str] = []
    give_back: list[str] = []
    borrow: list[str] = []
    wake: list[float] = []
    for pool in sorted(pools, key=lambda view: (view.replicas, not view.queued)):
        wanted = _wanted(pool, now)
        patient = None if pool.blocked_since is None else pool.blocked_since + PATIENCE
        if patient is not None and now < patient and pool.replicas < pool.most:
            # Later only something that happens can change the answer, and whatever happens asks again.
            wake.append(patient)
        if wanted and pool.retry_at > now:
            wake.append(pool.retry_at)
            continue
        started = 0
        while started < wanted and room.make(pool):
            started += 1
        start.extend([pool.key] * started)
        if wanted and not started and pool.queued and not pool.replicas:
            if pool.nested and room.lacking(pool) == {"CPU"}:
                borrow.append(pool.key)
            else:
                giver, at = _giver(pools, pool, room.lacking(pool), now)
                give_back.extend(giver)
                wake.extend(at)
    wake.extend(room.retire(now))
    back = tuple(dict.fromkeys(give_back))
    return Decision(tuple(start), tuple(room.stop), back, min(wake, default=None), tuple(borrow))


class _Room:
    """What is free while a decision is made, and the idle replicas that can make more of it."""

    def __init__(self, left: dict[str, float], idle: list[tuple[float, str, PoolView]]) -> None:
        self._left = left
        self._idle = idle
        self.stop: list[str] = []

    def make(self, pool: PoolView) -> bool:
        """Take the resources of one replica; stop idle replicas of others for them, those idle longest first.

        Where all of them would not be enough, none is stopped.
        """
        left, before = dict(self._left), len(self.stop)
        while lacking := _lacking(pool.needs, left):
            victim = self._victim(pool, lacking)
            if victim is None:
                del self.stop[before:]
                return False
            replica, owner = victim
            self.stop.append(replica)
            for name, amount in owner.needs.items():
                left[name] = left.get(name, 0.0) + amount
        for name, amount in pool.needs.items():
            left[name] -= amount
        self._left = left
        return True

    def lacking(self, pool: PoolView) -> set[str]:
        """Return what is missing for one more replica."""
        return _lacking(pool.needs, self._left)

    def retire(self, now: float) -> list[float]:
        """Stop replicas that have been idle too long, or whose tool was replaced; return when the others will be."""
        later = []
        for since, replica, pool in self._idle:
            if replica in self.stop:
                continue
            spare = not pool.queued and self._remaining(pool) > pool.least
            if (pool.draining and not pool.queued) or (spare and since + pool.idle_timeout <= now):
                self.stop.append(replica)
            elif spare:
                later.append(since + pool.idle_timeout)
        return later

    def _remaining(self, pool: PoolView) -> int:
        return pool.replicas - sum(other.id in self.stop for other in pool.idle)

    def _victim(self, pool: PoolView, lacking: set[str]) -> tuple[str, PoolView] | None:
        """The replica idle longest whose resources help; a tool keeps what it needs itself."""
        for _, replica, owner in self._idle:
            if replica in self.stop or owner.queued:
                continue
            if (pool.replicas or not pool.queued) and self._remaining(owner) <= owner.least:
                continue
            if any(owner.needs.get(name, 0.0) for name in lacking):
                return replica, owner
        return None


def _wanted(pool: PoolView, now: float) -> int:
    """How many more replicas the waiting work is worth."""
    if pool.draining and not pool.queued:
        return 0
    missing = max(0, pool.least - pool.replicas)
    if not pool.queued:
        return missing
    if not pool.replicas:
        return max(1, missing)
    waiting = pool.queued - pool.starting
    if waiting <= 0 or pool.room:
        return missing
    if pool.seconds is None:
        # Nothing measured yet: one more at a time, for the first operation may be a long one.
        useful = 1 if not pool.starting else 0
    else:
        useful = math.floor(waiting * pool.seconds / WORTH_A_REPLICA / (pool.replicas + 1))
        useful = min(useful, waiting)
    if pool.blocked_since is not None and now - pool.blocked_since >= PATIENCE and not pool.starting:
        useful = max(useful, 1)
    return max(missing, min(useful, pool.most - pool.replicas))


def _lacking(needs: Mapping[str, float], left: Mapping[str, float]) -> set[str]:
    return {name for name, amount in needs.items() if left.get(name, 0.0) < amount - _ROUNDING}


def _giver(pools: Sequence[PoolView], pool: PoolView, lacking: set[str], now: float) -> tuple[list[str], list[float]]:
    """Return which tool gives a replica back to one that has none, or else when to ask again, each if there is one."""
    givers = [
        other
        for other in pools
        if other.key != pool.key
        and other.replicas > other.starting
        and any(other.needs.get(name, 0.0) for name in lacking)
    ]
    due = {other.key: _turn_ends(other) for other in givers}
    over = [other for other in givers if due[other.key] <= now]
    if over:
        return [max(over, key=lambda other: other.replicas).key], []
    return [], [min(due.values())] if due else []


def _turn_ends(pool: PoolView) -> float:
    """Return when a tool may be asked for a replica: its calls go on with others of it, or have had their turn."""
    if pool.replicas > 1 or not pool.queued or pool.ready_since is None:
        return -math.inf
    return pool.ready_since + TURN


def chunk_size(seconds: float | None, queued: int, replicas: int, target: float) -> int:
    """Return how many independent operations to send at once, so that they take about ``target`` seconds.

    Nothing measured: one. A chunk never takes more than a replica's share of half the queue, so that the replicas end
    together; and beyond ``LEAST_TURN`` operations not more than a fiftieth of that queue, however quick they are: who
    comes while it waits stands behind two chunks of each replica, and those shall be few of all.

    >>> chunk_size(None, 1000, 2, 0.05), chunk_size(0.00001, 10_000, 2, 0.05), chunk_size(0.3, 1000, 2, 0.05)
    (1, 100, 1)
    """
    if seconds is None:
        return 1
    by_time = int(target / max(seconds, target / MAX_CHUNK))
    replicas = max(1, replicas)
    share = -(-queued // (2 * replicas))
    turn = max(LEAST_TURN, queued // (TURNS * replicas))
    return max(1, min(by_time, share, turn, MAX_CHUNK))


def calls_at_once(concurrency: int) -> int:
    """Return how many calls a replica with async operations takes at once.

    >>> calls_at_once(8), calls_at_once(10_000)
    (8, 512)
    """
    return min(concurrency, MOST_CALLS)


def async_size(held: int, concurrency: int, queued: int, replicas: int) -> int:
    """Return how many async operations to send at once to a replica that runs ``held`` of at most ``concurrency``.

    Not until an eighth of its places is free, so that a call is worth its message while others end one by one.

    >>> async_size(0, 100, 1000, 1), async_size(95, 100, 1000, 1), async_size(95, 100, 3, 1), async_size(0, 4, 10, 3)
    (100, 0, 3, 4)
    """
    free = concurrency - held
    if free < min(max(1, concurrency // 8), queued):
        return 0
    return min(ASYNC_CHUNK, free, -(-queued // max(1, replicas)))


def smooth(before: float | None, measured: float) -> float:
    """Return the running estimate of a duration: recent values count more, and a jump up counts at once.

    >>> smooth(None, 1.0), smooth(1.0, 0.0)
    (1.0, 0.7)
    """
    if before is None:
        return measured
    return max(0.7 * before + 0.3 * measured, measured / 2)
