from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from aiecs_ray.tools import StatsTool

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def tool() -> StatsTool:
    return StatsTool()


def test_calculate_metrics_agrees_with_the_standard_library(tool: StatsTool, shipped: Callable[[Any], Any]) -> None:
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    df = shipped(pd.DataFrame({"x": [*values, None], "name": list("abcdef")}))

    metrics = tool.calculate_metrics(df)

    assert metrics["rows"] == 6
    assert list(metrics["columns"]) == ["x"]
    assert metrics["columns"]["x"] == {
        "count": 5,
        "sum": 14.0,
        "mean": pytest.approx(statistics.mean(values)),
        "std": pytest.approx(statistics.stdev(values)),
        "min": 1.0,
        "median": 3.0,
        "max": 5.0,
        "missing": 1,
    }


def test_calculate_metrics_returns_plain_numbers_and_none_for_what_does_not_exist(tool: StatsTool) -> None:
    facts = tool.calculate_metrics([{"x": 2}])["columns"]["x"]

    assert type(facts["count"]) is int
    assert type(facts["mean"]) is float
    assert facts["std"] is None


def test_calculate_metrics_computes_the_headline(tool: StatsTool, orders: pd.DataFrame) -> None:
    headline = tool.calculate_metrics(
        orders,
        headline=[
            {"label": "Orders", "column": "amount", "statistic": "count"},
            {"label": "Kinds", "column": "category", "statistic": "unique"},
            {"label": "Small", "column": "amount", "statistic": "percent<=10", "unit": "%"},
        ],
    )["headline"]

    assert headline == [
        {"label": "Orders", "value": 5, "unit": ""},
        {"label": "Kinds", "value": 3, "unit": ""},
        {"label": "Small", "value": 60.0, "unit": "%"},
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"label": "a", "column": "amount"}, "has no 'statistic'"),
        ({"label": "a", "column": "price", "statistic": "mean"}, "has no column 'price'; it has: date"),
        ({"label": "a", "column": "amount", "statistic": "p100"}, "unknown statistic 'p100'"),
    ],
)
def test_calculate_metrics_says_what_is_wrong_with_a_headline(
    tool: StatsTool, orders: pd.DataFrame, entry: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tool.calculate_metrics(orders, headline=[entry])


def test_calculate_trends_finds_the_line(tool: StatsTool) -> None:
    df = {"t": [0, 1, 2, 4], "up": [1.0, 3.0, 5.0, 9.0], "flat": [5.0, 5.0, 5.0, 5.0], "down": [3.0, 2.0, 2.0, 0.0]}

    result = tool.calculate_trends(df, x="t")

    assert result["trends"]["up"] == {
        "slope": pytest.approx(2.0),
        "change": pytest.approx(8.0),
        "first": 1.0,
        "last": 9.0,
        "r_squared": pytest.approx(1.0),
        "direction": "rising",
    }
    assert {name: trend["direction"] for name, trend in result["trends"].items()} == {
        "up": "rising",
        "flat": "flat",
        "down": "falling",
    }
    slope, intercept = np.polyfit(df["t"], df["down"], 1)
    left_over = np.array(df["down"]) - (slope * np.array(df["t"]) + intercept)
    assert result["trends"]["down"]["slope"] == pytest.approx(slope)
    assert result["trends"]["down"]["r_squared"] == pytest.approx(1 - left_over.var() / np.var(df["down"]))


def test_calculate_trends_takes_rows_by_x_and_leaves_out_missing_values(tool: StatsTool) -> None:
    df = {"t": [3, 1, 2, 4], "y": [30.0, 10.0, 20.0, None]}

    trend = tool.calculate_trends(df, columns=["y"], x="t")["trends"]["y"]

    assert (trend["first"], trend["last"]) == (10.0, 30.0)
    assert (trend["slope"], trend["change"]) == (pytest.approx(10.0), pytest.approx(20.0))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"a": 1}], "needs two values"),
        ([{"a": "x"}, {"a": "y"}], "no column of numbers; it has: a"),
    ],
)
def test_calculate_trends_says_why_there_is_none(tool: StatsTool, data: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tool.calculate_trends(data)


def test_detect_anomalies_finds_the_values_far_from_the_mean(tool: StatsTool) -> None:
    values = [10.0, 11.0, 9.0, 10.0, 10.0, 11.0, 9.0, 10.0, 10.0, 11.0, 9.0, 100.0]

    result = tool.detect_anomalies({"x": values})

    assert result["count"] == 1
    (anomaly,) = result["anomalies"]
    assert (anomaly["row"], anomaly["column"], anomaly["value"]) == (11, "x", 100.0)
    assert anomaly["score"] == pytest.approx((100 - statistics.mean(values)) / statistics.stdev(values))


def test_detect_anomalies_by_quartiles_puts_the_farthest_first(tool: StatsTool) -> None:
    result = tool.detect_anomalies({"x": [1.0, 2.0, 3.0, 4.0, 5.0, 20.0, -40.0, None]}, method="iqr", threshold=1.5)

    assert [(anomaly["row"], anomaly["value"]) for anomaly in result["anomalies"]] == [(6, -40.0), (5, 20.0)]
    assert result["anomalies"][1]["score"] == pytest.approx((20 - 4.5) / (4.5 - 1.5))


@pytest.mark.parametrize("method", ["zscore", "iqr"])
@pytest.mark.parametrize("values", [[5, 5, 5], [1], [None, None], []])
def test_detect_anomalies_finds_none_where_values_do_not_differ(
    tool: StatsTool, method: str, values: list[float | None]
) -> None:
    result = tool.detect_anomalies(pd.DataFrame({"x": pd.Series(values, dtype=float)}), method=method)

    assert result["anomalies"] == []


def test_detect_anomalies_takes_the_result_of_calculate_trends(tool: StatsTool) -> None:
    trends = tool.calculate_trends({"x": [1.0, 2.0, 3.0]})

    assert tool.detect_anomalies(trends)["rows"] == 3


def test_detect_anomalies_refuses_a_threshold_that_means_nothing(tool: StatsTool) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        tool.detect_anomalies([1, 2], threshold=0)


def test_generate_report_summarises_a_table(tool: StatsTool) -> None:
    df = {"a": [1, 2, 3], "b": [2.0, 4.0, 6.0], "c": [3.0, 1.0, None], "name": ["x", "x", "y"]}

    report = tool.generate_report(df)

    assert report["columns"]["name"]["unique"] == 2
    assert report["columns"]["c"]["missing"] == 1
    assert report["metrics"]["b"]["sum"] == 12.0
    assert {tuple(pair["columns"]): pair["r"] for pair in report["correlations"]} == {
        ("a", "b"): pytest.approx(1.0),
        ("a", "c"): pytest.approx(-1.0),
        ("b", "c"): pytest.approx(-1.0),
    }
    assert report["text"].splitlines()[:2] == ["3 rows, 4 columns", "a: mean 2, from 1 to 3"]
    assert "c: 1 missing" in report["text"]
