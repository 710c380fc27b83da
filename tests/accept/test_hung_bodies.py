"""Bodies that hang in every way there is: each is stopped at its time, with its process and all that it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aiecs_ray import operation
from aiecs_ray.errors import OperationTimeoutError
from tests.contract.probes import Gate, Ledger, Stopwatch, note, op, visit

if TYPE_CHECKING:
    from aiecs_ray import Runtime

pytestmark = [pytest.mark.accept, pytest.mark.timeout(120)]

LIMIT = 1.0
SLACK = {"stop_itself": 10.0}
HANGS = ["sleep", "spin", "hold_the_interpreter", "stop_itself", "wait_for_a_socket", "wait_for_a_child"]


class Hanging:
    @operation
    def sleep(self, ledger: str) -> None:
        note(ledger, str(os.getpid()))
        time.sleep(1e9)

    @operation
    def spin(self, ledger: str) -> None:
        note(ledger, str(os.getpid()))
        while True:
            pass

    @operation
    def hold_the_interpreter(self, ledger: str) -> int:
        note(ledger, str(os.getpid()))
        return sum(range(10**15))  # one call of C code that lets no other thread run

    @operation
    def stop_itself(self, ledger: str) -> None:
        note(ledger, str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)

    @operation
    def wait_for_a_socket(self, ledger: str) -> None:
        note(ledger, str(os.getpid()))
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.accept()

    @operation
    def wait_for_a_child(self, ledger: str) -> None:
        note(ledger, str(os.getpid()))
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        note(ledger, str(child.pid))
        child.wait()

    @operation
    def pid(self) -> int:
        return os.getpid()


class Waiting:
    @operation
    def visit(self, gate: int) -> str:
        return visit(gate)


@pytest.mark.parametrize("hang", HANGS)
def test_a_body_that_hangs_is_stopped_and_its_tool_goes_on(
    ray_rt: Runtime, ledger: Ledger, gate: Gate, hang: str
) -> None:
    ray_rt.register(Hanging, max_replicas=1)
    ray_rt.register(Waiting, max_replicas=1)
    other = ray_rt.submit([op("waiting.visit", gate=gate.port)])
    visitor = gate.arrival()
    ray_rt.call("hanging.pid")

    watch = Stopwatch()
    with pytest.raises(OperationTimeoutError) as caught:
        ray_rt.call(f"hanging.{hang}", {"ledger": ledger.path}, timeout=LIMIT)
    stopped = watch.seconds
    gone = [has_ended(int(pid)) for pid in ledger.lines()]
    watch = Stopwatch()
    pid = ray_rt.call("hanging.pid")
    answered = watch.seconds
    visitor.let_go()

    assert caught.value.error_code == "E002"
    assert stopped < LIMIT + SLACK.get(hang, 2.0)
    assert gone
    assert all(gone)
    assert str(pid) not in ledger.lines()
    assert answered < 5
    assert [result.result for result in other.result()] == ["go"]


def has_ended(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"
