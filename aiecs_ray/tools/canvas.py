"""Drawing on one matplotlib figure, without pyplot: pyplot keeps figures in a global that threads would share."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from aiecs_ray.tools import frames

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 192
"""Dots an inch: twice a screen's 96, so that a picture stays sharp on a dense screen."""

MAX_BARS = 40
"""How many bars one chart shows; the rest are counted in its label."""

_INK, _MUTED, _GRID = "#1f2937", "#6b7280", "#e5e7eb"
_LINES = ("#2563eb", "#ea580c", "#059669", "#9333ea", "#dc2626", "#0891b2")
_ABOVE, _BELOW = "#2563eb", "#059669"
_FEW_POINTS = 40
_FEW_TICKS = 24


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of ``width`` by ``height`` inches; raise ValueError if one is not between 1 and 30."""
    for name, inches in (("width", width), ("height", height)):
        if not 1 <= inches <= 30:  # noqa: PLR2004  30 inches are 5760 dots
            raise ValueError(f"{name} must be between 1 and 30 inches, not {inches}")
    engine = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), dpi=DPI, layout=engine, facecolor="white")


def finish(figure: Figure, title: str, kind: str, alt: str) -> dict[str, Any]:
    """Return a chart: ``title``, ``kind``, ``png``, ``width`` and ``height`` (dots), ``alt`` (what it shows)."""
    canvas = FigureCanvasAgg(figure)
    picture = BytesIO()
    # Without the program's name and version in it, the same chart is the same bytes.
    canvas.print_figure(picture, format="png", metadata={"Software": None})
    width, height = canvas.get_width_height()
    return {
        "title": title,
        "kind": kind,
        "png": picture.getvalue(),
        "width": width,
        "height": height,
        "alt": alt,
    }


def literal(text: object) -> str:
    r"""Return text that matplotlib shows as it is: between two dollar signs it would typeset a formula.

    >>> literal("Net $ and gross $")
    'Net \\$ and gross \\$'
    """
    return str(text).replace("$", r"\$")


def entitle(figure: Figure, title: str) -> None:
    """Put a title at the left edge of a picture; an empty one takes no room."""
    if title:
        figure.suptitle(literal(title), x=0.012, ha="left", fontsize=14, fontweight="bold", color=_INK)


def label(axes: Axes, x_label: str, y_label: str, title: str = "") -> None:
    """Name the two directions of a chart (and the chart, if it is one panel of several), and make its frame plain."""
    if title:
        axes.set_title(literal(title), loc="left", fontsize=11.5, fontweight="bold", color=_INK, pad=10)
    axes.set_xlabel(literal(x_label), color=_MUTED, fontsize=10)
    axes.set_ylabel(literal(y_label), color=_MUTED, fontsize=10)
    axes.tick_params(colors=_INK, labelsize=9.5, length=0)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def draw_bars(axes: Axes, names: list[str], values: list[float]) -> None:
    """Draw one horizontal bar a name, the first on top, each with its value beside it."""
    places = range(len(values))
    colors = [_ABOVE if value >= 0 else _BELOW for value in values]
    bars = axes.barh(places, values, color=colors, height=0.68)
    axes.bar_label(bars, labels=frames.format_values(values), padding=4, fontsize=9, color=_INK)
    axes.set_yticks(list(places), [literal(name) for name in names])
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.02)
    axes.grid(axis="x", color=_GRID)
    axes.axvline(0, color=_MUTED, linewidth=0.8)
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))


def draw_lines(axes: Axes, x: pd.Series, columns: dict[str, pd.Series]) -> None:
    """Draw one line a column over ``x``: numbers and times from low to high, names as they come."""
    few = len(x) <= _FEW_POINTS
    places = place(x)
    order = np.argsort(places, kind="stable")
    for (name, values), color in zip(columns.items(), _LINES * len(columns), strict=False):
        axes.plot(
            places[order],
            values.to_numpy(dtype=float, na_value=np.nan)[order],
            color=color,
            linewidth=2,
            marker="o" if few else None,
            markersize=4.5,
            label=literal(name),
        )
    axes.grid(axis="y", color=_GRID)
    low, high = axes.get_ylim()
    if low < 0 < high:
        axes.axhline(0, color=_MUTED, linewidth=0.8)
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))
    _ticks(axes, x, places)
    if len(columns) > 1:
        axes.legend(frameon=False, fontsize=9.5, loc="best")


def draw_straight(axes: Axes, x: pd.Series, values: pd.Series) -> float:
    """Draw the least-squares line through the values, dashed; return its change from the first to the last."""
    places = place(x)
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    known = ~np.isnan(numbers)
    if known.sum() < 2:  # noqa: PLR2004  a line needs two points
        return 0.0
    spots = np.arange(len(numbers))[known] if places.dtype.kind == "M" else places[known].astype(float)
    line = np.poly1d(np.polyfit(spots, numbers[known], 1))
    ends = [int(np.argmin(spots)), int(np.argmax(spots))]
    axes.plot(places[known][ends], line(spots[ends]), color=_MUTED, linewidth=1.5, linestyle="--", label="Trend")
    return float(line(spots[ends[1]]) - line(spots[ends[0]]))


def place(x: pd.Series) -> np.ndarray:
    """Return where the points of ``x`` lie: numbers and times where they say, names one after the other."""
    if pd.api.types.is_datetime64_any_dtype(x):
        times = x.dt.tz_convert(None) if x.dt.tz is not None else x
        return times.to_numpy()
    if pd.api.types.is_numeric_dtype(x) and not pd.api.types.is_bool_dtype(x):
        return x.to_numpy(dtype=float, na_value=np.nan)
    return np.arange(len(x))


def _tick(value: float, _: object) -> str:
    return f"{value:,.10g}".replace("-", frames.MINUS)


def _ticks(axes: Axes, x: pd.Series, places: np.ndarray) -> None:
    if places.dtype.kind == "M":
        return
    if not pd.api.types.is_numeric_dtype(x):
        step = max(1, -(-len(x) // _FEW_TICKS))
        shown = places[::step]
        turned = sum(len(str(name)) for name in x.iloc[::step]) > 80  # noqa: PLR2004  letters on one line
        axes.set_xticks(shown, [literal(name) for name in x.iloc[::step]], rotation=35 if turned else 0)
    elif pd.api.types.is_integer_dtype(x) and x.nunique() <= _FEW_TICKS:
        axes.set_xticks(np.unique(places))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=pd.api.types.is_integer_dtype(x)))
