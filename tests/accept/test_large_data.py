"""Large values never pass through the coordinator."""

from __future__ import annotations

from typing import Any

import pytest

from tests.accept.driver import drive

pytestmark = [pytest.mark.ray, pytest.mark.accept, pytest.mark.timeout(300)]

MOST_GROWTH = 50 * 2**20

PRELUDE = """
import threading, time
import numpy as np, psutil
import aiecs_ray

class MakerTool:
    def make(self, n: int) -> dict:
        return {"data": np.arange(n, dtype=np.float64)}

class SumTool:
    def total(self, x) -> dict:
        return {"sum": float(x.sum()), "data": x}
    def size(self, x) -> int:
        return int(x.nbytes)

def coordinator():
    named = psutil.process_iter(["cmdline"])
    return next(p for p in named if (p.info["cmdline"] or [""])[0].startswith("ray::_CoordinatorActor"))

class Peak:
    def __init__(self, process):
        self.process, self.start = process, process.memory_info().rss
        self.peak, self.over = self.start, threading.Event()
    def __enter__(self):
        self.thread = threading.Thread(target=self.watch); self.thread.start(); return self
    def watch(self):
        while not self.over.wait(0.005):
            self.peak = max(self.peak, self.process.memory_info().rss)
    def __exit__(self, *_):
        self.over.set(); self.thread.join()
    @property
    def growth(self):
        return self.peak - self.start

rt = aiecs_ray.connect("local", object_store_memory=10**9, num_cpus=2)
rt.register(MakerTool); rt.register(SumTool)
rt.call("sum_tool.size", {"x": np.zeros(3)}); rt.call("maker_tool.make", {"n": 3})
"""


def test_an_array_of_200_mb_goes_from_tool_to_tool_past_the_coordinator() -> None:
    answer: Any = drive(
        PRELUDE
        + """
n = 25_000_000
with Peak(coordinator()) as peak:
    results = rt.run([
        {"operation": "maker_tool.make", "params": {"n": n}},
        {"operation": "sum_tool.total", "params": {"x": "$result[0].data"}},
        {"operation": "sum_tool.size", "params": {"x": "$result[1].data"}},
    ], keep="last")
answer({"growth": peak.growth, "statuses": [r.status for r in results], "size": results[2].result,
        "errors": [r.error_message for r in results]})
rt.close()
"""
    )

    assert answer["statuses"] == ["completed"] * 3, answer["errors"]
    assert answer["size"] == 200_000_000
    assert answer["growth"] < MOST_GROWTH


def test_a_parameter_of_200_mb_reaches_its_tool_past_the_coordinator() -> None:
    answer: Any = drive(
        PRELUDE
        + """
array = np.ones(25_000_000)
with Peak(coordinator()) as peak:
    size = rt.call("sum_tool.size", {"x": array})
answer({"growth": peak.growth, "size": size})
rt.close()
"""
    )

    assert answer["size"] == 200_000_000
    assert answer["growth"] < MOST_GROWTH
