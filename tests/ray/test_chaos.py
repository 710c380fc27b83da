"""Processes that die all the time: the short form of ``tests/accept/test_chaos.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos import judge, rage

if TYPE_CHECKING:
    from pathlib import Path

    from aiecs_ray import Runtime

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]


def test_nothing_is_lost_and_nothing_runs_twice_while_processes_are_killed(ray_rt: Runtime, tmp_path: Path) -> None:
    aftermath = rage(ray_rt, tmp_path, seconds=20.0, seed=11)

    judge(aftermath)
    assert aftermath.kills >= 8
    print(aftermath.count, aftermath.kills, [len(a.unknown) for a in aftermath.once], [len(a.unknown-a.ledger.started()) for a in aftermath.once],[len(a.denied) for a in aftermath.once])
