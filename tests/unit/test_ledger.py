"""The attempt ledger: marks, what they say after a death, and the processes behind them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aiecs_ray.actors import ledger as ledgers
from aiecs_ray.actors.ledger import SLOTS, Ledger, Whereabouts, end_process, open_ledger, take_remains
from aiecs_ray.deaths import INNOCENT, Fate, judge
from aiecs_ray.messages import Item, Mark, Work
from aiecs_ray.options import MAX_CONCURRENCY
from aiecs_ray.scaling import MOST_CALLS


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers.tempfile, "gettempdir", lambda: str(tmp_path))


def work(*steps: int, chain: bool = False, number: int = 7, idempotent: bool = True) -> Work:
    items = tuple(Item(step, 1, "op", b"", (), idempotent) for step in steps)
    return Work(number, "run", items, chain=chain)


def test_an_attempt_is_marked_at_each_stage() -> None:
    ledger = Ledger()

    stages = []
    place = ledger.prepare(7, 3)
    stages.append(ledger.marks())
    ledger.start(place)
    stages.append(ledger.marks())
    ledger.end(place)
    stages.append(ledger.marks())

    assert stages == [{(7, 3): mark} for mark in (Mark.PREPARING, Mark.STARTED, Mark.DONE)]


def test_what_runs_is_never_overwritten_however_many_follow() -> None:
    ledger = Ledger()
    ledger.start(ledger.prepare(1, 0))

    for step in range(2 * SLOTS):
        ledger.end(ledger.prepare(2, step))

    assert ledger.marks()[1, 0] is Mark.STARTED
    assert len(ledger.marks()) == SLOTS


def test_there_are_more_slots_than_a_replica_has_in_flight() -> None:
    assert SLOTS >= MAX_CONCURRENCY + MOST_CALLS


def test_marks_are_there_after_the_process_was_killed(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from aiecs_ray.actors.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1])); ledger.end(ledger.prepare(5, 0)); ledger.start(ledger.prepare(5, 1))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "marks"

    ended = subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode  # noqa: S603

    assert ended == -signal.SIGKILL
    assert ledgers.parse(path.read_bytes()) == {(5, 0): Mark.DONE, (5, 1): Mark.STARTED}


def test_the_remains_of_a_process_are_read_once_and_removed() -> None:
    _, here = open_ledger("node")
    Path(ledgers.crash_path(here.path)).write_text("Fatal Python error: Aborted\n", encoding="utf-8")
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        gone = here._replace(pid=process.pid)

    first, second = take_remains(gone, 1.0), take_remains(gone, 1.0)

    assert (first.marks, first.last_words) == ({}, "Aborted")
    assert second.marks is None
    assert not list(Path(here.path).parent.iterdir())


def test_nothing_is_said_of_a_process_that_does_not_end() -> None:
    _, here = open_ledger("node")

    remains = take_remains(here, 0.0)

    assert remains.marks is None
    assert Path(here.path).exists()


def test_where_no_file_can_be_made_the_marks_are_of_use_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers.tempfile, "gettempdir", lambda: str(tmp_path / "missing"))

    ledger, where = open_ledger("node")

    assert where.path == ""
    assert ledger.prepare(1, 1) == 0


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"aiecs-ray-{os.getuid()}").symlink_to(tmp_path / "elsewhere")

    _, where = open_ledger("node")

    assert where.path == ""


def test_what_processes_left_that_nobody_asked_about_is_swept_away() -> None:
    _, here = open_ledger("node")
    folder = Path(here.path).parent
    old = folder / "999999999-1"
    old.write_bytes(b"")
    os.utime(old, (0, 0))
    os.utime(here.path, (0, 0))

    open_ledger("node")

    assert not old.exists()
    assert Path(here.path).exists()


def test_the_end_of_a_process_is_the_end_of_its_children() -> None:
    script = (
        "import subprocess, sys; from aiecs_ray.actors.ledger import lead_group, open_ledger; lead_group()\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        "print(*open_ledger('node')[1][1:3], child.pid, flush=True); input()"
    )
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    pid, since, child = process.stdout.readline().split()
    where = Whereabouts("node", int(pid), since, "")
    child_since = ledgers._since(int(child))

    end_process(where)
    process.communicate()

    assert process.returncode == -signal.SIGKILL
    assert child_since is not None
    assert take_remains(Whereabouts("node", int(child), child_since, ""), 10.0).marks is None
    assert ledgers._since(int(child)) is None


def test_a_later_process_with_the_same_number_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        end_process(Whereabouts("node", other.pid, "0", ""))
        other.communicate(b"\n")

    assert other.returncode == 0


@pytest.mark.parametrize(
    ("marks", "fate"),
    [
        ({}, INNOCENT),
        ({(6, 0): Mark.STARTED}, INNOCENT),
        ({(7, 0): Mark.PREPARING}, Fate(started=False, guilty=True, suspect=True)),
        ({(7, 0): Mark.STARTED}, Fate(started=True, guilty=True, suspect=True)),
        ({(7, 0): Mark.STARTED, (7, 1): Mark.DONE}, Fate(started=True, guilty=True, suspect=True)),
        ({(7, 0): Mark.STARTED, (6, 1): Mark.STARTED}, Fate(started=True, guilty=False, suspect=True)),
        ({(7, 0): Mark.DONE, (7, 1): Mark.STARTED}, Fate(started=True, guilty=False, suspect=False)),
        ({(7, 0): Mark.DONE}, Fate(started=True, guilty=False, suspect=True)),
    ],
)
def test_a_death_counts_for_what_ran_alone(marks: dict[tuple[int, int], Mark], fate: Fate) -> None:
    assert judge(work(0, 1), 0, 0, marks) == fate


def test_a_process_that_ends_behind_its_only_body_died_of_that() -> None:
    assert judge(work(0), 0, 0, {(7, 0): Mark.DONE}) == Fate(started=True, guilty=True, suspect=True)


@pytest.mark.parametrize(
    ("sent", "step", "fate"),
    [
        (work(0), 0, Fate(started=None, guilty=True, suspect=True)),
        (work(0, 1), 1, Fate(started=None, guilty=False, suspect=True)),
        (work(0, 1, chain=True), 0, Fate(started=None, guilty=False, suspect=True)),
        (work(0, 1, chain=True), 1, Fate(started=None, guilty=False, suspect=False)),
        (work(0, 1, chain=True, idempotent=False), 1, INNOCENT),
    ],
)
def test_where_nobody_can_tell_what_was_sent_may_have_started(sent: Work, step: int, fate: Fate) -> None:
    assert judge(sent, step, 0, None) == fate
