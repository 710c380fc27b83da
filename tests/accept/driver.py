"""Runs a piece of a test in a process of its own, which may start and end its own Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def drive(code: str, *, timeout: float = 240.0, **environment: str) -> Any:
    """Run ``code`` as a script; return what it hands to ``answer(...)``."""
    script = f"""
import json, sys
def answer(value):
    print("ANSWER " + json.dumps(value), flush=True)
{textwrap.dedent(code)}
"""
    done = subprocess.run(  # noqa: S603  # a piece of a test
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    answers = [line.removeprefix("ANSWER ") for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(answers[-1]) if answers else None


def new_mark() -> str:
    """Return a value for an environment variable by which a process and its children can be found."""
    return uuid.uuid4().hex


def processes_with(name: str, value: str) -> list[str]:
    """Return the command lines of all processes that have ``name=value`` in their environment."""
    wanted = f"{name}={value}".encode()
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found
