"""Numbers about operations, from what is recorded of their steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return the value below which ``share`` of the ordered values lie, between two of them; None for none.

    >>> quantile([1.0, 2.0, 3.0, 4.0, 5.0], 0.5)
    3.0
    """
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


class _Operation:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.seconds: list[float] = []
        self.size = self.from_cache = self.retries = 0

    def row(self, spec: str) -> dict[str, Any]:
        ended = sum(number for status, number in self.counts.items() if status != "running")
        tried = ended - self.counts.get("cancelled", 0)
        seconds = sorted(self.seconds)
        return {
            "operation": spec,
            "count": ended,
            "completed": self.counts.get("completed", 0),
            "failed": self.counts.get("failed", 0),
            "timed_out": self.counts.get("timed_out", 0),
            "cancelled": self.counts.get("cancelled", 0),
            "running": self.counts.get("running", 0),
            "success_rate": self.counts.get("completed", 0) / tried if tried else None,
            "from_cache": self.from_cache,
            "retries": self.retries,
            "p50": quantile(seconds, 0.5),
            "p95": quantile(seconds, 0.95),
            "seconds": sum(seconds),
            "bytes": self.size,
        }


class Statistics:
    """Adds up steps, and groups of steps, by operation."""

    def __init__(self) -> None:
        self._operations: dict[str, _Operation] = {}

    def add(self, timing: Mapping[str, Any]) -> None:
        """Count one row of :meth:`aiecs_ray.history_store.HistoryStore.timings`."""
        operation = self._operations.setdefault(timing["spec"], _Operation())
        for status, number in timing["counts"].items():
            operation.counts[status] = operation.counts.get(status, 0) + number
        operation.seconds.extend(timing["seconds"])
        operation.size += timing["size"]
        operation.from_cache += timing["from_cache"]
        operation.retries += timing["retries"]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per operation, by name.

        ``success_rate`` is the share of completed ones among those that were not cancelled. ``p50``, ``p95`` and
        ``seconds`` are of those that were computed and completed.
        """
        return [operation.row(spec) for spec, operation in sorted(self._operations.items())]
