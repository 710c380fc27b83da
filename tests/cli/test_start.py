"""The program itself: it answers, and does not load what is slow to load."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
from aiecs_ray.cli.main import main
code = main({arguments!r})
heavy = [name for name in ("ray", "pandas", "numpy", "sqlalchemy", "matplotlib", "rich") if name in sys.modules]
sys.stderr.write(json.dumps([code, heavy]))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["plan", "schema"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-c", PROGRAM.format(arguments=arguments)], capture_output=True, text=True, check=True
    )

    assert json.loads(done.stderr) == [0, []]
