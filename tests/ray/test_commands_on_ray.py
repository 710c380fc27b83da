"""The command line as a program of its own, on a cluster that runs already."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.contract.probes import Gate, Stopwatch

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]
TOOLS = """
import socket
import sys

from aiecs_ray import tool


@tool("porter_tool", num_cpus=0)
class Porter:
    def double(self, n: int) -> int:
        print("noise on standard output")
        return 2 * n

    def shout(self, megabytes: int) -> int:
        for _ in range(megabytes):
            sys.stdout.write("\\x1b[31m\\x1b[2J" + "LOUD" * 2**18 + "\\n")
            sys.stderr.write("\\x1b[31m" + "LOUD" * 2**4 + "\\n")
        sys.__stdout__.flush()
        return megabytes

    def visit(self, gate: int) -> str:
        with socket.create_connection(("127.0.0.1", gate)) as line:
            line.sendall(b"0 \\n")
            return line.recv(1000).decode()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "porter_tools.py").write_text(TOOLS)
    (tmp_path / "double.yaml").write_text(
        "tools: [porter_tools]\noperations: [{operation: porter_tool.double, params: {n: 21}}]\n"
    )
    shout = "{operation: porter_tool.shout, params: {megabytes: 20}}"
    (tmp_path / "shout.yaml").write_text(f"tools: [porter_tools]\noperations: [{shout}]\n")
    visit = "{operation: porter_tool.visit, params: {gate: $input.gate}}"
    (tmp_path / "visit.yaml").write_text(f"tools: [porter_tools]\ninputs: {{gate: null}}\noperations: [{visit}]\n")
    return tmp_path


def command(folder: Path, *arguments: str) -> tuple[int, Any]:
    """Run a command; return its status and what it printed as JSON."""
    done = subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-m", "aiecs_ray.cli.main", "--namespace", "commands", *arguments, "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_run_is_left_alone_found_again_and_cancelled(ray_cluster: str, folder: Path, gate: Gate) -> None:
    here = ("--address", ray_cluster)
    code, ran = command(folder, *here, "run", "double.yaml")
    assert (code, ran["data"]["steps"][0]["result"]) == (0, 42)

    code, detached = command(folder, *here, "run", "visit.yaml", "--detach", "--param", f"gate={gate.port}")
    gate.arrival()
    run = detached["data"]["run"]
    _, listed = command(folder, *here, "runs", "list", "--status", "running")
    # Others may be there: the cluster is shared with other tests.
    assert (code, run in [one["id"] for one in listed["data"]]) == (0, True)

    code, cancelled = command(folder, *here, "runs", "cancel", run)
    assert (code, cancelled["data"]["status"]) == (0, "cancelled")

    _, status = command(folder, *here, "cluster", "status")
    assert status["data"]["runs"]["active"] == 0
    code, down = command(folder, *here, "cluster", "down", "--yes")
    assert (code, down["data"]["ended"]) == (0, ["coordinator", "cache", "history"])
    assert command(folder, *here, "runs", "show", run)[1]["data"]["status"] == "cancelled"
    command(folder, *here, "cluster", "down", "--yes")


def test_what_a_tool_prints_reaches_neither_the_document_nor_the_progress(ray_cluster: str, folder: Path) -> None:
    shown, terminal = pty.openpty()
    program = [sys.executable, "-m", "aiecs_ray.cli.main", "--namespace", "commands", "--address", ray_cluster]
    seen: list[bytes] = []

    with subprocess.Popen(  # noqa: S603  # our own program
        [*program, "run", "shout.yaml", "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        reader = threading.Thread(target=read_all, args=(shown, seen))
        reader.start()
        assert process.stdout is not None
        document = json.loads(process.stdout.read())
    reader.join()
    os.close(shown)

    progress = b"".join(seen)
    assert document["data"]["steps"][0]["result"] == 20
    assert b"1/1 steps" in progress
    assert b"LOUD" not in progress
    assert b"\x1b[2J" not in progress


def read_all(terminal: int, seen: list[bytes]) -> None:
    """Read until the other side of a terminal is closed, which Linux tells with an error."""
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 65_536):
            seen.append(data)


def test_a_dead_address_is_told_soon(folder: Path) -> None:
    watch = Stopwatch()

    code, failed = command(folder, "--address", "127.0.0.1:9", "cluster", "status")

    assert (code, failed["error"]["code"]) == (4, "cluster_unreachable")
    assert watch.seconds < 30
