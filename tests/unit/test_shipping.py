"""A class runs in a process that cannot import it, or is refused with the reason."""

# Tools without annotations are what some of these tests are about.
# ruff: noqa: ANN001, ANN003, ANN201, ANN202

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aiecs_ray import definition, installed, shipping
from aiecs_ray.binding import Binder
from aiecs_ray.errors import InvalidToolError
from aiecs_ray.shipping import load, pickled_by_value, ship

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

ROOT = str(Path(shipping.__file__).parent.parent)
LOCK = threading.Lock()
ROWS = b"x" * (2 * 2**20)
NUMBERS = (1, 2, 3)


@dataclass
class Point:
    x: int = 0


class PointTool:
    def make(self, x: int) -> Point:
        return Point(x)

    def count(self, point: Point) -> int:
        return point.x


class NamesPointInHintsOnly:
    def count(self, point: Point) -> int:
        return point.x


class Locked:
    def run(self):
        with LOCK:
            return 1


class Heavy:
    def run(self):
        return len(ROWS) + sum(NUMBERS)


class Importing:
    def run(self):
        import late_helper  # noqa: PLC0415

        return late_helper.VALUE


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder on this process's path alone, as a script's folder is; returns what writes and imports modules."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name, **sources):
        for path, source in sources.items():
            file = tmp_path / (path.replace("__", "/") + ".py")
            file.parent.mkdir(exist_ok=True)
            file.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def run(tmp_path):
    """Run code in another Python process, which knows aiecs_ray and nothing of this test."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    def run(code, stdin=b""):
        env = {**os.environ, "PYTHONPATH": ROOT}
        prelude = "import sys; from aiecs_ray.shipping import load, ship\nread = sys.stdin.buffer.read\n"
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", prelude + textwrap.dedent(code)],
            input=stdin,
            capture_output=True,
            cwd=folder,
            env=env,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    return run


def test_installed_class_goes_by_import_path() -> None:
    source = ship(json.JSONDecoder)

    assert source == "json.decoder:JSONDecoder"
    assert load(source) is json.JSONDecoder


def test_class_of_aiecs_ray_itself_goes_by_import_path() -> None:
    assert ship(Binder) == "aiecs_ray.binding:Binder"


def test_nested_class_of_an_installed_module_goes_by_import_path() -> None:
    assert load(ship(logging.Formatter)) is logging.Formatter


def test_class_inside_a_function_goes_by_value() -> None:
    class Local:
        def run(self):
            return 42

    loaded = load(ship(Local))

    assert loaded().run() == 42


def test_class_that_its_module_no_longer_holds_goes_by_value(project: Callable[..., ModuleType]) -> None:
    module = project("shapes", shapes="class Tool:\n    def run(self): return 1\n")
    old = module.Tool
    module.Tool = None

    assert isinstance(ship(old, runtime_env={"working_dir": str(Path(module.__file__).parent)}), bytes)


def test_class_of_a_script_folder_runs_elsewhere_with_its_helper_modules(
    project: Callable[..., ModuleType], run: Callable[..., str]
) -> None:
    module = project(
        "area",
        area="""
        import shapes
        from units import factor

        class AreaTool:
            def area(self, side): return shapes.square(side) * factor()
        """,
        shapes="def square(x): return x * x\n",
        units="FACTOR = 10\ndef factor(): return FACTOR\n",
    )

    source = ship(module.AreaTool)

    assert isinstance(source, bytes)
    assert run("print(load(read())().area(3))", source).strip() == "90"


def test_submodule_of_a_package_in_a_script_folder_runs_elsewhere(
    project: Callable[..., ModuleType], run: Callable[..., str]
) -> None:
    project("kit", kit__parts="def one(): return 1\n")
    module = project(
        "kit.tool",
        kit__tool="from . import parts\nclass KitTool:\n    def run(self): return parts.one() + 1\n",
    )

    assert run("print(load(read())().run())", ship(module.KitTool)).strip() == "2"


def test_working_dir_that_holds_the_module_makes_it_go_by_import_path(
    project: Callable[..., ModuleType], tmp_path: Path
) -> None:
    module = project("area", area="class AreaTool:\n    def run(self): return 1\n")

    assert ship(module.AreaTool, runtime_env={"working_dir": str(tmp_path)}) == "area:AreaTool"


def test_working_dir_that_lacks_the_module_does_not(project: Callable[..., ModuleType], tmp_path: Path) -> None:
    module = project("area", area="class AreaTool:\n    def run(self): return 1\n")
    other = tmp_path / "other"
    other.mkdir()

    assert isinstance(ship(module.AreaTool, runtime_env={"working_dir": str(other)}), bytes)


@pytest.mark.parametrize("where", ["working_dir", "py_modules"])
def test_remote_runtime_env_is_believed(project: Callable[..., ModuleType], where: str) -> None:
    module = project("area", area="class AreaTool:\n    def run(self): return 1\n")
    uri = "s3://bucket/code.zip"

    assert ship(module.AreaTool, runtime_env={where: uri if where == "working_dir" else [uri]}) == "area:AreaTool"


def test_py_modules_are_matched_by_name(project: Callable[..., ModuleType], tmp_path: Path) -> None:
    module = project("kit.tool", kit__tool="class KitTool:\n    def run(self): return 1\n")

    assert ship(module.KitTool, runtime_env={"py_modules": [str(tmp_path / "kit")]}) == "kit.tool:KitTool"
    assert isinstance(ship(module.KitTool, runtime_env={"py_modules": [str(tmp_path / "kit2")]}), bytes)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One more site directory of this environment."""
    site = tmp_path / "site"
    site.mkdir()
    directories = (*installed._site_directories(), str(site))
    monkeypatch.setattr(installed, "_site_directories", lambda: directories)
    caches = (installed._linked_directories, installed._is_installed)
    for cached in caches:
        cached.cache_clear()
    yield site
    for cached in caches:
        cached.cache_clear()


