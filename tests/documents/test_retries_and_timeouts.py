"""``ExecutionUtils`` decides how often and how long an operation may try (S0-13, S0-14, S0-71, S0-74; C-29 to C-34)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aiecs_ray import ExecutionUtils, IToolExecutor, OperationExecutor
from aiecs_ray.errors import OperationTimeoutError, RetryExhaustedError
from tests.contract.probes import Stopwatch, op

if TYPE_CHECKING:
    from typing import Any

    from tests.contract.probes import Gate, Ledger
    from tests.documents.conftest import Make


async def test_a_failure_that_may_pass_is_tried_as_often_as_the_utils_say(make: Make, ledger: Ledger) -> None:
    executor = make(ExecutionUtils(retry_attempts=2, retry_backoff=0))
    params = {"ledger": ledger.path, "reason": "connection"}

    with pytest.raises(RetryExhaustedError, match="Error executing note_and_stop: refused") as caught:
        await executor.execute_operation("desk.note_and_stop", params)

    assert caught.value.error_code == "E005"
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert len(ledger) == 2


async def test_one_attempt_means_no_second(make: Make, ledger: Ledger) -> None:
    executor = make(ExecutionUtils(retry_attempts=1))
    watch = Stopwatch()

    results = await executor.execute_operations_sequence(
        [op("desk.note_and_stop", ledger=ledger.path, reason="connection")], "u", "t"
    )

    assert (results[0].error_code, len(ledger)) == ("E003", 1)
    assert watch.seconds < 1


async def test_a_failure_that_cannot_pass_is_not_tried_again(make: Make, ledger: Ledger) -> None:
    executor = make(ExecutionUtils(retry_attempts=5))
    watch = Stopwatch()

    results = await executor.execute_parallel_operations(
        [op("desk.note_and_stop", ledger=ledger.path, reason="database")]
    )

    assert (results[0].error_code, len(ledger)) == ("E006", 1)
    assert watch.seconds < 1


async def test_the_utils_can_be_changed_later(make: Make, ledger: Ledger) -> None:
    utils = ExecutionUtils(retry_attempts=5)
    executor = make(utils)

    utils.retry_attempts = 1
    await executor.batch_execute_operations([op("desk.note_and_stop", ledger=ledger.path, reason="connection")])

    assert len(ledger) == 1


@pytest.mark.parametrize("name", ["desk.visit_async", "visit_async"])
async def test_the_utils_limit_one_type_of_operation(make: Make, gate: Gate, name: str) -> None:
    utils = ExecutionUtils()
    utils.set_operation_timeout(name, 0.2)
    executor = make(utils)

    result, other = await executor.execute_parallel_operations(
        [{**op("desk.visit_async", gate=gate.port), "timeout": 60}, op("desk.give", value=1)]
    )

    assert (result.status, result.error_code) == ("timed_out", "E002")
    assert result.error_message == "Operation timed out after 0.2s"
    assert other.result == 1


async def test_the_configuration_limits_every_attempt(make: Make, gate: Gate) -> None:
    executor = make(timeout=0.2)

    with pytest.raises(TimeoutError, match=r"Operation timed out after 0\.2s") as caught:
        await executor.execute_operation("desk.visit_async", {"gate": gate.port})

    assert isinstance(caught.value, OperationTimeoutError)
    assert caught.value.error_code == "E002"


async def test_a_sync_operation_is_limited_too(make: Make, gate: Gate) -> None:
    executor = make(timeout=0.2)
    watch = Stopwatch()

    (result,) = await executor.batch_execute_operations([op("desk.visit", gate=gate.port)])

    assert isinstance(result, TimeoutError)
    assert watch.seconds < 5


async def test_an_injected_tool_executor_is_retried_and_limited_as_well(gate: Gate) -> None:
    class Unsteady(IToolExecutor):
        def __init__(self) -> None:
            self.attempts = 0

        def execute(self, tool: Any, operation_name: str, **params: Any) -> Any:
            raise NotImplementedError

        async def execute_async(self, tool: Any, operation_name: str, **params: Any) -> Any:  # noqa: ARG002
            self.attempts += 1
            if self.attempts == 1:
                raise ConnectionError("not yet")
            return self.attempts

    unsteady = Unsteady()
    executor = OperationExecutor(unsteady, ExecutionUtils(retry_attempts=2, retry_backoff=0), {})

    assert gate.port
    assert await executor.execute_operation("any.one", {}) == 2
    executor.close()
