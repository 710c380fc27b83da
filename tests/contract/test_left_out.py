"""Large results that nobody asked for: they stay in their replica, and are made anew where that has them no more."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from aiecs_ray import operation
from tests.contract.probes import Gate, Ledger, note, op, visit

if TYPE_CHECKING:
    from aiecs_ray import Run, Runtime

SIZE = 300_000


class Line:
    @operation
    def make(self, ledger: str) -> bytes:
        note(ledger, "make")
        return b"a" * SIZE

    @operation(cache=True)
    def make_for_all(self, ledger: str) -> bytes:
        note(ledger, "make")
        return b"a" * SIZE

    @operation(idempotent=False)
    def make_once(self, ledger: str) -> bytes:
        note(ledger, "make once")
        return b"a" * SIZE

    @operation
    def add(self, ledger: str, data: bytes) -> bytes:
        note(ledger, "add")
        return data + b"b" * SIZE

    @operation
    def hold(self, gate: int, data: bytes) -> int:
        visit(gate)
        return len(data)

    @operation
    def fail_once(self, ledger: str, data: bytes) -> int:
        note(ledger, "fail")
        with open(ledger, encoding="utf-8") as file:  # noqa: PTH123  # as the ledger does
            if file.read().count("fail") == 1:
                raise ConnectionError("a first time")
        return len(data)

    @operation
    def die_once(self, ledger: str, data: bytes) -> int:
        note(ledger, "die")
        with open(ledger, encoding="utf-8") as file:  # noqa: PTH123  # as the ledger does
            if file.read().count("die") == 1:
                os.kill(os.getpid(), signal.SIGKILL)
        return len(data)


def remade(run: Run) -> list[int | None]:
    return [event.step for event in run.events() if event.kind == "step_remade"]


def test_results_that_only_the_next_steps_read_are_right_and_told_with_their_size(
    rt: Runtime, ledger: Ledger, gate: Gate
) -> None:
    rt.register(Line, max_replicas=1)
    operations = [
        op("line.make", ledger=ledger.path),
        op("line.add", ledger=ledger.path, data="$result[0]"),
        op("line.hold", gate=gate.port, data="$result[1]"),
    ]
    run = rt.submit(operations, keep="last")
    visitor = gate.arrival()
    visitor.let_go()

    results = run.result()

    sizes = {event.step: event.data["size"] for event in run.events() if event.kind == "step_completed"}
    assert results[2].result == 2 * SIZE
    assert [result.completed for result in results] == [True] * 3
    assert sizes[0] > SIZE
    assert sizes[1] > 2 * SIZE
    assert ledger.lines() == ["make", "add"]


@pytest.mark.parametrize(("keep", "there"), [("last", False), ([0, 1, 2], True)])
def test_a_result_is_stored_only_if_somebody_asked_for_it(
    rt: Runtime, ledger: Ledger, gate: Gate, keep: str | list[int], *, there: bool
) -> None:
    rt.register(Line, max_replicas=1)
    operations = [
        op("line.make", ledger=ledger.path),
        op("line.hold", gate=gate.port, data="$result[0]"),
        op("line.add", ledger=ledger.path, data="$result[0]"),
    ]
    run = rt.submit(operations, keep=keep)
    visitor = gate.arrival()
    assert next(event.step for event in run.events() if event.kind == "step_completed") == 0

    (settled,) = rt.request("result_of", run.id, [0])
    visitor.let_go()

    assert (settled.payload is not None) == there
    assert settled.dropped == (not there)
    assert run.result()[2].result == b"a" * SIZE + b"b" * SIZE


def test_what_must_not_run_twice_is_stored(rt: Runtime, ledger: Ledger) -> None:
    rt.register(Line, max_replicas=1)
    operations = [
        op("line.make_once", ledger=ledger.path),
        op("line.add", ledger=ledger.path, data="$result[0]"),
        op("line.fail_once", ledger=ledger.path, data="$result[1]", retry={"wait_min": 0.01, "wait_max": 0.01}),
    ]

    run = rt.submit(operations, keep="last")

    assert run.result()[2].result == 2 * SIZE
    assert ledger.lines() == ["make once", "add", "fail", "fail"]
    assert remade(run) == []


def test_what_goes_to_the_cache_is_stored(rt: Runtime, ledger: Ledger) -> None:
    rt.register(Line, max_replicas=1)
    first = op("line.make_for_all", ledger=ledger.path)
    operations = [first, op("line.add", ledger=ledger.path, data="$result[0]")]
    assert rt.run(operations, keep="last")[1].completed

    (again,) = rt.run([first])

    assert again.result == b"a" * SIZE
    assert ledger.lines() == ["make", "add"]


def test_a_step_that_is_tried_again_has_its_input_made_anew(rt: Runtime, ledger: Ledger) -> None:
    rt.register(Line, max_replicas=1)
    operations = [
        op("line.make", ledger=ledger.path),
        op("line.add", ledger=ledger.path, data="$result[0]"),
        op("line.fail_once", ledger=ledger.path, data="$result[1]", retry={"wait_min": 0.01, "wait_max": 0.01}),
    ]

    run = rt.submit(operations, keep="last")

    results = run.result()
    assert [result.status for result in results] == ["completed"] * 3
    assert results[2].result == 2 * SIZE
    assert ledger.lines() == ["make", "add", "fail", "make", "add", "fail"]
    assert remade(run) == [1]


@pytest.mark.ray
@pytest.mark.timeout(90)
def test_what_died_with_its_replica_is_made_anew(ray_rt: Runtime, ledger: Ledger) -> None:
    ray_rt.register(Line, max_replicas=1)
    operations = [
        op("line.make", ledger=ledger.path),
        op("line.add", ledger=ledger.path, data="$result[0]"),
        op("line.die_once", ledger=ledger.path, data="$result[1]"),
    ]

    run = ray_rt.submit(operations, keep="last")

    results = run.result()
    assert [result.status for result in results] == ["completed"] * 3
    assert results[2].result == 2 * SIZE
    assert ledger.lines().count("die") == 2
