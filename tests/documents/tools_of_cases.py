"""Small tools with the names of the documents' cases; they do little work, but real work."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, ClassVar

from aiecs_ray import Runtime, TaskStepResult  # noqa: TC001  # the hints of tools are read at run time
from tests.contract.probes import note, visit, visit_async, visit_until_asked


class Desk:
    """What the tests of the executor's behaviour need of a tool."""

    def give(self, value: Any = None) -> Any:
        return value

    def add(self, a: int, b: int = 1) -> int:
        return a + b

    def fail(self, message: str = "no") -> None:
        raise ValueError(message)

    def stop(self, reason: str) -> None:
        reasons: dict[str, BaseException] = {
            "time": TimeoutError("too slow"),
            "database": sqlite3.OperationalError("no such table: orders"),
            "cancelled": asyncio.CancelledError(),
            "connection": ConnectionError("refused"),
        }
        raise reasons[reason]

    def note(self, ledger: str, value: Any = None, text: str = "ran") -> Any:
        note(ledger, text)
        return value

    def note_and_stop(self, ledger: str, reason: str) -> None:
        note(ledger, reason)
        self.stop(reason)

    def visit(self, gate: int, text: str = "") -> str:
        return visit(gate, text)

    def visit_until_asked(self, gate: int, ledger: str) -> bool:
        asked = visit_until_asked(gate)
        note(ledger, "asked" if asked else "let go")
        return asked

    def start(self) -> float:
        return time.monotonic()

    def take_any(self, **given: Any) -> dict[str, Any]:
        return given

    def own_names(self, user_id: str, task_id: str = "none", op: str = "none") -> list[str]:
        return [user_id, task_id, op]

    def awkward_names(self, operation: str, tool_instance: str, params: str) -> str:
        return f"{operation} {tool_instance} {params}"

    def later(self, value: int) -> Any:
        async def give() -> int:
            await asyncio.sleep(0)
            return value

        return give()

    async def visit_async(self, gate: int, text: str = "") -> str:
        return await visit_async(gate, text)


class Bench:
    """A tool without async operations: its replica does one thing after the other."""

    def note(self, ledger: str, text: str) -> None:
        note(ledger, text)

    def visit(self, gate: int) -> str:
        return visit(gate)


class Counter:
    """A tool that writes down when it is made."""

    def __init__(self, ledger: str) -> None:
        note(ledger, "made")

    def one(self) -> int:
        return 1


class Other:
    """A second tool with an operation of the same name."""

    def give(self, value: Any = None) -> Any:
        return ["other", value]


# --- case 1 ----------------------------------------------------------------------------------------------------


class ScraperTool:
    """Data from outside: the markets' prices, and what a machine says of itself."""

    MARKETS: ClassVar = {"market_api": [{"category": "toys", "market": 8.0}, {"category": "books", "market": 21.0}]}

    def collect_external_data(self, api_endpoint: str) -> list[dict[str, Any]]:
        return self.MARKETS[api_endpoint]

    def collect_cpu_metrics(self, endpoint: str) -> dict[str, Any]:
        return self._series(endpoint, "cpu", [20.0, 22.0, 21.0, 40.0, 61.0, 83.0])

    def collect_memory_metrics(self, endpoint: str) -> dict[str, Any]:
        return self._series(endpoint, "memory", [50.0, 50.5, 51.0, 51.5, 52.0, 52.5])

    def collect_network_metrics(self, endpoint: str) -> dict[str, Any]:
        return self._series(endpoint, "network", [10.0, 11.0, 10.0, 95.0, 10.0, 11.0])

    def collect_disk_metrics(self, endpoint: str) -> dict[str, Any]:
        return self._series(endpoint, "disk", [70.0, 75.0, 80.0, 85.0, 90.0, 95.0])

    def _series(self, endpoint: str, name: str, values: list[float]) -> dict[str, Any]:
        if endpoint != "metrics_api":
            raise ConnectionError(f"no answer from {endpoint}")
        return {"name": name, "values": values}


# --- case 2 ----------------------------------------------------------------------------------------------------


class OfficeTool:
    def read_document(self, file_path: str) -> dict[str, Any]:
        """Return the pages of a text file, which a form feed divides."""
        pages = Path(file_path).read_text(encoding="utf-8").split("\f")
        return {"file": Path(file_path).name, "scanned_pages": [{"number": n, "marks": p} for n, p in enumerate(pages)]}


class ImageTool:
    def ocr_text(self, image: list[dict[str, Any]]) -> str:
        return "\n".join(re.sub(r"[ \t]+", " ", page["marks"]).strip() for page in image)


