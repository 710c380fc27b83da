"""The world that a simulated coordinator lives in: replicas, a cache that may not answer, nodes, clients that go."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

from aiecs_ray.actors.cache import Cache
from aiecs_ray.testing.sim_replica import SimReplica

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiecs_ray.backend import CacheEntry, CacheLink, KeyParts, Note
    from aiecs_ray.messages import ToolSpec
    from aiecs_ray.testing.scenario import ToolPlan
    from aiecs_ray.testing.world import World


class SimCache:
    """The way to the production cache, over a connection that chance rules."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._cache = Cache(world.scenario.settings, adopt=lambda payload: payload, clock=world.loop.time)
        self._last = 0.0
        silent = world.happens(world.faults.cache_silent)
        self._silent_from = world.rng.uniform(0.0, 1.0) if silent else math.inf

    async def get_many(self, keys: Sequence[str], operations: Sequence[str]) -> list[CacheEntry | None]:
        """Return the entries under ``keys``, sooner or later or never."""
        await asyncio.sleep(self._delay())
        found = self._cache.get_many(keys, operations)
        self._world.note("cache  %d of %d found", sum(entry is not None for entry in found), len(found))
        await asyncio.sleep(self._world.latency())
        return found

    def put_many(self, entries: Sequence[CacheEntry]) -> None:
        """Store ``entries``; what is asked afterwards arrives afterwards."""
        self._world.loop.call_later(self._delay(), self._cache.put_many, entries)

    def note(self, notes: Sequence[Note]) -> None:
        """Count what happened without the cache."""
        self._world.loop.call_later(self._delay(), self._cache.note, notes)

    async def explain(self, parts: KeyParts, operation: str, key: str) -> dict[str, Any]:
        """Say what there is under ``key``."""
        await asyncio.sleep(self._delay())
        return self._cache.explain(parts, operation, key)

    async def purge(self, tags: dict[str, str]) -> int:
        """Delete the entries that carry all of ``tags``."""
        await asyncio.sleep(self._delay())
        return self._cache.purge(tags)

    def _delay(self) -> float:
        """Messages of one caller arrive in their order, so each waits for those before it."""
        now, world = self._world.loop.time(), self._world
        if now >= self._silent_from:
            return 1e6
        wait = world.rng.uniform(0.5, 3.0) if world.happens(world.faults.cache_slow) else world.latency()
        self._last = max(self._last, now + wait)
        return self._last - now


class SimBackend:
    """Makes simulated replicas."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tools: dict[str, ToolPlan] = {tool.spec.key: tool for tool in world.scenario.tools}
        self.cache: CacheLink = SimCache(world)
        self.gone: set[str] = set()

    def create(self, spec: ToolSpec) -> SimReplica:
        """Begin to make a replica."""
        world, tool = self._world, self._tools[spec.key]
        replica = SimReplica(world, len(world.replicas) + 1, tool)
        world.replicas.append(replica)
        world.note("create %s", replica)
        self._judge(tool)
        return replica

    def _judge(self, tool: ToolPlan) -> None:
        """No tool has more replicas than it may, and the cluster holds them all."""
        # One that died by itself is counted until the coordinator knows.
        held = [one for one in self._world.replicas if not (one.dead or one.doomed)]
        mine = sum(one.tool is tool for one in held)
        most = 1 if tool.spec.options["stateful"] else tool.spec.options["max_replicas"]
        if most is not None and mine > most:
            self._world.broken(f"{mine} replicas of {tool.spec.name}, {most} allowed")
        if len(held) > sum(self._world.scenario.cpus):
            self._world.broken(f"{len(held)} replicas on {sum(self._world.scenario.cpus):g} CPUs")

    async def nodes(self) -> Sequence[Mapping[str, float]]:
        """Return the nodes."""
        await asyncio.sleep(self._world.latency())
        return [{"CPU": cpus} for cpus in self._world.scenario.cpus]

    async def alive(self, lease: Any) -> bool:
        """Return whether a client still exists."""
        return lease not in self.gone
