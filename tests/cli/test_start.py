"""The program itself: how fast it answers, and what it does not load."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys, time
began = time.process_time()
from aiecs_ray.cli.main import main
code = main({arguments!r})
took = time.process_time() - began
heavy = [name for name in ("ray", "pandas", "numpy", "sqlalchemy", "matplotlib", "rich") if name in sys.modules]
sys.stderr.write(json.dumps([code, took, heavy]))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["plan", "schema"]])
def test_help_is_quick_and_loads_nothing_heavy(arguments: list[str]) -> None:
    runs = []
    for _ in range(3):
        done = subprocess.run(  # noqa: S603  # our own program
            [sys.executable, "-c", PROGRAM.format(arguments=arguments)], capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stderr))
    code, took, heavy = min(runs, key=lambda run: run[1])

    assert (code, heavy) == (0, [])
    assert took < 1.0