def test_installed_means_inside_the_environment(
    project: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch, environment: Path
) -> None:
    beside = project("area", area="class AreaTool:\n    def run(self): return 1\n")
    (environment / "inside.py").write_text("class InsideTool:\n    def run(self): return 1\n")
    monkeypatch.syspath_prepend(environment)
    inside = importlib.import_module("inside")

    assert isinstance(ship(beside.AreaTool), bytes)
    assert ship(inside.InsideTool) == "inside:InsideTool"


def test_pth_file_of_the_environment_makes_a_module_importable(
    project: Callable[..., ModuleType], tmp_path: Path, environment: Path
) -> None:
    module = project("area", area="class AreaTool:\n    def run(self): return 1\n")
    (environment / "editable.pth").write_text(f"import os\n# a comment\n{tmp_path}\n")

    assert ship(module.AreaTool) == "area:AreaTool"


@pytest.mark.usefixtures("environment")
def test_editable_finder_of_the_environment_makes_a_module_importable(
    project: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = project("area", area="class AreaTool:\n    def run(self): return 1\n")
    finder = type(sys)("__editable___area_finder")
    finder.MAPPING = {"area": module.__file__}
    monkeypatch.setitem(sys.modules, finder.__name__, finder)

    assert ship(module.AreaTool) == "area:AreaTool"


def test_lock_is_named_and_so_is_the_way_out() -> None:
    with pytest.raises(InvalidToolError) as caught:
        ship(Locked)

    text = str(caught.value)
    assert "global 'LOCK'" in text
    assert "used by Locked.run" in text
    assert "value of type lock" in text
    assert "make it in the constructor" in text


def test_lock_in_a_closure_is_named() -> None:
    guard = threading.Lock()

    class Closed:
        def run(self):
            return guard.locked()

    with pytest.raises(InvalidToolError, match=r"variable 'guard' \(used by .*Closed.run\) is a value of type lock"):
        ship(Closed)


def test_lock_of_a_class_attribute_is_named() -> None:
    class Attributed:
        lock = threading.Lock()

        def run(self):
            return 1

    with pytest.raises(InvalidToolError, match=r"attribute 'lock' of .*Attributed"):
        ship(Attributed)


def test_lock_behind_a_helper_module_is_named(project: Callable[..., ModuleType]) -> None:
    module = project(
        "tool",
        tool="import helper\nclass Tool:\n    def run(self): return helper.work()\n",
        helper="import threading\nGUARD = threading.Lock()\ndef work(): return GUARD.locked()\n",
    )

    with pytest.raises(InvalidToolError, match=r"global 'GUARD' of helper"):
        ship(module.Tool)


def test_open_file_is_refused_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("content")
    with path.open() as file:

        class Reading:
            def run(self):
                return file.read()

        with pytest.raises(InvalidToolError, match=r"variable 'file' .* TextIOWrapper.* open file"):
            ship(Reading)


def test_import_inside_a_method_of_what_only_this_process_finds_is_refused(project: Callable[..., ModuleType]) -> None:
    project("other", other="", late_helper="VALUE = 1\n")

    with pytest.raises(
        InvalidToolError, match=r"Importing.run imports late_helper.*top of the module, or pass runtime"
    ):
        ship(Importing)


def test_relative_import_inside_a_method_is_refused(project: Callable[..., ModuleType]) -> None:
    module = project(
        "kit.tool",
        kit__parts="ONE = 1\n",
        kit__tool="""
        class KitTool:
            def run(self):
                from . import parts
                return parts.ONE
        """,
    )

    with pytest.raises(InvalidToolError, match=r"imports kit"):
        ship(module.KitTool)


def test_import_inside_a_method_of_an_installed_or_missing_module_is_fine() -> None:
    class Lazy:
        def run(self):
            import decimal  # noqa: PLC0415

            import not_there_at_all  # noqa: PLC0415

            return decimal, not_there_at_all

    assert isinstance(ship(Lazy), bytes)


def test_class_over_a_mebibyte_warns_of_its_largest_global(caplog: pytest.LogCaptureFixture) -> None:
    ship(Heavy)

    (record,) = caplog.records
    assert "Heavy" in record.getMessage()
    assert "global 'ROWS'" in record.getMessage()
    assert "2.0 MiB" in record.getMessage()


def test_class_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "MOST_BYTES", 2**20)

    with pytest.raises(InvalidToolError, match=r"most of it global 'ROWS'.*at most 1 MiB"):
        ship(Heavy)


