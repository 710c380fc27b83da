"""A node is killed that holds running work and results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.accept.driver import drive

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.ray, pytest.mark.accept, pytest.mark.timeout(300)]

LIMIT = 40.0
"""Seconds after the death of a node by which everything that was under way has ended."""

LOST_NODE = """
import os, time
from pathlib import Path
import aiecs_ray
from aiecs_ray import operation, testing
from aiecs_ray.errors import AiecsError
from aiecs_ray.testing.cluster import NodeCluster

SIZE = 500_000
folder = Path(os.environ["FOLDER"])
ledger = testing.Ledger(folder / "ledger")

class Maker:
    def __init__(self, path: str) -> None:
        self.path = path
    def note(self, text: str) -> None:
        with open(self.path, "a") as file:
            file.write(f"{text}\\n")
    @operation
    def make_small(self) -> str:
        self.note("small")
        return "small"
    @operation
    def make_large(self) -> bytes:
        self.note("large")
        return b"l" * SIZE
    @operation
    def double(self, data: bytes) -> bytes:
        self.note("double")
        return data + data
    @operation(idempotent=False)
    def make_once(self) -> bytes:
        self.note("once")
        return b"o" * SIZE
    @operation
    def measure(self, data: bytes) -> int:
        return len(data)

def started(name):
    return sum(line.kind == "s" and line.id == name for line in ledger.lines())

def wait_for(name):
    while not started(name):
        time.sleep(0.02)

def value(run, step):
    try:
        found = run.value(step)
        return found if type(found) is not bytes else len(found)
    except AiecsError as error:
        return f"{error.error_code} {type(error).__name__}"

def op(spec, **params):
    return {"operation": spec, "params": params}

with NodeCluster({"num_cpus": 2}, seed=1) as cluster, aiecs_ray.connect(cluster.address) as rt:
    rt.register(Maker, config={"path": str(folder / "made")}, num_cpus=0.1, max_replicas=1)
    for tool in ("again", "once"):
        rt.register(testing.LedgerTool, tool, config=ledger.config, num_cpus=0.1, max_replicas=1)
    made = rt.submit([
        op("maker.make_small"), op("maker.make_large"), op("maker.double", data="$result[1]"),
        op("maker.make_once"), op("maker.double", data="$result[3]"), op("maker.measure", data="$result[4]"),
    ])
    made.wait()
    once = rt.submit([op("once.run_once", id="b0", seconds=60.0)] + [op("once.run_once", id=f"b{n}") for n in (1, 2)])
    several = rt.submit([op("once.run_once", id=f"c{n}") for n in range(5)], "batch")
    rt.call("again.run", {"id": "warm"})
    wait_for("b0")
    again = rt.submit([op("again.run", id="a0", seconds=3.0), op("again.run", id="a1")])
    wait_for("a0")
    cluster.add(num_cpus=2)
    assert cluster.kill()
    began = time.monotonic()
    results = {name: run.result(timeout=100) for name, run in (("again", again), ("once", once), ("several", several))}
    seconds = time.monotonic() - began
    answer({
        "seconds": seconds,
        "again": [result.result for result in results["again"]],
        "once": [[result.result, result.error_code, result.error_message or ""] for result in results["once"]],
        "several": [result.result for result in results["several"]],
        "twice": sorted(name for name in ledger.started_twice() if not name.startswith("a")),
        "values": [value(made, step) for step in range(6)],
        "read_after": time.monotonic() - began,
        "made": (folder / "made").read_text().split(),
    })
"""


def test_a_node_that_dies_takes_nothing_along_that_can_be_had_again_and_nothing_runs_twice(tmp_path: Path) -> None:
    found: Any = drive(LOST_NODE, FOLDER=str(tmp_path), XDG_STATE_HOME=str(tmp_path))

    assert found["seconds"] < LIMIT
    assert found["again"] == ["a0", "a1"]
    assert [(result, code) for result, code, _ in found["once"]] == [(None, "E003"), ("b1", None), ("b2", None)]
    assert "Outcome unknown" in found["once"][0][2]
    assert found["several"] == [f"c{n}" for n in range(5)]
    assert found["twice"] == []
    assert found["values"][0] == "small"
    assert found["values"][1:3] == [500_000, 1_000_000]
    assert found["values"][3:5] == ["E003 ResultLostError", "E003 ResultLostError"]
    assert found["values"][5] == 1_000_000
    assert found["made"].count("once") == 1
    assert found["read_after"] < LIMIT
