"""Three minutes of processes that die, and two hundred that end themselves, in each way that they can be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos import Ending, alone, in_company, is_unknown, judge, rage

if TYPE_CHECKING:
    from pathlib import Path

    from aiecs_ray import Runtime

pytestmark = [pytest.mark.ray, pytest.mark.accept, pytest.mark.timeout(900)]

SECONDS = 180.0
COUNT = 200


def test_nothing_is_lost_and_nothing_runs_twice_in_three_minutes_of_kills(ray_rt: Runtime, tmp_path: Path) -> None:
    aftermath = rage(ray_rt, tmp_path, SECONDS, seed=5)

    judge(aftermath)
    assert aftermath.kills >= SECONDS / 3


def test_two_hundred_that_end_their_process_at_once_are_never_run_again(ray_rt: Runtime) -> None:
    ray_rt.register(Ending, num_cpus=0, max_replicas=2)

    ended, died = alone(ray_rt, COUNT)

    assert [is_unknown(result) for result in ended] == [True] * COUNT
    assert died == COUNT


@pytest.mark.parametrize("mode", ["batch", "sequence"])
def test_two_hundred_that_end_their_process_among_others_are_never_run_again(ray_rt: Runtime, mode: Any) -> None:
    ray_rt.register(Ending, num_cpus=0, max_replicas=2)

    ended, died = in_company(ray_rt, mode, COUNT)

    assert [is_unknown(result) for result in ended] == [True] * COUNT
    assert died == COUNT
