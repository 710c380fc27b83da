"""What an import loads, and under which names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.packaging.import_each import MAY_LOAD

if TYPE_CHECKING:
    from conftest import Python

ROOT = Path(__file__).parents[2]


def modules() -> list[str]:
    package = ROOT / "aiecs_ray"
    files = [*package.glob("*.py"), *package.glob("[!_]*/**/*.py")]
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files}
    return sorted(name for name in names if not name.endswith("__main__"))


@pytest.fixture(scope="module")
def outcomes(python: Python) -> dict[str, Any]:
    """What importing each module, in a process that had imported nothing, led to."""
    script = Path(__file__).with_name("import_each.py")

    return dict(json.loads(python(str(script), *modules(), PYTHONPATH=str(ROOT))))


def test_the_modules_behind_the_link_are_among_the_modules() -> None:
    names = modules()

    assert {f"aiecs_ray.actors.{file.stem}" for file in ROOT.glob("actors/[!_]*.py")} <= set(names)
    assert {"aiecs_ray", "aiecs_ray.actors", "aiecs_ray.errors"} <= set(names)


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_alone(outcomes: dict[str, Any], module: str) -> None:
    error = outcomes[module]["error"]

    assert not error, error


@pytest.mark.parametrize("module", modules())
def test_a_module_loads_no_heavy_library_that_is_not_its_own(outcomes: dict[str, Any], module: str) -> None:
    heavy = outcomes[module]["heavy"]

    assert [name for name in heavy if not module.startswith(MAY_LOAD[name])] == []


@pytest.mark.parametrize("name", ["actors", "actors.cache"])
def test_the_folder_actors_refuses_its_own_name_and_says_which_to_use(python: Python, name: str) -> None:
    done = python.attempt("-c", f"import {name}", cwd=ROOT)

    assert done.returncode == 1
    assert "ImportError: write `import aiecs_ray.actors`, not `import actors`" in done.stderr
