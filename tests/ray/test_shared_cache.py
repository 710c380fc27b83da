"""The shared cache on Ray, in a tenth of the sizes of its acceptance runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.accept.cache_runs import compare, crowd, flood, survivors

if TYPE_CHECKING:
    from pathlib import Path

    from aiecs_ray import Runtime

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

MB = 10**6


def test_the_actor_answers_like_a_dictionary(ray_rt: Runtime) -> None:
    compare(ray_rt.cache_request, 100, seed=time.time_ns())


def test_results_outlive_the_coordinator_the_tool_and_the_client(tmp_path: Path) -> None:
    sizes = [10, 101_000, 5 * MB]

    answer = survivors(tmp_path, sizes, store=100 * MB)

    assert (answer["client"], answer["another coordinator"]) == (-9, True)
    assert answer["read"] == [[size, True] for size in sizes]
    assert answer["made"] == len(sizes)


def test_calls_of_several_processes_run_once(tmp_path: Path) -> None:
    answer = crowd(tmp_path, processes=2, calls=10, cancel=False)

    assert (answer["answers"], answer["count"], answer["ran"], answer["joined"]) == (["gone"], 20, 1, 20)


def test_results_without_end_stay_within_their_budget(tmp_path: Path) -> None:
    answer = flood(tmp_path, budget=10 * MB, entry=MB, count=100, store=100 * MB)

    assert answer["most"] <= 11 * MB + MB // 10
    assert answer["counted"] <= 10 * MB
    assert (answer["entries"], answer["evicted"], answer["spilled"]) == (9, 91, 0)
