"""``ToolExecutor``: a tool by name, by proxy, or an object of this process (S0-13, S0-62a, S3-07 to S3-09; C-57)."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import IToolExecutor, ToolExecutor
from aiecs_ray.errors import OperationFailedError
from tests.documents.tools_of_cases import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator

    import aiecs_ray
    from tests.contract.probes import Gate


@pytest.fixture
def tools(local: aiecs_ray.Runtime) -> Iterator[ToolExecutor]:
    executor = ToolExecutor(runtime=local)
    yield executor
    executor.close()


def test_it_is_the_documents_interface(tools: ToolExecutor) -> None:
    assert isinstance(tools, IToolExecutor)


@pytest.mark.parametrize("form", ["name", "proxy", "object"])
def test_an_operation_runs_on_a_tool_in_every_form(tools: ToolExecutor, local: aiecs_ray.Runtime, form: str) -> None:
    forms: dict[str, Any] = {"name": "desk", "proxy": local.tools["desk"], "object": Desk()}
    tool = forms[form]

    assert tools.execute(tool, "add", a=40, b="2") == 42
    with pytest.raises(OperationFailedError, match=r"^Error executing fail: no ink$") as caught:
        tools.execute(tool, "fail", message="no ink")
    with pytest.raises(AttributeError, match="Operation 'nothing' not found in tool"):
        tools.execute(tool, "nothing")
    with pytest.raises(ValueError, match="'a'"):
        tools.execute(tool, "add", b=1)

    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("form", ["name", "object"])
async def test_an_operation_can_be_awaited(tools: ToolExecutor, form: str) -> None:
    tool: Any = "desk" if form == "name" else Desk()

    assert await tools.execute_async(tool, "add", a=1) == 2
    with pytest.raises(OperationFailedError, match="no ink"):
        await tools.execute_async(tool, "fail", message="no ink")


@pytest.mark.parametrize("form", ["name", "object"])
async def test_awaiting_a_sync_operation_does_not_hold_up_the_loop(tools: ToolExecutor, gate: Gate, form: str) -> None:
    tool: Any = "desk" if form == "name" else Desk()
    standing = asyncio.create_task(tools.execute_async(tool, "visit", gate=gate.port))

    visitor = await asyncio.to_thread(gate.arrival)
    assert not standing.done()
    visitor.let_go("through")

    assert await standing == "through"


async def test_an_async_operation_of_an_object_runs_on_the_callers_loop(tools: ToolExecutor) -> None:
    class Where:
        async def loop(self) -> int:
            return id(asyncio.get_running_loop())

    assert await tools.execute_async(Where(), "loop") == id(asyncio.get_running_loop())


def test_an_async_operation_can_be_run_without_a_loop(tools: ToolExecutor, gate: Gate) -> None:
    def let_in() -> None:
        gate.arrival().let_go("through")

    helper = threading.Thread(target=let_in)
    helper.start()

    assert tools.execute(Desk(), "visit_async", gate=gate.port) == "through"
    helper.join()


async def test_an_async_operation_can_be_run_synchronously_on_a_running_loop(tools: ToolExecutor) -> None:
    class Later:
        async def give(self) -> int:
            await asyncio.sleep(0)
            return 5

    assert tools.execute(Later(), "give") == 5


@pytest.mark.parametrize(
    ("variable", "setting", "value"),
    [
        ("TOOL_EXECUTOR_CACHE_SIZE", "CACHE_SIZE", 7),
        ("TOOL_EXECUTOR_CACHE_TTL", "CACHE_TTL", 9.0),
        ("TOOL_EXECUTOR_MAX_WORKERS", "MAX_WORKERS", 2),
    ],
)
def test_the_documents_environment_variables_configure_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, setting: str, value: float
) -> None:
    monkeypatch.setenv(variable, str(value))

    executor = ToolExecutor()

    assert getattr(executor.config, setting) == value
    executor.close()


async def test_the_number_of_workers_bounds_what_runs_at_once(gate: Gate) -> None:
    executor = ToolExecutor({"MAX_WORKERS": 2})
    running = [asyncio.create_task(executor.execute_async(Desk(), "visit", gate=gate.port)) for _ in range(3)]

    first = await asyncio.to_thread(gate.arrivals, 2)
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(gate.arrival, 0.2)
    first[0].let_go()
    (await asyncio.to_thread(gate.arrival)).let_go()
    first[1].let_go()

    assert await asyncio.gather(*running) == ["go"] * 3
    executor.close()


def test_the_cache_settings_reach_the_runtime_that_it_connects(
    monkeypatch: pytest.MonkeyPatch, local: aiecs_ray.Runtime
) -> None:
    seen: list[Any] = []

    def connect(settings: Any) -> aiecs_ray.Runtime:
        seen.append(settings)
        return local

    monkeypatch.setattr("aiecs_ray.tool_executor.connect", connect)
    executor = ToolExecutor({"CACHE_SIZE": 11, "CACHE_TTL": 22})

    assert executor.runtime is local
    assert (seen[0].cache_entries, seen[0].cache_ttl) == (11, 22)


@pytest.mark.parametrize("name", ["CACHE_SIZE", "cache_sise"])
def test_a_bad_setting_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ToolExecutor({name: -1})
