"""operation_executor.md, case 3 (S0-112): one round of the loop that watches a system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.documents.tools_of_cases import MonitorStats, ScraperTool, SearchApi, offer

if TYPE_CHECKING:
    import aiecs_ray
    from aiecs_ray import OperationExecutor, TaskStepResult
    from tests.documents.conftest import Make

TOOLS: dict[str, type] = {"scraper_tool": ScraperTool, "stats_tool": MonitorStats, "search_api": SearchApi}
Round = tuple["list[TaskStepResult]", "list[TaskStepResult]", "list[TaskStepResult]"]


async def monitor_once(executor: OperationExecutor, endpoint: str = "metrics_api") -> Round:
    monitoring_operations: list[dict[str, Any]] = [
        {"operation": "scraper_tool.collect_cpu_metrics", "params": {"endpoint": "metrics_api"}},
        {"operation": "scraper_tool.collect_memory_metrics", "params": {"endpoint": "metrics_api"}},
        {"operation": "scraper_tool.collect_network_metrics", "params": {"endpoint": "metrics_api"}},
        {"operation": "scraper_tool.collect_disk_metrics", "params": {"endpoint": endpoint}, "retry": 1},
    ]

    metrics_results = await executor.execute_parallel_operations(monitoring_operations)

    analysis_operations = [
        {"operation": "stats_tool.analyze_cpu_trends", "params": {"data": "$result[0]"}},
        {"operation": "stats_tool.analyze_memory_usage", "params": {"data": "$result[1]"}},
        {"operation": "stats_tool.detect_anomalies", "params": {"data": "$result[2]"}},
        {"operation": "stats_tool.predict_failures", "params": {"data": "$result[3]"}},
    ]

    # Here the references mean the call before, which the document leaves to be guessed (contradiction C-07).
    analysis_results = await executor.execute_parallel_operations(analysis_operations, context_results=metrics_results)

    alert_operations = [
        {"operation": "search_api.check_alert_conditions", "params": {"analysis": analysis_results}},
        {"operation": "search_api.send_notifications", "params": {"alerts": "$result[0]"}},
        {"operation": "search_api.update_dashboard", "params": {"metrics": metrics_results}},
    ]

    alerts = await executor.execute_operations_sequence(
        alert_operations,
        user_id="system_monitor",
        task_id="monitoring_1717200000",
    )
    return metrics_results, analysis_results, alerts


def check(found: Round) -> None:
    metrics, analysis, alerts = found
    assert [step.step for step in metrics[:2]] == [
        "parallel_0_scraper_tool.collect_cpu_metrics",
        "parallel_1_scraper_tool.collect_memory_metrics",
    ]
    cpu, memory, network, disk = (step.result for step in analysis)
    assert cpu["rising"]
    assert cpu["rolling"][-1] == pytest.approx((40 + 61 + 83) / 3)
    assert (memory["peak"], network["anomalies"], disk["full_in"]) == (52.5, [3], 1.0)
    assert [step.result for step in alerts] == [
        ["cpu is rising", "network jumps at 3", "disk is full in 1"],
        3,
        {"cpu": 83.0, "memory": 52.5, "network": 11.0, "disk": 95.0},
    ]


@pytest.fixture
def monitor(make: Make, local: aiecs_ray.Runtime) -> OperationExecutor:
    offer(local, **TOOLS)
    return make()


async def test_a_round_collects_analyses_and_alerts(monitor: OperationExecutor) -> None:
    check(await monitor_once(monitor))


async def test_a_source_that_does_not_answer_is_an_alert_of_its_own(monitor: OperationExecutor) -> None:
    metrics, analysis, alerts = await monitor_once(monitor, endpoint="broken_api")

    assert [step.completed for step in metrics] == [True, True, True, False]
    assert (analysis[3].status, analysis[3].error_code) == ("failed", "E007")
    assert alerts[0].result == [
        "parallel_3_stats_tool.predict_failures did not complete",
        "cpu is rising",
        "network jumps at 3",
    ]
    assert alerts[2].result == {"cpu": 83.0, "memory": 52.5, "network": 11.0}


async def test_without_the_results_of_the_call_before_the_references_cannot_resolve(
    monitor: OperationExecutor,
) -> None:
    results = await monitor.execute_parallel_operations(
        [
            {"operation": "stats_tool.analyze_cpu_trends", "params": {"data": "$result[0]"}},
            {"operation": "stats_tool.analyze_memory_usage", "params": {"data": "$result[1]"}},
        ]
    )

    assert {result.error_code for result in results} == {"E001"}


@pytest.mark.ray
async def test_a_round_runs_on_ray(on_ray: OperationExecutor) -> None:
    offer(on_ray.runtime, **TOOLS)

    check(await monitor_once(on_ray))
