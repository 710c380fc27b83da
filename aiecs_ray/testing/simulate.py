"""Runs seeds of the simulator: ``python -m aiecs_ray.testing.simulate --seeds 20000``.

Prints the first seeds that broke a promise, and how to see what happened in them; exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TYPE_CHECKING

from aiecs_ray.testing.simulation import Report, simulate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

BATCH = 100
"""Seeds that a process takes at a time."""
GARBAGE = 50
"""Seeds between two collections; the collector would look at everything far more often."""
SHOWN = 5
"""Reports that are printed."""


def simulate_many(first: int, count: int, *, processes: int = 1, stop: int | None = None) -> Iterator[Report]:
    """Yield a report for each of ``count`` seeds from ``first`` on, in any order; after ``stop`` bad ones no more."""
    batches = [range(start, min(start + BATCH, first + count)) for start in range(first, first + count, BATCH)]
    bad = 0
    for report in _inline(batches) if processes == 1 else _spread(batches, processes):
        yield report
        bad += not report.ok
        if stop is not None and bad >= stop:
            return


def _inline(batches: Iterable[range]) -> Iterator[Report]:
    for batch in batches:
        yield from _batch(batch)


def _spread(batches: Sequence[range], processes: int) -> Iterator[Report]:
    with ProcessPoolExecutor(processes) as pool:
        try:
            for done in as_completed([pool.submit(_list, batch) for batch in batches]):
                yield from done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _list(batch: range) -> list[Report]:
    return list(_batch(batch))


def _batch(batch: range) -> Iterator[Report]:
    # What the coordinator warns of in a simulated world is no news to anybody.
    logger = logging.getLogger("aiecs_ray")
    level = logger.level
    logger.setLevel(logging.ERROR)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for seed in batch:
            yield simulate(seed)
            if seed % GARBAGE == 0:
                gc.collect()
    finally:
        logger.setLevel(level)
        if collecting:
            gc.enable()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m aiecs_ray.testing.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds (default: %(default)s)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1), help="(default: %(default)s)")
    parser.add_argument("--stop", type=int, default=SHOWN, help="end after so many bad seeds (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="run one seed and print everything that happens in it")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _show(simulate(options.seed, traced=True))
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    began, count, bad = time.monotonic(), 0, 0
    for report in simulate_many(options.start, options.seeds, processes=options.processes, stop=options.stop):
        count += 1
        if not report.ok:
            bad += 1
            _say(f"seed {report.seed}: {report.violations[0]}")
    seconds = time.monotonic() - began
    _say(f"{count} seeds in {seconds:.1f} s ({count / max(seconds, 1e-9):.0f} a second): {bad} broke a promise")
    if bad:
        _say("what happened in one: python -m aiecs_ray.testing.simulate --seed N")
    return 1 if bad else 0


def _show(report: Report) -> int:
    for line in report.trace:
        _say(line)
    for violation in report.violations:
        _say(f"BROKEN {violation}")
    _say(f"seed {report.seed}: {len(report.violations)} promises broken in {report.seconds:.1f} virtual seconds")
    return 0 if report.ok else 1


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
