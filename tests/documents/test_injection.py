"""Any implementation of the interfaces can be injected, mocks too (S3-24, S3-25, S3-36, S3-38; C-18)."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, MagicMock, create_autospec

import pytest

from aiecs_ray import ExecutionUtils, ICacheProvider, IToolExecutor, IToolProvider, OperationExecutor, ToolExecutor
from aiecs_ray.errors import ToolNotFoundError
from tests.contract.probes import op
from tests.documents.tools_of_cases import Desk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.contract.probes import Ledger

    Inject = Callable[..., OperationExecutor]

NO_RATE = {"rate_limit_requests_per_second": None}


class Recording(IToolExecutor):
    """Runs tools of any kind, and writes down what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, str, dict[str, Any]]] = []

    def execute(self, tool: Any, operation_name: str, **params: Any) -> Any:
        raise NotImplementedError

    async def execute_async(self, tool: Any, operation_name: str, **params: Any) -> Any:
        self.asked.append((tool, operation_name, params))
        if operation_name == "refuse":
            raise PermissionError(f"not for {tool}")
        return {"by": operation_name, **params}


class Shelf(IToolProvider):
    """Tools by name."""

    def __init__(self, **tools: Any) -> None:
        self.tools = tools

    def get_tool(self, tool_name: str) -> Any:
        return self.tools[tool_name]

    def has_tool(self, tool_name: str) -> bool:
        return tool_name in self.tools


