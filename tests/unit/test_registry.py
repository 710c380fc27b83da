"""Tools are found by name, wherever they come from."""

# Tools without annotations are what some of these tests are about.
# ruff: noqa: ANN001, ANN003, ANN201, ANN202

from __future__ import annotations

import importlib
import json
import pickle
import sys
import textwrap
import threading
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest

from aiecs_ray import registry as registry_module
from aiecs_ray.errors import (
    InvalidSpecError,
    InvalidToolError,
    OperationForbiddenError,
    OperationNotFoundError,
    ToolConflictError,
    ToolImportError,
    ToolNotFoundError,
)
from aiecs_ray.registry import DEFAULT, ENTRY_POINTS, Registry

if TYPE_CHECKING:
    from collections.abc import Callable


class PandasTool:
    """Tables."""

    def read_csv(self, file_path: str, delimiter: str = ",") -> list:
        """Read a file."""

    async def write_csv(self, df, file_path): ...


class OtherTool:
    def run(self): ...


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that can be imported by its name."""
    monkeypatch.syspath_prepend(tmp_path)
    names, before = [], set(DEFAULT.names())

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)
    for name in set(DEFAULT.names()) - before:
        DEFAULT.unregister(name)


@pytest.fixture
def announce(monkeypatch):
    """Pretend that installed packages announce these entry points; returns how often they were asked for."""
    asked = []

    def announce(**points):
        def entry_points(*, group):
            asked.append(group)
            return tuple(EntryPoint(name, value, group) for name, value in points.items())

        monkeypatch.setattr(registry_module, "entry_points", entry_points)
        return asked

    return announce


def test_registered_tool_is_found_by_name(registry: Registry) -> None:
    definition = registry.register(PandasTool)

    assert registry.get("pandas_tool") is definition
    assert registry.has("pandas_tool")
    assert registry.names() == ("pandas_tool",)


def test_name_and_options_may_be_given(registry: Registry) -> None:
    registry.register(PandasTool, "tables", num_cpus=2)

    assert registry.get("tables").options.num_cpus == 2.0
    assert not registry.has("pandas_tool")


def test_unregistered_tool_is_gone(registry: Registry) -> None:
    definition = registry.register(PandasTool)

    assert registry.unregister("pandas_tool") is definition
    assert not registry.has("pandas_tool")
    with pytest.raises(ToolNotFoundError):
        registry.unregister("pandas_tool")


def test_unknown_tool_names_the_nearest(registry: Registry) -> None:
    registry.register(PandasTool)

    with pytest.raises(ToolNotFoundError) as caught:
        registry.get("panda_tool")

    assert str(caught.value) == "Tool 'panda_tool' is not registered (did you mean 'pandas_tool'?)"
    assert isinstance(caught.value, AttributeError)
    assert isinstance(caught.value, ValueError)


def test_names_are_case_sensitive_with_a_hint(registry: Registry) -> None:
    registry.register(PandasTool)

    with pytest.raises(ToolNotFoundError, match="did you mean 'pandas_tool'"):
        registry.get("Pandas_tool")


def test_operation_is_found_by_its_spec(registry: Registry) -> None:
    definition = registry.register(PandasTool)

    found = registry.find_operation("pandas_tool.read_csv")

    assert found == (definition, definition.operations["read_csv"])


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("invalid_format", InvalidSpecError, "expected 'tool_name.operation_name'"),
        ("pandas_tool.read_csv.extra", InvalidSpecError, "expected 'tool_name.operation_name'"),
        ("pandas_tool._private", OperationForbiddenError, "private member"),
        ("pandas_tool.__init__", OperationForbiddenError, "private member"),
        ("nonexistent_tool.read", ToolNotFoundError, "Tool 'nonexistent_tool' is not registered"),
        (
            "pandas_tool.read_cvs",
            OperationNotFoundError,
            r"Operation 'read_cvs' not found in tool 'pandas_tool' \(did you mean 'read_csv'",
        ),
        ("pandas_tool.options", OperationNotFoundError, "Operation 'options' not found in tool 'pandas_tool'"),
    ],
)
def test_what_is_no_operation_says_why(registry: Registry, spec: str, error: type[Exception], message: str) -> None:
    registry.register(PandasTool)

    with pytest.raises(error, match=message):
        registry.find_operation(spec)


def test_two_classes_of_one_name_are_a_conflict(registry: Registry) -> None:
    registry.register(PandasTool, "tool")

    with pytest.raises(ToolConflictError, match=r"PandasTool is registered, .*OtherTool is another class"):
        registry.register(OtherTool, "tool")

    assert registry.get("tool").cls is PandasTool


def test_replace_allows_another_class(registry: Registry) -> None:
    registry.register(PandasTool, "tool")
    registry.register(OtherTool, "tool", replace=True)

    assert registry.get("tool").cls is OtherTool


def define(body="return 1"):
    space = {"__name__": "__main__"}
    exec(f"class CellTool:\n    def run(self):\n        {body}\n", space)  # noqa: S102
    return space["CellTool"]


def test_cell_that_ran_again_replaces_its_class(registry: Registry) -> None:
    first, second = define(), define("return 2")

    registry.register(first)
    registry.register(second)

    assert registry.get("cell_tool").cls is second


def test_same_code_has_the_same_version(registry: Registry) -> None:
    assert registry.register(define()).version == registry.register(define()).version
    assert registry.register(define()).version != registry.register(define("return 2")).version


def test_script_and_its_module_are_one_class(
    registry: Registry, module: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module("script_tool", "class Tool:\n    def run(self): ...\n")
    imported = importlib.import_module(name).Tool
    script = type("Tool", (), {"run": imported.run, "__module__": "__main__", "__qualname__": "Tool"})
    monkeypatch.setattr(sys.modules["__main__"], "__file__", sys.modules[name].__file__, raising=False)

    registry.register(script, "tool")
    registry.register(imported, "tool")

    assert registry.get("tool").cls is imported


def test_list_tools_is_plain_data(registry: Registry) -> None:
    registry.register(OtherTool)
    registry.register(PandasTool)

    listed = json.loads(json.dumps(registry.list_tools()))

    assert [tool["name"] for tool in listed] == ["other_tool", "pandas_tool"]
    assert listed[1]["doc"] == "Tables."
    read, write = listed[1]["operations"]
    assert read == {
        "name": "read_csv",
        "doc": "Read a file.",
        "async": False,
        "parameters": [
            {"name": "file_path", "type": "str", "schema": {"type": "string"}, "required": True, "default": None},
            {
                "name": "delimiter",
                "type": "str",
                "schema": {"type": "string", "default": ","},
                "required": False,
                "default": ",",
            },
        ],
    }
    assert write["async"]


DECORATED = """
from aiecs_ray.tool import tool

