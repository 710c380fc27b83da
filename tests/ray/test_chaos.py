"""Processes that die all the time: the short form of ``tests/accept/test_chaos.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import testing
from tests.chaos import Ending, alone, in_company, is_unknown, judge, rage
from tests.contract.probes import op

if TYPE_CHECKING:
    from pathlib import Path

    from aiecs_ray import Runtime

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]


def test_nothing_is_lost_and_nothing_runs_twice_while_processes_are_killed(ray_rt: Runtime, tmp_path: Path) -> None:
    aftermath = rage(ray_rt, tmp_path, seconds=15.0, seed=11)

    judge(aftermath)
    assert aftermath.kills >= 5


def test_what_ends_its_process_before_it_does_anything_is_never_run_again(ray_rt: Runtime) -> None:
    ray_rt.register(Ending, num_cpus=0, max_replicas=2)

    ended, died = alone(ray_rt, 4)

    assert [is_unknown(result) for result in ended] == [True] * 4
    assert died == 4


@pytest.mark.parametrize("mode", ["batch", "sequence"])
def test_what_ends_its_process_among_others_is_never_run_again(ray_rt: Runtime, mode: Any) -> None:
    ray_rt.register(Ending, num_cpus=0, max_replicas=2)

    ended, died = in_company(ray_rt, mode, 3)

    assert [is_unknown(result) for result in ended] == [True] * 3
    assert died == 3


def test_one_of_a_thousand_that_always_ends_its_process_is_given_up_and_no_other(
    ray_rt: Runtime, tmp_path: Path
) -> None:
    ledger = testing.Ledger(tmp_path / "ledger")
    ray_rt.register(testing.LedgerTool, "worker", config=ledger.config)
    names = [f"n{number}" for number in range(1000)]

    results = ray_rt.run(
        [op("worker.run", id=name, fate="die" if name == "n500" else "return") for name in names], "batch"
    )

    assert [result.result for result in results if result.completed] == [name for name in names if name != "n500"]
    assert (results[500].status, results[500].error_code) == ("failed", "E005")
    assert sum(line.id == "n500" for line in ledger.lines()) in {3, 4}
