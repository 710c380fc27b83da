"""Ctrl-C in a program: its run is cancelled, nothing of it starts afterwards, and the program ends as interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.probes import Gate, Ledger

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import asyncio, sys
import aiecs_ray
from aiecs_ray.config import Settings
from tests.contract.probes import note, op, visit

class Porter:
    def visit(self, gate: int) -> str:
        return visit(gate)
    def count(self, ledger: str) -> int:
        return note(ledger)

address, how, gate, ledger = sys.argv[1:]
rt = aiecs_ray.connect(address, settings=Settings(grace=0.3), registry=aiecs_ray.Registry())
rt.register(Porter, num_cpus=0, max_replicas=2)
sequence = [op("porter.visit", gate=int(gate)), op("porter.count", ledger=ledger), op("porter.count", ledger=ledger)]
batch = [op("porter.visit", gate=int(gate))] * 20
if how == "a sequence":
    rt.run(sequence)
elif how == "a batch":
    rt.run(batch, "batch")
elif how == "a call":
    rt.call("porter.visit", {"gate": int(gate)})
elif how == "a run that was submitted":
    with rt:
        rt.submit(sequence).result()
else:
    asyncio.run(aiecs_ray.OperationExecutor(runtime=rt).execute_operations_sequence(sequence, "ann", "task"))
print("not interrupted")
"""
WAYS = ["a sequence", "a batch", "a call", "a run that was submitted", "a coroutine"]


@pytest.fixture(params=WAYS)
def program(
    request: pytest.FixtureRequest, ray_cluster: str, gate: Gate, ledger: Ledger
) -> Iterator[subprocess.Popen[str]]:
    """Start a program in the foreground: one in the background would ignore the interrupt."""
    process = subprocess.Popen(  # noqa: S603  # our own program
        [sys.executable, "-c", PROGRAM, ray_cluster, request.param, str(gate.port), ledger.path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # no thread runs here
    )
    yield process
    process.kill()
    process.communicate()


def test_an_interrupt_ends_a_program_and_its_run(program: subprocess.Popen[str], gate: Gate, ledger: Ledger) -> None:
    visitor = gate.arrival(60)
    program.send_signal(signal.SIGINT)

    said, errors = program.communicate(timeout=30)

    # What a shell shows as 130.
    assert program.returncode == -signal.SIGINT, errors
    assert "not interrupted" not in said
    visitor.wait_until_gone()
    wait_for_the_others(gate)
    assert len(ledger) == 0


def wait_for_the_others(gate: Gate) -> None:
    """Who began beside the first is gone, too; who begins afterwards would stay."""
    while True:
        try:
            visitor = gate.arrival(1.0)
        except TimeoutError:
            return
        visitor.wait_until_gone()
