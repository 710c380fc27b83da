"""The database of the history: what is written once stays, twice is nothing, and its schema has a version."""

from __future__ import annotations

import os
import pickle
import random
import signal
import sqlite3
import stat
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from aiecs_ray.actors.history import History
from aiecs_ray.config import Settings
from aiecs_ray.errors import HistoryError, InvalidConfigError
from aiecs_ray.history import HistoryView
from aiecs_ray.history_facts import Batch, BulkFact, EndFact, EventsFact, Fact, RunFact, StepFact
from aiecs_ray.history_statistics import quantile
from aiecs_ray.history_store import MIGRATIONS, SILENCE, HistoryStore

NOW = 1_800_000_000.0
WRITER = """
import pickle, sys, time
from aiecs_ray.actors.history import History
from aiecs_ray.config import Settings
from aiecs_ray.history_facts import Batch, EventsFact, RunFact
from aiecs_ray.history_store import HistoryStore

history = History(Settings(), lambda: HistoryStore(sys.argv[1]))
first, last = int(sys.argv[2]), int(sys.argv[3])
for number in range(first, last):
    facts = [EventsFact("run", tuple((10 * number + n, "progress", 1.0, n, {"done": n}) for n in range(10)))]
    if not number:
        facts.insert(0, RunFact("run", "", "", "batch", 10, False, False, time.time()))
    history.append(pickle.dumps(Batch("feed", number + 1, 1.0, 0, tuple(facts))))
    print(number, flush=True)
"""


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/made/history.sqlite3"


class Recorded:
    """A history and a feed that writes to it."""

    def __init__(self, url: str, clock: Clock, **settings: Any) -> None:
        self.history = History(Settings(**settings), lambda: HistoryStore(url), clock=clock)
        self.clock, self.number = clock, 0
        self.view = HistoryView(lambda method, *args: getattr(self.history, method)(*args))

    def tell(self, *facts: Fact, number: int | None = None, feed: str = "feed", lost: int = 0) -> None:
        self.number += 1
        batch = Batch(feed, self.number if number is None else number, self.clock.now, lost, facts)
        self.history.append(pickle.dumps(batch))


@pytest.fixture
def recorded(url: str, clock: Clock) -> Recorded:
    return Recorded(url, clock)


def run(name: str, *, began: float = NOW, user: str = "", task: str = "", steps: int = 1) -> RunFact:
    return RunFact(name, user, task, "batch", steps, detach=False, compact=False, began=began)


def step(name: str, place: int, spec: str = "t.op", status: str = "completed", **options: Any) -> StepFact:
    return StepFact(name, place, fresh=True, spec=spec, status=status, **{"attempts": 1, "params": {}, **options})


def end(name: str, status: str = "completed") -> EndFact:
    return EndFact(name, status, NOW + 1, 1.0, {status: 1})


def test_what_was_told_is_there_also_for_the_next_process(recorded: Recorded, url: str, clock: Clock) -> None:
    recorded.tell(run("a"), step("a", 0, payload=7, has_payload=True), end("a"))

    again = Recorded(url, clock).view.run("a")

    assert (again.run.status, again.run.seconds, again.steps[0].preview, again.value(0)) == ("completed", 1.0, "7", 7)


def test_a_batch_that_comes_twice_counts_once(recorded: Recorded) -> None:
    recorded.tell(run("a"), step("a", 0), number=1)

    recorded.tell(run("a"), step("a", 0), number=1)

    assert recorded.view.info()["steps"] == 1


def test_the_same_number_of_another_coordinator_is_another_batch(recorded: Recorded) -> None:
    recorded.tell(run("a"), number=1, feed="first")

    recorded.tell(run("b"), number=1, feed="second")

    assert {one.id for one in recorded.view.runs()} == {"a", "b"}


def test_a_batch_is_written_whole_or_not_at_all(recorded: Recorded) -> None:
    recorded.tell(run("a"))

    with pytest.raises(HistoryError, match="failed"):
        recorded.tell(run("b"), step("b", 0), step("b", 0))

    assert [one.id for one in recorded.view.runs()] == ["a"]


