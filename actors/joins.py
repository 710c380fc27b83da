"""Identical operations under way: one of them runs, the others wait and get its result.

Two steps are identical when they have the same cache key, so the same tool, code, scope and parameters. The first one
*leads*: it asks the cache and runs. The others are *waiting*: they hold no replica and no place at a gate. When the
leader completes, all get its result; when it does not, the first one that waits leads on, with its own retries and
limits. Because only a step that waits for nothing but its own turn can lead, nobody ever waits in a circle.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiecs_ray.backend import CacheEntry

FAILURES = 2
"""After so many leaders that failed, the operation is taken to be at fault, and the others run side by side."""


class Member(Protocol):
    """A run whose steps may be identical to others."""

    def joined(self, step: int, entry: CacheEntry) -> None:
        """Complete a step with the result of an identical one."""

    def take_over(self, step: int) -> None:
        """Go on with a step that waited, as if it had just become ready."""

    def hurry(self, step: int) -> None:
        """Let a step that waits queue as well."""


Place = tuple[Member, int]
"""A step of a run."""


class Turn(NamedTuple):
    """What decides when a step gets a replica, and how long it may hold it."""

    limit: float = math.inf
    """Seconds that one of its attempts may take."""
    owner: str = ""
    priority: int = 0

    def may_come_before(self, other: Turn) -> bool:
        """Whether a step that queues later may be run first: users take turns, and higher priorities come first."""
        return self.owner != other.owner or self.priority > other.priority


class _Group:
    """Identical steps."""

    __slots__ = ("failures", "leader", "queued", "started", "turn", "waiting")

    def __init__(self) -> None:
        self.leader: Place | None = None
        self.turn = Turn()
        """The leader's."""
        self.queued = self.started = False
        """The leader was not in the cache, and queues; it was sent to a replica."""
        self.waiting: dict[Place, Turn] = {}
        """Who waits, in the order they came."""
        self.failures = 0

    def lead(self, place: Place, turn: Turn) -> None:
        self.leader, self.turn = place, turn
        self.queued = self.started = False


class Joins:
    """Knows which steps of all runs are identical. All methods run on the coordinator's event loop.

    Args:
        call_soon: runs something once the present event has been dealt with; a run that ends tells of its steps one
            after the other, and none of them is to lead in between.
    """

    def __init__(self, call_soon: Callable[..., object]) -> None:
        self._call_soon = call_soon
        self._groups: dict[str, _Group] = {}
        self._key_of: dict[Place, str] = {}
        self._parted = 0
        self._alone: set[Place] = set()
        """Steps that run beside others, because leaders before them failed."""

    @property
    def waiting(self) -> int:
        """How many steps wait for an identical one."""
        return sum(len(group.waiting) for group in self._groups.values())

    def is_led_by_other(self, key: str, run: Member, step: int) -> bool:
        """Whether an identical step is under way already."""
        group = self._groups.get(key)
        return group is not None and group.leader is not None and group.leader != (run, step)

    def enter(self, key: str, run: Member, step: int, *, turn: Turn = Turn(), wait: bool = True) -> bool:  # noqa: B008  # frozen
        """Return True when the step has to be run, False when it waits for an identical one.

        It waits only for attempts that are limited at least as strictly as its own, so that it never waits longer than
        it would run. With ``wait=False`` it runs in any case, and leads if nobody does.
        """
        place: Place = (run, step)
        if place in self._alone:
            return True
        # Its key may be another by now, when a file has changed: whoever waits for it waits under the first one.
        key = self._key_of.get(place, key)
        group = self._groups.setdefault(key, _Group())
        if group.leader is None or group.leader == place:
            group.lead(place, turn)
            self._key_of[place] = key
            return True
        if not wait or group.turn.limit > turn.limit:
            return True
        group.waiting[place] = turn
        self._key_of[place] = key
        return False

    def queued(self, run: Member, step: int) -> Sequence[Place]:
        """The leader queues for a replica: return those who wait and may get one before it, so they queue as well."""
        group = self._group_of((run, step))
        if group is None or group.leader != (run, step):
            return []
        group.queued = True
        return [place for place, turn in group.waiting.items() if turn.may_come_before(group.turn)]

    def may_overtake(self, run: Member, step: int) -> bool:
        """Whether a step that waits should queue as well, because its turn may come before the leader's."""
        group = self._group_of((run, step))
        if group is None or group.started or not group.queued or (run, step) not in group.waiting:
            return False
        return group.waiting[run, step].may_come_before(group.turn)

    def part(self, run: Member, step: int) -> None:
        """Let nobody else wait for a leader: what it will answer is too old for whoever asks from now on."""
        place: Place = (run, step)
        key = self._key_of.get(place)
        group = self._group_of(place)
        if key is None or group is None or group.leader != place:
            return
        self._parted += 1
        apart = f"{key} {self._parted}"
        self._groups[apart] = self._groups.pop(key)
        self._key_of.update(dict.fromkeys((place, *group.waiting), apart))

    def claim(self, run: Member, step: int) -> bool:
        """A step has a replica: return whether it is to be run, or waits because an identical one was faster."""
        if not self._key_of:
            return True
        place: Place = (run, step)
        group = self._group_of(place)
        if group is None or group.leader == place:
            if group is not None:
                group.started = True
            return True
        turn = group.waiting[place]
        if group.started or (group.leader is not None and group.turn.limit < turn.limit):
            return False
        del group.waiting[place]
        if group.leader is not None:
            group.waiting[group.leader] = group.turn
        group.lead(place, turn)
        group.started = True
        return True

    def _group_of(self, place: Place) -> _Group | None:
        key = self._key_of.get(place)
        return None if key is None else self._groups.get(key)

    def completed(self, run: Member, step: int) -> Sequence[Place]:
        """The leader has its result: return who waits for it, and does so no longer."""
        if not self._key_of:
            return ()
        key = self._key_of.get((run, step))
        group = self._leave((run, step))
        return [] if group is None or key is None else self._disband(key)

    def left(self, run: Member, step: int, *, failed: bool = False) -> None:
        """A step has ended, or waits for others again; ``failed`` when it ran and did not complete."""
        if not (self._key_of or self._alone):
            return
        place: Place = (run, step)
        self._alone.discard(place)
        key = self._key_of.get(place)
        group = self._leave(place)
        if group is None or key is None:
            return
        group.failures += failed
        self._call_soon(self._go_on, key, group)

    def _leave(self, place: Place) -> _Group | None:
        """Take a step out; return its group if it led it."""
        key = self._key_of.pop(place, None)
        group = None if key is None else self._groups.get(key)
        if group is None:
            return None
        if group.leader == place:
            group.leader = None
            return group
        group.waiting.pop(place, None)
        return None

    def _disband(self, key: str) -> Sequence[Place]:
        waiting = list(self._groups.pop(key).waiting)
        for place in waiting:
            self._key_of.pop(place, None)
        return waiting

    def _go_on(self, key: str, group: _Group) -> None:
        """The leader is gone: let the next one lead, or everybody run."""
        if self._groups.get(key) is not group or group.leader is not None:
            return
        if not group.waiting:
            del self._groups[key]
        elif group.failures >= FAILURES:
            released = self._disband(key)
            self._alone.update(released)
            for run, step in released:
                run.take_over(step)
        else:
            # The strictest one, so that nobody waits for attempts that are limited less than their own.
            run, step = place = min(group.waiting, key=lambda place: group.waiting[place].limit)
            group.lead(place, group.waiting.pop(place))
            run.take_over(step)
