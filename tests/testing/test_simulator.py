"""A thousand seeds of the simulator: the production coordinator keeps every promise under every fault."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aiecs_ray.testing.scenario import Faults, draw
from aiecs_ray.testing.simulate import main, simulate_many
from aiecs_ray.testing.simulation import simulate

ROOT = Path(__file__).resolve().parents[2]
SEEDS, BLOCK = 1000, 250


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_no_promise_is_broken_in_any_seed(first: int) -> None:
    broken = {report.seed: report.violations for report in simulate_many(first, BLOCK) if not report.ok}

    assert broken == {}


@pytest.mark.parametrize("seed", [3, 101, 652])
def test_a_seed_takes_the_same_course_in_every_process(seed: int) -> None:
    here = simulate(seed, traced=True)
    script = (
        f"from aiecs_ray.testing.simulation import simulate; print('\\n'.join(simulate({seed}, traced=True).trace))"
    )

    elsewhere = subprocess.run(  # noqa: S603  # this Python, a fixed script
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)},
    )

    assert elsewhere.stdout.splitlines() == list(here.trace)


def test_the_seeds_have_every_kind_of_fault_and_many_have_few() -> None:
    drawn = [draw(seed).faults for seed in range(300)]

    kinds = [sum(value > 0 for value in vars(faults).values()) for faults in drawn]
    assert all(any(getattr(faults, name) for faults in drawn) for name in vars(Faults()))
    assert min(kinds) == 0
    assert sorted(kinds)[150] <= 4


def test_a_seed_is_printed_with_all_that_happens_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--seed", "3"])

    lines = capsys.readouterr().out.splitlines()
    assert status == 0
    assert any("submit" in line for line in lines)
    assert lines[-1].startswith("seed 3: 0 promises broken")


def test_a_broken_promise_is_printed_and_ends_with_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("aiecs_ray.actors.watch.Watch.end", _never_end)

    status = main(["--seeds", "300", "--processes", "1", "--stop", "1"])

    out = capsys.readouterr().out
    assert status == 1
    assert "seed " in out
    assert "1 broke a promise" in out


async def _never_end(*_: object) -> None:
    """Ask nobody to end."""


def test_a_scenario_can_be_changed_by_hand() -> None:
    scenario = draw(3)

    calm = replace(scenario, faults=Faults())

    assert calm.faults == Faults()
    assert calm.runs == scenario.runs
