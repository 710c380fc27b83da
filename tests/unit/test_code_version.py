from __future__ import annotations

import importlib
import itertools
import linecache
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.code_version import code_version

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterator

TOOL = """
import functools
import math
from dataclasses import dataclass
from math import floor as rounded
from statistics import mean as middle

LIMIT = 10
TABLE = {"a": 1}
SCALE = LIMIT * 2


def helper(x):
    return inner(x) + 1


def inner(x):
    return x * LIMIT


def unused(x):
    return x


@functools.lru_cache(maxsize=8)
def cached(x):
    return x


def marked(value):
    return lambda function: function


@dataclass
class Settings:
    size: int = 3


class Base:
    def shared(self):
        return 1


class Tool(Base):
    "What the tool does."

    settings = Settings()

    @marked(value=1)
    def run(self, x, factor=2):
        "What run does."
        # a comment
        return helper(x) * factor + TABLE["a"] + cached(x) + rounded(math.pi) + middle([x])

    @property
    def size(self):
        return SCALE
"""

EDITS = {
    "the body": ("* factor", "+ factor"),
    "a default": ("factor=2", "factor=3"),
    "an argument of a decorator": ("marked(value=1)", "marked(value=2)"),
    "the decorator itself": ("lambda function: function", "lambda function: None"),
    "a helper function": ("inner(x) + 1", "inner(x) + 2"),
    "a helper of a helper": ("x * LIMIT", "x / LIMIT"),
    "a wrapped helper": ("def cached(x):\n    return x", "def cached(x):\n    return -x"),
    "a constant": ("LIMIT = 10", "LIMIT = 11"),
    "a constant that can change in place": ('{"a": 1}', '{"a": 2}'),
    "a constant made from another": ("LIMIT * 2", "LIMIT * 3"),
    "a base class": ("return 1", "return 2"),
    "a class that it uses": ("size: int = 3", "size: int = 4"),
    "what a name stands for": ("import math", "import cmath as math"),
    "an imported function": ("import mean as", "import median as"),
    "an imported function without source": ("import floor as", "import ceil as"),
    "an annotation": ("def run(self, x,", "def run(self, x: int,"),
    "a change of a constant in place": ("SCALE =", 'TABLE["b"] = 2\nSCALE ='),
}

NEEDS_SOURCE = {"an argument of a decorator", "the decorator itself", "an annotation"}
"""Compiled functions do not tell what was around them."""

HARMLESS = {
    "a comment": ("# a comment", "# another comment"),
    "the docstring of the class": ("What the tool does.", "Something else."),
    "the docstring of an operation": ("What run does.", "Something else."),
    "empty lines": ("class Tool", "\n\n\nclass Tool"),
    "formatting": ("helper(x) * factor +", "(helper( x )  *  factor) +"),
    "a function that it does not use": ("def unused(x):\n    return x", "def unused(x):\n    return 2"),
    "one line more above": ("import functools", "# one line more\nimport functools"),
}


