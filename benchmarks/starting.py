"""Cold: processes that begin with nothing."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from benchmarks.figures import Row, Target, spread, turns
from benchmarks.harness import Case, Measured, compare
from benchmarks.world import CPUS

if TYPE_CHECKING:
    from benchmarks.world import World

AIECS = f"""
import aiecs_ray
from benchmarks.tools import NoopTool
rt = aiecs_ray.connect("local", num_cpus={CPUS})
rt.register(NoopTool)
print(rt.call("noop_tool.echo", {{"n": 7}}), flush=True)
"""
RAW = f"""
import ray
from benchmarks.raw import RawActor
ray.init("local", num_cpus={CPUS})
print(ray.get(RawActor.remote().echo.remote(7)), flush=True)
"""
# What aiecs-ray asks Ray for: no dashboard, and no thread that prints what workers print.
ALIKE = RAW.replace(")\nprint", ", include_dashboard=False, log_to_driver=False)\nprint")
WAYS = {"aiecs": ("-c", AIECS), "raw": ("-c", RAW), "raw, no dashboard": ("-c", ALIKE)}


def until_answer(*arguments: str) -> float:
    """Return the seconds from the start of a Python process to the first line that it prints.

    Raises:
        RuntimeError: it ended before; the message has what it said.
    """
    command = [sys.executable, *arguments]
    with tempfile.TemporaryFile("w+") as errors:
        begun = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:  # noqa: S603  # our own
            assert process.stdout is not None
            line = process.stdout.readline()
            seconds = time.perf_counter() - begun
            process.stdout.read()
        if not line:
            errors.seek(0)
            raise RuntimeError(f"the process ended with status {process.returncode}: {errors.read()[-2000:]}")
    return seconds


def start(world: World) -> Measured:
    """Processes that connect and run one operation; one that only says how it is used."""
    samples: dict[str, list[float]] = {name: [] for name in WAYS}
    for repetition in range(world.pick(5, 1)):
        for name in turns(list(WAYS), repetition):
            samples[name].append(until_answer(*WAYS[name]))
    samples["--help"] = [until_answer("-m", "aiecs_ray.cli.main", "--help") for _ in range(world.pick(7, 1))]
    rows = [
        compare(samples, "aiecs", "raw", Target(1.15)),
        compare(samples, "aiecs", "raw, no dashboard"),
        Row("aiecs, cold", spread(samples["aiecs"]), "s"),
        Row("--help", spread(samples["--help"]), "s", Target(0.5)),
    ]
    return Measured(samples, rows, {})


CASES = (Case("start", "connect() and the first operation; --help: from the start of the process", start),)
