"""Charts as PNG pictures: bars, lines, a sales chart, a trend, a dashboard."""

from __future__ import annotations

from typing import Any

import pandas as pd

from aiecs_ray.tool import operation, tool
from aiecs_ray.tools import canvas, frames

MAX_PANELS = 6
"""How many panels a dashboard shows."""


@tool("chart_tool")
class ChartTool:
    """Draw tables. A chart is ``{"title", "kind", "png", "width", "height", "alt"}``: bytes, and dots.

    ``x`` names the column of names or places, by default the first; ``y`` the column (or columns) of values, by
    default the first with numbers. Every operation raises ValueError if there is nothing to draw or a column does
    not exist. ``width`` and ``height`` of a call are inches.
    """

    @operation
    def bar_chart(  # noqa: PLR0913  an operation's parameters are what its callers write
        self,
        data: frames.FrameLike,
        *,
        x: str | None = None,
        y: str | None = None,
        title: str = "",
        x_label: str = "",
        y_label: str = "",
        width: float = 8.0,
    ) -> dict[str, Any]:
        """Return horizontal bars, one a row in the table's order, each with its value; as high as it has bars.

        ``x_label`` names the values along the bottom, ``y_label`` the bars. Rows without a value are left out; of more
        than 40 rows the first 40 are shown, and the label says so.
        """
        frame = _table(data)
        names, (values,) = _columns(frame, x, y)
        bars = frame[[names, values]].dropna(subset=[values])
        if bars.empty:
            raise ValueError(f"nothing to draw: {values!r} has no values")
        shown = bars.head(canvas.MAX_BARS)
        left_out = len(bars) - len(shown)
        labels, numbers = [str(name) for name in shown[names]], [float(value) for value in shown[values]]
        figure = canvas.new_figure(width, 1.3 + 0.32 * len(shown))
        axes = figure.add_subplot()
        canvas.draw_bars(axes, labels, numbers)
        below = x_label or values
        canvas.entitle(figure, title)
        canvas.label(axes, f"{below} ({left_out:,} more rows not shown)" if left_out else below, y_label)
        return canvas.finish(figure, title, "bar", f"Bar chart. {title}. {_extremes(labels, numbers)}")

    @operation
    def line_chart(  # noqa: PLR0913  an operation's parameters are what its callers write
        self,
        data: frames.FrameLike,
        *,
        x: str | None = None,
        y: str | list[str] | None = None,
        title: str = "",
        x_label: str = "",
        y_label: str = "",
        width: float = 8.0,
        height: float = 4.2,
    ) -> dict[str, Any]:
        """Return a line for each of the columns ``y``, with a legend if there are several; a missing value is a gap."""
        frame = _table(data)
        places, columns = _columns(frame, x, y)
        figure = canvas.new_figure(width, height)
        axes = figure.add_subplot()
        canvas.draw_lines(axes, frame[places], {column: frame[column] for column in columns})
        canvas.entitle(figure, title)
        canvas.label(axes, x_label or places, y_label or (columns[0] if len(columns) == 1 else ""))
        return canvas.finish(figure, title, "line", f"Line chart. {title}. {_ranges(frame, places, columns)}")

    @operation
    def create_sales_chart(
        self,
        data: frames.FrameLike,
        *,
        x: str | None = None,
        y: str | None = None,
        title: str = "Sales",
        x_label: str = "",
    ) -> dict[str, Any]:
        """Return the largest values as bars, the largest on top.

        ``data`` may also be what ``calculate_metrics`` returns (the sum of each column) or what ``analyze_sales``
        returns (its first table).
        """
        # Source: operation_executor.md, case 1.
        frame = _table(data)
        names, (values,) = _columns(frame, x, y)
        ordered = frame.sort_values(values, ascending=False, kind="stable")
        return self.bar_chart(ordered, x=names, y=values, title=title, x_label=x_label)

    @operation
    def create_trend_analysis(  # noqa: PLR0913  an operation's parameters are what its callers write
        self,
        data: frames.FrameLike,
        *,
        x: str | None = None,
        y: str | None = None,
        title: str = "Trend",
        x_label: str = "",
        y_label: str = "",
    ) -> dict[str, Any]:
        """Return a line of values with the straight line through them, dashed, and its ``change`` from end to end.

        ``data`` may also be what ``calculate_trends`` returns.
        """
        # Source: operation_executor.md, case 1.
        frame = _table(data)
        places, (values,) = _columns(frame, x, y)
        figure = canvas.new_figure(8.0, 4.2)
        axes = figure.add_subplot()
        change = canvas.draw_straight(axes, frame[places], frame[values])
        canvas.draw_lines(axes, frame[places], {values: frame[values]})
        axes.legend(frameon=False, fontsize=9.5, loc="best")
        canvas.entitle(figure, title)
        canvas.label(axes, x_label or places, y_label or values)
        alt = f"Line chart with trend. {title}. {_ranges(frame, places, [values])}"
        return {**canvas.finish(figure, title, "trend", alt), "change": change}

    @operation
    def create_dashboard(self, data: frames.FrameLike, title: str = "Dashboard") -> dict[str, Any]:
        """Return up to six panels in one picture.

        One panel a table if ``data`` has several (what ``analyze_sales`` returns, or a dict of tables); else one panel
        a column of numbers. Names make bars, numbers and times make lines.
        """
        # Source: operation_executor.md, scenario 1.
        panels = _panels(data)
        if not panels:
            raise ValueError("nothing to draw: data has no column of numbers")
        rows = -(-len(panels) // 2)
        figure = canvas.new_figure(11.0 if len(panels) > 1 else 8.0, 0.6 + 3.6 * rows)
        canvas.entitle(figure, title)
        for number, (name, frame, places, values) in enumerate(panels, start=1):
            axes = figure.add_subplot(rows, min(2, len(panels)), number)
            if canvas.place(frame[places]).dtype.kind == "M" or places in frames.numeric_columns(frame):
                canvas.draw_lines(axes, frame[places], {values: frame[values]})
                canvas.label(axes, places, values, name)
            else:
                bars = frame[[places, values]].dropna().head(canvas.MAX_BARS // 2)
                canvas.draw_bars(axes, [str(text) for text in bars[places]], [float(item) for item in bars[values]])
                canvas.label(axes, values, "", name)
        names = ", ".join(name for name, *_ in panels)
        return canvas.finish(figure, title, "dashboard", f"Dashboard. {title}. Panels: {names}")


def _table(data: Any) -> pd.DataFrame:
    """Return the table to draw; see ``_tables`` for what the other tools' results become."""
    frame = next(iter(_tables(data).values()))
    if frame.empty:
        raise ValueError("nothing to draw: data has no rows")
    return frame


def _tables(data: Any) -> dict[str, pd.DataFrame]:
    if not isinstance(data, dict) or not data:
        return {"": frames.to_frame(data, "data")}
    tables, columns = data.get("tables"), data.get("columns")
    if isinstance(tables, dict) and tables:
        return {str(name): frames.to_frame(table, str(name)) for name, table in tables.items()}
    if isinstance(columns, dict) and all(isinstance(facts, dict) and "sum" in facts for facts in columns.values()):
        return {"": pd.DataFrame({"column": list(columns), "sum": [facts["sum"] for facts in columns.values()]})}
    if all(isinstance(table, pd.DataFrame) for table in data.values()) and "data" not in data:
        return {str(name): table for name, table in data.items()}
    if all(isinstance(number, (int, float)) for number in data.values()):
        return {"": pd.DataFrame({"name": [str(name) for name in data], "value": list(data.values())})}
    return {"": frames.to_frame(data, "data")}


def _columns(frame: pd.DataFrame, x: str | None, y: str | list[str] | None) -> tuple[str, list[str]]:
    """Return the column of places and those of values, checked or chosen."""
    if x is not None:
        frames.require_columns(frame, [x], "data")
    numeric = frames.numeric_columns(frame)
    if y is not None:
        values = frames.require_numeric(frame, [y] if isinstance(y, str) else y, "data")
        others = [str(name) for name in frame.columns if name not in values]
        return x or (others or values)[0], values
    places = x or str(frame.columns[0])
    candidates = [name for name in numeric if name != places] or numeric
    if not candidates:
        raise ValueError(f"nothing to draw: data has no column of numbers; it has: {frames.list_columns(frame)}")
    return places, candidates[:1]


def _panels(data: Any) -> list[tuple[str, pd.DataFrame, str, str]]:
    """Return what to draw: the name of a panel, its table, its column of places and its column of values."""
    tables = _tables(data)
    if "" not in tables:
        drawn = [(name, table) for name, table in tables.items() if frames.numeric_columns(table) and not table.empty]
        chosen = [(name, table, _columns(table, None, None)) for name, table in drawn[:MAX_PANELS]]
        return [(name, table, places, values[0]) for name, table, (places, values) in chosen]
    frame = _table(data)
    numeric, places = frames.numeric_columns(frame), str(frame.columns[0])
    columns = [name for name in numeric if name != places] or numeric
    return [(name, frame, places, name) for name in columns[:MAX_PANELS]]


def _extremes(names: list[str], values: list[float]) -> str:
    texts = frames.format_values(values)
    low, high = values.index(min(values)), values.index(max(values))
    return f"{len(values)} bars, from {names[low]} ({texts[low]}) to {names[high]} ({texts[high]})"


def _ranges(frame: pd.DataFrame, places: str, columns: list[str]) -> str:
    parts = []
    for column in columns:
        known = frame[column].dropna()
        if known.empty:
            raise ValueError(f"nothing to draw: {column!r} has no values")
        low, high = frames.format_values([float(known.min()), float(known.max())])
        parts.append(f"{column} from {low} to {high}")
    return f"{len(frame)} points by {places}: {'; '.join(parts)}"
