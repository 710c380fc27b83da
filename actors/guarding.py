"""Makes what all runs of a coordinator pass: limits and circuit breakers, which may change while steps wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiecs_ray.actors.admission import Guards
from aiecs_ray.actors.breakers import Breakers
from aiecs_ray.actors.gate import Gates
from aiecs_ray.actors.limit_table import LimitTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs_ray.actors.gate import Passer
    from aiecs_ray.actors.pools import Pools


def make_guards(pools: Pools, clock: Callable[[], float]) -> Guards:
    """Return limits and breakers that change what waits in ``pools`` as soon as they change themselves."""
    gates = Gates(clock=clock, call_at=lambda when, do: asyncio.get_running_loop().call_at(when, do))

    def changed(target: str) -> None:
        _send_again(pools, gates, lambda spec: spec == target or spec.partition(".")[0] == target)

    return Guards(gates, LimitTable(gates, clock, changed), Breakers(clock, changed))


def _send_again(pools: Pools, gates: Gates, is_meant: Callable[[str], bool]) -> None:
    """What waits, at a limit or for a replica, has to pass what has changed."""
    waiting: dict[int, tuple[Passer, list[int]]] = {}
    for ticket in pools.take_back(is_meant):
        waiting.setdefault(id(ticket.run), (ticket.run, []))[1].append(ticket.step)
    for entry in gates.take_back(is_meant):
        waiting.setdefault(id(entry.passer), (entry.passer, []))[1].append(entry.step)
    for passer, steps in waiting.values():
        passer.again(steps)
