"""Every case has a name of its own, and the small form of one runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import GROUPS, main

ROOT = Path(__file__).parents[2]
WANTED = {
    "single",
    "sequence-same",
    "sequence-cross",
    "batch-small",
    "map-stream",
    "batch-1ms",
    "batch-10ms",
    "batch-100ms",
    "big-chain",
    "big-cross",
    "fan-out-in",
    "cache-hit",
    "pandas-real",
    "skewed",
    "many-tools",
    "start",
    "growth",
}


def test_every_case_of_the_plan_is_there_once() -> None:
    names = [case.name for group in GROUPS for case in group]

    assert set(names) == WANTED
    assert len(names) == len(WANTED)


def test_an_unknown_case_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["no-such-case"])

    assert ended.value.code == 2
    assert "no case no-such-case; there are start, single" in capsys.readouterr().err


@pytest.mark.ray
def test_the_small_form_of_a_case_runs_and_leaves_its_numbers(tmp_path: Path) -> None:
    # In a process of its own: it starts a Ray of its own.
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(tmp_path), "sequence-same"]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)  # noqa: S603

    assert done.returncode == 0, done.stderr
    assert "| sequence-same | aiecs / raw awaited |" in done.stdout
    facts = json.loads((tmp_path / "sequence-same.json").read_text())
    assert set(facts["repetitions"]) == {"aiecs", "aiecs in a context", "raw awaited"}
    assert len(facts["load before and after"]) == 2
