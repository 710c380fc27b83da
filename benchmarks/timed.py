"""Operations that take their time: all that can be lost there is what lies between them."""

from __future__ import annotations

import itertools
import random
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Row, Seen, Target, held_back, list_schedule, quantile, spread
from benchmarks.harness import Case, Contender, Measured, compare, measure
from benchmarks.world import CPUS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.world import World

SHORTEST, LONGEST = 0.001, 2.0
TAIL = 0.7
"""The exponent of the Pareto distribution: some operations take a thousand times as long as most."""
SEED = 2013


def over(samples: Sequence[float], bound: float, what: str, target: Target | None = None) -> Row:
    """Return the row that compares times with what they would be at no cost."""
    return Row(what, spread([seconds / bound for seconds in samples]), target=target)


def batch(world: World, seconds: float, full: int, limit: float) -> Measured:
    """A batch of operations of one length."""
    rt, ray, actors = world.rt, world.raw.ray, world.actors
    size = world.pick(full, 8)
    operations = [{"operation": "spin_tool.spin", "params": {"seconds": seconds}}] * size
    contenders = [
        Contender("aiecs", lambda: sum(one.result for one in rt.run(operations, mode="batch")), size),
        Contender("raw", lambda: sum(ray.get([actors[n % CPUS].spin.remote(seconds) for n in range(size)])), size),
    ]
    samples = measure(contenders, world.pick(7, 1))
    ideal = size * seconds / CPUS
    rows = [
        over(samples["aiecs"], ideal, "aiecs / ideal", Target(limit)),
        over(samples["raw"], ideal, "raw / ideal"),
        compare(samples, "aiecs", "raw"),
    ]
    return Measured(samples, rows, {"operations": size, "ideal": ideal})


def durations(count: int) -> list[float]:
    """Return the same Pareto distributed seconds each time, from 1 ms to 2 s."""
    draw = random.Random(SEED)  # noqa: S311  # no secret
    return [min(LONGEST, SHORTEST * draw.paretovariate(TAIL)) for _ in range(count)]


def skewed(world: World) -> Measured:
    """A batch of operations of very different lengths."""
    rt, raw, actors = world.rt, world.raw, world.actors
    seconds = durations(world.pick(200, 8))
    operations = [{"operation": "spin_tool.trace", "params": {"seconds": one}} for one in seconds]
    seen: list[list[Seen]] = []

    def ours() -> int:
        seen.append([Seen(*one.result) for one in rt.run(operations, mode="batch")])
        return len(seen[-1])

    def by_hand() -> int:
        pool = raw.ActorPool(actors)
        return len(list(pool.map_unordered(lambda actor, one: actor.trace.remote(one), seconds)))

    contenders = [Contender("aiecs", ours, len(seconds)), Contender("raw pool of actors", by_hand, len(seconds))]
    samples = measure(contenders, world.pick(5, 1))
    waits = [held_back(run) for run in seen[1:]]
    bound = list_schedule(seconds, CPUS)
    rows = [
        over(samples["aiecs"], bound, "aiecs / list scheduling", Target(1.1)),
        over(samples["raw pool of actors"], bound, "raw pool of actors / list scheduling"),
        compare(samples, "aiecs", "raw pool of actors"),
        Row("held back by a long one, 95 %", spread([quantile(run, 0.95) for run in waits]), "s", Target(0.2)),
        Row("held back by a long one, longest", spread([max(run) for run in waits]), "s"),
    ]
    facts: dict[str, Any] = {"operations": len(seconds), "work": sum(seconds), "bound": bound}
    return Measured(samples, rows, facts | {"held back": sorted(itertools.chain(*waits))[-20:]})


CASES = (
    Case("batch-1ms", "2,000 operations of 1 ms", partial(batch, seconds=0.001, full=2000, limit=1.15)),
    Case("batch-10ms", "400 operations of 10 ms", partial(batch, seconds=0.01, full=400, limit=1.05)),
    Case("batch-100ms", "100 operations of 100 ms", partial(batch, seconds=0.1, full=100, limit=1.05)),
    Case("skewed", "200 operations of 1 ms to 2 s, Pareto distributed", skewed),
)
