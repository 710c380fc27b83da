"""What is measured of runs, on Ray and in one process."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aiecs_ray
from aiecs_ray.config import Settings
from tests.contract.probes import op

if TYPE_CHECKING:
    from aiecs_ray import Runtime


class Gauger:
    def give(self, n: int = 0) -> int:
        return n

    def lose(self) -> None:
        raise ConnectionError("gone")


def numbers(rt: Runtime) -> dict[str, float]:
    lines = (line for line in rt.metrics().splitlines() if not line.startswith("#") and "_bucket" not in line)
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_operations_hits_retries_and_replicas_are_counted(rt: Runtime) -> None:
    rt.register(Gauger)
    rt.cache.invalidate(tool="gauger")
    before = numbers(rt)

    for _ in range(2):
        rt.run([op("gauger.give", n=7)], user_id="metrics")
    rt.run([op("gauger.give", n=n) for n in range(50)], mode="batch")
    rt.run([{"operation": "gauger.lose", "retry": {"attempts": 3, "wait_min": 0.01, "wait_max": 0.01}}])

    after = numbers(rt)
    grown = {name: after[name] - before.get(name, 0.0) for name in after if "gauger" in name}
    give, lose = 'tool="gauger",operation="give"', 'tool="gauger",operation="lose"'
    assert grown[f'operations_total{{{give},status="completed"}}'] == 52
    assert grown[f'operation_duration_seconds_count{{{give},status="completed"}}'] == 51
    assert grown[f'operations_total{{{lose},status="failed"}}'] == 1
    assert (grown[f"cache_hits_total{{{give}}}"], grown[f"cache_misses_total{{{give}}}"]) == (1, 1)
    assert grown[f"retry_attempts_total{{{lose}}}"] == 2
    assert after['replicas{tool="gauger"}'] >= 1
    assert after["cache_size"] >= 1


def test_no_label_tells_who_asked(rt: Runtime) -> None:
    rt.register(Gauger)

    rt.run([op("gauger.give", n=1)], user_id="metrics-user", task_id="metrics-task")

    assert not re.search("metrics-user|metrics-task", rt.metrics())


def test_nothing_is_measured_that_nobody_wants() -> None:
    settings = Settings(metrics=False)
    with aiecs_ray.connect("inprocess", settings=settings, registry=aiecs_ray.Registry()) as rt:
        rt.register(Gauger)
        rt.run([op("gauger.give", n=1)])

        assert rt.metrics() == ""
