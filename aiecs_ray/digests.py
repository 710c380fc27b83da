"""Many events in few words: what a reader gets who is far behind, and only wants to see how a run goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aiecs_ray.messages import Event, EventKind

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOTS = 16
"""Stretches of time into which the events of one digest are divided."""
TOLD = 200
"""Events of one digest that are told as they are."""
_CALM = frozenset({EventKind.STEP_STARTED, EventKind.PROGRESS, EventKind.REPLICA_STARTED})
"""Events that are left out of a digest."""


class Group(NamedTuple):
    """Completed steps of one operation that ran in one replica, at about one time."""

    spec: str
    replica: str
    node: str
    began: float
    """Seconds since the epoch; when the first of them can have begun."""
    ended: float
    steps: int
    """How many they are."""
    hits: int
    """Answered from the cache, or by an identical operation under way."""
    retries: int
    seconds: float
    """All of them together."""
    size: int
    """Bytes of results."""


class Digest(NamedTuple):
    """What has happened from one event on."""

    following: int
    """The number of the next event."""
    events: tuple[Event, ...] = ()
    groups: tuple[Group, ...] = ()
    """Completed steps that are not among the events."""
    others: tuple[tuple[str, int], ...] = ()
    """Ended steps that are neither among the events nor in a group: how many, by kind."""
    over: bool = False
    """No event will follow."""
    missed: int = 0
    """Events before these that were not kept."""


def digest(events: Sequence[Event], following: int, *, most: int, over: bool) -> Digest:
    """Return ``events`` as they are if there are at most ``most`` of them, else in groups.

    Args:
        events: consecutive ones.
        following: the number of the event that was asked for.
        most: how many are told one by one.
        over: whether no event follows these.
    """
    missed = 0
    if events:
        missed, following = max(0, events[0].number - following), events[-1].number + 1
    if len(events) <= most:
        return Digest(following, tuple(events), over=over, missed=missed)
    told: list[Event] = []
    others: dict[str, int] = {}
    first = events[0].time
    slot = max(events[-1].time - first, 0.001) / SLOTS
    found: dict[tuple[str, str, int], list[Event]] = {}
    for event in events:
        if event.kind is EventKind.STEP_COMPLETED:
            data = event.data
            place = (data["spec"], data.get("replica", ""), int((event.time - first) / slot))
            if (group := found.get(place)) is None:
                found[place] = [event]
            else:
                group.append(event)
        elif event.kind not in _CALM:
            if event.step is None or len(told) < TOLD:
                told.append(event)
            elif event.kind in ENDINGS:
                others[event.kind.value] = others.get(event.kind.value, 0) + 1
    groups = tuple(_group(members) for members in found.values())
    return Digest(following, tuple(told), groups, tuple(others.items()), over, missed)


ENDINGS = {
    EventKind.STEP_COMPLETED: "completed",
    EventKind.STEP_FAILED: "failed",
    EventKind.STEP_TIMED_OUT: "timed_out",
    EventKind.STEP_CANCELLED: "cancelled",
    EventKind.STEP_SKIPPED: "skipped",
}
"""How a step ended, by the event that says so."""


def _group(events: Sequence[Event]) -> Group:
    datas = [event.data for event in events]
    first = datas[0]
    hits = sum([1 for data in datas if data["from_cache"] or data.get("joined")])
    computed = len(datas) - hits
    return Group(
        first["spec"],
        first.get("replica", ""),
        first.get("node", ""),
        events[0].time - first["seconds"],
        events[-1].time,
        len(datas),
        hits,
        max(0, sum([data["attempts"] for data in datas]) - computed),
        sum([data["seconds"] for data in datas]),
        sum([data["size"] for data in datas]),
    )
