"""Metrics by way of Ray: each node's metrics port has them, as ``ray_aiecs_<name>``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import ray.exceptions
from ray.util.metrics import Counter, Gauge

from aiecs_ray.metering import DURATION, METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiecs_ray.metering import Labels, Sample

logger = logging.getLogger(__name__)

PREFIX = "aiecs_"
"""Stands before each name; Ray adds its own ``ray_``."""
_PARTS = (f"{DURATION}_sum", f"{DURATION}_count")


class RayMetrics:
    """Hands the numbers of a coordinator to Ray.

    A duration costs Ray's own histogram 4 µs each. So the buckets are summed here, and set as gauges of the names that
    a histogram has: queries work as they are, and nothing is sampled.
    """

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self._counters = {
            name: Counter(PREFIX + name, metric.text, metric.labels)
            for name, metric in METRICS.items()
            if metric.kind == "counter"
        }
        self._gauges = {
            name: Gauge(PREFIX + name, metric.text, metric.labels)
            for name, metric in METRICS.items()
            if metric.kind == "gauge"
        }
        duration = METRICS[DURATION]
        for name in _PARTS:
            self._gauges[name] = Gauge(PREFIX + name, duration.text, duration.labels)
        bucket = f"{DURATION}_bucket"
        self._gauges[bucket] = Gauge(PREFIX + bucket, duration.text, (*duration.labels, "le"))
        self._told: dict[tuple[str, Labels], float] = {}

    async def cache_stats(self) -> Mapping[str, Any] | None:
        """Return what the cache has counted; None where it does not answer."""
        try:
            return await self._cache.stats.remote()  # type: ignore[no-any-return]
        except ray.exceptions.RayError as error:
            logger.debug("metrics go on without the cache: %s", type(error).__name__)
            return None

    def show(self, samples: Sequence[Sample]) -> None:
        """Publish numbers; gauges that are not told again are forgotten by Ray after some minutes."""
        for name, value, labels, _ in samples:
            if (gauge := self._gauges.get(name)) is not None:
                gauge.set(value, dict(labels))
                continue
            before = self._told.get((name, labels), 0.0)
            self._told[name, labels] = value
            # A cache that was started again counts from nothing.
            if (more := value - before if value >= before else value) > 0:
                self._counters[name].inc(more, dict(labels))
