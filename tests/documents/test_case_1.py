"""operation_executor.md, case 1 (S0-110): the daily analysis of a shop, on the tools that ship."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import ExecutionUtils, OperationExecutor, ToolExecutor
from aiecs_ray.tools import TOOLS
from tests.documents.tools_of_cases import ScraperTool, offer

if TYPE_CHECKING:
    from pathlib import Path

    import aiecs_ray

DATE = "2024-05-01"
SALES = """date,category,region,amount
2024-05-01,toys,north,10.0
2024-05-01,toys,south,30.0
2024-05-01,toys,south,30.0
2024-05-01,books,north,20.0
2024-05-01,food,south,5.0
"""


def daily_analysis(folder: str, date: str) -> list[dict[str, Any]]:
    return [
        {"operation": "pandas_tool.read_csv", "params": {"file_path": f"{folder}sales_{date}.csv"}},
        {"operation": "scraper_tool.collect_external_data", "params": {"api_endpoint": "market_api"}},
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


async def analyse(executor: OperationExecutor, folder: str = "", date: str = DATE) -> Any:
    return await executor.execute_operations_sequence(
        daily_analysis(folder, date),
        user_id="analyst_001",
        task_id=f"daily_analysis_{date}",
        stop_on_failure=True,
    )


def check(results: Any) -> None:
    assert [result.error_message for result in results] == [None] * 9
    merged, metrics, groups = (results[n].result for n in (3, 4, 5))
    assert merged[["category", "amount", "market"]].to_numpy().tolist() == [
        ["toys", 10.0, 8.0],
        ["toys", 30.0, 8.0],
        ["books", 20.0, 21.0],
    ]
    assert metrics["columns"]["amount"]["sum"] == 60.0
    assert dict(zip(groups["category"], groups["amount_sum"], strict=True)) == {"books": 20.0, "toys": 40.0}
    assert all(results[n].result["png"].startswith(b"\x89PNG") for n in (6, 7))
    report = results[8].result
    assert report["charts"] == 2
    assert "<dt>Amount sum</dt><dd>60</dd>" in report["html"]


@pytest.fixture
def shop(documents: Path, shipped: aiecs_ray.Registry) -> Path:
    shipped.register(ScraperTool, "scraper_tool")
    (documents / f"sales_{DATE}.csv").write_text(SALES, encoding="utf-8")
    return documents


@pytest.mark.usefixtures("shop")
async def test_nine_steps_make_the_daily_report() -> None:
    executor = OperationExecutor(ToolExecutor(), ExecutionUtils(), {})

    results = await analyse(executor)

    check(results)


@pytest.mark.usefixtures("shop")
async def test_a_day_without_sales_stops_at_its_file() -> None:
    executor = OperationExecutor(ToolExecutor(), ExecutionUtils(), {})

    results = await analyse(executor, date="2024-05-02")

    (result,) = results
    assert (result.step, result.error_code) == ("pandas_tool.read_csv", "E003")
    assert result.error_message.endswith("No such file or directory: 'sales_2024-05-02.csv'")


@pytest.mark.usefixtures("shop")
async def test_a_second_report_of_the_day_comes_from_the_cache() -> None:
    executor = OperationExecutor(ToolExecutor(), ExecutionUtils(), {})
    await analyse(executor)
    before = executor.get_stats()["cache"]["hits"]

    check(await analyse(executor))

    assert executor.get_stats()["cache"]["hits"] - before == 9


@pytest.mark.ray
async def test_the_daily_report_is_made_on_ray(shop: Path, ray_rt: aiecs_ray.Runtime) -> None:
    offer(ray_rt, scraper_tool=ScraperTool)
    for cls in TOOLS:
        ray_rt.register(cls)
    executor = OperationExecutor(ToolExecutor(runtime=ray_rt), ExecutionUtils(), {})

    check(await analyse(executor, f"{shop}/"))
