# ruff: noqa: ARG002, FBT001, FBT002 - the interfaces give the signatures
from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Union, get_type_hints

import pytest

from aiecs_ray.interfaces import (
    ExecutionInterface,
    IAsyncContextExecutor,
    ICacheProvider,
    IOperationExecutor,
    IToolExecutor,
    IToolExecutorV1,
    IToolExecutorV2,
    IToolProvider,
    ITypedOperationExecutor,
    ITypedToolExecutor,
    ToolExecutorInterface,
    VersionedInterface,
)
from aiecs_ray.model import TaskStepResult

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

T = TypeVar("T")

SIGNATURES: dict[type, dict[str, tuple[str, ...]]] = {
    IToolProvider: {
        "get_tool": ("tool_name",),
        "has_tool": ("tool_name",),
    },
    IToolExecutor: {
        "execute": ("tool", "operation_name", "**params"),
        "execute_async": ("tool", "operation_name", "**params"),
    },
    ICacheProvider: {
        "generate_cache_key": ("operation_type", "user_id", "task_id", "args", "kwargs"),
        "get_from_cache": ("cache_key",),
        "add_to_cache": ("cache_key", "value", "ttl=None"),
    },
    IOperationExecutor: {
        "execute_operation": ("operation_spec", "params"),
        "batch_execute_operations": ("operations",),
        "execute_operations_sequence": (
            "operations",
            "user_id",
            "task_id",
            "stop_on_failure=False",
            "save_callback=None",
        ),
        "execute_parallel_operations": ("operations",),
    },
    ExecutionInterface: {
        "execute_operation": ("operation_spec", "params"),
        "execute_task": ("task_name", "input_data", "context"),
        "batch_execute_operations": ("operations",),
        "batch_execute_tasks": ("tasks",),
    },
    IToolExecutorV1: {"execute": ("tool", "operation_name", "**params")},
    IToolExecutorV2: {
        "execute": ("tool", "operation_name", "**params"),
        "execute_with_metrics": ("tool", "operation_name", "**params"),
    },
    IAsyncContextExecutor: {
        "__aenter__": (),
        "__aexit__": ("exc_type", "exc_val", "exc_tb"),
        "execute_in_context": ("operation", "**params"),
    },
}

SYNC = {"get_tool", "has_tool", "execute", "generate_cache_key", "get_from_cache", "add_to_cache"}


class Text:
    def upper(self, text: str) -> str:
        return text.upper()


class Direct(IToolExecutor):
    def execute(self, tool: Any, operation_name: str, **params: Any) -> Any:
        return getattr(tool, operation_name)(**params)

    async def execute_async(self, tool: Any, operation_name: str, **params: Any) -> Any:
        return self.execute(tool, operation_name, **params)


class TypedToolExecutor(IToolExecutor, Generic[T]):
    def __init__(self, answer: T) -> None:
        self.answer = answer

    def execute(self, tool: Any, operation_name: str, **params: Any) -> T:
        return self.answer

    async def execute_async(self, tool: Any, operation_name: str, **params: Any) -> T:
        return self.answer


class Tools(IToolProvider):
    def __init__(self, **tools: Any) -> None:
        self.tools = tools

    def get_tool(self, tool_name: str) -> Any:
        return self.tools[tool_name]

    def has_tool(self, tool_name: str) -> bool:
        return tool_name in self.tools


