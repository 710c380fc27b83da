"""``aiecs-ray batch``: every line once, whatever happens in between."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Done

    Command = Callable[..., Done]

pytestmark = pytest.mark.timeout(120)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, count: int) -> None:
    path.write_text("".join(f'{{"n": {n}}}\n' for n in range(count)), encoding="utf-8")


def options(folder: Path) -> tuple[str, ...]:
    return ("--input", str(folder / "in.jsonl"), "--output", str(folder / "out.jsonl"))


def test_results_are_in_input_order_with_their_lines(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", 500)

    done = command("batch", "kitchen.double", *options(tmp_path))

    assert done.code == 0
    assert [(one["line"], one["result"]) for one in lines(tmp_path / "out.jsonl")] == [(n, 2 * n) for n in range(500)]
    assert not (tmp_path / "out.jsonl.failed.jsonl").exists()


def test_what_fails_goes_to_a_file_of_its_own(command: Command, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"n": 2}\n{"n": 3}\n\nnot json\n[1]\n{"n": 4}\n')

    done = command("batch", "kitchen.even", *options(tmp_path), "--json")

    assert (done.code, done.document["data"]["failed"]) == (6, 3)
    assert [one["line"] for one in lines(tmp_path / "out.jsonl")] == [0, 5]
    letters = lines(tmp_path / "out.jsonl.failed.jsonl")
    assert [(one["line"], one["error_code"]) for one in letters] == [(1, "E003"), (3, "E001"), (4, "E001")]
    assert "no JSON" in letters[1]["error_message"]


def test_what_was_done_is_not_done_again(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", 20)
    command("batch", "kitchen.even", *options(tmp_path))
    whole = (tmp_path / "out.jsonl").read_text()
    (tmp_path / "out.jsonl").write_text(whole[: len(whole) // 2])

    done = command("batch", "kitchen.even", *options(tmp_path), "--resume", "--json")

    assert done.code == 0
    assert 0 < done.document["data"]["completed"] < 10
    assert sorted(one["line"] for one in lines(tmp_path / "out.jsonl")) == list(range(0, 20, 2))
    assert sorted(one["line"] for one in lines(tmp_path / "out.jsonl.failed.jsonl")) == list(range(1, 20, 2))


def test_an_output_that_is_there_is_not_overwritten_unasked(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", 3)
    (tmp_path / "out.jsonl").write_text("mine\n")

    assert command("batch", "kitchen.double", *options(tmp_path)).code == 2
    assert (tmp_path / "out.jsonl").read_text() == "mine\n"


def test_an_input_that_changed_is_not_taken_up_again(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", 3)
    command("batch", "kitchen.double", *options(tmp_path))
    (tmp_path / "in.jsonl").write_text('{"n": 9}\n{"n": 1}\n{"n": 2}\n')

    done = command("batch", "kitchen.double", *options(tmp_path), "--resume")

    assert done.code == 2
    assert "line 0 of the input has changed" in done.err


def kill_and_resume(folder: Path, count: int, kills: int) -> None:
    """Run a batch in processes that are killed somewhere on their way, until one comes to its end."""
    write(folder / "in.jsonl", count)
    program = "from aiecs_ray.cli.main import entry; entry()"
    arguments = ["--address", "inprocess", "--load", "kitchen_tools", "batch", "kitchen.double", *options(folder), "-q"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(folder)])}
    for kill in range(kills + 1):
        process = subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, "-c", program, *arguments, *(["--resume"] if kill else ["--yes"])],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        if kill == kills:
            assert process.wait() == 0
            return
        try:
            process.wait(timeout=random.uniform(1.0, 5.0))  # noqa: S311
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize(("count", "kills"), [(5000, 1), pytest.param(100_000, 5, marks=pytest.mark.accept)])
def test_a_batch_that_is_killed_and_resumed_has_every_line_once(tmp_path: Path, count: int, kills: int) -> None:
    kill_and_resume(tmp_path, count, kills)

    found = lines(tmp_path / "out.jsonl")
    assert sorted(one["line"] for one in found) == list(range(count))
    assert all(one["result"] == 2 * one["line"] for one in found)
