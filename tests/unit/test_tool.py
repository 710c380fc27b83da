"""A class is described by what it declares; wrong declarations are refused by name."""

# Tools without annotations are what some of these tests are about.
# ruff: noqa: ANN001, ANN002, ANN003, ANN201, ANN202, ANN204, ANN205, ANN206

from __future__ import annotations

import abc
import functools
import math
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from aiecs_ray import options as options_module
from aiecs_ray.errors import InvalidToolError, ToolConflictError
from aiecs_ray.messages import RetryOptions
from aiecs_ray.registry import DEFAULT
from aiecs_ray.tool import OperationOptions, ToolOptions, describe, operation, tool


@pytest.fixture(autouse=True)
def forget_tools():
    before = set(DEFAULT.names())
    yield
    for name in set(DEFAULT.names()) - before:
        DEFAULT.unregister(name)


class Plain:
    """Works on tables.

    Slowly.
    """

    limit = 3

    class Nested:
        def inner(self): ...

    @property
    def size(self): ...

    @functools.cached_property
    def width(self): ...

    @classmethod
    def make(cls): ...

    @staticmethod
    def helper(x): ...

    def head(self, path: str, n: int = 5, *, strict: bool = False) -> list[str]:
        """Return the first rows.

        And no others.
        """

    async def tail(self, path, **options): ...

    def _private(self): ...

    def __call__(self): ...


def test_public_methods_of_a_plain_class_are_operations() -> None:
    definition = describe(Plain)

    assert definition.name == "plain"
    assert definition.doc == "Works on tables.\n\nSlowly."
    assert list(definition.operations) == ["head", "tail"]
    assert definition.has_async


def test_operation_is_described_from_its_signature() -> None:
    head = describe(Plain).operations["head"]

    assert head.spec == "plain.head"
    assert [(p.name, p.required, p.annotation, p.default) for p in head.parameters] == [
        ("path", True, "str", None),
        ("n", False, "int", "5"),
        ("strict", False, "bool", "False"),
    ]
    assert head.required == ("path",)
    assert head.summary == "Return the first rows."
    assert head.doc == "Return the first rows.\n\nAnd no others."
    assert not head.is_async
    assert not head.accepts_any
    assert head.options == OperationOptions()


def test_coroutine_functions_and_keyword_collectors_are_seen() -> None:
    tail = describe(Plain).operations["tail"]

    assert tail.is_async
    assert tail.accepts_any
    assert [p.name for p in tail.parameters] == ["path"]


def test_decorated_methods_alone_are_operations_when_there_are_any() -> None:
    class Mixed:
        @operation
        def shown(self): ...

        def hidden(self): ...

    assert list(describe(Mixed).operations) == ["shown"]


def test_class_and_static_methods_are_operations_when_decorated_on_either_side() -> None:
    class Methods:
        @operation
        @classmethod
        def of_class(cls, x): ...

        @staticmethod
        @operation(timeout=3)
        def of_nobody(x, y): ...

    operations = describe(Methods).operations

    assert operations["of_class"].required == ("x",)
    assert operations["of_nobody"].required == ("x", "y")
    assert operations["of_nobody"].receiver is None
    assert operations["of_nobody"].options.timeout == 3.0


def test_inherited_methods_are_operations_and_overrides_keep_their_options() -> None:
    class Base:
        @operation(idempotent=False)
        def send(self, to): ...

        @operation
        def check(self): ...

    class Derived(Base):
        def send(self, to, subject=""): ...

    operations = describe(Derived).operations

    assert set(operations) == {"send", "check"}
    assert operations["send"].options.idempotent is False
    assert operations["send"].owner is Derived
    assert [p.name for p in operations["send"].parameters] == ["to", "subject"]


def test_method_set_to_none_in_a_subclass_is_no_operation() -> None:
    class Derived(Plain):
        tail = None

    assert list(describe(Derived).operations) == ["head"]