class Cache(ICacheProvider):
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def generate_cache_key(
        self, operation_type: str, user_id: str, task_id: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str:
        return json.dumps([operation_type, user_id, task_id, args, kwargs], sort_keys=True)

    def get_from_cache(self, cache_key: str) -> Any | None:
        return self.values.get(cache_key)

    def add_to_cache(self, cache_key: str, value: Any, ttl: float | None = None) -> None:
        self.values[cache_key] = value


class Sequence(IOperationExecutor):
    """Knows the other interfaces and none of their implementations."""

    def __init__(self, tool_executor: IToolExecutor, tool_provider: IToolProvider, cache: ICacheProvider) -> None:
        self.tool_executor, self.tool_provider, self.cache = tool_executor, tool_provider, cache

    async def execute_operation(self, operation_spec: str, params: dict[str, Any]) -> Any:
        tool_name, operation_name = operation_spec.split(".")
        key = self.cache.generate_cache_key(operation_spec, "ann", "report", (), params)
        if (value := self.cache.get_from_cache(key)) is None:
            tool = self.tool_provider.get_tool(tool_name)
            value = await self.tool_executor.execute_async(tool, operation_name, **params)
            self.cache.add_to_cache(key, value)
        return value

    async def batch_execute_operations(self, operations: list[dict[str, Any]]) -> list[Any]:
        return [await self.execute_operation(each["operation"], each["params"]) for each in operations]

    async def execute_operations_sequence(
        self,
        operations: list[dict[str, Any]],
        user_id: str,
        task_id: str,
        stop_on_failure: bool = False,
        save_callback: Callable[..., Any] | None = None,
    ) -> list[TaskStepResult]:
        return await self.execute_parallel_operations(operations)

    async def execute_parallel_operations(self, operations: list[dict[str, Any]]) -> list[TaskStepResult]:
        values = await self.batch_execute_operations(operations)
        return [TaskStepResult(each["operation"], value) for each, value in zip(operations, values, strict=True)]


class Engine(ExecutionInterface):
    async def execute_operation(self, operation_spec: str, params: dict[str, Any]) -> Any:
        return (operation_spec, params)

    async def execute_task(self, task_name: str, input_data: dict[str, Any], context: dict[str, Any]) -> Any:
        return (task_name, input_data, context)

    async def batch_execute_operations(self, operations: list[dict[str, Any]]) -> list[Any]:
        return operations

    async def batch_execute_tasks(self, tasks: list[dict[str, Any]]) -> list[Any]:
        return tasks


class InContext(IAsyncContextExecutor):
    def __init__(self) -> None:
        self.events: list[str] = []

    async def __aenter__(self) -> Self:
        self.events.append("entered")
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.events.append("left")

    async def execute_in_context(self, operation: str, **params: Any) -> Any:
        self.events.append(operation)
        return params


class MeasuredExecutor(IToolExecutorV2):
    def execute(self, tool: Any, operation_name: str, **params: Any) -> Any:
        return getattr(tool, operation_name)(**params)

    async def execute_with_metrics(self, tool: Any, operation_name: str, **params: Any) -> Any:
        return self.execute(tool, operation_name, **params)


class Versioned(VersionedInterface):
    version = "1.2.0"


def parameters(method: Any) -> tuple[str, ...]:
    """The parameters but self, with their defaults and stars."""
    found = list(inspect.signature(method).parameters.values())[1:]
    return tuple(str(parameter.replace(annotation=inspect.Parameter.empty)) for parameter in found)


@pytest.mark.parametrize("interface", SIGNATURES)
def test_interface_asks_for_the_documents_methods(interface: type) -> None:
    methods = {name: parameters(getattr(interface, name)) for name in interface.__abstractmethods__}  # type: ignore[attr-defined]

    assert methods == SIGNATURES[interface]


@pytest.mark.parametrize("interface", SIGNATURES)
def test_interface_is_async_where_the_document_is(interface: type) -> None:
    for name in SIGNATURES[interface]:
        assert inspect.iscoroutinefunction(getattr(interface, name)) == (name not in SYNC), name


@pytest.mark.parametrize("interface", SIGNATURES)
def test_interface_cannot_be_instantiated(interface: type) -> None:
    with pytest.raises(TypeError, match="Can't instantiate abstract class"):
        interface()


@pytest.mark.parametrize("interface", SIGNATURES)
def test_type_hints_of_an_interface_can_be_read(interface: type) -> None:
    for name in SIGNATURES[interface]:
        assert "return" in get_type_hints(getattr(interface, name))


def test_step_results_are_what_sequences_and_parallel_runs_return() -> None:
    for name in ("execute_operations_sequence", "execute_parallel_operations"):
        assert get_type_hints(getattr(IOperationExecutor, name))["return"] == list[TaskStepResult]


def test_a_class_without_one_of_the_methods_cannot_be_instantiated() -> None:
    class ToolExecutorImpl(IToolExecutor):
        def execute(self, tool: Any, operation_name: str, **params: Any) -> Any: ...

    with pytest.raises(TypeError, match=r"Can't instantiate abstract class ToolExecutorImpl with.* execute_async"):
        ToolExecutorImpl()  # type: ignore[abstract]


async def test_an_executor_works_with_any_implementations_of_the_interfaces() -> None:
    cache = Cache()
    executor = Sequence(Direct(), Tools(text=Text()), cache)

    results = await executor.execute_operations_sequence(
        [{"operation": "text.upper", "params": {"text": "a"}}] * 2, user_id="ann", task_id="report"
    )

    assert [result.result for result in results] == ["A", "A"]
    assert list(cache.values.values()) == ["A"]


def test_provider_says_what_it_has() -> None:
    tools = Tools(text=Text())

    assert tools.has_tool("text")
    assert not tools.has_tool("other")


def test_executor_may_be_generic_in_its_result() -> None:
    number: int = TypedToolExecutor(3).execute(None, "op")

    assert number == 3


async def test_engine_runs_tasks_as_well_as_operations() -> None:
    assert await Engine().execute_task("clean", {"a": 1}, {"user_id": "ann"}) == ("clean", {"a": 1}, {"user_id": "ann"})
    assert await Engine().execute_operation("a.b", {}) == ("a.b", {})


def test_engine_takes_no_other_engine_unless_it_says_so() -> None:
    with pytest.raises(NotImplementedError) as caught:
        Engine().register_executor("celery", object())

    assert str(caught.value) == "Executor registration is not implemented in this interface"


async def test_context_executor_is_left_even_when_its_body_fails() -> None:
    executor = InContext()

    async def body() -> None:
        async with executor as entered:
            assert await entered.execute_in_context("some_operation", param1="value1") == {"param1": "value1"}
            raise KeyError

    with pytest.raises(KeyError):
        await body()

    assert executor.events == ["entered", "some_operation", "left"]


async def test_second_version_of_an_executor_is_a_first_one() -> None:
    executor = MeasuredExecutor()

    assert isinstance(executor, IToolExecutorV1)
    assert await executor.execute_with_metrics(Text(), "upper", text="a") == "A"
    assert ToolExecutorInterface == Union[IToolExecutorV1, IToolExecutorV2]  # noqa: UP007 - the document's form


def test_typed_protocols_fit_executors_that_know_nothing_of_them() -> None:
    class Upper:
        def execute(self, tool: Text, operation_name: str, **params: Any) -> str:
            return str(getattr(tool, operation_name)(**params))

        async def execute_operation(self, operation_spec: str, params: dict[str, Any]) -> str:
            return f"{operation_spec} {params}"

    tools: ITypedToolExecutor[Text, str] = Upper()
    operations: ITypedOperationExecutor[str] = Upper()

    assert tools.execute(Text(), "upper", text="a") == "A"
    assert hasattr(operations, "execute_operation")


def test_versioned_interface_is_recognised_by_its_members() -> None:
    class Unrelated:
        version = "2.0"

        def get_version(self) -> str:
            return self.version

    assert isinstance(Unrelated(), VersionedInterface)
    assert Versioned().get_version() == "1.2.0"
    assert not isinstance(Text(), VersionedInterface)
