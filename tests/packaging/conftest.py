"""One build of the wheel and the sdist for all tests of this folder, and a way to run Python beside them."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]


class Built(NamedTuple):
    wheel: Path
    sdist: Path


class Python:
    """Runs this interpreter in a folder and returns what it printed; a failure fails the test unless expected."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str, cwd: Path | None = None, **environment: str) -> str:
        done = self.attempt(*arguments, cwd=cwd, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def attempt(self, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - this interpreter, and arguments of these tests
            [sys.executable, *arguments],
            capture_output=True,
            check=False,
            cwd=cwd or self.folder,
            env={**os.environ, **environment},
            text=True,
        )

    def build(self, source: Path, to: Path, *kinds: str) -> None:
        # Without a second environment where this one can build: seconds less, and no network.
        enough = Version(importlib.metadata.version("setuptools")) >= Version("77")
        isolation = ["--no-isolation"] if enough else []
        self("-m", "build", *isolation, *kinds, "--outdir", str(to), str(source))


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Python:
    return Python(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, python: Python) -> Built:
    """Build from a copy, so that no test leaves build folders in the working tree or is fooled by old ones."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    for name in ("actors", "aiecs_ray"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))

    python.build(source, out, "--wheel", "--sdist")

    return Built(wheel=next(out.glob("*.whl")), sdist=next(out.glob("*.tar.gz")))
