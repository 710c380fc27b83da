"""``python -m benchmarks.stages``: the processor time of each process for one no-op operation.

The figures of ``docs/performance-profile.md`` on Ray. Processor time says where the work is done, not how long a caller
waits: that is what the cases measure.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

import aiecs_ray
from benchmarks.tools import NoopTool
from benchmarks.world import CPUS, World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROLES = {"ray::_CoordinatorActor": "coordinator", "ray::Replica_": "replicas", "ray::_CacheActor": "cache"}
"""What the titles of Ray's processes begin with, and what they are."""


class Stage(NamedTuple):
    """Microseconds for one operation."""

    way: str
    wall: float
    shares: dict[str, float]


def role_of(process: psutil.Process) -> str:
    """Return what a process is for an operation."""
    if process.pid == os.getpid():
        return "client"
    title = process.name() if not (line := process.cmdline()) else line[0]
    return next((role for start, role in ROLES.items() if title.startswith(start)), "Ray and history")


def spent() -> Counter[str]:
    """Return the processor seconds of this process and its children so far, by role."""
    seconds: Counter[str] = Counter()
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            times, role = process.cpu_times(), role_of(process)
        except psutil.NoSuchProcess:
            continue
        seconds[role] += times.user + times.system
    return seconds


def measure(way: str, run: Callable[[], object], operations: int, repeats: int) -> Stage:
    """Return what ``repeats`` calls of ``run``, of so many operations each, take after one that does not count."""
    run()
    before, began = spent(), time.perf_counter()
    for _ in range(repeats):
        run()
    wall, total = time.perf_counter() - began, spent()
    count = operations * repeats / 1e6
    return Stage(way, wall / count, {role: (total[role] - before[role]) / count for role in total})


def stages(rt: aiecs_ray.Runtime, *, size: int, repeats: int) -> list[Stage]:
    """Measure a batch and single calls, without a context and in new ones, where nothing is cached yet."""
    operations: list[Any] = [{"operation": "noop_tool.echo", "params": {"n": n}} for n in range(size)]
    calls = range(max(1, size // 40))

    def call_many(**context: str) -> None:
        for n in calls:
            rt.call("noop_tool.echo", {"n": n}, **context)

    return [
        measure("batch", lambda: rt.run(operations, "batch"), size, repeats),
        measure("batch in a context", lambda: rt.run(operations, "batch", **World.context()), size, repeats),
        measure("single calls", call_many, len(calls), repeats),
        measure("single calls in a context", lambda: call_many(**World.context()), len(calls), repeats),
    ]


def table(found: Sequence[Stage]) -> str:
    """Return the stages as a Markdown table, in microseconds."""
    roles = ["client", *ROLES.values(), "Ray and history"]
    lines = [f"| µs for one operation | {' | '.join(roles)} | on the clock |", "|---" * (len(roles) + 2) + "|"]
    for stage in found:
        shares = " | ".join(f"{stage.shares.get(role, 0.0):,.0f}" for role in roles)
        lines.append(f"| {stage.way} | {shares} | {stage.wall:,.0f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description="Processor time by process.")
    parser.add_argument("--size", type=int, default=20_000, help="operations in a batch (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="how often each is measured (%(default)s)")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as state:
        # The history is kept as everywhere, but not among that of the user.
        os.environ["XDG_STATE_HOME"] = state
        with aiecs_ray.connect("local", num_cpus=CPUS, object_store_memory=200 * 2**20) as rt:
            rt.register(NoopTool, num_cpus=0, min_replicas=CPUS, max_replicas=CPUS)
            print(table(stages(rt, size=options.size, repeats=options.repeats)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
