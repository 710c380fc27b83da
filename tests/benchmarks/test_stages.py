"""The processor time of each process for an operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.stages import Stage, measure, stages, table
from benchmarks.tools import NoopTool

if TYPE_CHECKING:
    from aiecs_ray import Runtime


def test_the_table_has_a_column_for_each_process_and_the_clock() -> None:
    lines = table([Stage("batch", 49.4, {"client": 10.2, "coordinator": 1234.0})]).splitlines()

    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert lines[2] == "| batch | 10 | 1,234 | 0 | 0 | 0 | 49 |"


def test_what_runs_here_is_the_clients_share_and_the_first_run_does_not_count() -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(sum(range(300_000)))

    stage = measure("work", work, 10, 3)

    assert len(calls) == 4
    assert stage.shares["client"] > 0
    assert stage.wall > 0


@pytest.mark.ray
@pytest.mark.timeout(90)
def test_every_way_is_measured_and_the_coordinator_has_its_share(ray_rt: Runtime) -> None:
    ray_rt.register(NoopTool, num_cpus=0, max_replicas=1)

    found = stages(ray_rt, size=400, repeats=1)

    assert [stage.way for stage in found] == [
        "batch",
        "batch in a context",
        "single calls",
        "single calls in a context",
    ]
    assert {"client", "coordinator", "replicas", "cache"} <= set(found[1].shares)
    assert sum(stage.shares["coordinator"] for stage in found) > 0
