"""The files of ``cluster-configs/``, parsed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster-configs"


def load(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / name).read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"])


@pytest.fixture(scope="session")
def ray_range(project: dict[str, Any]) -> SpecifierSet:
    """The versions of Ray that the package accepts."""
    requirements = map(Requirement, project["dependencies"])
    return next(requirement.specifier for requirement in requirements if requirement.name == "ray")


@pytest.fixture(scope="session")
def cluster() -> dict[str, Any]:
    return load("raycluster.yaml")


@pytest.fixture(scope="session")
def job() -> dict[str, Any]:
    return load("rayjob.yaml")


@pytest.fixture(scope="session")
def launcher() -> dict[str, Any]:
    return load("ray-cluster.yaml")


@pytest.fixture(scope="session")
def dockerfile() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, in order: ``("FROM", "rayproject/ray:...")``."""
    lines = (FOLDER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    words = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return [(instruction, rest) for instruction, rest in words]
