"""One picture: what one operation costs in batches of growing size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from benchmarks.figures import spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def curves(samples: Mapping[str, Sequence[float]]) -> dict[str, dict[int, Sequence[float]]]:
    """Return for each way the seconds of one operation by size of the batch.

    >>> curves({"raw 10": [0.5], "raw 100": [0.25], "graph, whole": [1.0]})
    {'raw': {10: [0.5], 100: [0.25]}}
    """
    found: dict[str, dict[int, Sequence[float]]] = {}
    for name, times in samples.items():
        way, _, size = name.rpartition(" ")
        if size.isdigit():
            found.setdefault(way, {})[int(size)] = times
    return found


def draw(samples: Mapping[str, Sequence[float]], path: Path) -> None:
    """Write the picture of the growth cases to a PNG file."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for way, by_size in curves(samples).items():
        sizes = sorted(by_size)
        spreads = [spread([seconds * 1e3 for seconds in by_size[size]]) for size in sizes]
        (line,) = axes.plot(sizes, [one.median for one in spreads], marker="o", label=way)
        axes.fill_between(
            sizes, [one.low for one in spreads], [one.high for one in spreads], color=line.get_color(), alpha=0.15
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations in the batch")
    axes.set_ylabel("milliseconds for one operation")
    axes.set_title("What a no-op operation costs in a batch")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend()
    figure.savefig(path, dpi=120)
