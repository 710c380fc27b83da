"""Large results that are gone: made anew where every producer may run again, an honest error elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import aiecs_ray
from aiecs_ray import inprocess, operation
from aiecs_ray.actors.remaking import ROUNDS
from aiecs_ray.actors.run_table import RunTable
from aiecs_ray.errors import ResultLostError
from tests.contract.probes import Gate, Ledger, note, op, visit, visit_until_asked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiecs_ray import Run, Runtime
    from aiecs_ray.actors import run as run_actor
    from aiecs_ray.local_replica import LocalRef
    from aiecs_ray.packing import Packed

SIZE = 300_000


class Maker:
    @operation
    def make(self, ledger: str, letter: str) -> bytes:
        note(ledger, f"make {letter}")
        return letter.encode() * SIZE

    @operation
    def double(self, ledger: str, data: bytes) -> bytes:
        note(ledger, "double")
        return data + data

    @operation(idempotent=False)
    def make_once(self, ledger: str) -> bytes:
        note(ledger, "make once")
        return b"o" * SIZE

    @operation
    def make_slowly_again(self, ledger: str, gate: int) -> bytes:
        if note(ledger) > 1:
            visit_until_asked(gate)
        return b"s" * SIZE

    @operation
    def hold(self, gate: int) -> str:
        return visit(gate)


class Reader:
    @operation
    def measure(self, data: bytes, after: str) -> int:
        assert after == "go"
        return len(data)


class Store:
    """Where large values lie, and can be lost as they are when their node ends."""

    def __init__(self) -> None:
        self._lost: list[Packed] = []
        self.keeps_nothing = False

    def read(self, reference: LocalRef) -> Packed:
        if self.keeps_nothing or any(reference.packed is lost for lost in self._lost):
            raise ConnectionError("its node is gone")
        return reference.packed

    def lose(self, runtime: Runtime, run: Run, *steps: int) -> None:
        self._lost += [settled.payload.packed for settled in runtime.request("result_of", run.id, steps)]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    monkeypatch.setattr(inprocess, "read", store.read)
    return store


@pytest.fixture
def maker(store: Store) -> Iterator[Runtime]:
    assert store
    with aiecs_ray.connect("inprocess", registry=aiecs_ray.Registry()) as runtime:
        runtime.register(Maker, max_replicas=1)
        runtime.register(Reader, max_replicas=1)
        yield runtime


def test_a_result_that_was_lost_is_made_anew_for_its_reader(maker: Runtime, store: Store, ledger: Ledger) -> None:
    run = maker.submit([op("maker.make", ledger=ledger.path, letter="a")])
    run.wait()
    store.lose(maker, run, 0)

    (result,) = run.result()

    assert result.result == b"a" * SIZE
    assert ledger.lines() == ["make a", "make a"]


def test_it_is_made_with_all_that_it_needs(maker: Runtime, store: Store, ledger: Ledger) -> None:
    operations = [
        op("maker.make", ledger=ledger.path, letter="a"),
        op("maker.double", ledger=ledger.path, data="$result[0]"),
    ]
    run = maker.submit(operations)
    run.wait()
    store.lose(maker, run, 0, 1)

    value = run.value(1)

    assert value == b"a" * SIZE * 2
    assert sorted(ledger.lines()) == ["double", "double", "make a", "make a"]


def test_a_step_that_needs_a_lost_result_waits_until_it_is_made_anew(
    maker: Runtime, store: Store, ledger: Ledger, gate: Gate
) -> None:
    operations = [
        op("maker.make", ledger=ledger.path, letter="a"),
        op("maker.hold", gate=gate.port),
        op("reader.measure", data="$result[0]", after="$result[1]"),
    ]
    run = maker.submit(operations, "parallel")
    visitor = gate.arrival()
    store.lose(maker, run, 0)
    visitor.let_go()

    results = run.result()

    assert [result.status for result in results] == ["completed"] * 3
    assert results[2].result == SIZE
    assert [event.step for event in run.events() if event.kind == "step_remade"] == [0]


def test_what_must_not_run_twice_is_not_made_anew(maker: Runtime, store: Store, ledger: Ledger, gate: Gate) -> None:
    operations = [
        op("maker.make_once", ledger=ledger.path),
        op("maker.hold", gate=gate.port),
        op("reader.measure", data="$result[0]", after="$result[1]"),
    ]
    run = maker.submit(operations, "parallel")
    visitor = gate.arrival()
    store.lose(maker, run, 0)
    visitor.let_go()

    results = run.result()

    assert [result.error_code for result in results] == ["E003", None, "E003"]
    assert "is not idempotent" in (results[2].error_message or "")
    with pytest.raises(ResultLostError, match="cannot be made anew"):
        run.value(2)
    assert ledger.lines() == ["make once"]


def test_what_must_not_run_twice_keeps_only_its_own_results_from_being_made_anew(
    maker: Runtime, store: Store, ledger: Ledger
) -> None:
    operations = [
        op("maker.make_once", ledger=ledger.path),
        op("maker.double", ledger=ledger.path, data="$result[0]"),
        op("maker.make", ledger=ledger.path, letter="a"),
        op("maker.double", ledger=ledger.path, data="$result[2]"),
    ]
    run = maker.submit(operations)
    run.wait()
    store.lose(maker, run, 1)

    from_what_is_there = run.value(1)
    store.lose(maker, run, 0, 1, 2, 3)

    assert from_what_is_there == b"o" * SIZE * 2
    assert run.value(3) == b"a" * SIZE * 2
    for step in (0, 1):
        with pytest.raises(ResultLostError, match=r"step 0 \(maker.make_once\) is not idempotent"):
            run.value(step)
    assert ledger.lines().count("make once") == 1


def test_cancelling_ends_what_is_being_made_anew(maker: Runtime, store: Store, ledger: Ledger, gate: Gate) -> None:
    operations = [
        op("maker.make_slowly_again", ledger=ledger.path, gate=gate.port),
        op("maker.hold", gate=gate.port),
        op("reader.measure", data="$result[0]", after="$result[1]"),
    ]
    run = maker.submit(operations, "parallel")
    visitor = gate.arrival()
    store.lose(maker, run, 0)
    visitor.let_go()
    again = gate.arrival()

    status = run.cancel()

    assert status == "cancelled"
    again.wait_until_gone(1.0)
    assert [settled.status for settled in maker.request("result_of", run.id, range(3))] == [
        "completed",
        "completed",
        "cancelled",
    ]


def test_several_readers_of_a_lost_result_have_it_made_once(
    maker: Runtime, store: Store, ledger: Ledger, gate: Gate
) -> None:
    operations = [
        op("maker.make", ledger=ledger.path, letter="a"),
        op("maker.hold", gate=gate.port),
        *[op("reader.measure", data="$result[0]", after="$result[1]")] * 5,
    ]
    run = maker.submit(operations, "parallel")
    visitor = gate.arrival()
    store.lose(maker, run, 0)
    visitor.let_go()

    results = run.result()

    assert [result.result for result in results[2:]] == [SIZE] * 5
    assert ledger.lines() == ["make a"] * 2


def test_a_run_that_is_forgotten_lets_go_of_its_large_results(
    maker: Runtime, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[run_actor.Run] = []
    monkeypatch.setattr(RunTable, "forget", _noting(runs, RunTable.forget))
    submitted = maker.submit([op("maker.make", ledger=ledger.path, letter="a")])
    assert submitted.result()[0].completed

    submitted.release()

    # It may still be counted and recorded for a while.
    assert [settled and settled.payload for settled in runs[0].settled] == [None]


def _noting(runs: list[run_actor.Run], forget: Callable[..., None]) -> Callable[..., None]:
    def noted(table: RunTable, run: run_actor.Run) -> None:
        runs.append(run)
        forget(table, run)

    return noted


def test_a_result_that_is_lost_again_and_again_is_given_up(maker: Runtime, store: Store, ledger: Ledger) -> None:
    store.keeps_nothing = True
    operations = [
        op("maker.make", ledger=ledger.path, letter="a"),
        op("reader.measure", data="$result[0]", after="go"),
    ]

    results = maker.run(operations)

    assert results[1].error_code == "E003"
    assert "lost 4 times" in (results[1].error_message or "")
    assert len(ledger) <= 1 + 2 * ROUNDS
