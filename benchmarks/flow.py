"""Many: a million elements, batches of growing size, a large graph, more tools than processors."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

import psutil

from benchmarks.figures import Row, Spread, Target, spread
from benchmarks.harness import Case, Contender, Measured, compare, measure
from benchmarks.tools import NoopTool
from benchmarks.world import CPUS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from benchmarks.world import World

MEGABYTE = 10**6
CHUNK = 1000
AHEAD = 8
"""Chunks under way of the stream made by hand."""
LAYERS, WIDTH = 100, 100
TOOLS, CALLS = 50, 4


def map_stream(world: World) -> Measured:
    """No-op parameters from a generator, through ``rt.map``."""
    size = world.pick(1_000_000, 2000)
    settled = size // 10
    driver, coordinator = psutil.Process(), world.coordinator()
    resident: list[tuple[int, int]] = []
    total, begun = 0, time.perf_counter()
    for place, value in enumerate(world.rt.map("noop_tool.echo", ({"n": n} for n in range(size))), 1):
        total += value
        if not place % settled:
            resident.append((driver.memory_info().rss, coordinator.memory_info().rss))
    seconds = time.perf_counter() - begun
    assert total == size * (size - 1) // 2, "rt.map yielded wrong values"
    begun = time.perf_counter()
    assert sum(stream_by_hand(world, ({"n": n} for n in range(size)))) == total
    by_hand = time.perf_counter() - begun
    grown = [(max(side) - side[0]) / MEGABYTE for side in zip(*resident, strict=True)]
    rows = [
        Row("operations per second", once(size / seconds), "/s", Target(20_000, "at least")),
        Row("the driver's memory grows", once(grown[0]), "MB", Target(50)),
        Row("the coordinator's memory grows", once(grown[1]), "MB", Target(50)),
        Row(f"aiecs / raw in chunks of {CHUNK}", once(seconds / by_hand)),
    ]
    return Measured({"aiecs": [seconds], "raw in chunks": [by_hand]}, rows, {"operations": size, "resident": resident})


def once(value: float) -> Spread:
    """Return what was measured once."""
    return Spread(value, value, value)


def stream_by_hand(world: World, params: Iterable[dict[str, Any]]) -> Iterator[Any]:
    """Yield one value for each dict of parameters: in chunks, some of them ahead."""
    actors, ray = world.actors, world.raw.ray
    source = iter(params)
    under_way: deque[Any] = deque()
    for turn in itertools.count():
        chunk = list(itertools.islice(source, CHUNK))
        if chunk:
            under_way.append(actors[turn % CPUS].echo_many.remote(chunk))
        if not under_way:
            return
        if not chunk or len(under_way) > AHEAD:
            yield from ray.get(under_way.popleft())


def growth(world: World) -> Measured:
    """The cost of one operation, in batches of growing size; a large graph."""
    sizes = world.pick((100, 1000, 10_000, 100_000), (10, 100))
    samples: dict[str, list[float]] = {}
    contenders = [contender for size in sizes for contender in batches(world, size)]
    for name, times in measure(contenders, world.pick(3, 1)).items():
        size = int(name.rpartition(" ")[2])
        samples[name] = [seconds / size for seconds in times]
    rows = []
    for way in ("aiecs", "aiecs in a context"):
        rows += [compare(samples, f"{way} {size}", f"{way} {sizes[1]}", Target(1.2)) for size in sizes[2:]]
    layers = world.pick(LAYERS, 3)
    planning, running = graph(world, layers)
    samples["graph, until it runs"], samples["graph, whole"] = planning, running
    steps = layers * WIDTH
    rows.append(Row(f"planning a graph of {steps} steps", spread(planning), "s", Target(0.5)))
    rows.append(Row("the whole graph, for one step", spread([one / steps * 1e3 for one in running]), "ms"))
    return Measured(samples, rows, {"sizes": sizes})


def batches(world: World, size: int) -> list[Contender]:
    """Return the ways to run a batch of one size."""
    rt, raw, actors = world.rt, world.raw, world.actors
    params = [{"n": n} for n in range(size)]
    operations = [{"operation": "noop_tool.echo", "params": one} for one in params]

    def ours(**context: Any) -> list[Any]:
        return [one.result for one in rt.run(operations, mode="batch", **context)]

    ways: dict[str, Callable[[], object]] = {
        "aiecs": ours,
        "aiecs in a context": lambda: ours(**world.context()),
        "raw in chunks": lambda: raw.in_chunks(actors, params, min(CHUNK, -(-size // CPUS))),
    }
    if size <= 10_000:  # noqa: PLR2004  beyond, single calls only take long
        ways["raw single calls"] = lambda: raw.ray.get(
            [actors[n % CPUS].echo.remote(one["n"]) for n, one in enumerate(params)]
        )
    expected = list(range(size))
    return [Contender(f"{name} {size}", way, expected) for name, way in ways.items()]


def graph(world: World, layers: int) -> tuple[list[float], list[float]]:
    """Run a graph, each step reading one of the layer before; return seconds until it runs, and of the whole."""
    steps = [{"operation": "noop_tool.count", "params": {"n": 0}} for _ in range(WIDTH)]
    for layer in range(1, layers):
        before = (layer - 1) * WIDTH
        for place in range(WIDTH):
            reads = f"$result[{before + (place + 1) % WIDTH}]"
            steps.append({"operation": "noop_tool.count", "params": {"n": reads}})
    planning, running = [], []
    for _ in range(world.pick(6, 2)):
        begun = time.perf_counter()
        run = world.rt.submit(steps, mode="parallel", keep="last")
        planning.append(time.perf_counter() - begun)
        value = run.result()[-1].result
        running.append(time.perf_counter() - begun)
        assert value == layers, "the graph returned a wrong result"
        run.release()
    return planning[1:], running[1:]


class Watch:
    """Looks at a figure again and again while something runs, and keeps the largest."""

    def __init__(self, look: Callable[[], float], pause: float) -> None:
        self.largest = 0.0
        self._look, self._pause = look, pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._pause):
            self.largest = max(self.largest, self._look())


def many_tools(world: World) -> Measured:
    """More tools than processors, each with a few calls."""
    rt, raw = world.rt, world.raw
    count = world.pick(TOOLS, 3)
    names = [f"tool_{n:02}" for n in range(count)]
    for name in names:
        rt.register(NoopTool, name)
    operations = [{"operation": f"{name}.echo", "params": {"n": n}} for n in range(CALLS) for name in names]

    def live() -> float:
        counts = rt.stats()["tools"]
        return sum(counts[name]["replicas"] for name in names if name in counts)

    # By hand first: idle replicas would keep the processors from actors that nobody told them of.
    begun = time.perf_counter()
    tools_by_hand(raw, count)
    by_hand = time.perf_counter() - begun
    begun = time.perf_counter()
    with Watch(live, 0.1) as replicas:
        results = rt.run(operations, mode="parallel")
    seconds = time.perf_counter() - begun
    assert all(one.completed for one in results), "not every call completed"
    rows = [
        Row("live replicas, most", once(replicas.largest), "", Target(CPUS)),
        Row("operations per second", once(len(operations) / seconds), "/s"),
        Row("aiecs / raw, two actors at a time", once(seconds / by_hand)),
    ]
    return Measured({"aiecs": [seconds], "raw": [by_hand]}, rows, {"tools": count, "calls": CALLS})


def tools_by_hand(raw: Any, count: int) -> None:
    """Start an actor for each tool, two at a time, and call it; it ends when nobody holds it any more."""
    alive: deque[tuple[Any, Any]] = deque()
    for turn in range(count + CPUS):
        if turn >= CPUS:
            _, refs = alive.popleft()
            assert raw.ray.get(refs) == list(range(CALLS))
        if turn < count:
            actor = raw.RawActor.options(num_cpus=1).remote()
            alive.append((actor, [actor.echo.remote(n) for n in range(CALLS)]))


CASES = (
    Case("map-stream", "1,000,000 no-op parameters from a generator", map_stream),
    Case("growth", "batches of 100 to 100,000; a graph of 10,000 steps", growth),
    Case("many-tools", f"{TOOLS} tools, each called {CALLS} times, on {CPUS} CPUs", many_tools),
)