def test_compiled_module_of_a_script_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "_aiecs_ray_compiled"
    compiled = tmp_path / f"{name}{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    module = type(sys)(name)
    module.__file__ = str(compiled)
    module.work = len
    monkeypatch.setitem(sys.modules, name, module)

    class Compiled:
        def run(self):
            return module.work("abc")

    with pytest.raises(InvalidToolError, match=rf"the compiled module {name} can only be imported.*working_dir"):
        ship(Compiled)


def test_text_annotations_still_coerce_where_the_class_is_loaded(run: Callable[..., str]) -> None:
    source = ship(NamesPointInHintsOnly)

    code = """
    from aiecs_ray.binding import Binder
    cls = load(read())
    print(Binder(cls).bind("count", {"point": {"x": "7"}})["point"].x)
    """
    assert run(code, source).strip() == "7"


def test_modules_are_registered_by_value_only_inside_the_block(project: Callable[..., ModuleType]) -> None:
    module = project("area", area="class AreaTool: pass\n")
    import cloudpickle  # noqa: PLC0415

    with pickled_by_value():
        inside = cloudpickle.list_registry_pickle_by_value()
    after = cloudpickle.list_registry_pickle_by_value()

    assert module.__name__ in inside
    assert "aiecs_ray" not in {name.partition(".")[0] for name in inside}
    assert not after


def test_loading_an_unknown_module_says_which() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        load("no_such_module:Tool")


SCRIPT = """
import subprocess, sys, pickle, io
from dataclasses import dataclass
from enum import Enum

from aiecs_ray.dynamic import Pickler
from aiecs_ray.shipping import load, ship

FACTOR = 1


class Colour(Enum):
    RED = 1


@dataclass
class Point:
    x: int

    def scaled(self):
        return FACTOR * self.x


class PointTool:
    def make(self, x: int):
        return Point(x), Colour.RED


REPLICA = '''
import io, sys
from aiecs_ray.dynamic import Pickler
from aiecs_ray.shipping import load
result = load(sys.stdin.buffer.read())().make(5)
file = io.BytesIO()
Pickler(file, protocol=5).dump(result)
sys.stdout.buffer.write(file.getvalue())
'''


def replica(source):
    return subprocess.run([sys.executable, "-c", REPLICA], input=source, stdout=subprocess.PIPE, check=True).stdout


def answer(what, ok):
    print(what, "yes" if ok else "NO")


source = ship(PointTool)
payload = replica(source)
scaled = Point.scaled
point, colour = pickle.loads(payload)
answer("isinstance", isinstance(point, Point))
answer("equal", point == Point(5))
answer("enum", colour is Colour.RED)
FACTOR = 10
answer("class untouched", Point.scaled is scaled and point.scaled() == 50)

CELL = "@dataclass\\nclass Point:\\n    x: int\\n\\n    def scaled(self):\\n        return FACTOR * self.x\\n"
exec(CELL)
point, _ = pickle.loads(payload)
answer("same cell again", isinstance(point, Point))
exec(CELL.replace("FACTOR", "2 * FACTOR"))
point, _ = pickle.loads(payload)
answer("another class since", not isinstance(point, Point))
"""


def test_instances_of_classes_of_a_script_come_home_as_such(tmp_path: Path, run: Callable[..., str]) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    answers = run(f"import runpy, sys; sys.argv = [{str(script)!r}]; exec(open({str(script)!r}).read())")

    assert answers.splitlines() == [
        "isinstance yes",
        "equal yes",
        "enum yes",
        "class untouched yes",
        "same cell again yes",
        "another class since yes",
    ]


def test_class_that_is_redefined_unchanged_has_the_same_digest() -> None:
    from aiecs_ray.dynamic import digest  # noqa: PLC0415

    def define(step):
        class Counter:
            limit: int = 3

            def count(self, n: int = 1) -> int:
                return n + step + 1

        return Counter

    assert digest(define(1)) == digest(define(2))


@pytest.mark.parametrize("change", ["x - 1", "x + 2", "y + 1"])
def test_class_whose_code_changed_has_another_digest(change: str) -> None:
    from aiecs_ray.dynamic import digest  # noqa: PLC0415

    def define(body):
        space = {"__name__": "cell", "y": 0}
        exec(f"class C:\n    def f(self, x):\n        return {body}\n", space)  # noqa: S102
        return space["C"]

    assert digest(define("x + 1")) != digest(define(change))
    assert digest(define("x + 1")) == digest(define("x + 1"))


def test_definition_of_a_loaded_class_is_that_of_the_shipped_one() -> None:
    loaded = load(ship(PointTool))

    assert list(definition.describe(loaded).operations) == ["make", "count"]
