"""Which modules another process can import: what is installed, and what a runtime environment brings along."""

from __future__ import annotations

import functools
import importlib.util
import os
import site
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGE = __name__.partition(".")[0]
_SCHEMES = ("stdlib", "platstdlib", "purelib", "platlib")
_EDITABLE = "__editable__"
_MADE_BY_CYTHON = ("cython_runtime", "_cython_")
"""Modules without a file that compiled modules make for themselves."""
_ARCHIVES = (".zip", ".whl", ".jar")


def importable(module: ModuleType, runtime_env: Mapping[str, Any] | None = None) -> bool:
    """Return whether a worker process can import ``module`` as this process did.

    It can if the module belongs to Python, is installed in the environment (editable, too), or is brought along by
    ``working_dir`` or ``py_modules`` of the runtime environment. Of what lies on this process's ``sys.path`` alone (the
    directory of a script or a notebook, ``PYTHONPATH``) a worker knows nothing.

    >>> import json
    >>> importable(json)
    True
    """
    paths = getattr(module, "__path__", None)
    place = next(iter(paths), None) if paths is not None else None
    file = getattr(module, "__file__", None)
    return _importable(module.__name__, file, place, _origin(module), runtime_env or {})


def importable_name(name: str, runtime_env: Mapping[str, Any] | None = None) -> bool:
    """Return whether a worker can import the top-level module of ``name``, which need not be loaded here.

    What this process cannot find counts as importable: it is optional, or installed where it is used.
    """
    top = name.partition(".")[0]
    loaded = sys.modules.get(top)
    if isinstance(loaded, ModuleType):
        return importable(loaded, runtime_env)
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return True
    if spec is None:
        return True
    place = next(iter(spec.submodule_search_locations or ()), None)
    return _importable(top, spec.origin if spec.has_location else None, place, spec.origin, runtime_env or {})


def driver_only_modules(runtime_env: Mapping[str, Any] | None = None) -> list[ModuleType]:
    """Return the modules loaded in this process that a worker cannot import, without ``__main__``."""
    loaded = [(name, module) for name, module in list(sys.modules.items()) if isinstance(module, ModuleType)]
    return [
        module
        for name, module in loaded
        if name == module.__name__ != "__main__" and not importable(module, runtime_env)
    ]


def _importable(
    name: str, file: str | None, place: str | None, origin: str | None, runtime_env: Mapping[str, Any]
) -> bool:
    top = name.partition(".")[0]
    if top == "__main__":
        return False
    if top in sys.stdlib_module_names or top == _PACKAGE or origin in ("built-in", "frozen"):
        return True
    if top.startswith(_MADE_BY_CYTHON):
        return True
    root = _root(name, file, place)
    if root is None:
        return False
    return _is_installed(top, root) or any(
        _is_brought(top, root, file or place or root, key, runtime_env) for key in ("working_dir", "py_modules")
    )


def _origin(module: ModuleType) -> str | None:
    return getattr(getattr(module, "__spec__", None), "origin", None)


@functools.cache
def _root(name: str, file: str | None, place: str | None) -> str | None:
    """Return the directory that must be on ``sys.path`` for the module to be found; None when it has no file."""
    depth = name.count(".")
    if place is not None:
        start = place
    elif file is not None:
        start = file
    else:
        return None
    return str(Path(os.path.realpath(start)).parents[depth])


@functools.cache
def _is_installed(top: str, root: str) -> bool:
    if any(root == directory or root.startswith(directory + os.sep) for directory in _site_directories()):
        return True
    return root in _linked_directories() or any(
        top in getattr(module, "MAPPING", ())
        for name, module in list(sys.modules.items())
        if name.startswith(_EDITABLE)
    )


@functools.cache
def _site_directories() -> tuple[str, ...]:
    paths = [sysconfig.get_path(scheme) for scheme in _SCHEMES]
    paths.extend(site.getsitepackages())
    if site.ENABLE_USER_SITE:
        paths.append(site.getusersitepackages())
    return tuple(dict.fromkeys(os.path.realpath(path) for path in paths if path))


@functools.cache
def _linked_directories() -> frozenset[str]:
    """Return the directories that ``.pth`` files put on the path of every process of the environment."""
    found = set()
    for directory in _site_directories():
        for file in Path(directory).glob("*.pth"):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.strip() and not line.startswith(("#", "import ", "import\t")):
                    found.add(os.path.realpath(Path(directory, line.strip())))
    return frozenset(found)


def _is_brought(top: str, root: str, file: str, key: str, runtime_env: Mapping[str, Any]) -> bool:
    given = runtime_env.get(key)
    if given is None:
        return False
    if key == "working_dir":
        return _is_archive(given) or Path(given, os.path.relpath(os.path.realpath(file), root)).exists()
    return any(
        entry.__name__.partition(".")[0] == top
        if isinstance(entry, ModuleType)
        else _is_archive(entry) or Path(entry).resolve().name in (top, f"{top}.py")
        for entry in given
    )


def _is_archive(path: Any) -> bool:
    """Whether Ray fetches and unpacks it, so that its content cannot be looked at here."""
    return "://" in str(path) or str(path).endswith(_ARCHIVES)
