"""Operations that cost nothing themselves: single ones, sequences, batches, answers from the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import work
from benchmarks.figures import Row, Target, spread
from benchmarks.harness import Case, Contender, Measured, best, compare, measure

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.world import World

BLOCK = 20
"""Single operations that are timed together."""
STEPS = 100
CHUNKS = (200, 500, 1000, 2000, 5000, 10_000)
"""Sizes of chunks among which a peer's best one is found."""


def block(call: Callable[[], object]) -> Callable[[], object]:
    """Return a callable that does the same some times over."""

    def run() -> object:
        for _ in range(BLOCK - 1):
            call()
        return call()

    return run


def single(world: World) -> Measured:
    """One warm no-op operation."""
    rt, (actor, _), raw = world.rt, world.actors, world.raw
    driver = raw.Driver.remote()
    ways = {
        "aiecs": lambda: rt.call("noop_tool.echo", {"n": 7}),
        "aiecs in a context": lambda: rt.call("noop_tool.echo", {"n": 7}, **world.context()),
        "raw": lambda: raw.ray.get(actor.echo.remote(7)),
        "raw through a coordinator": lambda: raw.ray.get(driver.echo.remote(actor, 7)),
    }
    samples = measure([Contender(name, block(way), 7) for name, way in ways.items()], world.pick(30, 2))
    samples = {name: [seconds / BLOCK for seconds in times] for name, times in samples.items()}
    rows = [
        compare(samples, "aiecs", "raw", Target(3.0)),
        compare(samples, "aiecs", "raw", Target(1.5, stretch=True)),
        compare(samples, "aiecs in a context", "raw"),
        compare(samples, "raw through a coordinator", "raw"),
    ]
    return Measured(samples, rows, {})


def sequence(world: World, *tools: str) -> tuple[dict[str, Callable[[], object]], Callable[[], object]]:
    """Return the ways in which aiecs-ray runs the chain, and the chain awaited from the driver by hand."""
    steps = [
        {"operation": f"{tools[n % len(tools)]}.count", "params": {"n": f"$result[{n - 1}]"}} for n in range(STEPS)
    ]
    steps[0] = {"operation": f"{tools[0]}.count", "params": {"n": 0}}
    rt, raw, actors = world.rt, world.raw, world.actors

    def by_hand() -> object:
        value = 0
        for step in range(STEPS):
            value = raw.ray.get(actors[step % len(tools)].count.remote(value))
        return value

    ours = {
        "aiecs": lambda: rt.run(steps)[-1].result,
        "aiecs in a context": lambda: rt.run(steps, **world.context())[-1].result,
    }
    return ours, by_hand


def sequence_same(world: World) -> Measured:
    """A chain on one tool."""
    ours, by_hand = sequence(world, "noop_tool")
    ways = {**ours, "raw awaited": by_hand}
    samples = measure([Contender(name, way, STEPS) for name, way in ways.items()], world.pick(15, 1))
    rows = [
        compare(samples, "aiecs", "raw awaited", Target(0.4)),
        compare(samples, "aiecs in a context", "raw awaited", Target(0.4)),
    ]
    return Measured(samples, rows, {"steps": STEPS})


def sequence_cross(world: World) -> Measured:
    """A chain that alternates between two tools."""
    ours, by_hand = sequence(world, "noop_tool", "other_tool")
    raw, actors = world.raw, world.actors
    awaiting, blocking = raw.Driver.remote(), raw.BlockingDriver.remote()

    def ahead() -> object:
        value = 0
        for step in range(STEPS):
            value = actors[step % 2].count.remote(value)
        return raw.ray.get(value)

    ways = {
        **ours,
        "raw inside an actor": lambda: raw.ray.get(awaiting.chain.remote(actors, STEPS, 0)),
        "raw inside a blocking actor": lambda: raw.ray.get(blocking.chain.remote(actors, STEPS, 0)),
        "raw submitted ahead": ahead,
        "raw awaited": by_hand,
    }
    samples = measure([Contender(name, way, STEPS) for name, way in ways.items()], world.pick(15, 1))
    rows = [
        compare(samples, "aiecs", "raw inside an actor", Target(1.15)),
        compare(samples, "aiecs in a context", "raw inside an actor", Target(1.15)),
        compare(samples, "aiecs", "raw submitted ahead", Target(1.1, stretch=True)),
        compare(samples, "aiecs", "raw inside a blocking actor"),
        compare(samples, "aiecs", "raw awaited"),
    ]
    return Measured(samples, rows, {"steps": STEPS})


