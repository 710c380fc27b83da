"""The arithmetic of the measurements: medians, spreads, ratios, targets. No clock, no Ray."""

from __future__ import annotations

import heapq
import math
import statistics
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Spread(NamedTuple):
    """A median, and between which values the middle four fifths of the repetitions lie."""

    median: float
    low: float
    high: float


class Target(NamedTuple):
    """What a figure should be: at most ``limit``, or at least."""

    limit: float
    sense: Literal["at most", "at least"] = "at most"
    stretch: bool = False
    """A goal beyond what was asked for."""

    def met(self, figure: float) -> bool:
        """Return whether a figure is within the target.

        >>> Target(3.0).met(2.9), Target(20_000, "at least").met(2.9)
        (True, False)
        """
        return figure <= self.limit if self.sense == "at most" else figure >= self.limit


class Row(NamedTuple):
    """One line of the table: a figure, and what it should be."""

    what: str
    value: Spread
    unit: str = "x"
    target: Target | None = None

    @property
    def verdict(self) -> str:
        """What is said of the figure: "met", "missed", or nothing where no target was set."""
        if self.target is None:
            return ""
        return "met" if self.target.met(self.value.median) else "missed"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of the values lie, between two of them in proportion.

    >>> quantile([1.0, 2.0, 3.0], 0.5), quantile([1.0, 2.0], 0.25), quantile([7.0], 0.9)
    (2.0, 1.25, 7.0)
    """
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def spread(values: Sequence[float]) -> Spread:
    """Return the median of repetitions and their spread.

    >>> spread([3.0, 1.0, 2.0])
    Spread(median=2.0, low=1.2, high=2.8)
    """
    return Spread(statistics.median(values), quantile(values, 0.1), quantile(values, 0.9))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the ratio of the medians, and the spread of the ratios of repetitions that were neighbours in time.

    >>> ratio([1.0, 2.0, 9.0], [2.0, 4.0, 3.0])
    Spread(median=0.6666666666666666, low=0.5, high=2.5)
    """
    pairs = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return Spread(statistics.median(ours) / statistics.median(theirs), quantile(pairs, 0.1), quantile(pairs, 0.9))


def turns(names: Sequence[str], repetition: int) -> list[str]:
    """Return in which order the contenders are measured, so that nobody always comes first or after the same one.

    >>> [turns("ab", repetition) for repetition in range(4)]
    [['a', 'b'], ['b', 'a'], ['b', 'a'], ['a', 'b']]
    """
    rounds, start = divmod(repetition, len(names))
    order = [*names[start:], *names[:start]]
    return order[::-1] if rounds % 2 else order


def list_schedule(seconds: Sequence[float], workers: int) -> float:
    """Return when the last operation ends if each, in turn, goes to the worker that is free first, at no cost.

    >>> list_schedule([3.0, 1.0, 1.0, 1.0], 2)
    3.0
    """
    free = [0.0] * workers
    for duration in seconds:
        heapq.heappush(free, heapq.heappop(free) + duration)
    return max(free)


class Seen(NamedTuple):
    """When and where an operation ran; seconds of one clock."""

    worker: int
    start: float
    end: float


def held_back(seen: Sequence[Seen]) -> list[float]:
    """Return for each operation the longest time for which a worker had nothing to do while the operation waited.

    That is what an operation loses by standing behind a long one in its chunk.

    >>> held_back([Seen(1, 0.0, 5.0), Seen(2, 0.0, 1.0), Seen(1, 5.0, 6.0)])
    [0.0, 0.0, 4.0]
    """
    begun = min(one.start for one in seen)
    idle: list[tuple[float, float]] = []
    for worker in {one.worker for one in seen}:
        free = begun
        for one in sorted(one for one in seen if one.worker == worker):
            idle.append((free, one.start))
            free = one.end
        idle.append((free, math.inf))
    return [max(0.0, *(min(stop, one.start) - start for start, stop in idle)) for one in seen]