class ClassfireTool:
    TERMS: ClassVar = {
        "termination": r"terminat\w+ .*?(\d+) days",
        "liability": r"liabilit\w+ .*?(unlimited|limited to [\d,]+ EUR)",
        "penalty": r"penalt\w+ of ([\d,]+ EUR)",
    }

    def extract_entities(self, text: str) -> dict[str, list[str]]:
        return {
            "parties": re.findall(r"\b([A-Z]\w+ (?:Ltd|GmbH|Inc))\b", text),
            "dates": re.findall(r"\b\d{4}-\d{2}-\d{2}\b", text),
            "amounts": re.findall(r"\b[\d,]+ EUR\b", text),
        }

    def find_contract_terms(self, text: str) -> dict[str, str]:
        found = {name: re.search(pattern, text, re.IGNORECASE) for name, pattern in self.TERMS.items()}
        return {name: match[1] for name, match in found.items() if match is not None}

    def assess_risk_level(
        self, entities: dict[str, list[str]], terms: dict[str, str], precedents: list[str]
    ) -> dict[str, Any]:
        reasons = [name for name in ("parties", "dates") if not entities[name]]
        reasons += ["liability"] if terms.get("liability") == "unlimited" else []
        score = len(reasons) + len(precedents)
        return {"level": "high" if score > 1 else "low", "reasons": reasons, "precedents": len(precedents)}

    def classify_contract_type(self, text: str) -> str:
        words = {"lease": ("rent", "premises"), "supply": ("deliver", "goods"), "service": ("service", "hours")}
        return max(words, key=lambda kind: sum(text.lower().count(word) for word in words[kind]))


class ResearchTool:
    PRECEDENTS: ClassVar = {"liability": ["Case 12/2019"], "penalty": ["Case 7/2021", "Case 9/2022"]}

    def search_legal_precedents(self, terms: dict[str, str]) -> list[str]:
        return [case for term in terms for case in self.PRECEDENTS.get(term, [])]


class LegalReports:
    def generate_legal_analysis(
        self,
        contract_text: str,
        entities: dict[str, list[str]],
        terms: dict[str, str],
        risk_assessment: dict[str, Any],
        contract_type: str,
    ) -> str:
        parties = " and ".join(entities["parties"])
        words = len(contract_text.split())
        return f"{contract_type} between {parties}: {', '.join(terms)}; risk {risk_assessment['level']}; {words} words"


# --- case 3 ----------------------------------------------------------------------------------------------------


class MonitorStats:
    """Rolling statistics over a series of percentages."""

    WINDOW = 3

    def analyze_cpu_trends(self, data: dict[str, Any]) -> dict[str, Any]:
        means = self._rolling(data["values"])
        return {"name": data["name"], "rolling": means, "rising": all(a < b for a, b in pairwise(means))}

    def analyze_memory_usage(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"name": data["name"], "mean": fmean(data["values"]), "peak": max(data["values"])}

    def detect_anomalies(self, data: dict[str, Any], limit: float = 2.0) -> dict[str, Any]:
        mean, spread = fmean(data["values"]), pstdev(data["values"])
        places = [place for place, value in enumerate(data["values"]) if abs(value - mean) > limit * spread]
        return {"name": data["name"], "anomalies": places}

    def predict_failures(self, data: dict[str, Any], full: float = 100.0) -> dict[str, Any]:
        values = data["values"]
        step = (values[-1] - values[0]) / (len(values) - 1)
        return {"name": data["name"], "full_in": (full - values[-1]) / step if step > 0 else None}

    def _rolling(self, values: list[float]) -> list[float]:
        return [fmean(values[i : i + self.WINDOW]) for i in range(len(values) - self.WINDOW + 1)]


class SearchApi:
    def check_alert_conditions(self, analysis: list[TaskStepResult]) -> list[str]:
        alerts = [f"{step.step} did not complete" for step in analysis if not step.completed]
        for found in (step.result for step in analysis if step.completed):
            alerts += [f"{found['name']} is rising"] if found.get("rising") else []
            alerts += [f"{found['name']} jumps at {place}" for place in found.get("anomalies", [])]
            alerts += [f"{found['name']} is full in {found['full_in']:g}"] if found.get("full_in") else []
        return alerts

    def send_notifications(self, alerts: list[str]) -> int:
        return len(alerts)

    def update_dashboard(self, metrics: list[TaskStepResult]) -> dict[str, float]:
        return {step.result["name"]: step.result["values"][-1] for step in metrics if step.completed}


def offer(runtime: Runtime, **tools: type) -> None:
    """Register tools under the documents' names."""
    for name, cls in tools.items():
        runtime.register(cls, name)
