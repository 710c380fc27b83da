"""The sums of what was measured."""

from __future__ import annotations

import re
from typing import Any

from aiecs_ray.messages import Event, EventKind
from aiecs_ray.metering import BOUNDS, METRICS, Sample, Sums, exposition, of_cache, of_coordinator

SPEC = "shop.price"
OPERATION = (("tool", "shop"), ("operation", "price"))
NOTHING = {"open": 0, "result_bytes": 0, "history": None, "tools": {}, "breakers": {}}


def event(kind: EventKind, **data: Any) -> Event:
    return Event(0, kind, "run", 0.0, 0, data)


def completed(seconds: float, *, from_cache: bool = False) -> Event:
    return event(EventKind.STEP_COMPLETED, spec=SPEC, seconds=seconds, from_cache=from_cache, attempts=1)


def sums_of(*events: Event) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    sums = Sums()
    sums.add(events, lambda _: SPEC)
    return {(name, labels): value for name, value, labels, _ in sums.samples()}


def buckets(found: dict[Any, float], status: str = "completed") -> list[float]:
    labels = (*OPERATION, ("status", status))
    return [
        found["operation_duration_seconds_bucket", (*labels, ("le", bound))] for bound in [*map(str, BOUNDS), "+Inf"]
    ]


def test_every_duration_is_in_its_bucket_and_in_those_above_it() -> None:
    found = sums_of(completed(0.3), completed(0.1), completed(0.1001), completed(10_000.0))

    by_bound = dict(zip([*BOUNDS, "inf"], buckets(found), strict=True))
    assert (by_bound[0.05], by_bound[0.1], by_bound[0.25], by_bound[0.5], by_bound[1800.0]) == (0, 1, 2, 3, 3)
    assert by_bound["inf"] == found["operation_duration_seconds_count", (*OPERATION, ("status", "completed"))] == 4
    assert found["operation_duration_seconds_sum", (*OPERATION, ("status", "completed"))] == 10_000.5001


def test_sums_grow_with_each_look() -> None:
    sums = Sums()
    for _ in range(3):
        sums.add([completed(0.2)], lambda _: SPEC)

    found = {(name, labels): value for name, value, labels, _ in sums.samples()}

    assert found["operations_total", (*OPERATION, ("status", "completed"))] == 3
    assert buckets(found)[-1] == 3


def test_answers_of_the_cache_are_operations_without_a_duration() -> None:
    found = sums_of(completed(0.0, from_cache=True), completed(0.2))

    assert found["operations_total", (*OPERATION, ("status", "completed"))] == 2
    assert buckets(found)[-1] == 1


def test_attempts_that_are_tried_again_are_counted_by_their_operation() -> None:
    found = sums_of(
        event(EventKind.STEP_RETRYING, attempt=1, code="E003", message="gone", seconds=0.1),
        event(EventKind.STEP_RETRYING, attempt=2, code="E002", message="late", seconds=0.1),
        event(EventKind.STEP_TIMED_OUT, spec=SPEC, seconds=1.0, attempts=3, code="E002", message="late"),
    )

    assert found["retry_attempts_total", OPERATION] == 2
    assert found["timeout_errors_total", OPERATION] == 2
    assert found["operations_total", (*OPERATION, ("status", "timed_out"))] == 1
    assert buckets(found, "timed_out")[-1] == 1


def test_what_never_ran_has_no_duration() -> None:
    found = sums_of(
        event(EventKind.STEP_SKIPPED, spec=SPEC, seconds=0.0, attempts=0, code="E007", message=""),
        event(EventKind.STEP_CANCELLED, spec=SPEC, seconds=0.5, attempts=1, code="E004", message=""),
    )

    assert found == {("operations_total", (*OPERATION, ("status", "cancelled"))): 2}


def test_breakers_queues_and_replicas_are_shown_as_they_are_now() -> None:
    stats = {
        **NOTHING,
        "tools": {"shop": {"replicas": 2, "busy": 1, "queued": 5}},
        "breakers": {SPEC: {"state": "open"}, "shop.pay": {"state": "half_open"}},
        "history": {"lost": 3},
    }

    found = {(name, labels): value for name, value, labels, _ in of_coordinator(stats)}

    shop = (("tool", "shop"),)
    assert (found["replicas", shop], found["replicas_busy", shop], found["queue_length", shop]) == (2, 1, 5)
    assert found["breaker_state", OPERATION] == 2
    assert found["breaker_state", (("tool", "shop"), ("operation", "pay"))] == 1
    assert found["history_lost_total", ()] == 3


def test_every_sample_has_the_labels_that_its_metric_declares() -> None:
    sums = Sums()
    sums.add([completed(0.1)], lambda _: SPEC)
    cache = {"entries": 1, "bytes": 2, "operations": {SPEC: {"hits": 3, "misses": 4}}}

    for name, _, labels, metric in [*sums.samples(), *of_coordinator(NOTHING), *of_cache(cache)]:
        known = METRICS[metric or name].labels
        assert tuple(label for label, _ in labels if label != "le") == known


def test_a_label_cannot_break_out_of_its_line() -> None:
    text = exposition([Sample("cache_hits_total", 1.0, (("tool", 'a"} 9\n\\'), ("operation", "b")))])

    assert text.splitlines()[-1] == 'cache_hits_total{tool="a\\"} 9\\n\\\\",operation="b"} 1.0'
    assert len(re.findall("\n", text)) == 3
