"""Measures what runs do: takes their events in bulk and shows the sums, without ever making a run wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from aiecs_ray import metering
from aiecs_ray.actors.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from aiecs_ray.actors.run import Run
    from aiecs_ray.backend import MetricsLink
    from aiecs_ray.messages import Event
    from aiecs_ray.metering import Sample

COLLECT = 1.0
"""Seconds between two looks at what has happened: events are not kept for longer."""
SHOW = 5
"""Looks between two times that numbers are shown; Ray publishes them every ten seconds."""
PATIENCE = 2.0
"""Seconds that the cache gets to say what it has counted."""


class _Feed(NamedTuple):
    """What was not counted yet of one run."""

    run: Run
    events: list[Event]


class Meter:
    """Counts what the runs of a coordinator do.

    Args:
        link: whoever looks at the numbers, and the way to what the cache has counted.
        stats: the statistics of the coordinator.
    """

    def __init__(self, link: MetricsLink, stats: Callable[[], Mapping[str, Any]]) -> None:
        self._link, self._stats = link, stats
        self._feeds: list[_Feed] = []
        self._sums = metering.Sums()
        self._of_cache: list[Sample] = []
        self._tasks = Tasks()
        self._ticking = False

    def follow(self, run: Run) -> None:
        """Count a run from its beginning on."""
        feed = _Feed(run, [])
        run.log.sinks.append(feed.events.append)
        self._feeds.append(feed)
        if not self._ticking:
            self._ticking = True
            self._tasks.spawn(self._tick())

    async def samples(self) -> list[Sample]:
        """Return every number as it is now."""
        self._collect()
        try:
            async with asyncio.timeout(PATIENCE):
                if (counted := await self._link.cache_stats()) is not None:
                    self._of_cache = metering.of_cache(counted)
        except TimeoutError:
            pass  # what it said before still holds
        return [*self._sums.samples(), *metering.of_coordinator(self._stats()), *self._of_cache]

    def close(self) -> None:
        """Measure no more."""
        self._tasks.cancel()

    async def _tick(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(COLLECT)
            self._collect()
            looks += 1
            if looks % SHOW == 0:
                self._link.show(await self.samples())

    def _collect(self) -> None:
        for feed in self._feeds:
            if feed.events:
                events = feed.events.copy()
                feed.events.clear()
                run = feed.run
                self._sums.add(events, lambda step, run=run: run.policy(step).spec)  # type: ignore[misc]
        self._feeds = [feed for feed in self._feeds if not feed.run.log.closed]
