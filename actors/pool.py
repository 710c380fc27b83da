"""The replicas of one tool, and the steps that wait for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from aiecs_ray.messages import ErrorInfo
from aiecs_ray.options import ASYNC_CONCURRENCY
from aiecs_ray.queueing import FairQueue
from aiecs_ray.scaling import IdleReplica, PoolView, async_size, calls_at_once

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiecs_ray.actors.flight import Member
    from aiecs_ray.actors.run import Run
    from aiecs_ray.actors.services import Ticket
    from aiecs_ray.config import Settings
    from aiecs_ray.messages import EventKind, ToolSpec

PREFETCH_BELOW = 0.05
"""A replica gets work in advance only of operations expected to take less than this many seconds."""


class Pool:
    """The replicas of one tool and the steps that wait for them."""

    def __init__(self, spec: ToolSpec, settings: Settings) -> None:
        options = spec.options
        self.spec = spec
        self.queue: FairQueue[Ticket] = FairQueue()
        self.members: dict[int, Member] = {}
        self.took: dict[str, float] = {}
        """Expected seconds of each operation."""
        self.runs: dict[str, Run] = {}
        """Runs that wait for replicas of this tool, or did."""
        self.replaced = False
        """Another version has its name now, or it was unregistered."""
        self.users: set[str] = set()
        """Open runs with steps of this version."""
        self.made_way = -math.inf
        """When a replica last gave back work for somebody who came."""
        self.nested = False
        """Some of what waits was asked for by operations that wait for it."""
        self.crashes: list[float] = []
        self.broken: tuple[float, ErrorInfo] | None = None
        """What the constructor raised, and until when that stands."""
        self.init_pause = settings.init_pause
        self.built_last = True
        """Whether its constructor succeeded the last time; if not, none is made in advance."""
        self.blocked_since: float | None = None
        """Since when steps wait that no ready replica takes."""
        self.window = settings.window
        self.places = int(options.get("concurrency") or ASYNC_CONCURRENCY)
        """Async operations that a replica runs at once."""
        self.at_once = 1 if spec.has_async else int(options.get("concurrency") or 1)
        """Calls of sync operations that a replica runs at once, in threads."""
        self.window = calls_at_once(self.places) if spec.has_async else settings.window + self.at_once - 1
        self.side_by_side = spec.has_async or self.at_once > 1
        """A replica runs several calls at once."""
        self.most = 1 if options.get("stateful") else options.get("max_replicas")
        self.least = int(options.get("min_replicas") or 0)
        self.idle_timeout = float(options.get("idle_timeout") or settings.idle_timeout)
        self.init_timeout = float(options.get("init_timeout") or settings.init_timeout)
        self.needs = _needs(options)

    @property
    def draining(self) -> bool:
        """Whether it is on its way out: nobody will ask for this version again."""
        return self.replaced and not self.users

    def free_places(self, member: Member) -> int:
        """Return how many more async operations may go to a replica in one call."""
        held = sum(flight.places for flight in member.flights.values())
        return async_size(held, self.places, len(self.queue), len(self.members))

    def tell(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Tell the runs that wait for this tool what happens to its replicas."""
        self.runs = {run_id: run for run_id, run in self.runs.items() if not run.log.closed}
        for run in self.runs.values():
            run.log.add(kind, data={"tool": self.spec.name, **data})

    def add_to(self, counts: dict[str, int]) -> None:
        """Add this version of the tool to its counts."""
        counts["replicas"] += len(self.members)
        counts["busy"] += sum(bool(member.flights) for member in self.members.values())
        counts["queued"] += len(self.queue)

    def infeasible(self, nodes: Sequence[Mapping[str, float]]) -> ErrorInfo:
        """Return the error that says what no node has."""
        most = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in self.needs}
        asked, has = (
            ", ".join(f"{name}={amount:g}" for name, amount in amounts.items()) for amounts in (self.needs, most)
        )
        text = f"Tool '{self.spec.name}' asks for {asked}, but no node has more than {has}"
        return ErrorInfo("E003", text, "InfeasibleResourcesError", ("InfeasibleResourcesError",))

    def view(self, cpus: int) -> PoolView:
        """Return what a scaling decision needs."""
        members = self.members.values()
        idle = tuple(IdleReplica(str(member.number), member.idle_since) for member in members if member.is_idle)
        expected = max(self.took.values(), default=None)
        return PoolView(
            key=self.spec.key,
            queued=len(self.queue),
            replicas=len(self.members),
            starting=sum(not member.ready for member in members),
            idle=idle,
            room=sum(member.ready and not member.flights for member in members),
            seconds=expected,
            blocked_since=self.blocked_since,
            needs=self.needs,
            most=self.most or cpus,
            least=self.least if self.built_last else 0,
            idle_timeout=self.idle_timeout,
            draining=self.draining,
            retry_at=self._retry_at(),
            nested=self.nested,
            ready_since=min(
                (member.ready_since for member in members if member.ready and not member.yielding), default=None
            ),
        )

    def _retry_at(self) -> float:
        """After a crash the next start waits: half a second, doubled with each crash of the last minute."""
        crashed = self.crashes[-1] + 0.25 * 2 ** len(self.crashes) if self.crashes else 0.0
        return max(crashed, self.broken[0]) if self.broken else crashed


def _needs(options: Mapping[str, Any]) -> dict[str, float]:
    needs = {"CPU": 1.0 if options.get("num_cpus") is None else float(options["num_cpus"])}
    for name, option in (("GPU", "num_gpus"), ("memory", "memory")):
        if options.get(option):
            needs[name] = float(options[option])
    needs.update({name: float(amount) for name, amount in (options.get("resources") or {}).items()})
    return {name: amount for name, amount in needs.items() if amount}


def total(nodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the resources of all nodes together."""
    totals: dict[str, float] = {}
    for node in nodes:
        for name, amount in node.items():
            totals[name] = totals.get(name, 0.0) + amount
    return totals