def batch_small(world: World) -> Measured:
    """Many no-op operations at once."""
    rt, raw, actors = world.rt, world.raw, world.actors
    size = world.pick(20_000, 400)
    params = [{"n": n} for n in range(size)]
    operations = [{"operation": "noop_tool.echo", "params": one} for one in params]
    chunks = [chunk for chunk in CHUNKS if chunk < size]
    by_hand = best({chunk: lambda chunk=chunk: raw.in_chunks(actors, params, chunk) for chunk in chunks})

    def values(**context: Any) -> list[Any]:
        return [one.result for one in rt.run(operations, mode="batch", **context)]

    ways: dict[str, Callable[[], object]] = {
        "aiecs": values,
        "aiecs in a context": lambda: values(**world.context()),
        "raw single calls": lambda: raw.ray.get([actors[n % 2].echo.remote(one["n"]) for n, one in enumerate(params)]),
        "raw in chunks": lambda: raw.in_chunks(actors, params, by_hand),
    }
    facts = {"operations": size, "chunk by hand": by_hand}
    expected = list(range(size))
    samples = measure([Contender(name, way, expected) for name, way in ways.items()], world.pick(5, 1))
    rows = [
        compare(samples, "aiecs", "raw single calls", Target(0.08)),
        compare(samples, "aiecs in a context", "raw single calls", Target(0.15)),
        compare(samples, "aiecs", "raw in chunks", Target(2.5)),
        compare(samples, "aiecs in a context", "raw in chunks"),
    ]
    if not world.quick:
        # Apart from the others and less often: Dask takes as long as all of them together.
        mapped, facts["Dask batch_size"] = dask_map(world, size)
        beside = {"aiecs beside Dask": values, "Dask map": mapped}
        samples |= measure([Contender(name, way, expected) for name, way in beside.items()], 3)
        rows.append(compare(samples, "aiecs beside Dask", "Dask map", Target(0.1)))
    return Measured(samples, rows, facts)


def dask_map(world: World, size: int) -> tuple[Callable[[], object], int | None]:
    """Return Dask's way at its best ``batch_size``, and that size."""
    client = world.dask

    def mapped(batch_size: int | None, count: int = size) -> list[Any]:
        return list(client.gather(client.map(work.echo, range(count), pure=False, batch_size=batch_size)))

    # Dask takes half a millisecond an operation and more: its best size shows in a tenth of the batch.
    sizes = (None, 100, 500, 2000)
    chosen = best({one: lambda one=one: mapped(one, size // 10) for one in sizes}, tries=2)
    return lambda: mapped(chosen), chosen


def cache_hit(world: World) -> Measured:
    """Answers from the cache."""
    rt, (actor, _), raw = world.rt, world.actors, world.raw
    size = world.pick(1000, 50)
    context = world.context()
    operations = [{"operation": "noop_tool.echo", "params": {"n": n}} for n in range(size)]
    rt.run(operations, mode="batch", **context)
    before = rt.cache.stats()["hits"]
    samples = measure(
        [Contender("batch", lambda: [one.result for one in rt.run(operations, "batch", **context)], list(range(size)))],
        world.pick(20, 2),
    )
    singles = {
        "single": lambda: rt.call("noop_tool.echo", {"n": 7}, **context),
        "raw": lambda: raw.ray.get(actor.echo.remote(7)),
    }
    samples |= measure([Contender(name, block(way), 7) for name, way in singles.items()], world.pick(30, 2))
    hits = rt.cache.stats()["hits"] - before
    assert hits >= size * world.pick(20, 2), "the cache did not answer"
    rows = [
        Row(
            "batch, for one operation",
            spread([seconds / size * 1e3 for seconds in samples["batch"]]),
            "ms",
            Target(0.1),
        ),
        compare(samples, "single", "raw", Target(1.6)),
    ]
    samples = {name: [s / (1 if name == "batch" else BLOCK) for s in times] for name, times in samples.items()}
    return Measured(samples, rows, {"operations": size, "hits": hits})


CASES = (
    Case("single", "one no-op operation", single),
    Case("sequence-same", f"{STEPS} no-op steps of one tool, each reading the one before", sequence_same),
    Case("sequence-cross", f"{STEPS} no-op steps alternating two tools", sequence_cross),
    Case("batch-small", "20,000 no-op operations, 2 replicas", batch_small),
    Case("cache-hit", "operations whose results are cached", cache_hit),
)
