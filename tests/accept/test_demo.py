"""The main job as a newcomer runs it: ``make demo``, its report, its cache, and what it leaves behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from aiecs_ray.demo import write_data
from tests.accept.driver import ROOT, drive, new_mark, processes_with

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.ray, pytest.mark.accept, pytest.mark.timeout(300)]

RUN_PLAN = """
from pathlib import Path
import aiecs_ray
from aiecs_ray.demo_plan import REPORT, daily_report_plan
from aiecs_ray.demo import data_paths
from tests.accept.ledger_tools import NAMED

def run_plan(rt, folder):
    for name, tool in NAMED.items():
        rt.register(tool, name, replace=True)
    plan = daily_report_plan(data_paths(Path(folder)))
    run = rt.submit(plan, mode="parallel", user_id="demo", task_id="t", keep=[REPORT])
    return [result.status for result in run.result()]
"""


def test_the_demo_makes_its_report_and_leaves_no_process_behind(tmp_path: Path) -> None:
    mark = new_mark()
    command = [sys.executable, "-m", "aiecs_ray.demo", "--workdir", str(tmp_path)]
    environment = {**os.environ, "AIECS_DEMO_MARK": mark, "PYTHONPATH": str(ROOT)}

    done = subprocess.run(  # noqa: S603  # the demo itself
        command, capture_output=True, text=True, timeout=240, check=False, cwd=ROOT, env=environment
    )

    lines = done.stderr.strip().splitlines()
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert len(lines) <= 20
    assert any(
        "second process: 13 of 13 steps, 13 from the cache" in line and "the same report" in line for line in lines
    )
    assert processes_with("AIECS_DEMO_MARK", mark) == []
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    for number in expected_numbers(tmp_path / "data"):
        assert number in re.sub(r"<[^>]+>", " ", page)


def expected_numbers(folder: Path) -> list[str]:
    """Three numbers of the report, computed with plain pandas."""
    flights = pd.read_csv(folder / "flights.csv").dropna(subset=["arr_delay"]).drop_duplicates()
    return [
        f"{len(flights):,}",
        f"{flights['arr_delay'].mean():.1f}",
        f"{100 * (flights['arr_delay'] <= 15).mean():.1f}",
    ]


def test_a_second_process_runs_no_body_and_a_changed_line_runs_its_dependents(tmp_path: Path) -> None:
    folder, ledger = tmp_path / "data", tmp_path / "ledger"
    write_data(folder)

    answer: Any = drive(
        RUN_PLAN
        + f"""
import json, subprocess, sys
from pathlib import Path
folder, ledger = {str(folder)!r}, Path({str(ledger)!r})

def ran():
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    ledger.unlink(missing_ok=True)
    return lines

with aiecs_ray.connect("local", num_cpus=2) as rt:
    first = run_plan(rt, folder); bodies = [ran()]
    code = {RUN_PLAN!r} + f'''
with aiecs_ray.connect({{rt.address!r}}) as rt:
    run_plan(rt, {{folder!r}})
'''
    subprocess.run([sys.executable, "-c", code], check=True); bodies.append(ran())
    airlines = Path(folder, "airlines.csv")
    airlines.write_text(airlines.read_text().replace("United Air Lines Inc.", "United"))
    run_plan(rt, folder); bodies.append(ran())
answer({{"statuses": first, "bodies": bodies}})
""",
        LEDGER=str(ledger),
    )

    assert answer["statuses"] == ["completed"] * 13
    first, second, third = answer["bodies"]
    assert len(first) == 13, Counter(first)
    assert second == []
    assert Counter(third) == Counter(
        {
            "pandas_tool.read_csv": 1,
            "pandas_tool.merge_data": 2,
            "pandas_tool.group_analysis": 2,
            "chart_tool.create_sales_chart": 1,
            "report_tool.generate_daily_report": 1,
        }
    )
