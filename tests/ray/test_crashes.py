"""Processes of tools that die: what is run again, what is not, and what is reported."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aiecs_ray import Runtime, operation
from aiecs_ray.errors import OperationTimeoutError, OutcomeUnknownError, RetryExhaustedError, ToolInitError
from tests.contract.probes import Gate, Ledger, Stopwatch, note, op, visit

pytestmark = [pytest.mark.ray, pytest.mark.timeout(90)]


class Fragile:
    @operation
    def give(self, value: Any = None) -> Any:
        return value

    @operation
    def pid(self) -> int:
        return os.getpid()

    @operation
    def note(self, ledger: str, text: str = "ran") -> str:
        note(ledger, text)
        return text

    @operation(idempotent=False)
    def pay(self, ledger: str, text: str) -> str:
        note(ledger, text)
        return text

    @operation
    def end(self, ledger: str) -> None:
        note(ledger)
        os._exit(1)

    @operation
    def kill_once(self, ledger: str) -> int:
        if (runs := note(ledger)) < 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return runs

    @operation(idempotent=False)
    def pay_and_end(self, ledger: str) -> None:
        note(ledger)
        os._exit(1)

    @operation
    def visit(self, gate: int) -> str:
        return visit(gate)

    @operation
    def crash(self) -> None:
        ctypes.string_at(0)

    @operation
    def wait_for_a_child(self, ledger: str) -> None:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        note(ledger, str(child.pid))
        child.wait()


@pytest.fixture
def fragile(ray_rt: Runtime) -> Runtime:
    ray_rt.register(Fragile)
    return ray_rt


@pytest.fixture
def others(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "others")


def test_a_body_that_kills_its_process_once_is_run_again(fragile: Runtime, ledger: Ledger) -> None:
    assert fragile.call("fragile.kill_once", {"ledger": ledger.path}) == 2
    assert len(ledger) == 2


def test_a_body_that_always_ends_its_process_is_given_up(fragile: Runtime, ledger: Ledger) -> None:
    with pytest.raises(RetryExhaustedError, match="died") as caught:
        fragile.call("fragile.end", {"ledger": ledger.path})

    assert caught.value.error_code == "E005"
    assert len(ledger) == 3
    assert fragile.call("fragile.give", {"value": "next"}) == "next"


def test_a_body_that_is_not_idempotent_is_not_run_again(fragile: Runtime, ledger: Ledger) -> None:
    with pytest.raises(OutcomeUnknownError, match="Outcome unknown") as caught:
        fragile.call("fragile.pay_and_end", {"ledger": ledger.path})

    assert caught.value.error_code == "E003"
    assert len(ledger) == 1
    assert fragile.call("fragile.give", {"value": "next"}) == "next"


def test_a_tool_is_back_soon_after_its_process_died(fragile: Runtime) -> None:
    pid = fragile.call("fragile.pid")
    os.kill(pid, signal.SIGKILL)
    watch = Stopwatch()

    again = fragile.call("fragile.pid")

    assert again != pid
    assert watch.seconds < 10


def test_a_process_that_dies_takes_no_neighbours_result_with_it(
    fragile: Runtime, ledger: Ledger, others: Ledger
) -> None:
    operations = [op("fragile.note", ledger=others.path, text=str(n)) for n in range(100)]
    operations[40] = op("fragile.end", ledger=ledger.path)

    results = fragile.run(operations, "batch")

    assert (results[40].status, results[40].error_code) == ("failed", "E005")
    assert [r.result for n, r in enumerate(results) if n != 40] == [str(n) for n in range(100) if n != 40]
    assert len(ledger) == 3


@pytest.mark.parametrize("mode", ["sequence", "batch"])
def test_what_did_not_begin_is_not_of_unknown_outcome(
    fragile: Runtime, ledger: Ledger, others: Ledger, mode: Any
) -> None:
    operations = [op("fragile.pay", ledger=others.path, text=str(n)) for n in range(20)]
    operations.insert(10, op("fragile.pay_and_end", ledger=ledger.path))

    results = fragile.run(operations, mode)

    assert results[10].error_code == "E003"
    assert [r.result for n, r in enumerate(results) if n != 10] == [str(n) for n in range(20)]
    assert sorted(others.lines(), key=int) == [str(n) for n in range(20)]
    assert len(ledger) == 1


def test_a_sequence_goes_on_after_a_step_that_ends_its_process(
    fragile: Runtime, ledger: Ledger, others: Ledger
) -> None:
    operations = [
        op("fragile.note", ledger=others.path, text="0"),
        op("fragile.note", ledger=others.path, text="1"),
        op("fragile.end", ledger=ledger.path),
        op("fragile.note", ledger=others.path, text="3"),
        op("fragile.give", value="$result[2]"),
        op("fragile.give", value="$result[1]"),
    ]

    results = fragile.run(operations)

    statuses = [result.status for result in results]
    assert statuses == ["completed", "completed", "failed", "completed", "cancelled", "completed"]
    assert results[5].result == "1"
    # The ledger of its replica showed what was running, so each death was its own.
    assert len(ledger) == 3


def test_a_killed_process_is_replaced_under_a_running_operation(fragile: Runtime, gate: Gate) -> None:
    run = fragile.submit([op("fragile.visit", gate=gate.port), op("fragile.give", value="$result[0]")])
    os.kill(gate.arrival().pid, signal.SIGKILL)

    gate.arrival().let_go("second try")

    assert [result.result for result in run.result()] == ["second try"] * 2
    died = [event.data for event in run.events() if event.kind == "replica_died"]
    assert [data["tool"] for data in died] == ["fragile"]


def test_a_stopped_process_is_killed_when_its_time_is_over(fragile: Runtime, gate: Gate) -> None:
    run = fragile.submit([{**op("fragile.visit", gate=gate.port), "timeout": 0.5}, op("fragile.give", value="next")])
    visitor = gate.arrival()
    os.kill(visitor.pid, signal.SIGSTOP)

    results = run.result(timeout=20)

    visitor.wait_until_gone()
    assert [result.status for result in results] == ["timed_out", "completed"]


def test_a_constructor_that_ends_its_process_is_given_up(ray_rt: Runtime, ledger: Ledger) -> None:
    class Doomed:
        def __init__(self, ledger: str) -> None:
            note(ledger)
            os._exit(1)

        def work(self) -> None: ...

    ray_rt.register(Doomed, config={"ledger": ledger.path})

    with pytest.raises(ToolInitError, match="3 times") as caught:
        ray_rt.call("doomed.work")

    assert caught.value.error_code == "E003"
    assert len(ledger) == 3


def test_a_constructor_that_ends_its_process_once_is_tried_again(ray_rt: Runtime, ledger: Ledger) -> None:
    class Shaky:
        def __init__(self, ledger: str) -> None:
            if note(ledger) < 2:
                os._exit(1)

        def work(self) -> str:
            return "built"

    ray_rt.register(Shaky, config={"ledger": ledger.path})

    assert ray_rt.call("shaky.work") == "built"
    assert len(ledger) == 2


class Company:
    """Operations that run side by side in one process, and one that ends it."""

    @operation
    async def end(self, ledger: str) -> None:
        await asyncio.sleep(0.01)
        note(ledger)
        os._exit(1)

    @operation
    async def give(self, value: int) -> int:
        await asyncio.sleep(0.02)
        return value


def test_what_ran_beside_a_poison_operation_is_not_given_up(ray_rt: Runtime, ledger: Ledger) -> None:
    ray_rt.register(Company, max_replicas=1)
    operations = [op("company.give", value=n) for n in range(30)]
    operations[13] = op("company.end", ledger=ledger.path)

    results = ray_rt.run(operations, "batch")

    assert len(ledger) == 4
    assert (results[13].status, results[13].error_code) == ("failed", "E005")
    assert [r.result for n, r in enumerate(results) if n != 13] == [n for n in range(30) if n != 13]


def test_a_crash_is_reported_with_its_signal_and_place(fragile: Runtime) -> None:
    with pytest.raises(RetryExhaustedError) as caught:
        fragile.call("fragile.crash")

    assert "Segmentation fault" in str(caught.value)
    assert "in crash" in str(caught.value)


def test_the_children_of_a_killed_tool_are_gone_with_it(fragile: Runtime, ledger: Ledger) -> None:
    with pytest.raises(OperationTimeoutError):
        fragile.call("fragile.wait_for_a_child", {"ledger": ledger.path}, timeout=0.5)

    (child,) = ledger.lines()
    assert _ended(int(child))
    assert fragile.call("fragile.give", {"value": "next"}) == "next"


def _ended(pid: int) -> bool:
    watch = Stopwatch()
    while watch.seconds < 5:
        try:
            if Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "ZX":
                return True
        except FileNotFoundError:
            return True
    return False
