"""Tool instances and statistics (S0-44 to S0-46, S0-57, S0-58, S0-80, S0-85, S0-91 to S0-93; C-20)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.probes import op
from tests.documents.tools_of_cases import Counter

if TYPE_CHECKING:
    import aiecs_ray
    from aiecs_ray import OperationExecutor
    from tests.contract.probes import Ledger
    from tests.documents.conftest import Make


@pytest.fixture
def counted(local: aiecs_ray.Runtime, ledger: Ledger) -> Ledger:
    """Offer a tool that writes into the ledger when it is made."""
    local.register(Counter, "counter", config={"ledger": ledger.path}, max_replicas=1)
    return ledger


def test_an_instance_is_the_same_at_each_call(executor: OperationExecutor) -> None:
    desk = executor.get_tool_instance("desk")

    assert executor.get_tool_instance("desk") is desk
    assert desk.add(a=41) == 42


async def test_an_instance_is_the_same_after_its_operations_ran(executor: OperationExecutor) -> None:
    await executor.execute_operation("desk.add", {"a": 1})

    desk = executor.get_tool_instance("desk")
    await executor.execute_operation("desk.add", {"a": 2})

    assert executor.get_tool_instance("desk") is desk


def test_an_instance_of_an_unknown_tool_is_refused(executor: OperationExecutor) -> None:
    with pytest.raises(AttributeError, match="Tool 'nobody' is not registered"):
        executor.get_tool_instance("nobody")


async def test_a_tool_is_made_when_it_is_first_needed_and_once(executor: OperationExecutor, counted: Ledger) -> None:
    executor.get_tool_instance("counter")
    assert len(counted) == 0

    for _ in range(3):
        await executor.execute_operation("counter.one", {})
    await executor.batch_execute_operations([op("counter.one")] * 20)

    assert counted.lines() == ["made"]


@pytest.mark.parametrize("by_hand", [False, True])
async def test_clearing_stops_the_tools_that_were_used(
    executor: OperationExecutor, counted: Ledger, *, by_hand: bool
) -> None:
    if by_hand:
        assert executor.get_tool_instance("counter").one() == 1
    else:
        await executor.execute_operation("counter.one", {})

    executor.clear_tool_cache()
    emptied = executor.get_stats()
    await executor.execute_operation("counter.one", {})

    assert (emptied["cached_tools"], emptied["tool_names"]) == (0, [])
    assert counted.lines() == ["made", "made"]


def test_clearing_gives_another_instance(executor: OperationExecutor) -> None:
    desk = executor.get_tool_instance("desk")

    executor.clear_tool_cache()

    assert executor.get_tool_instance("desk") is not desk


def test_clearing_before_anything_was_used_is_harmless(executor: OperationExecutor) -> None:
    executor.clear_tool_cache()

    assert executor.get_stats()["cached_tools"] == 0


async def test_the_statistics_have_the_documents_shape(make: Make, local: aiecs_ray.Runtime, ledger: Ledger) -> None:
    local.register(Counter, "counter", config={"ledger": ledger.path})
    executor = make(rate_limit_requests_per_second=3)
    await executor.execute_operation("desk.give", {})
    await executor.execute_operation("counter.one", {})

    stats = executor.get_stats()

    assert stats["cached_tools"] == 2
    assert sorted(stats["tool_names"]) == ["counter", "desk"]
    assert (stats["semaphore_value"], type(stats["semaphore_value"])) == (3, int)
    assert stats["config"] == {"batch_size": 10, "rate_limit": 3.0, "enable_cache": True}
    assert (stats["total_operations"], stats["failed_operations"], stats["success_rate"]) == (2, 0, 1.0)
    assert {"hits", "misses", "hit_rate"} <= stats["cache"].keys()


def test_the_statistics_of_an_unused_executor_are_zeros(executor: OperationExecutor) -> None:
    stats = executor.get_stats()

    assert (stats["cached_tools"], stats["total_operations"], stats["failed_operations"]) == (0, 0, 0)
    assert stats["success_rate"] == 0


async def test_the_hit_rate_is_the_share_of_hits(executor: OperationExecutor) -> None:
    for _ in range(4):
        await executor.execute_operation("desk.give", {"value": 1, "user_id": "ann"})

    cache = executor.get_stats()["cache"]

    assert (cache["hits"], cache["misses"], cache["hit_rate"]) == (3, 1, 0.75)


@pytest.mark.ray
async def test_clearing_stops_the_replicas_on_ray(on_ray: OperationExecutor, ledger: Ledger) -> None:
    on_ray.runtime.register(Counter, "counter", config={"ledger": ledger.path}, max_replicas=1)
    await on_ray.execute_operation("counter.one", {})

    on_ray.clear_tool_cache()
    await on_ray.execute_operation("counter.one", {})

    assert ledger.lines() == ["made", "made"]