class DictCache(ICacheProvider):
    """A cache with nothing but the interface."""

    def __init__(self) -> None:
        self.entries: dict[str, Any] = {}
        self.threads: set[str] = set()

    def generate_cache_key(
        self, operation_type: str, user_id: str, task_id: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str:
        return f"{operation_type}|{user_id}|{task_id}|{args}|{sorted(kwargs.items())}"

    def get_from_cache(self, cache_key: str) -> Any | None:
        self.threads.add(threading.current_thread().name)
        return self.entries.get(cache_key)

    def add_to_cache(self, cache_key: str, value: Any, ttl: float | None = None) -> None:  # noqa: ARG002
        self.entries[cache_key] = value


@pytest.fixture
def inject() -> Iterator[Inject]:
    """Make executors with injected parts, and close them."""
    made: list[OperationExecutor] = []

    def inject(tool_executor: Any = None, **parts: Any) -> OperationExecutor:
        made.append(OperationExecutor(tool_executor, ExecutionUtils(retry_attempts=1), NO_RATE, **parts))
        return made[-1]

    yield inject
    for executor in made:
        executor.close()


async def test_an_injected_executor_runs_every_way_of_running(inject: Inject) -> None:
    recording = Recording()
    executor = inject(recording)

    single = await executor.execute_operation("any.one", {"n": 1})
    batch = await executor.batch_execute_operations([op("any.two", n=2)])
    sequence = await executor.execute_operations_sequence([op("any.three", n=3)], "u", "t")
    parallel = await executor.execute_parallel_operations([op("any.four", n=4)])
    calls = await executor.batch_tool_calls([{"tool": "any.five", "params": {"n": 5}}])

    found = [single, batch[0], sequence[0].result, parallel[0].result, calls[0]]
    assert found == [{"by": by, "n": n + 1} for n, by in enumerate(["one", "two", "three", "four", "five"])]
    assert [(tool, name) for tool, name, _ in recording.asked] == [("any", entry["by"]) for entry in found]


async def test_an_injected_executor_is_under_the_same_plan(inject: Inject) -> None:
    recording = Recording()

    results = await inject(recording).execute_operations_sequence(
        [op("a.one", x=[1, 2]), op("b.two", y="$result[0].x[1]"), op("a.refuse"), op("c.three", z="$result[2]")],
        "ann",
        "t1",
    )

    assert results[1].result == {"by": "two", "y": 2}
    assert (results[2].error_code, results[2].error_message) == ("E003", "Error executing refuse: not for a")
    assert (results[3].status, results[3].error_code) == ("cancelled", "E007")
    assert [name for _, name, _ in recording.asked] == ["one", "two", "refuse"]


async def test_system_parameters_do_not_reach_an_injected_executor(inject: Inject) -> None:
    recording = Recording()

    await inject(recording).execute_operation("any.one", {"n": 1, "user_id": "ann", "task_id": "t1"})

    assert recording.asked == [("any", "one", {"n": 1})]


async def test_a_mock_of_the_executor_is_enough(inject: Inject) -> None:
    mock = create_autospec(IToolExecutor, instance=True)
    mock.execute_async = AsyncMock(return_value={"rows": 3})

    result = await inject(mock).execute_operation("pandas_tool.read_csv", {"file_path": "data.csv"})

    assert result == {"rows": 3}
    mock.execute_async.assert_awaited_once_with("pandas_tool", "read_csv", file_path="data.csv")


async def test_mocks_of_all_interfaces_together_are_enough(inject: Inject) -> None:
    tools = create_autospec(IToolExecutor, instance=True)
    tools.execute_async = AsyncMock(return_value=42)
    provider = create_autospec(IToolProvider, instance=True)
    provider.has_tool.return_value = True
    provider.get_tool.return_value = MagicMock(name="tool")
    cache = create_autospec(ICacheProvider, instance=True)
    cache.generate_cache_key.return_value = "key"
    cache.get_from_cache.return_value = None

    result = await inject(tools, tool_provider=provider, cache_provider=cache).execute_operation(
        "any.one", {"n": 1, "user_id": "ann", "task_id": "t1"}
    )

    assert result == 42
    tools.execute_async.assert_awaited_once_with(provider.get_tool.return_value, "one", n=1)
    cache.generate_cache_key.assert_called_once_with("any.one", "ann", "t1", (), {"n": 1})
    assert cache.add_to_cache.call_args.args[:2] == ("key", 42)


async def test_a_provider_gives_the_tool_itself_to_the_executor(inject: Inject) -> None:
    desk = Desk()
    executor = inject(tool_provider=Shelf(shelf_desk=desk))

    assert await executor.execute_operation("shelf_desk.add", {"a": 1}) == 2
    instance: Any = executor.get_tool_instance("shelf_desk")
    assert instance is desk


async def test_a_tool_that_the_provider_does_not_have_is_not_registered(inject: Inject) -> None:
    executor = inject(Recording(), tool_provider=Shelf(known=Desk()))

    with pytest.raises(AttributeError, match="Tool 'unknown' is not registered"):
        await executor.execute_operation("unknown.one", {})
    with pytest.raises(ToolNotFoundError):
        executor.get_tool_instance("unknown")
    with pytest.raises(AttributeError, match="Operation 'nothing' not found in tool 'known'"):
        await executor.execute_operation("known.nothing", {})


async def test_an_injected_cache_answers_the_second_call(inject: Inject) -> None:
    recording, cache = Recording(), DictCache()
    executor = inject(recording, cache_provider=cache)
    params = {"n": 1, "user_id": "ann", "task_id": "t1"}

    first = await executor.execute_operation("any.one", params)
    second = await executor.execute_operation("any.one", params)
    other = await executor.execute_operation("any.one", {**params, "user_id": "bob"})

    assert first == second == other
    assert len(recording.asked) == 2
    assert list(cache.entries) == ["any.one|ann|t1|()|[('n', 1)]", "any.one|bob|t1|()|[('n', 1)]"]


async def test_an_injected_cache_is_not_asked_when_it_is_switched_off() -> None:
    recording, cache = Recording(), DictCache()
    executor = OperationExecutor(recording, ExecutionUtils(), {**NO_RATE, "enable_cache": False}, cache_provider=cache)
    params = {"n": 1, "user_id": "ann"}

    for _ in range(2):
        await executor.execute_operation("any.one", params)
    executor.close()

    assert (len(recording.asked), cache.entries, cache.threads) == (2, {}, set())


async def test_execution_utils_can_be_the_injected_cache(inject: Inject) -> None:
    recording, utils = Recording(), ExecutionUtils()
    executor = inject(recording, cache_provider=utils)

    for _ in range(3):
        await executor.execute_operation("any.one", {"n": 1, "user_id": "ann"})

    assert len(recording.asked) == 1
    assert utils.statistics()["hits"] == 2
    utils.close()


async def test_an_injected_provider_may_grow_while_it_is_in_use(inject: Inject) -> None:
    shelf = Shelf()
    executor = inject(Recording(), tool_provider=shelf)
    with pytest.raises(ToolNotFoundError):
        await executor.execute_operation("late.give", {})

    shelf.tools["late"] = Desk()

    assert await executor.execute_operation("late.give", {}) == {"by": "give"}


async def test_two_injected_executors_do_not_meet(inject: Inject) -> None:
    one, two = Recording(), Recording()
    first, second = inject(one), inject(two)

    await asyncio.gather(first.execute_operation("any.a", {}), second.execute_operation("any.b", {}))

    assert [[name for _, name, _ in recording.asked] for recording in (one, two)] == [["a"], ["b"]]


async def test_a_tool_executor_runs_a_provided_tool_with_its_real_work(inject: Inject, ledger: Ledger) -> None:
    executor = inject(ToolExecutor(), tool_provider=Shelf(desk=Desk()))

    results = await executor.execute_operations_sequence(
        [op("desk.note", ledger=ledger.path, value=20), op("desk.add", a="$result[0]"), op("desk.fail")], "u", "t"
    )

    assert [result.result for result in results] == [20, 21, None]
    assert results[2].error_message == "Error executing fail: no"
    assert len(ledger) == 1
