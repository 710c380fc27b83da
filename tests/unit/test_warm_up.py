"""Warming up a cache computes what is missing, reports what failed, and harms nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.execution_utils import ExecutionUtils

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = 60


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def add(left: int, right: int = 0) -> int:
    return left + right


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Iterator[Callable[..., ExecutionUtils]]:
    made: list[ExecutionUtils] = []

    def build(**options: Any) -> ExecutionUtils:
        made.append(ExecutionUtils(clock=clock, **options))
        return made[-1]

    yield build
    for utils in made:
        utils.close()


@pytest.fixture
def utils(make: Any) -> ExecutionUtils:
    return make()


async def test_warming_up_computes_at_once_what_is_not_cached(utils: ExecutionUtils) -> None:
    together = asyncio.Barrier(2)

    async def meet(name: str) -> str:
        await together.wait()
        return f"hello {name}"

    utils.add_to_cache(utils.generate_cache_key("meet", "system", "warmup", ("old",), {}), None)
    report = await asyncio.wait_for(
        utils.warm_up_cache([{"func": meet, "args": (name,)} for name in ("a", "b", "old")]), LONG
    )

    assert (report.warmed, report.cached, report.failed) == (2, 1, ())
    assert utils.get_from_cache(utils.generate_cache_key("meet", "system", "warmup", ("a",), {})) == "hello a"


async def test_warming_up_takes_context_name_time_and_sync_functions(utils: ExecutionUtils, clock: Clock) -> None:
    operation = {"func": add, "args": (1,), "kwargs": {"right": 2}, "func_name": "sum", "user_id": "u", "task_id": "t"}

    await utils.warm_up_cache([{**operation, "ttl": 5}])
    key = utils.generate_cache_key("sum", "u", "t", (1,), {"right": 2})
    found = utils.get_from_cache(key)
    clock.now += 5

    assert found == 3
    assert utils.lookup(key) == (False, None)


async def test_equal_operations_are_computed_once(utils: ExecutionUtils) -> None:
    calls = []

    def work() -> None:
        calls.append(1)

    report = await utils.warm_up_cache([{"func": work}, {"func": work}])

    assert len(calls) == 1
    assert (report.warmed, report.cached) == (1, 1)


async def test_operations_of_tools_are_run_by_whoever_can(utils: ExecutionUtils) -> None:
    async def run(operation: str, params: Any) -> str:
        return f"{operation} of {params['x']}"

    report = await utils.warm_up_cache([{"operation": "tool.op", "params": {"x": 1}}], run=run)

    key = utils.generate_cache_key("tool.op", "system", "warmup", (), {"x": 1})
    assert report.warmed == 1
    assert utils.get_from_cache(key) == "tool.op of 1"


async def test_one_that_fails_is_logged_and_reported_and_the_others_go_on(
    utils: ExecutionUtils, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise ValueError("no such table")

    report = await utils.warm_up_cache([{"func": broken}, {"func": add, "args": (1,)}])

    assert report.failed == (("broken", "no such table"),)
    assert report.warmed == 1
    assert "预热操作失败: no such table" in caplog.messages


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        ({}, "needs func"),
        ({"func": 5}, "needs func"),
        ({"func": add, "argz": ()}, "has no 'argz'"),
        ({"func": add, "args": (object(),)}, "without an exact key"),
        ({"operation": "tool.op"}, "needs run="),
    ],
)
async def test_an_operation_that_cannot_be_warmed_up_says_why(
    utils: ExecutionUtils, operation: dict[str, Any], reason: str
) -> None:
    report = await utils.warm_up_cache([operation])

    assert (report.warmed, report.cached, len(report.failed)) == (0, 0, 1)
    assert reason in report.failed[0][1]
