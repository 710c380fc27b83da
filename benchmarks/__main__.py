"""``python -m benchmarks [CASE ...]``: prints a table of ratios, and writes benchmarks/results/latest.json."""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiecs_ray
from benchmarks.cases import cases
from benchmarks.peers import NoopTool, RawActor, SinkTool

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.cases import Case

RESULTS = Path(__file__).parent / "results"


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that ``work`` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(case: Case) -> dict[str, Any]:
    """Return medians of interleaved repetitions, after one of each that does not count."""
    case.ours()
    case.raw()
    pairs = [(timed(case.ours), timed(case.raw)) for _ in range(case.repeats)]
    ours, raw = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = sorted(mine / theirs for mine, theirs in pairs)
    return {
        "case": case.name,
        "work": case.work,
        "ours_seconds": ours,
        "raw_seconds": raw,
        "ratio": ours / raw,
        "ratio_low": ratios[len(ratios) // 10],
        "ratio_high": ratios[-1 - len(ratios) // 10],
        "repeats": case.repeats,
    }


def main(names: list[str]) -> int:
    """Measure the named cases, or all."""
    begun = time.perf_counter()
    with aiecs_ray.connect("local", num_cpus=2, object_store_memory=2 * 10**9) as rt:
        rt.register(NoopTool, min_replicas=2)
        rt.register(SinkTool, num_cpus=0)
        rt.call("noop_tool.echo", {"n": 1})
        cold = time.perf_counter() - begun
        actors = [RawActor.remote() for _ in range(2)]
        chosen = [case for case in cases(rt, actors) if not names or case.name in names]
        print(f"{'case':<15}{'ours':>12}{'raw Ray':>12}{'ratio':>8}   10 to 90 %      work")
        rows = []
        for case in chosen:
            row = measure(case)
            rows.append(row)
            spread = f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}"
            times = f"{row['ours_seconds'] * 1e3:>9.2f} ms{row['raw_seconds'] * 1e3:>9.2f} ms"
            print(f"{row['case']:<15}{times}{row['ratio']:>8.2f}   {spread:<14}  {row['work']}")
    print(f"connect and first operation, cold: {cold:.1f} s")
    RESULTS.mkdir(exist_ok=True)
    facts = {"python": platform.python_version(), "cold_start_seconds": cold, "cases": rows}
    (RESULTS / "latest.json").write_text(json.dumps(facts, indent=1) + "\n")
    return 0 if rows else 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