@tool("found_one")
class One:
    def run(self): ...

@tool("found_two")
class Two:
    def run(self): ...

class Plain:
    def run(self): ...

    class Inner:
        def run(self): ...
"""


def test_discovering_a_module_registers_its_decorated_classes(
    registry: Registry, module: Callable[[str, str], str]
) -> None:
    name = module("found_tools", DECORATED)

    definitions = registry.discover(name)

    assert [definition.name for definition in definitions] == ["found_one", "found_two"]
    assert registry.names() == ("found_one", "found_two")
    assert DEFAULT.has("found_one")


def test_discovering_a_class_registers_that_one(registry: Registry, module: Callable[[str, str], str]) -> None:
    name = module("found_tools", DECORATED)

    registry.discover(f"{name}:Plain")
    registry.discover(f"{name}:Plain.Inner")

    assert registry.names() == ("inner", "plain")


def test_discovering_again_keeps_what_was_registered_with_options(
    registry: Registry, module: Callable[[str, str], str]
) -> None:
    name = module("found_tools", DECORATED)
    cls = importlib.import_module(name).One
    registry.register(cls, num_cpus=7)

    registry.discover(name)

    assert registry.get("found_one").options.num_cpus == 7.0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("found_tools:Missing", "has no class Missing"),
        ("found_tools:One.run", "neither a class nor a module"),
        ("json", "no class decorated with @tool; name one: 'json:ClassName'"),
        ("../x", "is no import path"),
        ("", "is no import path"),
    ],
)
def test_what_cannot_be_discovered_says_why(
    registry: Registry, module: Callable[[str, str], str], target: str, message: str
) -> None:
    module("found_tools", DECORATED)

    with pytest.raises(InvalidToolError, match=message):
        registry.discover(target)


def test_module_that_cannot_be_imported_raises_its_own_error(registry: Registry) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        registry.discover("no_such_module")


def test_entry_points_are_imported_once_when_a_name_is_unknown(
    module: Callable[[str, str], str], announce: Callable[..., list[str]]
) -> None:
    name = module("found_tools", DECORATED)
    asked = announce(anything=name, plain_one=f"{name}:Plain")
    registry = Registry(entry_points=ENTRY_POINTS)
    registry.register(PandasTool)

    registry.get("pandas_tool")
    assert asked == []
    assert registry.get("found_one").name == "found_one"
    assert registry.get("plain_one").cls.__name__ == "Plain"
    assert not registry.has("nothing")
    assert asked == ["aiecs_ray.tools"]


def test_listing_knows_announced_tools(module: Callable[[str, str], str], announce: Callable[..., list[str]]) -> None:
    announce(anything=module("found_tools", DECORATED))

    assert Registry(entry_points=ENTRY_POINTS).names() == ("found_one", "found_two")
    assert len(Registry(entry_points=ENTRY_POINTS).list_tools()) == 2


def test_broken_entry_point_is_reported_when_its_tool_is_asked_for(
    module: Callable[[str, str], str], announce: Callable[..., list[str]]
) -> None:
    announce(research=module("broken_tools", "import spacy_is_not_here\n"), other=f"{__name__}:missing")
    registry = Registry(entry_points=ENTRY_POINTS)

    with pytest.raises(ToolImportError) as caught:
        registry.find_operation("research.mill_agreement")

    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert "No module named 'spacy_is_not_here'" in str(caught.value)
    assert "broken_tools" in str(caught.value)
    assert isinstance(caught.value, ToolNotFoundError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_broken_entry_point_is_logged_when_tools_are_listed(
    module: Callable[[str, str], str], announce: Callable[..., list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    announce(research=module("broken_tools", "1 / 0\n"))

    Registry(entry_points=ENTRY_POINTS).list_tools()

    (record,) = caplog.records
    assert "'research' cannot be imported from broken_tools: ZeroDivisionError" in record.getMessage()


def test_registry_without_a_group_asks_no_package(registry: Registry, announce: Callable[..., list[str]]) -> None:
    asked = announce()

    assert not registry.has("nothing")
    assert registry.names() == ()
    assert asked == []


def test_group_may_be_discovered_by_name(
    registry: Registry, module: Callable[[str, str], str], announce: Callable[..., list[str]]
) -> None:
    asked = announce(x=f"{module('found_tools', DECORATED)}:Two", y="no_such_module")

    assert registry.discover_entry_points("my.tools") == ("y",)
    assert registry.names() == ("found_two",)
    assert asked == ["my.tools"]


def test_registering_from_many_threads_loses_nothing(registry: Registry) -> None:
    def add(start):
        for number in range(start, start + 50):
            registry.register(PandasTool, f"tool{number}")

    threads = [threading.Thread(target=add, args=(start,)) for start in range(0, 200, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(registry.names()) == 200


def test_a_registry_and_its_tools_are_shown_in_a_line(registry: Registry) -> None:
    definition = registry.register(PandasTool)

    assert repr(registry) == "<registry: pandas_tool>"
    assert repr(definition) == "<tool pandas_tool: read_csv, write_csv>"
    assert "pandas_tool" in registry
    assert "other_tool" not in registry
    assert 5 not in registry
