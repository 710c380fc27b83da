"""Plants bugs in copies of the project, one at a time, and shows that each turns a test red.

``python tests/mutants/run.py [NAME ...]`` takes the bugs from ``mutants.toml``, all of them or those that are named.
For each it prints the test that failed; it exits with 1 if any bug survives or cannot be planted. A bug that names
``seeds`` instead of tests has to be found by the simulator within so many of them; printed is the first that found it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / "tests" / "mutants" / "mutants.toml"
PARTS = ("aiecs_ray", "actors", "benchmarks", "docs", "tests", "pyproject.toml", "README.md")
"""What the tests need of the project."""
WORKERS = 2
LIMIT = 120.0
"""Seconds after which the tests of one bug hang; far beyond what any of them takes."""
_MARKS = "not ray and not accept"
_PYTEST = """
import sys
import aiecs_ray, aiecs_ray.actors, pytest
for module in (aiecs_ray, aiecs_ray.actors):
    assert module.__file__.startswith(sys.argv[1] + "/"), f"{module.__file__} is not the copy in {sys.argv[1]}"
sys.exit(pytest.main(sys.argv[2:]))
"""
SIMULATING = 900.0
"""The same for the simulator, whose seeds are many."""
_SIMULATE = """
import sys
import aiecs_ray, aiecs_ray.actors
from aiecs_ray.testing.simulate import main
for module in (aiecs_ray, aiecs_ray.actors):
    assert module.__file__.startswith(sys.argv[1] + "/"), f"{module.__file__} is not the copy in {sys.argv[1]}"
sys.exit(main(["--seeds", sys.argv[2], "--processes", "1", "--stop", "1"]))
"""
_numbers = count(1)


@dataclass(frozen=True)
class Mutant:
    """A bug: where it is planted, and which tests must notice it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()
    seeds: int = 0
    """Seeds of the simulator within which one must break a promise; instead of tests."""

    def occurrences(self, root: Path = ROOT) -> int:
        """Return how often the text to be replaced stands in its file; it has to be once."""
        return (root / self.file).read_text(encoding="utf-8").count(self.old)


@dataclass(frozen=True)
class Verdict:
    """What became of the tests of a bug."""

    name: str
    caught: bool
    text: str
    seconds: float


def load() -> list[Mutant]:
    """Return every bug of the list."""
    entries = tomllib.loads(LIST.read_text(encoding="utf-8"))["mutant"]
    return [Mutant(**{**entry, "tests": tuple(entry.get("tests", ()))}) for entry in entries]


