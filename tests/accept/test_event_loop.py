"""The documents' executor never holds up its caller's event loop."""

from __future__ import annotations

from typing import Any

import pytest

from tests.accept.driver import drive

pytestmark = [pytest.mark.ray, pytest.mark.accept, pytest.mark.timeout(300)]

PRELUDE = """
import asyncio, time
import aiecs_ray
from aiecs_ray import OperationExecutor

class SleepTool:
    def nap(self, seconds: float = 0.5) -> float:
        time.sleep(seconds); return seconds
    def echo(self, n: int) -> int:
        return n

class Heartbeat:
    def __init__(self): self.longest = 0.0
    async def beat(self):
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.002)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last); last = now
    async def __aenter__(self):
        self.task = asyncio.create_task(self.beat()); await asyncio.sleep(0.01); self.longest = 0.0; return self
    async def __aexit__(self, *_):
        self.task.cancel()

async def longest(work):
    async with Heartbeat() as heart:
        begun = time.perf_counter()
        result = await work
        return {"gap": heart.longest, "seconds": time.perf_counter() - begun}, result

aiecs_ray.registry.DEFAULT.register(SleepTool)
"""


def test_four_naps_on_two_replicas_take_as_long_as_two_and_the_loop_goes_on() -> None:
    answer: Any = drive(
        PRELUDE
        + """
async def main():
    executor = OperationExecutor(config={"rate_limit_requests_per_second": None})
    connecting, _ = await longest(executor.execute_operation("sleep_tool.nap", {"seconds": 0.01}))
    naps = [{"operation": "sleep_tool.nap"}] * 4
    await executor.execute_parallel_operations(naps)
    measured, results = await longest(executor.execute_parallel_operations(naps))
    executor.close()
    answer({"connecting": connecting, "naps": measured, "completed": sum(r.completed for r in results)})
asyncio.run(main())
"""
    )

    assert answer["completed"] == 4
    assert answer["naps"]["seconds"] <= 1.3
    assert answer["naps"]["gap"] <= 0.05
    assert answer["connecting"]["gap"] <= 0.5


def test_ten_thousand_operations_do_not_hold_up_the_loop() -> None:
    answer: Any = drive(
        PRELUDE
        + """
async def main():
    executor = OperationExecutor(config={"rate_limit_requests_per_second": None, "batch_size": 10_000})
    await executor.execute_operation("sleep_tool.echo", {"n": 0})
    operations = [{"operation": "sleep_tool.echo", "params": {"n": n}} for n in range(10_000)]
    batch, values = await longest(executor.batch_execute_operations(operations))
    parallel, results = await longest(executor.execute_parallel_operations(operations))
    sequence, steps = await longest(executor.execute_operations_sequence(operations, "u", "t"))
    executor.close()
    answer({"batch": batch, "parallel": parallel, "sequence": sequence, "right": values == list(range(10_000)),
            "completed": [sum(r.completed for r in results), sum(r.completed for r in steps)]})
asyncio.run(main())
"""
    )

    assert answer["right"]
    assert answer["completed"] == [10_000, 10_000]
    for name in ("batch", "parallel", "sequence"):
        assert answer[name]["gap"] <= 0.05, answer
