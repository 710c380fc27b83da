"""What is inside the wheel and the sdist, and that the wheel works where the repository is not."""

from __future__ import annotations

import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import aiecs_ray

if TYPE_CHECKING:
    from conftest import Built, Python

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SYMLINK = 0o120000


def sources() -> set[str]:
    """Every file of the package, those behind the link too."""
    package = ROOT / "aiecs_ray"
    files = [file for file in [*package.glob("*"), *package.glob("[!_]*/**/*")] if file.is_file()]
    return {file.relative_to(ROOT).as_posix() for file in files if file.parent.name != "__pycache__"}


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_every_package_is_listed() -> None:
    folders = {Path(file).parent.as_posix().replace("/", ".") for file in sources() if file.endswith(".py")}

    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders


def test_the_wheel_holds_every_file_of_the_package_and_no_other(built: Built) -> None:
    names = {name for name in contents(built.wheel) if name.startswith("aiecs_ray/")}

    assert names == sources()
    assert "aiecs_ray/py.typed" in names


def test_the_wheel_installs_one_package_and_nothing_named_actors_or_tests(built: Built) -> None:
    tops = {name.split("/")[0] for name in contents(built.wheel)}

    assert tops == {"aiecs_ray", f"aiecs_ray-{aiecs_ray.__version__}.dist-info"}


def test_the_actors_in_the_wheel_are_the_files_behind_the_link(built: Built) -> None:
    inside = contents(built.wheel)
    with zipfile.ZipFile(built.wheel) as archive:
        links = [entry.filename for entry in archive.infolist() if (entry.external_attr >> 16) & 0o170000 == SYMLINK]

    actors = {name: data for name, data in inside.items() if name.startswith("aiecs_ray/actors/")}

    assert links == []
    assert actors == {f"aiecs_ray/actors/{file.name}": file.read_bytes() for file in ROOT.glob("actors/*.py")}


def test_the_wheel_states_its_license_and_its_pythons(built: Built) -> None:
    inside = contents(built.wheel)
    info = f"aiecs_ray-{aiecs_ray.__version__}.dist-info"

    metadata = HeaderParser().parsestr(inside[f"{info}/METADATA"].decode())

    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    assert inside[f"{info}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_the_sdist_holds_the_actors_as_files(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        actors = [member for member in archive if "/aiecs_ray/actors/" in member.name]

    assert {Path(member.name).name for member in actors} == {file.name for file in ROOT.glob("actors/*.py")}
    assert all(member.isreg() for member in actors)


def test_the_sdist_builds_the_same_wheel(built: Built, python: Python, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")

    python.build(next(tmp_path.glob("aiecs_ray-*")), tmp_path / "dist", "--wheel")

    assert contents(next((tmp_path / "dist").glob("*.whl"))) == contents(built.wheel)


@pytest.mark.parametrize("module", ["aiecs_ray", "aiecs_ray.actors"])
def test_the_installed_wheel_imports_without_the_repository(
    built: Built, python: Python, tmp_path: Path, module: str
) -> None:
    python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(tmp_path), str(built.wheel))

    printed = python("-c", f"import {module}; print({module}.__file__)", PYTHONPATH=str(tmp_path))

    assert Path(printed.strip()).is_relative_to(tmp_path)
