"""The pipelines of operation_executor.md, with the operations of these tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Runner = Callable[[list[dict[str, Any]]], dict[int | str, Any]]


@pytest.fixture
def sales(tmp_path: Path) -> str:
    path = tmp_path / "sales_2024-05-01.csv"
    path.write_text(
        "date,category,region,amount\n"
        "2024-05-01,toys,north,10.0\n"
        "2024-05-01,toys,south,30.0\n"
        "2024-05-01,toys,south,30.0\n"
        "2024-05-02,books,north,20.0\n"
        "2024-05-02,books,south,\n"
    )
    return str(path)


@pytest.fixture
def market(tmp_path: Path) -> str:
    path = tmp_path / "market.csv"
    path.write_text("region,index\nnorth,100\nsouth,90\n")
    return str(path)


def test_the_daily_sales_analysis_of_case_1(runner: Runner, sales: str, market: str) -> None:
    results = runner(
        [
            {"operation": "pandas_tool.read_csv", "params": {"file_path": sales}},
            {"operation": "pandas_tool.read_csv", "params": {"file_path": market}},
            {"operation": "pandas_tool.clean_data", "params": {"df": "$result[0]", "remove_duplicates": True}},
            {"operation": "pandas_tool.merge_data", "params": {"df1": "$result[2]", "df2": "$result[1]"}},
            {"operation": "stats_tool.calculate_metrics", "params": {"df": "$result[3]"}},
            {"operation": "pandas_tool.group_analysis", "params": {"df": "$result[3]", "group_by": "category"}},
            {"operation": "chart_tool.create_sales_chart", "params": {"data": "$result[4]"}},
            {"operation": "chart_tool.create_trend_analysis", "params": {"data": "$result[5]"}},
            {
                "operation": "report_tool.generate_daily_report",
                "params": {
                    "charts": ["$result[6]", "$result[7]"],
                    "metrics": "$result[4]",
                    "template": "daily_sales_template",
                },
            },
        ]
    )

    assert len(results[3]) == 4
    assert results[4]["columns"]["amount"]["sum"] == 60.0
    assert results[5]["amount_sum"].tolist() == [20.0, 40.0]
    assert results[8]["charts"] == 2
    assert "<dt>Amount sum</dt><dd>60</dd>" in results[8]["html"]


def test_the_analysis_pipeline_of_scenario_1(runner: Runner, sales: str) -> None:
    results = runner(
        [
            {"operation": "pandas_tool.read_csv", "params": {"file_path": sales}},
            {"operation": "pandas_tool.clean_data", "params": {"df": "$result[0]", "drop_na": True}},
            {"operation": "pandas_tool.analyze_sales", "params": {"df": "$result[1]"}},
            {"operation": "chart_tool.create_dashboard", "params": {"data": "$result[2]"}},
            {"operation": "report_tool.generate_pdf", "params": {"charts": "$result[3]"}},
        ]
    )

    assert results[2]["metrics"]["total"] == 90.0
    assert results[4]["pages"] == 1


def test_the_statistics_of_scenario_3(runner: Runner, sales: str) -> None:
    results = runner(
        [
            {"operation": "pandas_tool.read_csv", "params": {"file_path": sales}},
            {"operation": "stats_tool.calculate_trends", "params": {"data": "$result[0]"}},
            {"operation": "stats_tool.detect_anomalies", "params": {"data": "$result[1]", "threshold": 1.2}},
        ]
    )

    assert results[1]["trends"]["amount"]["direction"] == "rising"
    assert [anomaly["row"] for anomaly in results[2]["anomalies"]] == [0]


def test_the_workflow_of_scenario_7(runner: Runner, sales: str) -> None:
    results = runner(
        [
            {"operation": "pandas_tool.read_csv", "params": {"file_path": sales}},
            {"operation": "pandas_tool.check_data_quality", "params": {"df": "$result[0]"}},
            {"operation": "pandas_tool.clean_data", "params": {"df": "$result[1]", "if_quality_low": True}},
            {"operation": "stats_tool.generate_report", "params": {"df": "$result[2]"}},
        ]
    )

    assert results[1]["low"] is True
    assert results[3]["rows"] == 3
    assert results[3]["metrics"]["amount"]["missing"] == 0


def test_a_field_of_a_result_can_be_referred_to(runner: Runner, sales: str) -> None:
    results = runner(
        [
            {"operation": "pandas_tool.read_csv", "params": {"file_path": sales}},
            {"operation": "pandas_tool.check_data_quality", "params": {"df": "$result[0]"}},
            {"operation": "stats_tool.detect_anomalies", "params": {"data": "$result[1].data.amount"}},
        ]
    )

    assert results[2]["columns"] == ["amount"]
    assert results[2]["rows"] == 5
