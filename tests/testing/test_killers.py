"""Killers end what they are meant to end, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aiecs_ray import testing
from aiecs_ray.testing import killer

if TYPE_CHECKING:
    import aiecs_ray

ROOT = Path(__file__).resolve().parents[2]


def test_only_replicas_of_the_named_tools_in_the_own_cluster_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = {
        1: (0, "/x/raylet --gcs-address=10.0.0.1:6379 --node"),
        2: (0, "/x/raylet --gcs-address=10.0.0.1:63790 --node"),
        10: (1, "ray::Replica_worker.call "),
        11: (1, "ray::Replica_worker"),
        12: (1, "ray::Replica_other.stream"),
        13: (1, "ray::_CoordinatorActor"),
        14: (2, "ray::Replica_worker.call"),
        15: (99, "ray::Replica_worker.call"),
        16: (1, "grep ray::Replica_worker"),
    }
    monkeypatch.setattr(killer, "_from_proc", lambda: processes)
    monkeypatch.setattr(killer, "_from_ps", lambda: processes)

    named = dict(killer._replicas("10.0.0.1:6379", frozenset({"worker"})))
    every = dict(killer._replicas("10.0.0.1:6379", None))

    assert named == {10: "worker", 11: "worker"}
    assert every == {10: "worker", 11: "worker", 12: "other"}


@pytest.mark.parametrize("source", ["/proc", "/bin/ps"])
def test_either_way_to_list_processes_finds_this_one(source: str) -> None:
    if not Path(source).exists():
        pytest.skip(f"this machine has no {source}")

    found = killer._from_proc() if source == "/proc" else killer._from_ps()

    assert found[os.getpid()][0] == os.getppid()


@pytest.mark.ray
def test_a_killed_replica_loses_nothing_that_may_run_again(ray_rt: aiecs_ray.Runtime, tmp_path: Path) -> None:
    ledger = testing.Ledger(tmp_path / "ledger")
    ray_rt.register(testing.LedgerTool, "worker", config=ledger.config)
    names = [f"n{number}" for number in range(40)]
    operations = [{"operation": "worker.run", "params": {"id": name, "seconds": 0.05}} for name in names]

    with testing.ReplicaKiller(ray_rt, ["worker"], interval=(0.2, 0.4), most=2, seed=5) as kills:
        results = ray_rt.run(operations, mode="parallel")

    assert {result.status for result in results} == {"completed"}
    assert ledger.lost(names) == set()
    assert 1 <= kills.count <= 2
    assert {kill.tool for kill in kills.kills} == {"worker"}


NODES = """
import sys
import aiecs_ray
from aiecs_ray import testing
from aiecs_ray.testing.cluster import NodeCluster

ledger = testing.Ledger(sys.argv[1])
names = [f"n{number}" for number in range(8)]
operations = [{"operation": "worker.run", "params": {"id": name, "seconds": 0.3}} for name in names]
with NodeCluster({"num_cpus": 1}, {"num_cpus": 1}, seed=3) as cluster:
    with aiecs_ray.connect(cluster.address, registry=aiecs_ray.Registry()) as rt:
        rt.register(testing.LedgerTool, "worker", config=ledger.config)
        run = rt.submit(operations, mode="parallel")
        next(event for event in run.events() if event.kind == "step_completed")
        assert cluster.kill()
        assert (cluster.count, cluster.killed) == (1, 1)
        print({result.status for result in run.result(timeout=60)}, ledger.lost(names))
"""


@pytest.mark.ray
@pytest.mark.accept
@pytest.mark.timeout(180)
def test_a_killed_node_loses_nothing_that_may_run_again(tmp_path: Path) -> None:
    # In a process of its own: this one may be connected to another cluster.
    done = subprocess.run(  # noqa: S603  # this Python, a fixed script
        [sys.executable, "-c", NODES, str(tmp_path / "ledger")],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert "{'completed'} set()" in done.stdout, done.stderr
