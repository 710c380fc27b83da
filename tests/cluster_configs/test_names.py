"""Whatever the files name is there: files, modules, extras, console scripts."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster-configs"
FILES = sorted(file for file in FOLDER.iterdir() if file.is_file())
COMMAND = re.compile(r"python -m ([a-z_][\w.]*)")
OTHERS = {"build", "pip"}


def importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_module_that_a_file_runs_can_be_run(file: Path) -> None:
    modules = COMMAND.findall(file.read_text(encoding="utf-8"))

    assert [module for module in modules if module not in OTHERS and not importable(module)] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_of_the_repository_that_a_file_names_is_there(file: Path) -> None:
    named = re.findall(r"(?<![\w./-])((?:cluster-configs|examples|docs)/[\w./-]*\w)", file.read_text(encoding="utf-8"))

    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_extra_that_a_file_installs_is_declared(file: Path, project: dict[str, Any]) -> None:
    extras = re.findall(r"aiecs_ray-\*\.whl[^\[\n]*\[([\w,]+)\]", file.read_text(encoding="utf-8"))

    assert {name for names in extras for name in names.split(",")} <= set(project["optional-dependencies"])


def test_the_readme_names_every_file() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")

    assert [file.name for file in FILES if f"`{file.name}`" not in readme and file.name != "README.md"] == []


def test_the_image_is_built_from_files_that_are_there(dockerfile: list[tuple[str, str]]) -> None:
    copies = [shlex.split(rest)[:-1] for instruction, rest in dockerfile if instruction == "COPY"]

    local = {source for sources in copies if not sources[0].startswith("--from=") for source in sources}

    assert {"pyproject.toml", "actors", "aiecs_ray"} <= local
    assert [source for source in local if not (ROOT / source).exists()] == []


def test_the_image_ends_as_another_user_than_root(dockerfile: list[tuple[str, str]]) -> None:
    users = [rest for instruction, rest in dockerfile if instruction == "USER"]

    assert users[-1].isdigit()
    assert int(users[-1]) > 0


def test_the_image_runs_python_itself(dockerfile: list[tuple[str, str]]) -> None:
    instruction, command = dockerfile[-1]

    assert instruction == "CMD"
    assert command == '["python", "-m", "aiecs_ray.demo"]'


def test_the_job_runs_the_demo(job: dict[str, Any]) -> None:
    program, *arguments = shlex.split(job["spec"]["entrypoint"])

    assert program == "python"
    assert arguments[:2] == ["-m", "aiecs_ray.demo"]
