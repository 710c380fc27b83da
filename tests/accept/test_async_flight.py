"""Ten thousand operations of one second at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.accept.driver import drive

pytestmark = [pytest.mark.ray, pytest.mark.accept, pytest.mark.timeout(300)]

COUNT, SECONDS = 10_000, 60.0
MOST_GROWTH, MOST_LEFT = 200 * 2**20, 50 * 2**20

FLIGHT = """
import asyncio, threading, time
import psutil
import aiecs_ray

class Waiting:
    def __init__(self):
        self.present = self.most = 0
    async def wait(self, number: int) -> int:
        self.present += 1
        self.most = max(self.most, self.present)
        await asyncio.sleep(1.0)
        self.present -= 1
        return number
    async def peak(self) -> int:
        return self.most

def coordinator(address):
    named = psutil.process_iter(["cmdline"])
    found = [p for p in named if (p.info["cmdline"] or [""])[0].startswith("ray::_CoordinatorActor")]
    return next(p for p in found if f"--gcs-address={address}" in p.parent().cmdline())  # of this cluster

def operations(count):
    return [{"operation": "waiting.wait", "params": {"number": number}} for number in range(count)]

with aiecs_ray.connect("local", num_cpus=2) as rt:
    rt.register(Waiting, concurrency=10_000, max_replicas=1)
    rt.run(operations(10), "parallel")
    process = coordinator(rt.address)
    before = peak = process.memory_info().rss
    began = time.monotonic()
    run = rt.submit(operations(%d), "parallel")
    while not run.wait(0.05):
        peak = max(peak, process.memory_info().rss)
    right = [result.result for result in run.result()] == list(range(%d))
    seconds = time.monotonic() - began
    run.release()
    after = process.memory_info().rss
    answer({
        "right": right, "seconds": seconds, "peak": rt.call("waiting.peak"),
        "growth": peak - before, "left": after - before,
    })
"""


def test_ten_thousand_operations_of_a_second_are_in_flight_at_once() -> None:
    found: Any = drive(FLIGHT % (COUNT, COUNT))

    assert found["right"]
    assert found["seconds"] < SECONDS
    assert found["peak"] > 0.9 * COUNT
    assert found["growth"] < MOST_GROWTH
    assert found["left"] < MOST_LEFT