@pytest.fixture
def cell() -> Iterator[Callable[..., dict[str, Any]]]:
    """Run source as a cell of a notebook: in a namespace that outlives it, with the source known to linecache."""
    numbers = itertools.count()
    names = []

    def run(source: str, namespace: dict[str, Any] | None = None, *, keep_source: bool = True) -> dict[str, Any]:
        name = f"<cell {next(numbers)}>"
        source = textwrap.dedent(source)
        if keep_source:
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            names.append(name)
        namespace = {"__name__": "notebook"} if namespace is None else namespace
        exec(compile(source, name, "exec", dont_inherit=True), namespace)  # noqa: S102
        return namespace

    yield run
    for name in names:
        linecache.cache.pop(name, None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def load(folder: Path, name: str, source: str) -> types.ModuleType:
    (folder / f"{name}.py").write_text(textwrap.dedent(source))
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module(name)


@pytest.mark.parametrize("keep_source", [True, False])
def test_a_cell_run_again_keeps_its_version(cell: Callable[..., dict[str, Any]], *, keep_source: bool) -> None:
    first = cell(TOOL, keep_source=keep_source)["Tool"]

    second = cell(TOOL, keep_source=keep_source)["Tool"]

    assert first is not second
    assert code_version(first) == code_version(second)


def test_a_version_is_sixteen_hexadecimal_digits(cell: Callable[..., dict[str, Any]]) -> None:
    version = code_version(cell(TOOL)["Tool"])

    assert len(version) == 16
    assert int(version, 16) >= 0


@pytest.mark.parametrize("what", EDITS)
def test_a_changed_source_makes_another_version(cell: Callable[..., dict[str, Any]], what: str) -> None:
    old, new = EDITS[what]
    assert TOOL.count(old) >= 1

    versions = [code_version(cell(source)["Tool"]) for source in (TOOL, TOOL.replace(old, new, 1))]

    assert versions[0] != versions[1]


@pytest.mark.parametrize("what", HARMLESS)
def test_what_does_not_change_the_code_keeps_the_version(cell: Callable[..., dict[str, Any]], what: str) -> None:
    old, new = HARMLESS[what]
    assert TOOL.count(old) == 1

    versions = [code_version(cell(source)["Tool"]) for source in (TOOL, TOOL.replace(old, new, 1))]

    assert versions[0] == versions[1]


@pytest.mark.parametrize("what", [what for what in EDITS if what not in NEEDS_SOURCE])
def test_without_source_the_compiled_code_decides(cell: Callable[..., dict[str, Any]], what: str) -> None:
    old, new = EDITS[what]

    versions = [code_version(cell(s, keep_source=False)["Tool"]) for s in (TOOL, TOOL.replace(old, new, 1))]

    assert versions[0] != versions[1]


@pytest.mark.parametrize("what", HARMLESS)
def test_without_source_harmless_edits_keep_the_version(cell: Callable[..., dict[str, Any]], what: str) -> None:
    old, new = HARMLESS[what]

    versions = [code_version(cell(s, keep_source=False)["Tool"]) for s in (TOOL, TOOL.replace(old, new, 1))]

    assert versions[0] == versions[1]


def test_a_helper_in_another_cell_counts(cell: Callable[..., dict[str, Any]]) -> None:
    notebook = cell("def helper(x):\n    return 1\n")
    cell("class Tool:\n    def run(self, x):\n        return helper(x)\n", notebook)
    before = code_version(notebook["Tool"])

    cell("def helper(x):\n    return 2\n", notebook)

    assert code_version(notebook["Tool"]) != before


def test_a_constant_in_another_cell_counts(cell: Callable[..., dict[str, Any]]) -> None:
    notebook = cell("TABLE = {'a': 1}\n")
    cell("class Tool:\n    def run(self, x):\n        return TABLE[x]\n", notebook)
    before = code_version(notebook["Tool"])

    cell("TABLE = {'a': 2}\n", notebook)

    assert code_version(notebook["Tool"]) != before


def test_a_constant_counts_by_its_value(cell: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
        import os

        LIMIT = int(os.environ["TOOL_LIMIT"])

        class Tool:
            def run(self, x):
                return x + LIMIT
        """

    versions = []
    for limit in ("1", "2", "1"):
        monkeypatch.setenv("TOOL_LIMIT", limit)
        versions.append(code_version(cell(source)["Tool"]))

    assert versions[0] == versions[2] != versions[1]


def test_a_cache_that_fills_at_run_time_does_not_count(cell: Callable[..., dict[str, Any]]) -> None:
    source = """
        SEEN = {}

        class Tool:
            def run(self, x):
                SEEN[x] = x
        """
    notebook = cell(source)
    before = code_version(notebook["Tool"])

    notebook["Tool"]().run(1)

    assert notebook["SEEN"] == {1: 1}
    assert code_version(notebook["Tool"]) == before


def test_the_values_that_a_local_class_closes_over_count() -> None:
    def make(factor: int, default: int, size: int) -> type:
        class Tool:
            limit = size

            def scale(self, x: int = default) -> int:
                return x * factor

        return Tool

    versions = {code_version(make(*values)) for values in [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)]}

    assert len(versions) == 4
    assert code_version(make(1, 1, 1)) in versions


def test_classes_of_different_names_have_different_versions(cell: Callable[..., dict[str, Any]]) -> None:
    notebook = cell(
        "class A:\n    def run(self):\n        return B\n\nclass B:\n    def run(self):\n        return A\n"
    )

    assert code_version(notebook["A"]) != code_version(notebook["B"])


def test_a_method_given_to_a_class_later_counts(cell: Callable[..., dict[str, Any]]) -> None:
    source = """
        class Tool:
            def run(self):
                return 1

        def extra(self):
            return 2

        Tool.extra = extra
        """

    versions = {code_version(cell(text)["Tool"]) for text in (textwrap.dedent(source), source.replace("2", "3"))}

    assert len(versions) == 2


def test_modules_of_the_users_own_are_followed(folder: Path) -> None:
    tool = """
        import helpers
        from helpers import double

        class Tool:
            def run(self, x):
                return double(x) + helpers.add(x)
        """
    helpers = """
        def double(x):
            return 2 * x

        def add(x):
            return x + STEP

        STEP = 1

        def other():
            return 1
        """
    load(folder, "helpers", helpers)
    first = code_version(load(folder, "users_tool", tool).Tool)

    versions = []
    for old, new in [
        ("2 * x", "3 * x"),
        ("x + STEP", "x - STEP"),
        ("STEP = 1", "STEP = 20"),
        ("return 1", "return 20"),
    ]:
        load(folder, "helpers", helpers.replace(old, new))
        versions.append(code_version(load(folder, "users_tool", tool).Tool))

    assert [version == first for version in versions] == [False, False, False, True]


def test_a_constant_of_another_module_counts_by_the_statements_that_make_it(folder: Path) -> None:
    tool = "from clients import CLIENT as client\n\nclass Tool:\n    def run(self, x):\n        return client.get(x)\n"
    clients = "class Client:\n    def __init__(self, url):\n        self.url = url\n\nCLIENT = Client('a')\n"

    versions = []
    for text in (clients, clients.replace("'a'", "'bb'"), clients.replace("= url", "= [url]"), clients):
        load(folder, "clients", text)
        versions.append(code_version(load(folder, "users_tool", tool).Tool))

    assert len(set(versions)) == 3
    assert versions[0] == versions[3]


def test_installed_packages_are_not_followed(folder: Path) -> None:
    installed = folder / "site-packages"
    installed.mkdir()
    sys.path.insert(0, str(installed))
    tool = "import library\n\nclass Tool(library.Base):\n    def run(self, x):\n        return library.f(x)\n"
    library = "class Base:\n    pass\n\ndef f(x):\n    return 1\n"
    try:
        load(installed, "library", library)
        first = code_version(load(folder, "users_tool", tool).Tool)

        load(installed, "library", library.replace("return 1", "return 200"))
        second = code_version(load(folder, "users_tool", tool).Tool)
    finally:
        sys.path.remove(str(installed))

    assert first == second


def test_a_file_edited_after_its_import_does_not_speak_for_the_loaded_class(folder: Path) -> None:
    old, new = (f"class Tool:\n    def run(self):\n        return {text}\n" for text in ("'old'", "'much newer'"))
    loaded = load(folder, "users_tool", old).Tool
    before = code_version(loaded)

    (folder / "users_tool.py").write_text(new)
    stale = code_version(loaded)
    reloaded = code_version(load(folder, "users_tool", new).Tool)

    assert len({before, reloaded, stale}) == 3
    assert code_version(load(folder, "users_tool", old).Tool) == before


def test_a_class_without_methods_follows_its_file(folder: Path) -> None:
    versions = [code_version(load(folder, "users_tool", f"class Tool:\n    limit = {n}\n").Tool) for n in (1, 22, 1)]

    assert versions[0] == versions[2] != versions[1]


def test_the_version_is_the_same_in_every_process(folder: Path) -> None:
    (folder / "users_tool.py").write_text(
        TOOL + '\n\nclass Other(Tool):\n    def run(self, x):\n        return x in {"a", "b"}\n'
    )
    program = (
        "import users_tool, linecache; from aiecs_ray.code_version import code_version; "
        "print(code_version(users_tool.Tool), code_version(users_tool.Other)); "
        "ns = {'__name__': 'n'}; exec(open(users_tool.__file__).read(), ns); "
        "print(code_version(ns['Tool']), code_version(ns['Other']))"
    )

    outputs = {
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(folder), str(Path.cwd())])},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }

    assert len(outputs) == 1
    assert len(set(outputs.pop().split())) == 4
