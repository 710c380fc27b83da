"""The history of runs, on Ray and in one process."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import aiecs_ray
from aiecs_ray import Runtime, progress
from aiecs_ray.config import Settings
from aiecs_ray.errors import InvalidInputError, OperationFailedError, ResultExpiredError
from tests.conftest import SETTINGS
from tests.contract.probes import Gate, op, visit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)
SECRET = "hunter2"  # noqa: S105


class Clerk:
    def give(self, value: Any = None, password: str = "") -> Any:
        del password
        return value

    def fail(self, text: str = "no") -> None:
        raise ValueError(text)

    def lose(self) -> None:
        raise ConnectionError("gone")

    def count(self) -> None:
        progress(1, 2, "half")

    def visit(self, gate: int) -> str:
        return visit(gate)


@pytest.fixture
def clerk(backend: str, tmp_path: Path) -> Iterator[Runtime]:
    settings = Settings(grace=0.1, history_url=f"sqlite:///{tmp_path}/history.sqlite3")
    address, settings = ("inprocess", settings) if backend == "inprocess" else (None, SETTINGS["ray"])
    with aiecs_ray.connect(address, settings=settings, registry=aiecs_ray.Registry()) as rt:
        rt.register(Clerk)
        yield rt


def latest(rt: Runtime) -> Any:
    return rt.history.run(rt.history.runs(limit=1)[0].id)


def test_a_run_is_in_the_history_as_soon_as_it_has_ended(clerk: Runtime) -> None:
    clerk.run([op("clerk.give", value=[1, 2]), op("clerk.fail")], user_id="ann", task_id="tax")

    record = latest(clerk)

    run = record.run
    assert (run.status, run.user_id, run.task_id, run.mode, run.steps) == ("failed", "ann", "tax", "sequence", 2)
    assert run.counts == {"completed": 1, "failed": 1}
    given, failed = record.steps
    assert (given.spec, given.status, given.summary, given.preview) == (
        "clerk.give",
        "completed",
        "list of 2",
        "[1, 2]",
    )
    assert given.params == "{'value': [1, 2]}"
    assert given.replica.startswith("clerk-")
    assert given.node
    assert given.cache_key
    assert (failed.status, failed.code, failed.message) == ("failed", "E003", "Error executing fail: no")


def test_the_events_are_those_of_the_run(clerk: Runtime) -> None:
    run = clerk.submit([op("clerk.count"), op("clerk.give", value=1)])
    run.result()

    recorded = list(clerk.history.run(run.id).events())

    assert recorded == list(run.events())


def test_a_result_outlives_its_run(clerk: Runtime) -> None:
    run = clerk.submit([op("clerk.give", value={"rows": [1, 2]}), op("clerk.fail", text="bad")])
    run.result()
    run.release()

    record = clerk.history.run(run.id)

    assert record.value(0) == {"rows": [1, 2]}
    with pytest.raises(OperationFailedError, match="bad"):
        record.value(1)
    with pytest.raises(InvalidInputError, match="step 2"):
        record.value(2)


def test_a_large_result_is_only_described(clerk: Runtime) -> None:
    run = clerk.submit([op("clerk.give", value="x" * 100_000)])
    run.result()

    record = clerk.history.run(run.id)

    assert (record.steps[0].summary, record.steps[0].size > 100_000) == ("str of 100000", True)
    with pytest.raises(ResultExpiredError, match="too large"):
        record.value(0)


def test_attempts_say_how_each_ended(clerk: Runtime) -> None:
    clerk.run([{"operation": "clerk.lose", "retry": {"attempts": 3, "wait_min": 0.01, "wait_max": 0.01}}])

    attempts = latest(clerk).attempts()

    assert [(one.attempt, one.status, one.message) for one in attempts] == [
        (number, "failed", "Error executing lose: gone") for number in (1, 2, 3)
    ]


def test_what_the_cache_answers_is_recorded_as_such(clerk: Runtime) -> None:
    user = {"user_id": "history", "task_id": "cache"}
    clerk.cache.invalidate(user_id="history")
    for _ in range(2):
        clerk.run([op("clerk.give", value=1)], **user)  # type: ignore[arg-type]

    steps = [clerk.history.run(run.id).steps[0] for run in clerk.history.runs(user="history", limit=2)]

    assert [step.from_cache for step in steps] == [True, False]
    assert steps[0].cache_key == steps[1].cache_key


def test_secrets_of_parameters_stand_nowhere(clerk: Runtime, tmp_path: Path) -> None:
    clerk.run([op("clerk.give", value="hunter2 again", password=SECRET), op("clerk.fail", text="not hunter2")])

    record = latest(clerk)
    clerk.history.export(tmp_path / "out.jsonl", limit=1)

    assert record.steps[0].params == "{'value': '******** again', 'password': '********'}"
    assert record.steps[1].message == "Error executing fail: not ********"
    assert "hunter2" not in (tmp_path / "out.jsonl").read_text()
    with pytest.raises(ResultExpiredError, match="secret"):
        record.value(0)


def test_a_long_run_is_recorded_together_but_for_what_failed(clerk: Runtime) -> None:
    operations = [op("clerk.give", value=n) for n in range(1500)]
    operations[700] = op("clerk.fail")

    clerk.run(operations, mode="batch")

    record = latest(clerk)
    assert record.run.compact
    assert [step.step for step in record.steps] == [700]
    assert [(row["spec"], row["counts"]) for row in record.bulk] == [("clerk.give", {"completed": 1499})]


def test_statistics_are_per_operation(clerk: Runtime) -> None:
    clerk.run([op("clerk.give", value=n) for n in range(4)] + [op("clerk.fail")], user_id="statistics")

    rows = {row["operation"]: row for row in clerk.history.statistics(tool="clerk", user="statistics")}

    assert (rows["clerk.give"]["count"], rows["clerk.give"]["success_rate"]) == (4, 1.0)
    assert 0 <= rows["clerk.give"]["p50"] <= rows["clerk.give"]["p95"]
    assert rows["clerk.fail"]["success_rate"] == 0.0


def test_a_run_under_way_is_running_in_the_history_too(clerk: Runtime, gate: Gate) -> None:
    run = clerk.submit([op("clerk.visit", gate=gate.port)])
    visitor = gate.arrival()

    record = clerk.history.run(run.id)
    visitor.let_go()
    run.result()

    assert (record.run.status, [step.status for step in record.steps]) == ("running", ["running"])
    assert clerk.history.run(run.id).run.status == "completed"


def test_counters_say_that_nothing_was_lost(clerk: Runtime) -> None:
    clerk.run([op("clerk.give", value=n) for n in range(50)])

    clerk.history.runs(limit=1)

    assert clerk.stats()["history"]["lost"] == clerk.stats()["history"]["waiting"] == 0


@pytest.mark.parametrize(
    ("wrong", "text"), [({"status": "done"}, "status"), ({"limit": 0}, "limit"), ({"since": "yesterday"}, "since")]
)
def test_a_wrong_filter_is_refused(clerk: Runtime, wrong: Any, text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        clerk.history.runs(**wrong)


def test_a_run_that_never_was_is_not_in_the_history(clerk: Runtime) -> None:
    with pytest.raises(InvalidInputError, match="is not in the history"):
        clerk.history.run("nobody")


def test_without_a_history_asking_for_it_says_how_to_keep_one() -> None:
    with (
        aiecs_ray.connect("inprocess", registry=aiecs_ray.Registry()) as rt,
        pytest.raises(InvalidInputError, match="history_url"),
    ):
        rt.history.runs()


def test_nothing_is_lost_when_the_runtime_is_closed(tmp_path: Path) -> None:
    settings = Settings(grace=0.1, history_url=f"sqlite:///{tmp_path}/history.sqlite3")
    for _ in range(2):
        with aiecs_ray.connect("inprocess", settings=settings, registry=aiecs_ray.Registry()) as rt:
            rt.register(Clerk)
            rt.run([op("clerk.give", value=n) for n in range(200)])

    with aiecs_ray.connect("inprocess", settings=settings, registry=aiecs_ray.Registry()) as rt:
        runs = rt.history.runs()
        assert [run.status for run in runs] == ["completed", "completed"]
        assert [len(rt.history.run(run.id).steps) for run in runs] == [200, 200]


def test_a_history_that_cannot_be_written_holds_up_nobody_for_long() -> None:
    settings = Settings(grace=0.1, history_url="sqlite:////proc/nowhere/history.sqlite3")
    rt = aiecs_ray.connect("inprocess", settings=settings, registry=aiecs_ray.Registry())
    rt.register(Clerk)

    assert rt.call("clerk.give", {"value": 1}) == 1
    begun = time.monotonic()
    rt.close()

    assert time.monotonic() - begun < 8


def test_a_runtime_that_nobody_closed_tells_its_history_everything(tmp_path: Path) -> None:
    program = """
import aiecs_ray
from aiecs_ray.config import Settings
class Clerk:
    def give(self): return 1
rt = aiecs_ray.connect("inprocess", settings=Settings(history_url="sqlite:///history.sqlite3"))
rt.register(Clerk)
rt.run([{"operation": "clerk.give"}])
"""

    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S603

    settings = Settings(history_url=f"sqlite:///{tmp_path}/history.sqlite3")
    with aiecs_ray.connect("inprocess", settings=settings, registry=aiecs_ray.Registry()) as rt:
        assert [run.status for run in rt.history.runs()] == ["completed"]
    assert done.stderr == ""