def test_wrapped_methods_keep_their_signature_and_options() -> None:
    def logged(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    class Wrapped:
        @logged
        @operation(cache=True)
        def load(self, path): ...

        @operation
        @functools.lru_cache  # noqa: B019
        def parse(self, text): ...

    operations = describe(Wrapped).operations

    assert operations["load"].required == ("path",)
    assert operations["load"].options.cache is True
    assert operations["parse"].required == ("text",)


def test_names_that_sound_like_plumbing_are_allowed() -> None:
    class Odd:
        def call(self): ...

        def ping(self): ...

        def remote(self): ...

        def options(self): ...

    assert list(describe(Odd).operations) == ["call", "ping", "remote", "options"]


class Tenant:
    def mine(self, user_id): ...

    def ours(self, task_id=None): ...


def test_user_id_and_task_id_are_noticed_where_they_are_declared() -> None:
    operations = describe(Tenant).operations

    assert (operations["mine"].takes_user_id, operations["mine"].takes_task_id) == (True, False)
    assert (operations["ours"].takes_user_id, operations["ours"].takes_task_id) == (False, True)


def test_defaults_are_shown_without_running_their_repr() -> None:
    class Evil:
        def __repr__(self):
            raise AssertionError

    class Defaults:
        def run(self, a=Evil(), b=int, c="x" * 500): ...  # noqa: B008

    a, b, c = describe(Defaults).operations["run"].parameters

    assert a.default == "a value of type Evil"
    assert b.default == "int"
    assert len(c.default) < 50


class Positional:
    def run(self, x, /): ...


class Collecting:
    def run(self, *rows): ...


class Selfless:
    def run(): ...  # the mistake under test


class Empty:
    limit = 1


class Shouting:
    def Run(self): ...  # noqa: N802


class Unicode:
    def größe(self): ...  # noqa: PLC2401


class Abstract(abc.ABC):
    @abc.abstractmethod
    def run(self): ...


class PrivateOperation:
    @operation
    def _run(self): ...


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Positional, r"Positional.run: x is positional-only"),
        (Collecting, r"Collecting.run: \*rows cannot be passed by name"),
        (Selfless, r"Selfless.run takes no self"),
        (Empty, r"Empty has no public operations"),
        (Shouting, r"Shouting.Run: an operation's name"),
        (Unicode, r"größe: an operation's name"),
        (Abstract, r"Abstract is abstract \(run\)"),
        (PrivateOperation, r"PrivateOperation._run: a private method cannot be an operation"),
        (Plain(), r"expected a class, got a value of type Plain; pass the class itself"),
        (len, r"expected a class"),
        (dict, r"dict has no public operations"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_by_name(cls: Any, message: str) -> None:
    with pytest.raises(InvalidToolError, match=message):
        describe(cls)


def test_ray_actor_class_is_refused_without_importing_ray() -> None:
    loaded = set(sys.modules)
    made = types.new_class("ActorClass")
    made.__module__ = "ray.actor"

    with pytest.raises(InvalidToolError, match=r"already a Ray actor \(@ray.remote\)"):
        describe(made())
    assert "ray" not in set(sys.modules) - loaded


@pytest.mark.parametrize(
    ("name", "expected"),
    [("PandasTool", "pandas_tool"), ("HTTPClient", "http_client"), ("_Hidden", "hidden"), ("A2BTool", "a2_b_tool")],
)
def test_default_name_is_the_class_name_in_snake_case(name: str, expected: Any) -> None:
    cls = type(name, (Plain,), {})

    assert describe(cls).name == expected


@pytest.mark.parametrize("name", ["", "1st", "a.b", "a b", "t\u043e\u043el", "x" * 65, "../x", "tool\n", 5])
def test_tool_names_follow_the_grammar(name: str) -> None:
    with pytest.raises(InvalidToolError, match="tool name is"):
        describe(Plain, name)


def test_decorated_class_is_unchanged_and_registered() -> None:
    @tool("doubler", num_cpus=2, config={"factor": 2})
    class Doubler:
        def __init__(self, factor):
            self.factor = factor

        def double(self, x):
            return self.factor * x

    definition = DEFAULT.get("doubler")

    assert definition.cls is Doubler
    assert Doubler(2).double(3) == 6
    assert definition.options.num_cpus == 2.0
    assert definition.options.config == {"factor": 2}


def test_tool_works_bare_and_with_options_alone() -> None:
    @tool
    class BareTool:
        def run(self): ...

    @tool(stateful=True)
    class OtherTool:
        def run(self): ...

    assert DEFAULT.get("bare_tool").cls is BareTool
    assert DEFAULT.get("other_tool").options.max_replicas == 1


def test_operation_returns_the_function_itself() -> None:
    def run(self): ...

    assert operation(run) is run
    assert operation(timeout=1)(run) is run


@pytest.mark.parametrize("thing", [property(len), Plain, 5, "run", None])
def test_operation_decorates_methods_only(thing: Any) -> None:
    with pytest.raises(InvalidToolError, match="@operation decorates methods"):
        operation(timeout=1)(thing)


def test_another_class_of_the_same_name_is_a_conflict() -> None:
    @tool("taken")
    class First:
        def run(self): ...

    with pytest.raises(ToolConflictError, match=r"'taken' is taken: .*First is registered, .*Second is another class"):

        @tool("taken")
        class Second:
            def run(self): ...

    assert DEFAULT.get("taken").cls is First


def test_subclass_takes_its_base_options_but_neither_name_nor_version() -> None:
    @tool("base", stateful=True, version="1", num_gpus=1)
    class Base:
        def run(self): ...

    class Derived(Base): ...

    definition = describe(Derived)

    assert definition.name == "derived"
    assert definition.options.stateful
    assert definition.options.num_gpus == 1.0
    assert definition.options.version is None


def test_overrides_replace_decorated_options() -> None:
    @tool("base", num_cpus=1, min_replicas=2)
    class Base:
        def run(self): ...

    definition = describe(Base, "other", num_cpus=4)

    assert definition.name == "other"
    assert (definition.options.num_cpus, definition.options.min_replicas) == (4.0, 2)


def test_concurrency_is_one_for_sync_tools_and_a_hundred_with_async_operations() -> None:
    class Sync:
        def run(self): ...

    assert describe(Sync).options.concurrency == 1
    assert describe(Plain).options.concurrency == 100
    assert describe(Plain, concurrency=7).options.concurrency == 7


def test_version_is_the_authors_or_made_of_the_code() -> None:
    assert describe(Plain, version="2024-1").version == "2024-1"
    assert describe(Plain).version == describe(Plain).version
    assert describe(Plain).version != describe(Tenant).version


@pytest.mark.parametrize("name", ["timeout", "deadline"])
@pytest.mark.parametrize("value", [-1, 0, math.nan, math.inf, "5", 1e300, True])
def test_durations_are_positive_finite_seconds(name: str, value: Any) -> None:
    with pytest.raises(InvalidToolError, match=rf"run: {name} is .*, expected seconds above 0"):

        class Tool:
            @operation(**{name: value})
            def run(self): ...


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "60", 1e18, False])
def test_ttl_is_finite_seconds(value: Any) -> None:
    with pytest.raises(InvalidToolError, match=r"ttl is .*, expected seconds at least 0"):
        OperationOptions(ttl=value)


