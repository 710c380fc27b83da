"""``batch_tool_calls``: named by tool, run by the runtime or by a function of the caller's (S0-41 to S0-43, S0-95)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.errors import AiecsError, OperationFailedError
from tests.contract.probes import Stopwatch, eventually
from tests.documents.test_batches import most_in_a_second

if TYPE_CHECKING:
    from aiecs_ray import OperationExecutor
    from tests.contract.probes import Ledger
    from tests.documents.conftest import Make


async def test_a_call_names_its_operation_in_the_tool_or_in_op(executor: OperationExecutor) -> None:
    calls = [
        {"tool": "desk.give", "params": {"value": 1}},
        {"tool": "desk", "params": {"op": "add", "a": 1}},
        {"tool": "desk.fail", "params": {"message": "no ink"}},
    ]

    one, two, failed = await executor.batch_tool_calls(calls)

    assert (one, two) == (1, 2)
    assert (str(failed), failed.index) == ("Error executing fail: no ink", 2)


async def test_a_function_of_the_callers_runs_the_calls(executor: OperationExecutor) -> None:
    async def run(tool: str, params: dict[str, Any]) -> str:
        await asyncio.sleep(0)
        return f"{tool} {params['n']}"

    results = await executor.batch_tool_calls([{"tool": "mine", "params": {"n": n}} for n in range(25)], run)

    assert results == [f"mine {n}" for n in range(25)]


async def test_a_failure_of_the_callers_function_is_a_result_in_its_place(executor: OperationExecutor) -> None:
    async def run(_tool: str, params: dict[str, Any]) -> int:
        return 10 // int(params["n"])

    good, bad = await executor.batch_tool_calls([{"tool": "mine", "params": {"n": n}} for n in (2, 0)], run)

    assert good == 5
    assert isinstance(bad, OperationFailedError)
    assert (bad.operation, bad.index, type(bad.__cause__)) == ("mine", 1, ZeroDivisionError)
    stats = executor.get_stats()
    assert (stats["total_operations"], stats["failed_operations"]) == (2, 1)


async def test_the_rate_holds_for_the_callers_function(make: Make) -> None:
    executor = make(rate_limit_requests_per_second=20, batch_size=50)
    starts: list[float] = []

    async def run(_tool: str, _params: dict[str, Any]) -> None:
        starts.append(time.monotonic())

    await executor.batch_tool_calls([{"tool": "mine", "params": {}}] * 26, run)

    assert most_in_a_second(starts) <= 20
    assert max(starts) - min(starts) >= 25 / 20 - 0.05


async def test_the_rate_holds_when_the_loop_was_held_up(make: Make) -> None:
    executor = make(rate_limit_requests_per_second=20, batch_size=50)
    starts: list[float] = []

    async def run(_tool: str, _params: dict[str, Any]) -> None:
        starts.append(time.monotonic())
        if len(starts) == 3:
            watch = Stopwatch()
            eventually(lambda: watch.seconds > 0.5)

    await executor.batch_tool_calls([{"tool": "mine", "params": {}}] * 32, run)

    assert most_in_a_second(starts) <= 20


async def test_no_more_calls_are_under_way_than_the_batch_size(make: Make) -> None:
    executor = make(batch_size=3)
    inside, most = 0, 0

    async def run(_tool: str, _params: dict[str, Any]) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        for _ in range(5):
            await asyncio.sleep(0)
        inside -= 1

    await executor.batch_tool_calls([{"tool": "mine", "params": {}}] * 12, run)

    assert most == 3


async def test_a_call_in_a_context_is_made_once(make: Make) -> None:
    made: list[tuple[str, Any]] = []

    async def run(tool: str, params: dict[str, Any]) -> Any:
        made.append((tool, params.get("user_id")))
        return None

    executor = make()
    calls: list[dict[str, Any]] = [
        {"tool": "a", "params": {"x": 1, "user_id": "ann"}},
        {"tool": "b", "params": {"x": 1, "user_id": "ann"}},
        {"tool": "a", "params": {"x": 1, "user_id": "bob"}},
    ]
    for _ in range(2):
        await executor.batch_tool_calls(calls, run)
    await make(enable_cache=False).batch_tool_calls(calls[:1], run)

    assert sorted(made, key=str) == sorted([("a", "ann"), ("b", "ann"), ("a", "bob"), ("a", "ann")], key=str)


async def test_a_call_without_a_context_is_made_each_time(executor: OperationExecutor, ledger: Ledger) -> None:
    call = {"tool": "desk.note", "params": {"ledger": ledger.path}}

    await executor.batch_tool_calls([call, call])

    assert len(ledger) == 2


@pytest.mark.parametrize(
    "calls",
    [
        None,
        "desk.give",
        ["desk.give"],
        [{}],
        [{"tool": 5}],
        [{"tool": "desk.give", "parms": {}}],
        [{"tool": "desk.give", "params": None}],
        [{"tool": "desk", "params": {}}],
    ],
)
async def test_malformed_calls_are_refused_before_anything_runs(executor: OperationExecutor, calls: Any) -> None:
    with pytest.raises(ValueError, match=r"tool|params"):
        await executor.batch_tool_calls(calls)


async def test_what_was_extracted_from_a_text_can_be_called(executor: OperationExecutor) -> None:
    text = "First {{desk.add(a='input.amount', b=2)}}, then {{desk(op='give', value='context.user')}}."

    calls = executor.extract_tool_calls(text, {"amount": 40}, {"user": "ann"})
    results = await executor.batch_tool_calls(calls)

    assert results == [42, "ann"]


async def test_an_error_of_the_projects_own_keeps_its_code(executor: OperationExecutor) -> None:
    async def run(tool: str, params: dict[str, Any]) -> Any:
        return await executor.execute_operation(f"{tool}.nothing", params)

    (result,) = await executor.batch_tool_calls([{"tool": "desk", "params": {}}], run)

    assert isinstance(result, AiecsError)
    assert str(result) == "Operation 'nothing' not found in tool 'desk'"