class Copy:
    """A copy of the project in which one bug at a time is planted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, root / part, symlinks=True, ignore=ignored)
            else:
                shutil.copy2(source, root / part)

    @contextlib.contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        """Plant a bug and take it out again."""
        path = self.root / mutant.file
        sound = path.read_text(encoding="utf-8")
        modified = path.stat().st_mtime
        path.write_text(sound.replace(mutant.old, mutant.new), encoding="utf-8")
        # A time of its own: Python takes compiled code for current by whole seconds and size.
        os.utime(path, (next(_numbers),) * 2)
        try:
            yield
        finally:
            path.write_text(sound, encoding="utf-8")
            os.utime(path, (modified, modified))

    def run(self, tests: Sequence[str], *options: str) -> tuple[int | None, str]:
        """Run tests on this copy; return pytest's exit status, None when it hangs, and its output."""
        command = [sys.executable, "-c", _PYTEST, str(self.root), *tests, "-m", _MARKS, *options]
        command += ["-v", "--tb=line", "--no-header", "-rfE", "-p", "no:cacheprovider"]
        return self._finish(command, LIMIT)

    def simulate(self, seeds: int) -> tuple[int | None, str]:
        """Run seeds of the simulator on this copy until one breaks a promise; return as :meth:`run` does."""
        return self._finish([sys.executable, "-c", _SIMULATE, str(self.root), str(seeds)], SIMULATING)

    def _finish(self, command: Sequence[str], limit: float) -> tuple[int | None, str]:
        environment = {**os.environ, "PYTHONPATH": str(self.root), "COLUMNS": "300"}
        with subprocess.Popen(  # noqa: S603  # this Python, on tests of this project
            command,
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return None, process.communicate()[0]
            return process.returncode, output


def judge(mutant: Mutant, copy: Copy) -> Verdict:
    """Run the tests of a bug, and say which of them noticed it."""
    began = time.monotonic()
    if (occurrences := mutant.occurrences(copy.root)) != 1:
        return Verdict(mutant.name, caught=False, text=f"{mutant.file} has its text {occurrences} times", seconds=0.0)
    with copy.planted(mutant):
        status, output = copy.simulate(mutant.seeds) if mutant.seeds else copy.run(mutant.tests, "-x")
    seconds = time.monotonic() - began
    if mutant.seeds:
        return _verdict_of_seeds(mutant, status, output, seconds)
    if status is None:
        return Verdict(mutant.name, caught=True, text=f"{_last_begun(output)} hangs", seconds=seconds)
    failed = re.search(r"^FAILED (\S+)", output, re.MULTILINE)
    if status == 1 and failed is not None:
        return Verdict(mutant.name, caught=True, text=failed[1], seconds=seconds)
    if status == 0:
        return Verdict(mutant.name, caught=False, text=f"SURVIVED {', '.join(mutant.tests)}", seconds=seconds)
    last = output.strip().rpartition("\n")[2]
    return Verdict(mutant.name, caught=False, text=f"the tests could not run: {last}", seconds=seconds)


def _verdict_of_seeds(mutant: Mutant, status: int | None, output: str, seconds: float) -> Verdict:
    found = re.search(r"^seed (\d+): (.*)", output, re.MULTILINE)
    if status == 1 and found is not None:
        text = f"seed {found[1]}: {found[2][:150]}"
        return Verdict(mutant.name, caught=True, text=text, seconds=seconds)
    if status is None:
        return Verdict(mutant.name, caught=True, text="the simulator, which hangs", seconds=seconds)
    if status == 0:
        return Verdict(mutant.name, caught=False, text=f"SURVIVED {mutant.seeds} seeds", seconds=seconds)
    last = output.strip().rpartition("\n")[2]
    return Verdict(mutant.name, caught=True, text=f"the simulator, which breaks off: {last}", seconds=seconds)


def _last_begun(output: str) -> str:
    begun = [line.split()[0] for line in output.splitlines() if "::" in line.split(" ")[0]]
    return begun[-1] if begun else "the start"


def main(names: Sequence[str]) -> int:
    """Judge the bugs of these names, or all; return the exit status."""
    mutants = [mutant for mutant in load() if not names or mutant.name in names]
    if unknown := set(names) - {mutant.name for mutant in mutants}:
        _say(f"there is no bug of the name {', '.join(map(repr, unknown))}")
        return 1
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(WORKERS):
            copies.put(Copy(Path(folder) / str(number)))
        if not _is_sound(copies, mutants):
            return 1

        def work(mutant: Mutant) -> Verdict:
            copy = copies.get()
            try:
                return judge(mutant, copy)
            finally:
                copies.put(copy)

        escaped, width = 0, max(len(mutant.name) for mutant in mutants)
        with ThreadPoolExecutor(WORKERS) as pool:
            for verdict in pool.map(work, mutants):
                escaped += not verdict.caught
                sign = "caught by" if verdict.caught else "NOT CAUGHT:"
                _say(f"{verdict.name:<{width}} {sign} {verdict.text}  ({verdict.seconds:.1f} s)")
    _say(f"{len(mutants) - escaped} of {len(mutants)} bugs were caught")
    return 1 if escaped else 0


def _is_sound(copies: SimpleQueue[Copy], mutants: Sequence[Mutant]) -> bool:
    """Without a bug, every one of the tests has to pass."""
    tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    if not tests:
        return True
    copy, began = copies.get(), time.monotonic()
    status, output = copy.run(tests)
    copies.put(copy)
    _, _, last = output.strip().rpartition("\n")
    _say(f"without a bug: {last.strip('= ')}  ({time.monotonic() - began:.1f} s)")
    if status == 0:
        return True
    _say("\n".join(line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))))
    return False


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