def test_ttl_may_be_zero() -> None:
    assert OperationOptions(ttl=0).ttl == 0.0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"attempts": 0}, "retry attempts is 0"),
        ({"attempts": 101}, "retry attempts is 101"),
        ({"attempts": 1.5}, "retry attempts is 1.5"),
        ({"attempts": "3"}, "retry attempts is 3"),
        ({"attempts": True}, "retry attempts is True"),
        ({"wait_min": 5, "wait_max": 1}, "wait_min is 5, more than wait_max"),
        ({"wait_max": math.inf}, "retry wait_max is inf"),
        ({"attemps": 3}, "did you mean 'attempts'"),
        ({"on": [5]}, "retry on"),
        ({"on": int}, "retry on"),
        ([3], "retry is"),
    ],
)
def test_retry_options_are_checked(value: Any, message: str) -> None:
    with pytest.raises(InvalidToolError, match=message):
        OperationOptions(retry=value)


def test_retry_takes_exception_classes_and_names() -> None:
    options = OperationOptions(retry={"attempts": 5, "on": (KeyError, "DriverError")})

    assert options.retry == RetryOptions(attempts=5, on=("KeyError", "DriverError"), timeouts=True)
    assert OperationOptions(retry=RetryOptions(attempts=2)).retry.attempts == 2


@pytest.mark.parametrize("options", [{"cache": True}, {"retry": {"attempts": 2}}])
def test_operation_that_is_not_idempotent_is_neither_cached_nor_retried(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidToolError, match="needs idempotent=True"):
        OperationOptions(idempotent=False, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scope": "world"}, "scope is world, expected 'task' or 'user' or 'global'"),
        ({"cache": "yes"}, "cache is yes, expected True or False"),
        ({"idempotent": 1}, "idempotent is 1, expected True or False"),
        ({"writable": "df"}, r"writable is 'df', expected a tuple of names: \('df',\)"),
        ({"ignore": [1]}, "ignore holds 1, expected a name"),
        ({"tags": 3}, "tags is 3, expected a tuple of names"),
        ({"fingerprint": {"path": "size"}}, "fingerprint of path is size, expected 'mtime' or 'content'"),
        ({"fingerprint": ["path"]}, "fingerprint is a value of type list, expected a dict"),
    ],
)
def test_operation_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidToolError, match=message):
        OperationOptions(**options)