def test_a_step_that_is_told_twice_keeps_its_parameters(recorded: Recorded) -> None:
    recorded.tell(run("a"), step("a", 0, status="running", params={"n": 1}))

    recorded.tell(StepFact("a", 0, fresh=False, spec="t.op", status="failed", attempts=2, code="E003", message="no"))

    found = recorded.view.run("a").steps[0]
    assert (found.params, found.status, found.attempts, found.code) == ("{'n': 1}", "failed", 2, "E003")


def test_secrets_of_parameters_are_masked_in_everything_else(recorded: Recorded, url: str) -> None:
    recorded.tell(run("a"), step("a", 0, status="running", params={"password": "hunter2"}))
    recorded.tell(
        StepFact("a", 0, fresh=False, spec="t.op", status="failed", params={}, message="no hunter2"),
        step("a", 1, payload=pickle.dumps(["hunter2"]), has_payload=True),
        EventsFact("a", ((0, "progress", NOW, 0, {"message": "as hunter2", "done": float("nan")}),)),
        end("a"),
    )

    recorded.history.close()

    files = Path(url.removeprefix("sqlite:///")).parent.iterdir()
    assert not any(b"hunter2" in file.read_bytes() for file in files)
    found = recorded.view.run("a")
    assert found.steps[0].message == "no ********"
    assert next(found.events()).data == {"message": "as ********", "done": None}


def test_a_value_with_a_secret_is_not_kept_and_says_why(recorded: Recorded) -> None:
    recorded.tell(run("a"), step("a", 0, payload=pickle.dumps({"token": "hunter2"}), has_payload=True))

    with pytest.raises(Exception, match="something in it is secret"):
        recorded.view.run("a").value(0)


def test_text_that_no_database_takes_is_written_otherwise(recorded: Recorded) -> None:
    recorded.tell(run("a", user="zero\0half\ud800"), step("a", 0, status="failed", message="a\0b\ud800"))

    assert recorded.view.runs()[0].user_id == "zero\\0half\\ud800"
    assert recorded.view.run("a").steps[0].message == "a\\0b\\ud800"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["c", "b", "a"]),
        ({"user": "ann"}, ["b", "a"]),
        ({"user": "ann", "task": "one"}, ["a"]),
        ({"tool": "t"}, ["b", "a"]),
        ({"tool": "bulky"}, ["c"]),
        ({"status": "failed"}, ["b"]),
        ({"status": "running"}, ["c"]),
        ({"since": NOW + 1}, ["c", "b"]),
        ({"limit": 1}, ["c"]),
    ],
)
def test_runs_are_found_by_what_is_asked_latest_first(recorded: Recorded, filters: Any, expected: list[str]) -> None:
    recorded.tell(run("a", user="ann", task="one"), step("a", 0), end("a"))
    recorded.tell(run("b", user="ann", began=NOW + 1), step("b", 0, status="failed"), end("b", "failed"))
    recorded.tell(run("c", began=NOW + 2), BulkFact("c", "bulky.op", {"completed": 3}, b"", 0, 0, 0, NOW))

    assert [one.id for one in recorded.view.runs(**filters)] == expected


def test_a_run_whose_coordinator_is_silent_is_lost(recorded: Recorded, clock: Clock) -> None:
    recorded.tell(run("a"))
    before = recorded.view.runs()[0].status

    clock.now += SILENCE + 1

    assert (before, recorded.view.runs()[0].status) == ("running", "lost")


def test_statistics_add_up_single_steps_and_groups(recorded: Recorded) -> None:
    seconds = array("d", [1.0, 2.0, 3.0]).tobytes()
    recorded.tell(
        run("a"),
        step("a", 0, seconds=4.0, size=10),
        step("a", 1, seconds=5.0, size=10, attempts=3),
        step("a", 2, status="failed"),
        step("a", 3, status="cancelled"),
        step("a", 4, from_cache=True, seconds=9.0),
        BulkFact("a", "t.op", {"completed": 4, "failed": 1}, seconds, 100, 1, 0, NOW),
    )

    found = recorded.view.statistics(tool="t")

    assert found == [
        {
            "operation": "t.op",
            "count": 10,
            "completed": 7,
            "failed": 2,
            "timed_out": 0,
            "cancelled": 1,
            "running": 0,
            "success_rate": 7 / 9,
            "from_cache": 2,
            "retries": 2,
            "p50": 3.0,
            "p95": 4.8,
            "seconds": 15.0,
            "bytes": 120,
        }
    ]
    assert recorded.view.statistics(tool="other") == []


