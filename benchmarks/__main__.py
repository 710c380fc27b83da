"""``python -m benchmarks [CASE ...]``: measures, prints one table of ratios and writes a JSON file for each case."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import data, flow, pipeline, small, starting, timed
from benchmarks.picture import draw
from benchmarks.report import record, recorded, table
from benchmarks.world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness import Case

GROUPS: tuple[tuple[Case, ...], ...] = (
    starting.CASES,
    small.CASES,
    data.CASES,
    timed.CASES,
    flow.CASES,
    pipeline.CASES,
)
"""Cases that share a cluster; between groups everything ends."""
RESULTS = Path(__file__).parent / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the named cases, or all."""
    names = [case.name for group in GROUPS for case in group]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure beside raw Ray and Dask.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"one of {', '.join(names)}; none: all")
    parser.add_argument("--quick", action="store_true", help="sizes so small that the numbers say nothing")
    parser.add_argument("--out", type=Path, help="where the JSON files go (benchmarks/results)")
    parser.add_argument("--show", action="store_true", help="measure nothing: print the table of what was measured")
    options = parser.parse_args(argv)
    if unknown := set(options.cases) - set(names):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    out = options.out or (RESULTS / "local" if options.quick else RESULTS)
    if options.show:
        print(table({name: recorded(name, out) for name in options.cases or names}))
        return 0
    # Ray's workers give way to every other process of the machine, Dask's do not: here all are alike.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # as Ray spells it
    # The history is kept as everywhere, but not among that of the user.
    with tempfile.TemporaryDirectory() as state:
        os.environ["XDG_STATE_HOME"] = state
        print(run([*options.cases] or names, out, quick=options.quick))
    return 0


def run(names: Sequence[str], out: Path, *, quick: bool) -> str:
    """Measure the named cases and return the table."""
    found = {}
    for group in GROUPS:
        chosen = [case for case in group if case.name in names]
        with World(quick=quick) as world:
            for case in chosen:
                print(f"{case.name}: {case.work}", file=sys.stderr, flush=True)
                measured = record(case, world, out)
                found[case.name] = measured.rows
                if case.name == "growth":
                    draw(measured.samples, out / "growth.png")
    return table(found)


if __name__ == "__main__":
    raise SystemExit(main())
