"""The history under SIGKILL, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.accept.driver import drive

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.ray, pytest.mark.accept, pytest.mark.timeout(1800)]
DEAREST = 1.2
"""How much of the coordinator's time a batch may take with everything on, for each second with everything off."""

KILLS = """
import contextlib, os, random, signal, sqlite3, threading, time
import ray
import aiecs_ray
from aiecs_ray.config import Settings
from aiecs_ray.messages import PROTOCOL

class Scribe:
    def give(self, value: int) -> int:
        return value

rt = aiecs_ray.connect("local", num_cpus=2, settings=Settings(history_url=f"sqlite:///{WHERE}/kills.sqlite3"))
rt.register(Scribe, num_cpus=0)
rt.run([{"operation": "scribe.give", "params": {"value": 0}}])
actor = ray.get_actor(f"aiecs_ray_history_v{PROTOCOL}", "aiecs_ray")
over = threading.Event()
killed = 0

def kill():
    global killed
    while killed < KILLS and not over.is_set():
        time.sleep(random.uniform(0.0, 0.3))
        with contextlib.suppress(ray.exceptions.RayError, ProcessLookupError):
            os.kill(ray.get(actor.__ray_call__.remote(lambda _: os.getpid()), timeout=60), signal.SIGKILL)
            killed += 1

killer = threading.Thread(target=kill)
killer.start()
runs = []
while len(runs) < RUNS or killer.is_alive():
    run = rt.submit([{"operation": "scribe.give", "params": {"value": n}} for n in range(STEPS)])
    run.result()
    runs.append(run.id)
    run.release()
over.set()
killer.join()
begun = time.monotonic()
while not rt.request("write_history") and time.monotonic() - begun < 120:
    pass
gaps, short = [], []
for run_id in runs:
    record = rt.history.run(run_id)
    numbers = [event.number for event in record.events()]
    if numbers != list(range(len(numbers))) or record.run.status != "completed":
        gaps.append(run_id)
    if [step.status for step in record.steps] != ["completed"] * STEPS:
        short.append(run_id)
lost = rt.stats()["history"]["lost"]
rt.close()
check = sqlite3.connect(f"{WHERE}/kills.sqlite3").execute("PRAGMA integrity_check").fetchone()[0]
answer({"killed": killed, "gaps": gaps, "short": short, "lost": lost, "check": check, "steps": len(runs) * STEPS})
"""

COST = """
import statistics, time
import psutil
import aiecs_ray
from aiecs_ray.config import Settings

class Noop:
    def echo(self, n: int) -> int:
        return n

me, known = psutil.Process(), set()

def coordinator():
    for child in me.children(recursive=True):
        if child.pid not in known and (child.cmdline() or [""])[0].startswith("ray::_CoordinatorActor"):
            known.add(child.pid)
            return child

first = aiecs_ray.connect("local", num_cpus=2, settings=Settings(namespace="first", history_url="off"))
coordinator()
kinds = {"off": {"history_url": "off", "metrics": False}, "on": {"history_url": f"sqlite:///{WHERE}/cost.sqlite3"}}
runtimes, processes, seconds = {}, {}, {kind: [] for kind in kinds}
for kind, given in kinds.items():
    settings = Settings(namespace=kind, **given)
    rt = runtimes[kind] = aiecs_ray.connect(settings=settings, registry=aiecs_ray.Registry())
    rt.register(Noop, num_cpus=0, max_replicas=2)
    rt.run([{"operation": "noop.echo", "params": {"n": n}} for n in range(2000)], mode="batch")
    processes[kind] = coordinator()
operations = [{"operation": "noop.echo", "params": {"n": n}} for n in range(100_000)]
for _ in range(5):
    for kind, rt in runtimes.items():
        before = processes[kind].cpu_times()
        rt.run(operations, mode="batch")
        rt.request("write_history")
        after = processes[kind].cpu_times()
        seconds[kind].append(after.user + after.system - before.user - before.system)
for rt in runtimes.values():
    rt.close()
first.close()
answer({kind: statistics.median(took) for kind, took in seconds.items()})
"""


def test_a_history_that_is_killed_a_hundred_times_has_no_gap_and_no_torn_record(tmp_path: Path) -> None:
    answer: Any = drive(f"WHERE, KILLS, RUNS, STEPS = {str(tmp_path)!r}, 100, 1000, 10\n{KILLS}", timeout=1500)

    assert answer["killed"] == 100
    assert answer["steps"] >= 10_000
    assert (answer["gaps"], answer["short"], answer["lost"]) == ([], [], 0)
    assert answer["check"] == "ok"


def test_history_and_metrics_take_little_of_a_large_batch(tmp_path: Path) -> None:
    answer: Any = drive(f"WHERE = {str(tmp_path)!r}\n{COST}", timeout=1500)

    assert answer["on"] <= DEAREST * answer["off"], answer
