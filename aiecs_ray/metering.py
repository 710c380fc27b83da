"""What is measured, by the documents' names (S1, 7.4), and the sums of it; no clock, no process, no library."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aiecs_ray.messages import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from aiecs_ray.messages import Event

BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Seconds at which the buckets of durations end."""
DURATION = "operation_duration_seconds"
Labels = tuple[tuple[str, str], ...]
_OPERATION = ("tool", "operation")


class Metric(NamedTuple):
    """One thing that is measured."""

    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()


METRICS: Mapping[str, Metric] = {
    "cache_hits_total": Metric("counter", "Total cache hits", _OPERATION),
    "cache_misses_total": Metric("counter", "Total cache misses", _OPERATION),
    DURATION: Metric("histogram", "Operation duration", (*_OPERATION, "status")),
    "retry_attempts_total": Metric("counter", "Total retry attempts", _OPERATION),
    "timeout_errors_total": Metric("counter", "Total timeout errors", _OPERATION),
    "cache_size": Metric("gauge", "Current cache size"),
    "cache_bytes": Metric("gauge", "Bytes of the values in the cache"),
    "operations_total": Metric("counter", "Operations that have ended", (*_OPERATION, "status")),
    "operations_open": Metric("gauge", "Operations that were accepted and have not ended"),
    "queue_length": Metric("gauge", "Operations that wait for a replica", ("tool",)),
    "replicas": Metric("gauge", "Replicas", ("tool",)),
    "replicas_busy": Metric("gauge", "Replicas that have work", ("tool",)),
    "breaker_state": Metric("gauge", "Circuit breaker: 0 closed, 1 half open, 2 open", _OPERATION),
    "result_bytes": Metric("gauge", "Bytes of results that are kept"),
    "history_lost_total": Metric("counter", "Facts that the history could not be told"),
}
_STATES = {"closed": 0.0, "half_open": 1.0, "open": 2.0}
_ENDED = {
    EventKind.STEP_FAILED: "failed",
    EventKind.STEP_TIMED_OUT: "timed_out",
    EventKind.STEP_CANCELLED: "cancelled",
    EventKind.STEP_SKIPPED: "cancelled",
}
_TIMEOUT = "E002"


class Sample(NamedTuple):
    """One number of a metric; a histogram has some for each of its label values."""

    name: str
    value: float
    labels: Labels = ()
    metric: str = ""
    """The metric that it belongs to, where that has another name."""


class Sums:
    """Adds up what happened to operations since it was made."""

    def __init__(self) -> None:
        self._counters: Counter[tuple[str, Labels]] = Counter()
        self._durations: dict[Labels, _Histogram] = {}

    def add(self, events: Iterable[Event], spec_of: Callable[[int], str]) -> None:
        """Count events of one run; ``spec_of`` names the operation of a step."""
        completed: dict[str, list[Mapping[str, Any]]] = {}
        done, ended, retrying = EventKind.STEP_COMPLETED, _ENDED, EventKind.STEP_RETRYING
        for event in events:
            kind = event.kind
            if kind is done:
                data = event.data
                if (group := completed.get(data["spec"])) is None:
                    group = completed[data["spec"]] = []
                group.append(data)
            elif kind in ended:
                self._end(event.data, ended[kind])
            elif kind is retrying and event.step is not None:
                labels = labels_of(spec_of(event.step))
                self._counters["retry_attempts_total", labels] += 1
                if event.data.get("code") == _TIMEOUT:
                    self._counters["timeout_errors_total", labels] += 1
        for spec, group in completed.items():
            labels = (*labels_of(spec), ("status", "completed"))
            self._counters["operations_total", labels] += len(group)
            self._observe(labels, [data["seconds"] for data in group if not data["from_cache"]])

    def _end(self, data: Mapping[str, Any], status: str) -> None:
        operation = labels_of(data["spec"])
        labels = (*operation, ("status", status))
        self._counters["operations_total", labels] += 1
        if status == "timed_out" or data.get("code") == _TIMEOUT:
            self._counters["timeout_errors_total", operation] += 1
        if data["attempts"] and status != "cancelled":
            self._observe(labels, [data["seconds"]])

    def _observe(self, labels: Labels, seconds: list[float]) -> None:
        if seconds:
            if (histogram := self._durations.get(labels)) is None:
                histogram = self._durations[labels] = _Histogram()
            histogram.add(seconds)

    def samples(self) -> list[Sample]:
        """Return every sum."""
        found = [Sample(name, float(value), labels) for (name, labels), value in self._counters.items()]
        for labels, histogram in self._durations.items():
            found.extend(histogram.samples(labels))
        return found


