"""``save_callback``: every form is told of every step, and none loses a result (S0-37, S0-109; C-16, C-17, D-22)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.errors import InvalidInputError
from tests.contract.probes import op

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiecs_ray
    from aiecs_ray import OperationExecutor, TaskStepResult
    from tests.contract.probes import Gate, Ledger

OPERATIONS = [op("desk.give", value=1), op("desk.fail"), op("desk.give", value="$result[0]")]
Told = list[tuple[Any, ...]]


def four_async(told: Told) -> Any:
    async def save(user_id: str, task_id: str, index: int, result: TaskStepResult) -> None:
        await asyncio.sleep(0)
        told.append((user_id, task_id, index, result.step, result.status))

    return save


def four_sync(told: Told) -> Any:
    def save(user_id: str, task_id: str, index: int, result: TaskStepResult) -> None:
        told.append((user_id, task_id, index, result.step, result.status))

    return save


def four_of_an_object(told: Told) -> Any:
    class Saver:
        async def __call__(self, user_id: str, task_id: str, index: int, result: TaskStepResult) -> None:
            told.append((user_id, task_id, index, result.step, result.status))

    return Saver()


def any_number(told: Told) -> Any:
    def save(*args: Any) -> None:
        told.append((*args[:3], args[3].step, args[3].status))

    return save


@pytest.mark.parametrize("form", [four_async, four_sync, four_of_an_object, any_number])
async def test_a_callback_of_four_gets_the_context_the_index_and_the_result(
    executor: OperationExecutor, form: Callable[[Told], Any]
) -> None:
    told: Told = []

    results = await executor.execute_operations_sequence(OPERATIONS, "ann", "t1", save_callback=form(told))

    assert told == [
        ("ann", "t1", 0, "desk.give", "completed"),
        ("ann", "t1", 1, "desk.fail", "failed"),
        ("ann", "t1", 2, "desk.give", "completed"),
    ]
    assert [result.result for result in results] == [1, None, 1]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_callback_of_two_gets_the_step_and_the_result(
    executor: OperationExecutor, *, asynchronous: bool
) -> None:
    told: Told = []

    def save(step: str, result: TaskStepResult) -> None:
        told.append((step, result.result))

    async def save_async(step: str, result: TaskStepResult) -> None:
        save(step, result)

    await executor.execute_operations_sequence(
        OPERATIONS, "ann", "t1", save_callback=save_async if asynchronous else save
    )

    assert told == [("desk.give", 1), ("desk.fail", None), ("desk.give", 1)]


async def test_the_sample_of_scenario_8_pushes_the_progress(executor: OperationExecutor) -> None:
    pushed: list[tuple[str, dict[str, Any]]] = []
    tasks: list[asyncio.Task[None]] = []

    async def push_progress(user_id: str, message: dict[str, Any]) -> None:
        pushed.append((user_id, message))

    async def process_with_progress(operations: Any, user_id: str, task_id: str) -> list[TaskStepResult]:
        def progress_callback(step: str, result: TaskStepResult) -> None:
            message = {"step": step, "result": result, "status": "processing"}
            tasks.append(asyncio.create_task(push_progress(user_id, message)))

        return await executor.execute_operations_sequence(operations, user_id, task_id, save_callback=progress_callback)

    results = await process_with_progress(OPERATIONS, "ann", "t1")
    await asyncio.gather(*tasks)

    assert [(user, message["step"]) for user, message in pushed] == [
        ("ann", "desk.give"),
        ("ann", "desk.fail"),
        ("ann", "desk.give"),
    ]
    assert [message["result"] for _, message in pushed] == results


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_callback_that_raises_is_logged_and_loses_nothing(
    executor: OperationExecutor, caplog: pytest.LogCaptureFixture, *, asynchronous: bool
) -> None:
    def save(_user: str, _task: str, index: int, _result: TaskStepResult) -> None:
        raise OSError(f"no disk for {index}")

    async def save_async(user: str, task: str, index: int, result: TaskStepResult) -> None:
        save(user, task, index, result)

    results = await executor.execute_operations_sequence(
        OPERATIONS, "u", "t", save_callback=save_async if asynchronous else save
    )

    assert [result.result for result in results] == [1, None, 1]
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.exc_text or str(record.exc_info) for record in failures if "no disk" in caplog.text] != []
    assert len(failures) == 3


async def test_a_sequence_that_stops_tells_of_the_failure_and_of_nothing_after_it(
    executor: OperationExecutor,
) -> None:
    told: Told = []

    results = await executor.execute_operations_sequence(
        OPERATIONS, "ann", "t1", stop_on_failure=True, save_callback=four_async(told)
    )

    assert [entry[2] for entry in told] == [0, 1]
    assert len(results) == 2


async def test_a_step_is_told_of_before_the_next_one_has_ended(executor: OperationExecutor, gate: Gate) -> None:
    told: Told = []
    first = asyncio.Event()

    async def save(step: str, result: TaskStepResult) -> None:
        told.append((step, result.status))
        first.set()

    running = asyncio.create_task(
        executor.execute_operations_sequence(
            [op("desk.give", value=1), op("desk.visit_async", gate=gate.port)], "u", "t", save_callback=save
        )
    )
    visitor = await asyncio.to_thread(gate.arrival)
    await asyncio.wait_for(first.wait(), 10)

    assert told == [("desk.give", "completed")]
    visitor.let_go()
    assert len(await running) == 2


async def test_many_sequences_that_wait_do_not_hold_up_other_operations(
    executor: OperationExecutor, gate: Gate
) -> None:
    waiting = [
        asyncio.create_task(
            executor.execute_operations_sequence(
                [op("desk.visit_async", gate=gate.port)], "u", str(n), save_callback=lambda _step, _result: None
            )
        )
        for n in range(12)
    ]
    visitors = await asyncio.to_thread(gate.arrivals, 12)

    assert await asyncio.wait_for(executor.execute_operation("desk.give", {"value": 5}), 10) == 5
    for visitor in visitors:
        visitor.let_go()
    assert all(result[0].completed for result in await asyncio.gather(*waiting))


@pytest.mark.ray
async def test_a_callback_is_told_of_every_step_on_ray(ray_rt: aiecs_ray.Runtime, on_ray: OperationExecutor) -> None:
    assert ray_rt is on_ray.runtime
    told: Told = []

    results = await on_ray.execute_operations_sequence(OPERATIONS, "ann", "t1", save_callback=four_async(told))

    assert [entry[2:] for entry in told] == [
        (0, "desk.give", "completed"),
        (1, "desk.fail", "failed"),
        (2, "desk.give", "completed"),
    ]
    assert [result.result for result in results] == [1, None, 1]


@pytest.mark.parametrize("callback", [5, lambda: None, lambda _a, _b, _c: None])
async def test_a_callback_that_cannot_be_told_refuses_the_sequence_before_anything_runs(
    executor: OperationExecutor, ledger: Ledger, callback: Any
) -> None:
    operations = [op("desk.note", ledger=ledger.path)]

    with pytest.raises(InvalidInputError, match="save_callback must be a function of"):
        await executor.execute_operations_sequence(operations, "ann", "t1", save_callback=callback)

    assert len(ledger) == 0


@pytest.mark.parametrize("on_step", [5, lambda _result: None])
def test_on_step_that_cannot_be_told_refuses_the_run_before_anything_runs(
    local: aiecs_ray.Runtime, ledger: Ledger, on_step: Any
) -> None:
    with pytest.raises(InvalidInputError, match="on_step must be a function of"):
        local.run([op("desk.note", ledger=ledger.path)], on_step=on_step)

    assert len(ledger) == 0
