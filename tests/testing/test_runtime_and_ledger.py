"""What users test their tools with: a runtime of its own, a clock, a ledger."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from aiecs_ray import testing
from aiecs_ray.errors import InvalidInputError, OperationTimeoutError, ToolNotFoundError

if TYPE_CHECKING:
    from pathlib import Path


class Adder:
    def add(self, a: int, b: int) -> int:
        return a + b


def test_a_runtime_offers_the_given_tools_and_nothing_else() -> None:
    with testing.runtime(Adder) as rt:
        total = rt.call("adder.add", {"a": 1, "b": 2})
        with testing.runtime() as other, pytest.raises(ToolNotFoundError):
            other.call("adder.add", {"a": 1, "b": 2})

    assert total == 3


def test_a_runtime_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIECS_RAY_WINDOW", "no number")

    with testing.runtime(Adder, window=7) as rt:
        assert rt.call("adder.add", {"a": 1, "b": 2}) == 3


def test_a_clock_moves_when_it_is_told_to() -> None:
    clock = testing.FakeClock(10.0)

    clock.advance(2.5)
    clock.sleep(1)

    assert clock() == 13.5


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_a_clock_does_not_go_back(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"go back|finite"):
        testing.FakeClock().advance(seconds)


def test_a_ledger_has_what_began_and_what_ended(tmp_path: Path) -> None:
    ledger = testing.Ledger(tmp_path / "ledger")

    with testing.runtime() as rt:
        rt.register(testing.LedgerTool, "worker", config=ledger.config)
        operations = [
            {"operation": "worker.run", "params": {"id": "good"}},
            {"operation": "worker.run_once", "params": {"id": "bad one", "fate": "raise"}},
            {"operation": "worker.run", "params": {"id": "good"}},
        ]
        statuses = [result.status for result in rt.run(operations)]

    assert statuses == ["completed", "failed", "completed"]
    assert ledger.started() == {"good", "bad one"}
    assert ledger.started_twice() == {"good"}
    assert ledger.finished() == {"good"}
    assert ledger.lost(["good", "bad one", "never sent"]) == {"bad one", "never sent"}
    assert len(ledger.pids()) == 1


def test_a_ledger_that_nobody_wrote_to_is_empty(tmp_path: Path) -> None:
    ledger = testing.Ledger(tmp_path / "none")

    assert (ledger.lines(), ledger.lost(["a"])) == ([], {"a"})


def test_a_line_that_is_still_being_written_is_not_read(tmp_path: Path) -> None:
    ledger = testing.Ledger(tmp_path / "ledger")
    ledger.path.write_text("s 1 2.0 whole\ns 1 2.0 ha")

    assert [line.id for line in ledger.lines()] == ["whole"]


def test_a_ledger_operation_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    ledger = testing.Ledger(tmp_path / "ledger")

    with testing.runtime() as rt:
        rt.register(testing.LedgerTool, "worker", config=ledger.config)
        with pytest.raises(OperationTimeoutError):
            rt.call("worker.run", {"id": "long", "seconds": 60.0}, timeout=0.1)

    assert ledger.started() == {"long"}
    assert ledger.finished() == set()


def test_threads_of_this_process_cannot_be_killed() -> None:
    with testing.runtime(Adder) as rt, pytest.raises(InvalidInputError, match="inprocess"):
        testing.ReplicaKiller(rt)