class _Histogram:
    """How many durations were at most as long as each bound."""

    def __init__(self) -> None:
        self._below = [0] * len(BOUNDS)
        self._count, self._sum = 0, 0.0

    def add(self, seconds: list[float]) -> None:
        # One sort and a few searches are a tenth of a search for each.
        seconds.sort()
        for place, bound in enumerate(BOUNDS):
            self._below[place] += bisect_right(seconds, bound)
        self._count += len(seconds)
        self._sum += sum(seconds)

    def samples(self, labels: Labels) -> list[Sample]:
        bounds = [*map(str, BOUNDS), "+Inf"]
        buckets = [
            Sample(f"{DURATION}_bucket", float(below), (*labels, ("le", bound)), DURATION)
            for bound, below in zip(bounds, [*self._below, self._count], strict=True)
        ]
        total = Sample(f"{DURATION}_sum", self._sum, labels, DURATION)
        return [*buckets, total, Sample(f"{DURATION}_count", float(self._count), labels, DURATION)]


def labels_of(spec: str) -> Labels:
    """Return the labels of an operation.

    >>> labels_of("shop.price")
    (('tool', 'shop'), ('operation', 'price'))
    """
    tool, _, operation = spec.rpartition(".")
    return (("tool", tool), ("operation", operation))


def of_coordinator(stats: Mapping[str, Any]) -> list[Sample]:
    """Return what the statistics of a coordinator say of now."""
    found = [
        Sample("operations_open", float(stats["open"])),
        Sample("result_bytes", float(stats["result_bytes"])),
        Sample("history_lost_total", float((stats["history"] or {"lost": 0})["lost"])),
    ]
    for tool, counts in stats["tools"].items():
        labels = (("tool", tool),)
        found.append(Sample("queue_length", float(counts["queued"]), labels))
        found.append(Sample("replicas", float(counts["replicas"]), labels))
        found.append(Sample("replicas_busy", float(counts["busy"]), labels))
    for spec, breaker in stats["breakers"].items():
        found.append(Sample("breaker_state", _STATES[breaker["state"]], labels_of(spec)))
    return found


def of_cache(stats: Mapping[str, Any]) -> list[Sample]:
    """Return what the statistics of the cache say."""
    found = [Sample("cache_size", float(stats["entries"])), Sample("cache_bytes", float(stats["bytes"]))]
    for spec, counts in stats["operations"].items():
        labels = labels_of(spec)
        found.append(Sample("cache_hits_total", float(counts["hits"]), labels))
        found.append(Sample("cache_misses_total", float(counts["misses"]), labels))
    return found


def exposition(samples: Sequence[Sample]) -> str:
    """Return samples as Prometheus reads them.

    >>> print(exposition([Sample("cache_size", 2.0)]))
    # HELP cache_size Current cache size
    # TYPE cache_size gauge
    cache_size 2.0
    <BLANKLINE>
    """
    by_metric: dict[str, list[Sample]] = {}
    for sample in samples:
        by_metric.setdefault(sample.metric or sample.name, []).append(sample)
    lines = []
    for name, group in by_metric.items():
        lines += [f"# HELP {name} {METRICS[name].text}", f"# TYPE {name} {METRICS[name].kind}"]
        lines += [f"{sample.name}{_braced(sample.labels)} {sample.value}" for sample in group]
    return "".join(f"{line}\n" for line in lines)


def _braced(labels: Labels) -> str:
    shown = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{shown}}}" if shown else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
