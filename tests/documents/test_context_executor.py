"""``ContextExecutor``: operations between ``async with`` and its end (S3-51)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from aiecs_ray import OperationExecutor, tool_executor
from aiecs_ray.engine import ContextExecutor
from aiecs_ray.errors import RuntimeUnavailableError
from aiecs_ray.interfaces import IAsyncContextExecutor

if TYPE_CHECKING:
    from typing import Any

    import aiecs_ray
    from tests.contract.probes import Gate, Ledger


async def test_an_operation_runs_inside_with_its_parameters_by_name(executor: OperationExecutor) -> None:
    async with ContextExecutor(executor) as inside:
        assert isinstance(inside, IAsyncContextExecutor)
        assert await inside.execute_in_context("desk.add", a=40, b=2) == 42
        with pytest.raises(AttributeError, match="not found in tool"):
            await inside.execute_in_context("desk.nothing")


async def test_its_context_scopes_the_cache(executor: OperationExecutor, ledger: Ledger) -> None:
    for user in ("ann", "ann", "bob"):
        async with ContextExecutor(executor, user_id=user, task_id="t") as inside:
            await inside.execute_in_context("desk.note", ledger=ledger.path)

    assert len(ledger) == 2


async def test_outside_it_refuses_to_run(executor: OperationExecutor) -> None:
    context = ContextExecutor(executor)
    with pytest.raises(RuntimeUnavailableError, match="async with"):
        await context.execute_in_context("desk.give")
    async with context:
        pass

    with pytest.raises(RuntimeUnavailableError, match="async with"):
        await context.execute_in_context("desk.give")


async def test_a_given_executor_stays_open(executor: OperationExecutor) -> None:
    async with ContextExecutor(executor):
        pass

    assert await executor.execute_operation("desk.give", {"value": 1}) == 1


async def test_an_executor_of_its_own_is_closed_at_the_end(
    monkeypatch: pytest.MonkeyPatch, local: aiecs_ray.Runtime
) -> None:
    monkeypatch.setattr(tool_executor, "connect", lambda **_: local)

    async with ContextExecutor() as inside:
        assert await inside.execute_in_context("desk.give", value=1) == 1

    with pytest.raises(RuntimeUnavailableError):
        local.stats()


async def test_what_still_runs_at_the_end_is_cancelled(executor: OperationExecutor, gate: Gate, ledger: Ledger) -> None:
    async with ContextExecutor(executor) as inside:
        running = asyncio.create_task(
            inside.execute_in_context("desk.visit_until_asked", gate=gate.port, ledger=ledger.path)
        )
        await asyncio.to_thread(gate.arrival)

    assert ledger.lines() == ["asked"]
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()


async def test_an_error_inside_leaves_it_and_ends_what_runs(
    executor: OperationExecutor, gate: Gate, ledger: Ledger
) -> None:
    running: list[asyncio.Task[Any]] = []

    async def fail_inside() -> None:
        async with ContextExecutor(executor) as inside:
            call = inside.execute_in_context("desk.visit_until_asked", gate=gate.port, ledger=ledger.path)
            running.append(asyncio.create_task(call))
            await asyncio.to_thread(gate.arrival)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail_inside()

    assert ledger.lines() == ["asked"]
    await asyncio.gather(*running, return_exceptions=True)


async def test_it_can_be_entered_again_but_not_twice_at_once(executor: OperationExecutor) -> None:
    context = ContextExecutor(executor)
    async with context:
        with pytest.raises(ValueError, match="entered"):
            await context.__aenter__()

    async with context:
        assert await context.execute_in_context("desk.give", value=2) == 2
