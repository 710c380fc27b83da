"""The cases: the same work twice, by aiecs-ray and by hand; each checks its own results."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import ray

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiecs_ray

BATCH = 20_000
CHUNK = 500
STEPS = 100
FLOATS = 25_000_000


class Case(NamedTuple):
    """Two callables that do the same work."""

    name: str
    work: str
    ours: Callable[[], object]
    raw: Callable[[], object]
    repeats: int


def cases(rt: aiecs_ray.Runtime, actors: list[Any]) -> list[Case]:  # noqa: C901  # one small function a case
    """Return every case, on one runtime and on hand-written actors of the same number."""
    first, second = actors
    operations = [{"operation": "noop_tool.echo", "params": {"n": n}} for n in range(BATCH)]
    chain = [{"operation": "noop_tool.echo", "params": {"n": 7}}]
    chain += [{"operation": "noop_tool.echo", "params": {"n": f"$result[{n}]"}} for n in range(STEPS - 1)]
    crossing = [
        {"operation": "noop_tool.make", "params": {"n": FLOATS}},
        {"operation": "sink_tool.size", "params": {"x": "$result[0].data"}},
    ]

    def single() -> None:
        expect(rt.call("noop_tool.echo", {"n": 7}), 7)

    def single_raw() -> None:
        expect(ray.get(first.echo.remote(7)), 7)

    def sequence() -> None:
        expect(rt.run(chain)[-1].result, 7)

    def sequence_raw() -> None:
        value = 7
        for _ in range(STEPS):
            value = ray.get(first.echo.remote(value))
        expect(value, 7)

    def batch() -> None:
        expect([one.result for one in rt.run(operations, mode="batch")], list(range(BATCH)))

    def batch_raw() -> None:
        expect(ray.get([actors[n % 2].echo.remote(n) for n in range(BATCH)]), list(range(BATCH)))

    def batch_by_hand() -> None:
        edges = [*range(0, BATCH, CHUNK), BATCH]
        parts = [list(range(*edge)) for edge in pairwise(edges)]
        made = ray.get([actors[n % 2].echo_many.remote(part) for n, part in enumerate(parts)])
        expect([n for part in made for n in part], list(range(BATCH)))

    def cross() -> None:
        expect(rt.run(crossing, keep="last")[-1].result, FLOATS * 8)

    def cross_raw() -> None:
        expect(ray.get(second.size.remote(first.make.remote(FLOATS))), FLOATS * 8)

    return [
        Case("single", "one no-op operation", single, single_raw, 200),
        Case("sequence", f"{STEPS} no-op steps, each reading the one before", sequence, sequence_raw, 10),
        Case("batch", f"{BATCH} no-op operations, one actor call each", batch, batch_raw, 3),
        Case("batch-chunked", f"the same, in hand-made chunks of {CHUNK}", batch, batch_by_hand, 5),
        Case("cross", "200 MB from one tool to another", cross, cross_raw, 5),
    ]


def expect(value: object, expected: object) -> None:
    """Fail when a measured piece of work is wrong."""
    if value != expected:
        raise AssertionError("a measured case returned a wrong result")
