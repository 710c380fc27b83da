"""What the pages point at exists: links, headings, commands, files, names, errors, events."""

from __future__ import annotations

import importlib
import importlib.util
import re
import tomllib
from typing import TYPE_CHECKING

import pytest

import aiecs_ray
from aiecs_ray import errors
from aiecs_ray.demo_plan import daily_report_plan
from aiecs_ray.messages import EventKind
from aiecs_ray.run import Run
from tests.docs.pages import DOCS, INDEX, OTHERS, PAGES, README, ROOT, anchors, blocks, code, commands, links, name_of

if TYPE_CHECKING:
    from pathlib import Path

ALL = [*PAGES, *OTHERS]
DECISIONS = [page for page in DOCS if page.parent.name == "decisions"]
FILE = re.compile(
    r"(?:actors|aiecs_ray|benchmarks|cluster-configs|docs|examples|tests)/[\w./-]*|pyproject\.toml|\.ci/\w+"
)
DOTTED = re.compile(r"(aiecs_ray(?:\.\w+)+)(?:\(.*\))?")
ERROR = re.compile(r"\b([A-Z][A-Za-z]+Error)\b")


def page_text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def resolves(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    owner, _, name = dotted.rpartition(".")
    spec = importlib.util.find_spec(owner)
    if spec is None:
        return False
    # Not imported: some modules bring Ray along.
    if spec.submodule_search_locations is not None and importlib.util.find_spec(dotted) is not None:
        return True
    return hasattr(importlib.import_module(owner), name)


# --- links -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []

    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


def test_every_page_is_reached_from_the_index() -> None:
    reached = {(INDEX.parent / link.partition("#")[0]).resolve() for link in links(INDEX)}

    assert set(PAGES) - {INDEX} <= reached


def test_the_readme_leads_to_the_index() -> None:
    assert "docs/index.md" in links(README)


# --- commands and names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_commands_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", page_text("Makefile"), re.MULTILINE))
    extras = set(tomllib.loads(page_text("pyproject.toml"))["project"]["optional-dependencies"])
    unknown = []

    for command in commands(page):
        unknown += [f"make {name}" for name in re.findall(r"^make ([a-z][a-z-]*)", command) if name not in targets]
        for name in re.findall(r"python -m (aiecs_ray[\w.]*|benchmarks)", command):
            unknown += [] if importlib.util.find_spec(name) else [command]
        for names in re.findall(r"pip install .*\[([\w,]+)\]", command):
            unknown += [command for name in names.split(",") if name not in extras]

    assert unknown == []


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_files_and_names_exist(page: Path) -> None:
    unknown = []

    for name in code(page):
        if FILE.fullmatch(name):
            unknown += [] if (ROOT / name).exists() else [name]
        elif (match := DOTTED.fullmatch(name)) and match[1] != "aiecs_ray.tools":
            unknown += [] if resolves(match[1]) else [name]

    assert unknown == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_runtime_and_a_run_can_do_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    with aiecs_ray.connect("inprocess", registry=aiecs_ray.Registry()) as rt:
        unknown = {f"rt.{name}" for name in re.findall(r"\brt\.([a-z_]+)", text) if not hasattr(rt, name)}
        unknown |= {f"rt.cache.{name}" for name in re.findall(r"\brt\.cache\.([a-z_]+)", text)} - {
            f"rt.cache.{name}" for name in dir(rt.cache)
        }
    unknown |= {f"run.{name}" for name in re.findall(r"\brun\.([a-z_]+)\(", text) if not hasattr(Run, name)}

    assert unknown == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_errors_that_are_named_exist(page: Path) -> None:
    elsewhere = {"DriverError", "OperationalError", "SMTPServerDisconnected"}
    builtin = set(dir(importlib.import_module("builtins")))
    named = {name for text in code(page) for name in ERROR.findall(text)}

    assert {name for name in named - builtin - elsewhere if not hasattr(errors, name)} == set()


# --- completeness --------------------------------------------------------------------------------------------------


def test_every_error_has_its_row_in_troubleshooting() -> None:
    raised = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.AiecsError) and not name.startswith("_")
    }
    families = {"AiecsError", "InvalidInputError", "DSLEvaluationError", "ExecutionError"}
    named = {name for text in code(ROOT / "docs" / "troubleshooting.md") for name in ERROR.findall(text)}

    assert raised - families - named == set()


def test_every_event_is_described() -> None:
    named = set(code(ROOT / "docs" / "running.md"))

    assert {kind.value for kind in EventKind} - named == set()


def test_every_promise_names_a_test() -> None:
    rows = [line for line in page_text("docs/promises.md").splitlines() if line.startswith("| ")]
    promises = [row for row in rows[2:] if not row.startswith("|---")]

    assert len(promises) >= 15
    assert [row for row in promises if "`tests/" not in row] == []


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_has_its_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert text.startswith(f"# {page.name[:4]} ")
    for part in ("**Decision.**", "**The question.**", "**Why", "**Price.**"):
        assert part in text


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(page.name[:4]) for page in DECISIONS]

    assert numbers == list(range(1, len(numbers) + 1))


def test_the_readme_shows_every_step_of_the_demo() -> None:
    plan = daily_report_plan({"flights": "f.csv", "weather": "w.csv", "airlines": "a.csv"})
    shown = next(block.text for block in blocks(README) if block.kind == "text")

    lines = re.findall(r"✓ (\w+) +([\w.]+) +[\d.]+ s$", shown, re.MULTILINE)

    assert sorted(lines) == sorted((step["id"], step["operation"]) for step in plan)
    assert f"first process:  {len(plan)} of {len(plan)} steps, 0 from the cache" in shown
    assert f"second process: {len(plan)} of {len(plan)} steps, {len(plan)} from the cache" in shown


def test_the_version_is_the_one_of_the_package() -> None:
    assert f"Status: {aiecs_ray.__version__}," in page_text("README.md")
    assert f"aiecs-ray {aiecs_ray.__version__}:" in page_text("README.md")
