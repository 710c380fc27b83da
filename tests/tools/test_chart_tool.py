from __future__ import annotations

import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from aiecs_ray.tools import ChartTool, PandasTool, StatsTool, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@pytest.fixture
def tool() -> ChartTool:
    return ChartTool()


@pytest.fixture
def axes() -> Axes:
    return canvas.new_figure(6, 4).add_subplot()


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_a_chart_is_a_picture_with_its_size_and_what_it_shows(tool: ChartTool, orders: pd.DataFrame) -> None:
    chart = tool.bar_chart(orders, x="category", y="amount", title="Sales")

    assert size_of(chart["png"]) == (chart["width"], chart["height"])
    assert chart["width"] == 8 * canvas.DPI
    assert (chart["title"], chart["kind"]) == ("Sales", "bar")
    assert chart["alt"] == "Bar chart. Sales. 5 bars, from food (5) to toys (30)"


def test_the_same_chart_is_the_same_bytes(tool: ChartTool, orders: pd.DataFrame) -> None:
    picture = tool.bar_chart(orders)["png"]

    assert tool.bar_chart(orders)["png"] == picture
    assert b"atplotlib" not in picture


def test_charts_drawn_in_many_threads_are_those_drawn_in_one(tool: ChartTool) -> None:
    tables = [{"name": list("abc"), "value": [n, 2 * n, 3]} for n in range(1, 7)]
    alone = [tool.bar_chart(table)["png"] for table in tables]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda table: tool.bar_chart(table)["png"], tables))

    assert together == alone


def test_pyplot_is_never_imported() -> None:
    program = "import sys, aiecs_ray.tools; print('matplotlib.pyplot' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603

    assert done.stdout.strip() == "False"


def test_bars_are_as_long_as_their_values_and_say_them(axes: Axes) -> None:
    canvas.draw_bars(axes, ["up", "down"], [12.5, -3.0])

    assert [bar.get_width() for bar in axes.patches] == [12.5, -3.0]
    assert [text.get_text() for text in axes.texts] == ["12.5", "\N{MINUS SIGN}3.0"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["up", "down"]
    assert axes.yaxis_inverted()
    assert axes.patches[0].get_facecolor() != axes.patches[1].get_facecolor()


def test_lines_run_through_their_points_from_low_to_high_with_gaps(axes: Axes) -> None:
    canvas.draw_lines(axes, pd.Series([3, 1, 2]), {"y": pd.Series([30.0, 10.0, None])})

    line = axes.lines[0]
    assert line.get_xdata().tolist() == [1.0, 2.0, 3.0]
    np.testing.assert_array_equal(line.get_ydata(), [10.0, np.nan, 30.0])
    assert axes.get_xticks().tolist() == [1.0, 2.0, 3.0]


def test_the_straight_line_is_the_least_squares_one(axes: Axes) -> None:
    y = pd.Series([1.0, 2.0, 6.0, None])

    change = canvas.draw_straight(axes, pd.Series([0, 1, 2, 3]), y)

    slope, intercept = np.polyfit([0, 1, 2], [1, 2, 6], 1)
    assert axes.lines[0].get_ydata() == pytest.approx([intercept, intercept + 2 * slope])
    assert change == pytest.approx(2 * slope)


@pytest.mark.parametrize(
    "x",
    [
        pd.Series(["a", "b", "c"]),
        pd.Series(pd.date_range("2024-01-01", periods=3, tz="UTC")),
        pd.Series([True, False, True]),
        pd.Series([0.5, 1.5, 2.5]),
    ],
)
def test_lines_and_trends_take_names_times_and_numbers(tool: ChartTool, x: pd.Series) -> None:
    data = pd.DataFrame({"x": x, "y": [1.0, 2.0, 4.0]})

    assert tool.line_chart(data)["alt"] == "Line chart. . 3 points by x: y from 1 to 4"
    assert tool.create_trend_analysis(data)["change"] == pytest.approx(3.0)


def test_text_between_dollar_signs_is_shown_and_not_typeset(tool: ChartTool) -> None:
    data = {"name": [r"net $\frac$ and gross $", "b"], "price in $ or $": [1, 2]}

    chart = tool.bar_chart(data, title=r"$\nonsense{$ costs $5$")

    assert chart["title"] == r"$\nonsense{$ costs $5$"


def test_rows_beyond_the_most_a_chart_shows_are_counted(tool: ChartTool) -> None:
    chart = tool.bar_chart({"name": [str(n) for n in range(50)], "value": list(range(50))})

    assert "40 bars, from 0 (0) to 39 (39)" in chart["alt"]


def test_a_sales_chart_puts_the_largest_first(tool: ChartTool, orders: pd.DataFrame) -> None:
    table = PandasTool().group_analysis(orders, "category", measures={"Total": ["amount", "sum"]})

    sorted_by_hand = tool.bar_chart({"category": ["toys", "books", "food"], "Total": [40.0, 20.0, 10.0]}, title="Sales")

    assert tool.create_sales_chart(table)["png"] == sorted_by_hand["png"]


def test_a_sales_chart_takes_metrics_and_sales_analyses(tool: ChartTool, orders: pd.DataFrame) -> None:
    metrics = tool.create_sales_chart(StatsTool().calculate_metrics(orders))
    analysis = tool.create_sales_chart(PandasTool().analyze_sales(orders))

    assert "from units (14) to amount (70)" in metrics["alt"]
    assert "3 bars, from food (10) to toys (40)" in analysis["alt"]


def test_a_trend_takes_group_analyses_and_trends(tool: ChartTool, orders: pd.DataFrame) -> None:
    by_month = PandasTool().analyze_sales(orders)["tables"]["Sales by month"]
    trends = StatsTool().calculate_trends(by_month)

    assert tool.create_trend_analysis(by_month)["change"] == pytest.approx(10.0)
    assert tool.create_trend_analysis(trends)["png"] == tool.create_trend_analysis(by_month)["png"]


def test_a_dashboard_has_a_panel_for_each_table_or_each_column_of_numbers(
    tool: ChartTool, orders: pd.DataFrame
) -> None:
    of_tables = tool.create_dashboard(PandasTool().analyze_sales(orders), title="Shop")
    of_columns = tool.create_dashboard(orders)

    assert of_tables["alt"] == "Dashboard. Shop. Panels: Sales by category, Sales by month"
    assert of_columns["alt"].endswith("Panels: amount, units")
    assert size_of(of_tables["png"]) == (of_tables["width"], of_tables["height"])


@pytest.mark.parametrize(
    ("operation", "options", "message"),
    [
        ("bar_chart", {"data": []}, "no rows"),
        ("bar_chart", {"data": [{"a": "x"}]}, "no column of numbers; it has: a"),
        ("bar_chart", {"data": [{"a": 1}], "x": "b"}, "data has no column 'b'; it has: a"),
        ("bar_chart", {"data": [{"a": "x", "b": 1}], "y": "a"}, "not numbers; columns with numbers: b"),
        ("bar_chart", {"data": pd.DataFrame({"a": ["x"], "b": [np.nan]})}, "'b' has no values"),
        ("line_chart", {"data": pd.DataFrame({"a": ["x"], "b": [np.nan]})}, "'b' has no values"),
        ("line_chart", {"data": [{"a": 1, "b": 2}], "height": 0}, "height must be between 1 and 30 inches"),
        ("create_dashboard", {"data": [{"a": "x"}]}, "no column of numbers"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_reason(
    tool: ChartTool, operation: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(tool, operation)(**options)
