"""The measured work by hand: Ray actors as one writes them without aiecs-ray."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import ray
from ray.util import ActorPool

from benchmarks import work

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ActorPool", "BlockingDriver", "Driver", "RawActor", "in_chunks", "ray"]


@ray.remote(num_cpus=0)
class RawActor:
    """What a tool is without aiecs-ray."""

    def echo(self, n: Any) -> Any:
        """Return ``n``."""
        return work.echo(n)

    def count(self, n: int) -> int:
        """Return the number after ``n``."""
        return work.count(n)

    def echo_many(self, params: list[dict[str, Any]]) -> list[Any]:
        """Return each ``n``: a chunk made by hand."""
        return [work.echo(**one) for one in params]

    def spin(self, seconds: float) -> int:
        """Spin for so long."""
        return work.spin(seconds)

    def trace(self, seconds: float) -> tuple[int, float, float]:
        """Spin for so long, and say where and when."""
        return work.trace(seconds)

    def make(self, floats: int) -> Any:
        """Return an array."""
        return work.make(floats)

    def same(self, array: Any) -> Any:
        """Return the array itself."""
        return array

    def grow(self, array: Any) -> Any:
        """Return a new array."""
        return work.grow(array)

    def look(self, array: Any, place: int) -> float:
        """Read one number."""
        return work.look(array, place)

    def size(self, array: Any) -> int:
        """Return the bytes of an array."""
        return work.size(array)

    def total(self, values: list[float]) -> float:
        """Add numbers up."""
        return sum(values)

    def collect(self, refs: list[Any]) -> float:
        """Get numbers and add them up."""
        return sum(ray.get(refs))


@ray.remote(num_cpus=0)
class Driver:
    """An actor that calls others: what a coordinator written by hand is."""

    async def echo(self, actor: Any, n: Any) -> Any:
        """Pass one call through."""
        return await actor.echo.remote(n)

    async def chain(self, actors: list[Any], steps: int, n: Any) -> Any:
        """Call the actors in turn, each with what the one before returned."""
        for step in range(steps):
            n = await actors[step % len(actors)].count.remote(n)
        return n


@ray.remote(num_cpus=0)
class BlockingDriver:
    """The same without asyncio: it waits for one call after the other."""

    def chain(self, actors: list[Any], steps: int, n: Any) -> Any:
        """Call the actors in turn, each with what the one before returned."""
        for step in range(steps):
            n = ray.get(actors[step % len(actors)].count.remote(n))
        return n


def in_chunks(actors: Sequence[Any], params: list[dict[str, Any]], size: int) -> list[Any]:
    """Run a batch by hand in chunks of one size, dealt out to the actors in turn."""
    edges = [*range(0, len(params), size), len(params)]
    parts = [params[low:high] for low, high in pairwise(edges)]
    made = ray.get([actors[n % len(actors)].echo_many.remote(part) for n, part in enumerate(parts)])
    return [value for part in made for value in part]
