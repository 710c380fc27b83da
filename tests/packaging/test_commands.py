"""The commands a contributor and CI start with: ``make`` and ``.ci/run``."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CI = ROOT / ".ci" / "run"
MAKE = shutil.which("make")


def run_ci(folder: Path, make: str) -> tuple[int, str]:
    """Run ``.ci/run`` with a script in the place of ``make``; return its exit code and what that script noted."""
    notes = folder / "notes"
    fake = folder / "bin" / "make"
    fake.parent.mkdir()
    fake.write_text(f"#!/usr/bin/env bash\n{make}\n", encoding="utf-8")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    environment = {**os.environ, "PATH": f"{fake.parent}{os.pathsep}{os.environ['PATH']}", "NOTES": str(notes)}

    done = subprocess.run(  # noqa: S603 - our own script
        [str(CI)], capture_output=True, check=False, cwd=folder, env=environment, input="typed", text=True, timeout=60
    )

    return done.returncode, notes.read_text(encoding="utf-8")


def runs(pid: str) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def test_make_knows_every_documented_target() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`make ([a-z-]+)`", text))

    known = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    assert documented >= {"demo", "test", "test-fast", "check", "accept", "bench", "mutants", "clean"}
    assert documented <= known


@pytest.mark.skipif(MAKE is None, reason="make is not installed")
def test_make_refuses_a_python_that_is_too_old_and_names_the_way_out(tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    pretend = "import sys; sys.version_info = (3, 10); exec(sys.argv[1])"
    script = f"""#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c '{pretend}' "$2"\nexit 9\n"""
    old.write_text(script, encoding="utf-8")
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / name, tmp_path)

    done = subprocess.run(  # noqa: S603 - our own Makefile
        [str(MAKE), "demo", f"PYTHON={old}"], capture_output=True, check=False, cwd=tmp_path, text=True
    )

    assert done.returncode != 0
    assert "needs Python 3.11 to 3.13; say which: make PYTHON=python3.11" in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by their environment")
def test_ci_checks_then_tests_and_ends_what_it_started(tmp_path: Path) -> None:
    code, notes = run_ci(tmp_path, 'setsid sleep 300 </dev/null >/dev/null 2>&1 & echo "$1 $!" >> "$NOTES"')

    steps = [line.split() for line in notes.splitlines()]

    assert code == 0
    assert [step for step, _ in steps] == ["check", "test"]
    assert not any(runs(pid) for _, pid in steps)


def test_ci_stops_at_the_first_failure_and_passes_its_exit_code_on(tmp_path: Path) -> None:
    code, notes = run_ci(tmp_path, 'echo "$1" >> "$NOTES"; exit 3')

    assert code == 3
    assert notes.split() == ["check"]


def test_ci_reads_nothing_from_the_terminal(tmp_path: Path) -> None:
    code, notes = run_ci(tmp_path, 'cat | wc -c | tr -d " " >> "$NOTES"')

    assert code == 0
    assert notes.split() == ["0", "0"]