@pytest.mark.parametrize("options", [{"writable": ("fd",)}, {"ignore": ("fd",)}, {"fingerprint": {"fd": "mtime"}}])
def test_options_name_parameters_that_exist(options: dict[str, Any]) -> None:
    class Tool:
        @operation(**options)
        def run(self, df): ...

    with pytest.raises(InvalidToolError, match=r"Tool.run: \w+ names 'fd', which is no parameter \(there are df\)"):
        describe(Tool)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_replicas": 0}, "max_replicas is 0"),
        ({"max_replicas": True}, "max_replicas is True"),
        ({"min_replicas": -1}, "min_replicas is -1"),
        ({"min_replicas": None}, "min_replicas is None"),
        ({"min_replicas": 3, "max_replicas": 2}, "min_replicas is 3, more than max_replicas=2"),
        ({"stateful": True, "max_replicas": 2}, "max_replicas is 2, but a stateful tool has one replica"),
        ({"stateful": True, "min_replicas": 2}, "min_replicas is 2, more than max_replicas=1"),
        ({"num_cpus": -1}, "num_cpus is -1"),
        ({"num_cpus": math.nan}, "num_cpus is nan"),
        ({"num_cpus": "a"}, "num_cpus is a"),
        ({"num_gpus": 1.5}, "num_gpus is 1.5, expected a whole number when above 1"),
        ({"memory": 1.5}, "memory is 1.5"),
        ({"memory": 0}, "memory is 0"),
        ({"resources": {"GPU": 1}}, "resources holds 'GPU'"),
        ({"resources": {"tpu": -1}}, r"resources\['tpu'\] is -1"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"concurrency": 10**9}, "concurrency is 1000000000"),
        ({"idle_timeout": 0}, "idle_timeout is 0"),
        ({"init_timeout": None}, "init_timeout is None"),
        ({"runtime_env": "pip"}, "runtime_env is pip"),
        ({"version": ""}, "version is"),
        ({"config": {"a b": 1}}, "config holds 'a b'"),
        ({"config": {"lock": object()}}, r"config\['lock'\] is a value of type object, expected plain values"),
        ({"config": {"a": {"b": [Plain()]}}}, r"config\['a'\]\['b'\]\[0\] is a value of type Plain"),
        ({"unknown_params": "ignore"}, "unknown_params is ignore, expected 'drop' or 'error'"),
        ({"max_replica": 1}, "there is no option 'max_replica' \\(did you mean 'max_replicas'"),
    ],
)
def test_tool_options_are_checked_and_name_the_class(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidToolError, match=rf"Checked: {message}"):

        @tool(**options)
        class Checked:
            def run(self): ...


def test_options_are_frozen() -> None:
    with pytest.raises(AttributeError):
        ToolOptions().num_cpus = 3


def test_config_that_the_constructor_does_not_take_is_refused() -> None:
    class Configured:
        def __init__(self, path, mode="r"): ...

        def run(self): ...

    assert describe(Configured, config={"path": "a"}).options.config == {"path": "a"}
    with pytest.raises(InvalidToolError, match=r"config does not fit the constructor: .*'pfad' \(it takes path"):
        describe(Configured, config={"pfad": "a"})


def test_importing_the_decorators_imports_neither_ray_nor_pandas() -> None:
    root = Path(options_module.__file__).parent.parent
    code = (
        "import sys, aiecs_ray.tool, aiecs_ray.shipping, aiecs_ray.binding; print({'ray', 'pandas'} & set(sys.modules))"
    )

    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(root)}
    )

    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("decorate", [tool, tool("adder"), tool(num_cpus=1)], ids=["bare", "named", "with options"])
def test_a_function_is_refused_when_it_is_decorated(decorate: Any) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    with pytest.raises(InvalidToolError, match=r"@tool decorates classes, got the function 'add': make it a method"):
        decorate(add)


@pytest.mark.parametrize("wrong", [5, ["name"], object()])
def test_what_is_neither_a_name_nor_a_class_is_refused_by_the_decorator_at_once(wrong: Any) -> None:
    with pytest.raises(InvalidToolError, match="@tool takes a name and options"):
        tool(wrong)