def test_quantiles_lie_between_values() -> None:
    assert [quantile([1.0, 2.0], share) for share in (0, 0.5, 1)] == [1.0, 1.5, 2.0]
    assert quantile([], 0.5) is None


def test_what_is_too_old_or_too_many_goes_with_all_of_it(recorded: Recorded) -> None:
    for number in range(5):
        name = f"run{number}"
        recorded.tell(
            run(name, began=NOW + number), step(name, 0), EventsFact(name, ((0, "progress", NOW, 0, {}),)), end(name)
        )

    deleted = recorded.view.prune(keep=2)

    assert deleted == 3
    assert [one.id for one in recorded.view.runs()] == ["run4", "run3"]
    assert recorded.view.info()["steps"] == 2


def test_the_history_prunes_itself_by_age_and_number(url: str, clock: Clock) -> None:
    recorded = Recorded(url, clock, history_days=1.0, history_runs=2)
    for name, began in (("old", NOW - 90_000), ("a", NOW - 3), ("b", NOW - 2), ("c", NOW - 1)):
        recorded.tell(run(name, began=began), end(name))

    clock.now += 3601
    recorded.tell()

    assert [one.id for one in recorded.view.runs()] == ["c", "b"]


def test_an_export_has_a_line_for_every_run(recorded: Recorded, tmp_path: Path) -> None:
    recorded.tell(run("a"), step("a", 0), EventsFact("a", ((0, "progress", NOW, 0, {"done": 1}),)), end("a"))
    recorded.tell(run("b"))

    count = recorded.view.export(tmp_path / "out.jsonl", status="completed")

    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert count == len(lines) == 1
    assert '"recorded_steps": [{"step": 0' in lines[0]
    assert '"data": {"done": 1}' in lines[0]


def test_the_file_and_its_folder_are_their_owners(recorded: Recorded, url: str) -> None:
    recorded.tell(run("a"))

    file = Path(url.removeprefix("sqlite:///"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert sqlite3.connect(file).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_schema_is_brought_up_to_date_and_a_newer_one_is_refused(url: str) -> None:
    HistoryStore(url).close()

    def more(connection: sa.Connection) -> None:
        connection.execute(sa.text("ALTER TABLE runs ADD COLUMN note TEXT"))

    newer = HistoryStore(url, (*MIGRATIONS, more))

    assert newer.facts()["version"] == len(MIGRATIONS) + 1
    with pytest.raises(HistoryError, match="made by a newer aiecs-ray"):
        HistoryStore(url)


@pytest.mark.parametrize("bad", ["nonsense", "nodriver://x/y"])
def test_what_is_no_url_is_refused(bad: str) -> None:
    with pytest.raises(InvalidConfigError, match="history_url"):
        HistoryStore(bad)


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database at all, but long enough to be taken for one" * 20)

    with pytest.raises(HistoryError, match="not a database"):
        HistoryStore(f"sqlite:///{tmp_path}/text")


def kill_and_go_on(url: str, kills: int, appends: int) -> list[int]:
    """Kill a writer at random moments; each time go on after the last append it had answered. Return all events."""
    done = 0
    for kill in range(kills + 1):
        with subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, "-c", WRITER, url, str(done), str(appends)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            after = done + random.randint(1, appends // kills - 1) if kill < kills else appends  # noqa: S311
            for line in writer.stdout:
                done = int(line) + 1
                if done >= after:
                    os.kill(writer.pid, signal.SIGKILL)
    history = History(Settings(), lambda: HistoryStore(url))
    view = HistoryView(lambda method, *args: getattr(history, method)(*args))
    return [event.number for event in view.run("run").events()]


def check_kills(url: str, kills: int, appends: int) -> None:
    numbers = kill_and_go_on(url, kills, appends)

    assert numbers == list(range(10 * appends))
    file = url.removeprefix("sqlite:///")
    assert sqlite3.connect(file).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_writer_that_is_killed_leaves_a_sound_file_and_no_gap(url: str) -> None:
    check_kills(url, kills=5, appends=500)


@pytest.mark.accept
@pytest.mark.timeout(1800)
def test_a_writer_that_is_killed_a_hundred_times_leaves_a_sound_file_and_no_gap(url: str) -> None:
    check_kills(url, kills=100, appends=10_000)
