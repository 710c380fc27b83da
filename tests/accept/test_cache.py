"""The shared cache at full size: like a dictionary, one execution for two hundred callers, and within its limits."""

from __future__ import annotations

import time
from pathlib import Path  # noqa: TC003  # pytest reads the annotations of fixtures' users

import pytest

import aiecs_ray
from aiecs_ray.backend import CacheEntry
from aiecs_ray.config import Settings
from aiecs_ray.keys import digest
from aiecs_ray.store import Missing, Store
from tests.accept.cache_runs import compare, crowd, flood, hit_rate, offline_hit_rate, pairs, survivors, zipf
from tests.unit.test_store_model import walk

pytestmark = [pytest.mark.accept, pytest.mark.timeout(600)]

MB = 10**6


def test_the_store_takes_a_hundred_thousand_steps_like_its_model() -> None:
    walk(100_000, seed=1)


@pytest.mark.ray
def test_the_actor_takes_a_thousand_steps_like_a_dictionary(ray_rt: aiecs_ray.Runtime) -> None:
    compare(ray_rt.cache_request, 1_000, seed=time.time_ns())


def test_a_hundred_thousand_pairs_of_parameters_that_differ_have_keys_that_differ() -> None:
    for one, other in pairs(100_000):
        assert digest(one) != digest(other), (one, other)


@pytest.mark.ray
def test_results_outlive_the_coordinator_the_tool_and_the_client(tmp_path: Path) -> None:
    sizes = [10, 99_000, 101_000, 50 * MB]

    answer = survivors(tmp_path, sizes, store=400 * MB)

    assert answer["client"] == -9
    assert answer["another coordinator"]
    assert answer["read"] == [[size, True] for size in sizes]
    assert answer["made"] == len(sizes)


@pytest.mark.ray
def test_two_hundred_calls_of_four_processes_run_once(tmp_path: Path) -> None:
    answer = crowd(tmp_path, processes=4, calls=50, cancel=False)

    assert answer == {"answers": ["gone"], "count": 200, "ran": 1, "first": answer["first"], "joined": 200}


@pytest.mark.ray
def test_cancelling_the_first_of_two_hundred_changes_nothing_for_the_others(tmp_path: Path) -> None:
    answer = crowd(tmp_path, processes=4, calls=50, cancel=True)

    assert (answer["answers"], answer["count"], answer["ran"]) == (["gone"], 200, 2)
    assert answer["first"] == "cancelled"


@pytest.mark.ray
def test_a_gigabyte_of_results_stays_within_a_hundred_megabytes(tmp_path: Path) -> None:
    answer = flood(tmp_path, budget=100 * MB, entry=10 * MB, count=100, store=400 * MB)

    assert answer["most"] <= 110 * MB + MB
    assert answer["counted"] <= 100 * MB
    assert (answer["entries"], answer["evicted"], answer["spilled"]) == (9, 91, 0)


def test_the_store_hits_as_often_as_an_lru_cache_can() -> None:
    workload = zipf(100_000, 10_000)
    store: Store[int] = Store(2_000, 10**9, None, time.monotonic)

    rate = hit_rate(
        workload,
        lambda key: store.get(str(key)) is not Missing.MISSING,
        lambda key: store.put(str(key), key, size=10),
    )

    assert abs(rate - offline_hit_rate(workload, 2_000)) < 0.02


@pytest.mark.ray
def test_the_actor_hits_as_often_as_an_lru_cache_can(ray_cluster: str) -> None:  # noqa: ARG001  # it must run
    workload = zipf(10_000, 10_000)
    settings = Settings(namespace="zipf", cache_entries=2_000)

    with aiecs_ray.connect(settings=settings, registry=aiecs_ray.Registry()) as rt:
        rate = hit_rate(
            workload,
            lambda key: rt.cache_request("get_many", [str(key)])[0] is not None,
            lambda key: rt.cache_request("put_many", [CacheEntry(str(key), key, 8, b"", tool="t", operation="o")]),
        )

    assert abs(rate - offline_hit_rate(workload, 2_000)) < 0.02
