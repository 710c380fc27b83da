"""What the files for Prometheus and Grafana name is really measured."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

import aiecs_ray
from aiecs_ray.metering import METRICS
from tests.cluster_configs.conftest import FOLDER, load
from tests.contract.probes import eventually, op

if TYPE_CHECKING:
    from collections.abc import Iterator

ray = pytest.importorskip("ray")

MONITORING = FOLDER / "monitoring"
THRESHOLDS = {
    "CacheHitRateLow": "< 0.8",
    "OperationTimeoutRateHigh": "> 0.05",
    "RetryRateHigh": "> 0.1",
    "MemoryUsageHigh": "> 0.9",
}
NO_NAMES = {"by", "and", "sum", "rate", "max", "increase", "histogram_quantile", "label_values"}
LABELS = {"tool", "operation", "status", "le"}


def alerts() -> dict[str, str]:
    groups = load("monitoring/alerts.yaml")["groups"]
    return {rule["alert"]: " ".join(rule["expr"].split()) for group in groups for rule in group["rules"]}


def queries() -> list[str]:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    variables = [one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]] + variables


def names_in(query: str) -> set[str]:
    """Return the metrics that a query reads."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", "", query)
    return set(re.findall(r"[a-z_]+[a-z]", bare)) - NO_NAMES - LABELS


def relabelled(name: str) -> str:
    """Return the name that a scraped metric gets."""
    for rule in load("monitoring/prometheus.yaml")["scrape_configs"][0]["metric_relabel_configs"]:
        if rule.get("target_label") == "__name__" and (found := re.fullmatch(rule["regex"], name)):
            name = found.expand(rule["replacement"].replace("$", "\\"))
    return name


def used() -> set[str]:
    return set().union(*map(names_in, [*alerts().values(), *queries()]))


def test_every_metric_of_the_package_is_looked_at_by_somebody() -> None:
    looked_at = {re.sub("_(bucket|sum|count)$", "", name) for name in used()}

    assert {name for name in looked_at if not name.startswith("ray_")} == set(METRICS)


def test_the_alerts_have_the_thresholds_and_directions_of_the_documents() -> None:
    found = alerts()

    for name, threshold in THRESHOLDS.items():
        assert threshold in found[name]


def test_the_four_queries_of_the_documents_are_panels() -> None:
    text = "\n".join(queries()).replace('{tool=~"$tool"}', "")

    for part in (
        "sum(rate(cache_hits_total[5m])) / (sum(rate(cache_hits_total[5m])) + sum(rate(cache_misses_total[5m])))",
        "histogram_quantile(0.95, sum by (le) (rate(operation_duration_seconds_bucket[5m])))",
        "rate(retry_attempts_total[5m])",
        "rate(timeout_errors_total[5m])",
    ):
        assert part in text


class Plant:
    def give(self, n: int = 0) -> int:
        return n

    def lose(self) -> None:
        raise ConnectionError("gone")

    def hang(self) -> None:
        while not aiecs_ray.cancelled():
            pass
        raise InterruptedError


@pytest.fixture
def plant(ray_rt: aiecs_ray.Runtime) -> Iterator[aiecs_ray.Runtime]:
    ray_rt.register(Plant, num_cpus=0, breaker=True)
    yield ray_rt
    ray_rt.reset_breaker("plant.lose")


def exposed() -> dict[str, str]:
    """Return what the metrics port of the cluster says: series by their names, as Prometheus would store them."""
    port = ray.nodes()[0]["MetricsExportPort"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    by_name: dict[str, str] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name = relabelled(re.split("[{ ]", line, maxsplit=1)[0])
            by_name[name] = f"{by_name.get(name, '')}{line}\n"
    return by_name


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_every_name_is_in_what_a_running_product_exposes(plant: aiecs_ray.Runtime) -> None:
    again: dict[str, Any] = {"retry": {"attempts": 2, "wait_min": 0.01, "wait_max": 0.01}}
    for _ in range(2):
        plant.run([op("plant.give", n=1)], user_id="ann")
    plant.run([{"operation": "plant.lose", **again}])
    plant.run([{"operation": "plant.hang", "timeout": 0.2}])

    # What has never happened has no series: nothing is lost here.
    wanted = used() - {"history_lost_total"}
    eventually(lambda: wanted <= exposed().keys(), 90)

    shown = exposed()
    assert re.search(r'retry_attempts_total\{[^}]*operation="lose"[^}]*tool="plant"[^}]*\} 1\.0', str(shown))
    assert re.search(r'operation_duration_seconds_bucket\{[^}]*le="\+Inf"[^}]*operation="give"', str(shown))
    assert not re.search(r"user_id|run_id", "".join(shown[name] for name in METRICS if name in shown))
