"""Who stops waiting stops the work (S0-73; D-14, D-20)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.probes import op

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiecs_ray import OperationExecutor
    from tests.contract.probes import Gate, Ledger

    Way = Callable[[OperationExecutor, list[dict[str, Any]]], Awaitable[Any]]

WAYS: dict[str, Way] = {
    "single": lambda executor, operations: executor.execute_operation(
        "desk.visit_until_asked", operations[0]["params"]
    ),
    "batch": lambda executor, operations: executor.batch_execute_operations(operations),
    "sequence": lambda executor, operations: executor.execute_operations_sequence(operations, "u", "t"),
    "followed": lambda executor, operations: executor.execute_operations_sequence(
        operations, "u", "t", save_callback=lambda _step, _result: None
    ),
    "parallel": lambda executor, operations: executor.execute_parallel_operations(operations),
}


def work(gate: Gate, ledger: Ledger) -> list[dict[str, Any]]:
    """Return an operation that stands at the gate until it is asked to end, and one that must not begin after it."""
    return [
        op("desk.visit_until_asked", gate=gate.port, ledger=ledger.path),
        {**op("desk.note", ledger=ledger.path, text="after"), "depends_on": [0]},
    ]


@pytest.mark.parametrize("way", WAYS)
async def test_a_cancelled_await_ends_what_runs_and_begins_nothing(
    executor: OperationExecutor, gate: Gate, ledger: Ledger, way: str
) -> None:
    running = asyncio.ensure_future(WAYS[way](executor, work(gate, ledger)))
    await asyncio.to_thread(gate.arrival)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert ledger.lines() == ["asked"]
    assert executor.runtime.stats()["runs"]["active"] == 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_timeout_of_the_callers_ends_what_runs(
    executor: OperationExecutor, gate: Gate, ledger: Ledger, way: str
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await WAYS[way](executor, work(gate, ledger))

    assert ledger.lines() == ["asked"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_cancel_at_any_moment_leaves_nothing_running(
    executor: OperationExecutor, ledger: Ledger, way: str
) -> None:
    operations = [op("desk.give", value=1), op("desk.add", a="$result[0]")]
    if way == "single":
        operations = [op("desk.note", ledger=ledger.path)]
    await executor.execute_operation("desk.give", {})

    for turns in range(0, 60, 3):
        running = asyncio.ensure_future(
            executor.execute_operation("desk.give", {}) if way == "single" else WAYS[way](executor, operations)
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

        assert running.cancelled() or running.exception() is None
        assert executor.runtime.stats()["runs"]["active"] == 0


async def test_one_cancelled_call_leaves_the_others_alone(
    executor: OperationExecutor, gate: Gate, ledger: Ledger
) -> None:
    stays = asyncio.create_task(executor.execute_operation("desk.visit_async", {"gate": gate.port}))
    visitor = await asyncio.to_thread(gate.arrival)
    goes = asyncio.create_task(executor.execute_operations_sequence(work(gate, ledger), "u", "t"))
    await asyncio.to_thread(gate.arrival)

    goes.cancel()
    await asyncio.gather(goes, return_exceptions=True)
    visitor.let_go("still here")

    assert await stays == "still here"


@pytest.mark.ray
async def test_a_cancelled_await_ends_the_work_on_ray(on_ray: OperationExecutor, gate: Gate, ledger: Ledger) -> None:
    running = asyncio.ensure_future(WAYS["sequence"](on_ray, work(gate, ledger)))
    await asyncio.to_thread(gate.arrival)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert ledger.lines() == ["asked"]
