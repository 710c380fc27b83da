"""Every command: what it prints, as text and as JSON, and the status it ends with."""

from __future__ import annotations

import importlib
import json
import re
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from aiecs_ray.cli.main import app
from aiecs_ray.plan_file import plan_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Done

    Command = Callable[..., Done]

pytestmark = pytest.mark.timeout(60)
SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
OUTPUT = jsonschema.Draft202012Validator(json.loads((SCHEMAS / "output.schema.json").read_text(encoding="utf-8")))
PLAN = """
inputs: {n: 3}
operations:
  - {id: first, operation: kitchen.double, params: {n: $input.n}}
  - operation: kitchen.double
    params: {n: '$result["first"]'}
"""
BAD = """
operations:
  - operation: kitchen.double
    params: {n: 1}
  - operation: kitchen.double
    parms: {n: 2}
"""


@pytest.fixture(autouse=True)
def plans(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "bad.yaml").write_text(BAD)
    (tmp_path / "fail.yaml").write_text("operations: [{operation: kitchen.fail, params: {n: 7}}]\n")
    (tmp_path / "slow.yaml").write_text("operations: [{operation: kitchen.cook}]\ndeadline: 0.2\n")
    (tmp_path / "shout.yaml").write_text("operations: [{operation: kitchen.shout}]\n")
    (tmp_path / "in.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(10)))


BATCH = ("--input", "in.jsonl", "--output", "out.jsonl")
CASES: list[tuple[tuple[str, ...], int]] = [
    (("tools", "list"), 0),
    (("tools", "show", "kitchen"), 0),
    (("tools", "show", "kitchn"), 2),
    (("tools", "schema", "kitchen"), 0),
    (("tools", "schema", "kitchen.double", "--format", "mcp"), 0),
    (("tools", "schema", "kitchen.double", "--format", "xml"), 2),
    (("tools", "call", "kitchen.double", "--arg", "n=4"), 0),
    (("tools", "call", "kitchen.double", "--json-args", '{"n": 4}'), 0),
    (("tools", "call", "kitchen.double", "--json-args", "[4]"), 2),
    (("tools", "call", "kitchen.double"), 2),
    (("tools", "call", "kitchen.fail"), 1),
    (("tools", "call", "kitchen.cook", "--timeout", "0.2"), 5),
    (("tools", "call", "kitchen.nothing"), 2),
    (("tools", "check", "kitchen_tools"), 0),
    (("tools", "check", "no_such_module"), 3),
    (("plan", "check", "plan.yaml"), 0),
    (("plan", "check", "plan.yaml", "--param", "m=1"), 3),
    (("plan", "check", "bad.yaml"), 3),
    (("plan", "check", "missing.yaml"), 3),
    (("plan", "show", "plan.yaml"), 0),
    (("plan", "schema"), 0),
    (("run", "plan.yaml"), 0),
    (("run", "plan.yaml", "--dry-run"), 0),
    (("run", "fail.yaml"), 1),
    (("run", "bad.yaml"), 3),
    (("run", "slow.yaml"), 5),
    (("batch", "kitchen.double", *BATCH), 0),
    (("batch", "kitchen.even", *BATCH), 6),
    (("batch", "kitchen.even", *BATCH, "--max-failures", "2"), 1),
    (("runs", "list"), 0),
    (("runs", "list", "--since", "soon"), 2),
    (("runs", "show", "nobody"), 2),
    (("runs", "cancel", "nobody"), 4),
    (("cache", "stats"), 0),
    (("cache", "explain", "kitchen.double", "--param", "n=4"), 0),
    (("cache", "explain", "kitchen.double", "--param", "n"), 2),
    (("cache", "explain", "kitchen.nothing"), 2),
    (("cache", "explain", "nobody"), 2),
    (("cache", "invalidate", "--tool", "kitchen"), 0),
    (("cache", "invalidate"), 2),
    (("cache", "clear", "--yes"), 0),
    (("cache", "clear"), 2),
    (("history", "query"), 0),
    (("history", "stats"), 0),
    (("history", "info"), 0),
    (("history", "prune", "--keep", "0", "--yes"), 0),
    (("history", "prune"), 2),
    (("history", "export", "--output", "history.jsonl"), 0),
    (("cluster", "status"), 0),
    (("cluster", "down", "--yes"), 2),
    (("config", "show"), 0),
    (("doctor",), 0),
    (("nonsense",), 2),
    (("run",), 2),
    (("tools", "list", "--colour"), 2),
]


def test_the_published_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(OUTPUT.schema)


@pytest.mark.parametrize(("arguments", "code"), CASES, ids=[" ".join(case[0]) for case in CASES])
def test_a_command_ends_as_documented_and_its_json_is_as_published(
    command: Command, arguments: tuple[str, ...], code: int
) -> None:
    done = command(*arguments, "--json")

    assert done.code == code, done.err
    OUTPUT.validate(done.document)
    assert done.document["ok"] == (code == 0)
    if code:
        assert done.document["error"]["exit_code"] == code


def test_every_command_is_published_and_tried() -> None:
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    commands = {one.name for one in app.registered_commands}
    commands |= {
        f"{name} {one.name or one.callback.__name__}"  # type: ignore[union-attr]
        for name, group in groups.items()
        for one in group.registered_commands  # type: ignore[union-attr]
    }

    published = set(OUTPUT.schema["oneOf"][0]["properties"]["command"]["enum"])
    tried = {" ".join(arguments[: 2 if arguments[0] in groups else 1]) for arguments, _ in CASES}

    assert commands == published
    # What needs a run, and what takes long, has tests of its own.
    assert commands - tried == {"demo", "runs events", "runs export"}


def test_the_published_schema_of_plans_is_that_of_the_code() -> None:
    assert json.loads((SCHEMAS / "plan.schema.json").read_text(encoding="utf-8")) == plan_schema()


def test_a_plan_runs_and_prints_its_last_result(command: Command) -> None:
    done = command("run", "plan.yaml", "--param", "n=5")

    assert (done.code, done.out) == (0, "20\n")
    assert re.fullmatch(r"run \S+ · completed · 2/2 steps · 1 replica · .* m?s\n", done.err)


def test_the_events_of_a_run_come_one_a_line(command: Command) -> None:
    done = command("run", "plan.yaml", "--jsonl")

    kinds = [json.loads(line)["kind"] for line in done.out.splitlines()]

    assert (kinds[0], kinds[-1]) == ("run_started", "run_finished")


def test_the_steps_of_a_failed_run_are_in_its_document(command: Command) -> None:
    done = command("run", "fail.yaml", "--json")

    assert (done.code, done.document["ok"]) == (1, False)
    assert done.document["data"]["steps"][0]["error_message"] == "Error executing fail: burnt 7"
    assert "burnt 7" in done.err


def test_an_error_of_a_plan_names_file_line_and_step(command: Command) -> None:
    done = command("plan", "check", "bad.yaml", "--json")

    error = done.document["error"]
    assert (error["file"], error["line"], error["step"]) == ("bad.yaml", 6, 1)
    assert "did you mean 'params'" in error["message"]


def test_what_a_tool_prints_does_not_disturb_the_document(command: Command) -> None:
    done = command("run", "shout.yaml", "--json")

    assert done.document["data"]["steps"][0]["result"] == "done"
    assert len(done.out.splitlines()) == 1
    assert "\x1b" not in done.err
    assert "\r" not in done.err
    assert 2**19 < len(done.err) < 2**20 + 1000


def test_a_run_is_found_in_the_history_without_a_cluster(command: Command) -> None:
    run = command("run", "plan.yaml", "--json").document["data"]["run"]

    listed = command("runs", "list", "--json", address=None).document["data"]
    shown = command("runs", "show", run, address=None).out
    events = command("runs", "events", run, "--json", address=None).document
    exported = command("runs", "export", run, "--json", address=None).document
    stats = command("history", "stats", "--json", address=None).document["data"]

    assert [one["id"] for one in listed] == [run]
    assert f"run {run}: completed, sequence, 2 operations" in shown
    assert [event["number"] for event in events["data"]] == list(range(len(events["data"])))
    assert [step["preview"] for step in exported["data"]["recorded_steps"]] == ["6", "12"]
    assert [(row["operation"], row["count"]) for row in stats] == [("kitchen.double", 2)]
    for document in (events, exported):
        OUTPUT.validate(document)


def test_the_graph_of_a_plan_is_shown(command: Command) -> None:
    rows = command("plan", "show", "plan.yaml", "--json").document["data"]
    chart = command("plan", "show", "plan.yaml", "--mermaid").out

    assert [row["after"] for row in rows] == [[], [0]]
    assert "s0 --> s1" in chart


def test_settings_say_where_they_come_from(command: Command, tmp_path: Path) -> None:
    (tmp_path / "aiecs-ray.yaml").write_text("window: 7\n")

    rows = {row["name"]: row for row in command("config", "show", "--origin", "--json").document["data"]}

    assert (rows["window"]["value"], rows["window"]["origin"]) == (7, "file aiecs-ray.yaml")
    assert rows["grace"]["origin"] == "environment (AIECS_RAY_GRACE)"
    assert rows["idle_timeout"]["origin"] == "default"


def test_a_wrong_setting_is_an_invalid_configuration(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIECS_RAY_WINDOW", "none")

    assert command("config", "show").code == 3


def test_a_missing_extra_is_told_with_the_command_that_installs_it(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = importlib.import_module

    def missing(name: str) -> Any:
        if name == "aiecs_ray.tools":
            raise ModuleNotFoundError("No module named 'pandas'")
        return original(name)

    monkeypatch.setattr(importlib, "import_module", missing)

    done = command("tools", "show", "pandas_tool", "--json")

    assert done.code == 7
    assert 'pip install "aiecs-ray[tools]"' in done.document["error"]["message"]


def test_the_first_interrupt_cancels_the_run(command: Command, tmp_path: Path) -> None:
    (tmp_path / "cook.yaml").write_text("operations: [{operation: kitchen.cook}]\n")
    timer = threading.Timer(1.0, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    timer.start()

    done = command("run", "cook.yaml", "--json")

    assert done.code == 130
    assert done.document["error"]["code"] == "cancelled"
    assert done.document["data"]["status"] == "cancelled"


def test_options_of_every_command_may_stand_anywhere(command: Command) -> None:
    before = command("--json", "config", "show").document
    after = command("config", "show", "--json").document

    assert before == after


def test_an_interrupt_ends_a_call(command: Command) -> None:
    timer = threading.Timer(1.0, signal.pthread_kill, (threading.get_ident(), signal.SIGTERM))
    timer.start()

    assert command("tools", "call", "kitchen.cook").code == 143
