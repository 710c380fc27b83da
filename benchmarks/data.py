"""Large values: chains, hand-over between tools, one array for many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import work
from benchmarks.figures import Row, Target, spread
from benchmarks.harness import Case, Contender, Measured, best, compare, measure

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.world import World

FLOATS = 12_500_000
"""Numbers of 8 bytes: 100 MB."""
STEPS = 10
WIDTH = 200
MEGABYTE = 10**6


def ends(array: Any) -> tuple[int, float, float]:
    """Return what tells one result from another without reading 100 MB."""
    return len(array), float(array[0]), float(array[-1])


def chains(world: World, operation: str, floats: int) -> dict[str, Callable[[], object]]:
    """Return the ways to run a chain of one operation over a large array that lies in the store already."""
    rt, ray = world.rt, world.raw.ray
    actor = world.actors[0]
    array = work.make(floats)
    handle, ref = rt.put(array), ray.put(array)
    steps = [{"operation": f"array_tool.{operation}", "params": {"array": f"$result[{n - 1}]"}} for n in range(STEPS)]
    steps[0] = {"operation": f"array_tool.{operation}", "params": {"array": handle}}
    plain_step = {"grow": work.grow, "same": lambda array: array}[operation]

    def by_hand() -> object:
        value = ref
        for _ in range(STEPS):
            value = getattr(actor, operation).remote(value)
        return ends(ray.get(value))

    def plain() -> object:
        value = array
        for _ in range(STEPS):
            value = plain_step(value)
        return ends(value)

    return {
        "aiecs": lambda: ends(rt.run(steps, keep="last")[-1].result),
        "aiecs, all kept": lambda: ends(rt.run(steps)[-1].result),
        "raw": by_hand,
        "plain Python": plain,
    }


def big_chain(world: World) -> Measured:
    """A chain over one large array: each step makes a new one, or passes it through."""
    floats = world.pick(FLOATS, FLOATS // 100)
    samples = {}
    for operation, last in (("grow", 1.0 + STEPS), ("same", 1.0)):
        expected = (floats, last, last)
        ways = chains(world, operation, floats)
        if operation == "same":
            # Passing a value through costs nothing at all in one process.
            del ways["plain Python"]
        names = {name: name if operation == "grow" else f"{name}, passed through" for name in ways}
        contenders = [Contender(names[name], way, expected) for name, way in ways.items()]
        samples |= measure(contenders, world.pick(7, 1))
    rows = [
        compare(samples, "aiecs", "raw", Target(0.3)),
        compare(samples, "aiecs", "plain Python", Target(1.5)),
        # What the work itself takes: no chain can be faster beside one made by hand.
        compare(samples, "plain Python", "raw"),
        compare(samples, "aiecs, all kept", "raw", Target(1.1)),
        compare(samples, "aiecs, passed through", "raw, passed through", Target(0.1)),
        compare(samples, "aiecs, all kept, passed through", "raw, passed through", Target(1.1)),
    ]
    return Measured(samples, rows, {"steps": STEPS, "bytes": floats * 8})


def big_cross(world: World) -> Measured:
    """A large array from one tool to another."""
    floats = world.pick(2 * FLOATS, FLOATS // 100)
    rt, ray, (first, second) = world.rt, world.raw.ray, world.actors
    steps = [
        {"operation": "array_tool.make", "params": {"floats": floats}},
        {"operation": "sink_tool.size", "params": {"array": "$result[0].data"}},
    ]
    coordinator = world.coordinator()
    resident: list[int] = []

    def ours() -> object:
        result = rt.run(steps, keep="last")[-1].result
        resident.append(coordinator.memory_info().rss)
        return result

    contenders = [
        Contender("aiecs", ours, floats * 8),
        Contender("raw", lambda: ray.get(second.size.remote(first.make.remote(floats))), floats * 8),
    ]
    samples = measure(contenders, world.pick(15, 2))
    grown = (max(resident) - resident[0]) / MEGABYTE
    rows = [
        compare(samples, "aiecs", "raw", Target(1.1)),
        # The coordinator's memory moves by a little whatever passes through it: 1 % of one array.
        Row("the coordinator's memory grows", spread([grown]), "MB", Target(floats * 8 / MEGABYTE / 100)),
    ]
    return Measured(samples, rows, {"bytes": floats * 8})


def fan_out_in(world: World) -> Measured:
    """One array for many operations, whose results one more takes."""
    floats, width = world.pick(FLOATS // 10, FLOATS // 1000), world.pick(WIDTH, 10)
    rt, ray, actors = world.rt, world.raw.ray, world.actors
    steps = [{"operation": "array_tool.make", "params": {"floats": floats}}]
    steps += [
        {"operation": "array_tool.look", "params": {"array": "$result[0].data", "place": n}} for n in range(width)
    ]
    values = [f"$result[{n + 1}]" for n in range(width)]
    steps.append({"operation": "array_tool.total", "params": {"values": values}})

    def out() -> list[Any]:
        array = actors[0].make.remote(floats)
        return [actors[n % 2].look.remote(array, n) for n in range(width)]

    by_hand = {
        "collected by the driver": lambda: ray.get(actors[0].total.remote(ray.get(out()))),
        "collected by the actor": lambda: ray.get(actors[0].collect.remote(out())),
    }
    chosen = best(by_hand)
    expected = float(width + sum(range(width)))
    contenders = [
        Contender("aiecs", lambda: rt.run(steps, mode="parallel", keep="last")[-1].result, expected),
        Contender("raw", by_hand[chosen], expected),
    ]
    samples = measure(contenders, world.pick(15, 1))
    rows = [compare(samples, "aiecs", "raw", Target(1.0))]
    return Measured(samples, rows, {"width": width, "bytes": floats * 8, "raw": chosen})


CASES = (
    Case("big-chain", f"{STEPS} steps over an array of 100 MB", big_chain),
    Case("big-cross", "200 MB from one tool to another", big_cross),
    Case("fan-out-in", f"1 to {WIDTH} to 1, with an array of 10 MB for all", fan_out_in),
)
