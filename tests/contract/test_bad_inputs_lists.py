"""Bad inputs 58 to 70: lists of operations, and what is asked for beside the parameters."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from aiecs_ray import operation, prepare
from aiecs_ray.errors import (
    AiecsError,
    DuplicateNameError,
    InfeasibleResourcesError,
    InvalidInputError,
    InvalidOperationsError,
    InvalidParamsError,
    InvalidTimeoutError,
    InvalidToolError,
    ResultExpiredError,
    RunLostError,
)
from aiecs_ray.run_options import RunOptions
from tests.contract.bad_inputs import Row, Rows, Stopwatch, World, note, op

ROWS = Rows()
row = ROWS.row


def list_refused(world: World, operations: Any, says: str = "operations must be a list") -> None:
    with pytest.raises(InvalidOperationsError, match=says) as caught:
        world.rt.run(operations)
    assert caught.value.error_code == "E001"
    assert len(world.ledger) == 0


@row(58, "no-list")
def _no_list(world: World) -> None:
    noting = op("subject.note", ledger=world.ledger.path)
    for operations in (None, noting, "subject.note", {"a"}, 5):
        list_refused(world, operations)
    generator = (one for one in [noting])
    list_refused(world, generator)
    assert next(generator) is noting  # it was not consumed
    assert world.rt.run((noting,))[0].completed


@row(59, "empty")
def _empty(world: World) -> None:
    assert world.rt.run([]) == []
    assert world.rt.submit([]).result(timeout=10) == []


@row(60, "hundred-thousand-in-a-graph-any-number-without")
def _many(world: World) -> None:
    assert prepare.MAX_STEPS == 100_000
    world.monkeypatch.setattr(prepare, "MAX_STEPS", 20)
    operations = [op("subject.give", value=1), *(op("subject.give", value="$result[0]") for _ in range(20))]
    list_refused(world, operations, "21 operations with references between them, at most 20")
    assert len(world.rt.run(operations[:1] * 30, "batch")) == 30


@row(61, "changed-by-another-thread")
def _changed(world: World) -> None:
    operations = [op("subject.add", n=1) for _ in range(50)]
    over = threading.Event()

    def disturb() -> None:
        while not over.is_set():
            operations.append({"operation": 5})
            operations.pop()
            operations[0]["params"]["m"] = 1
            del operations[0]["params"]["m"]

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        for _ in range(5):
            try:
                results = world.rt.run(operations, "batch")
            except AiecsError as error:
                # The list was as bad as that when it was read.
                assert error.index == 50  # noqa: PT017
                continue
            assert {result.result for result in results} == {2}
    finally:
        over.set()
        disturber.join()


@row(62, "same-name-twice")
def _duplicate(world: World) -> None:
    operations = [{**op("subject.note", ledger=world.ledger.path), "id": "load"}] * 2
    with pytest.raises(DuplicateNameError, match="operations 0 and 1 both have the id 'load'") as caught:
        world.rt.run(operations)
    assert (caught.value.error_code, caught.value.index, len(world.ledger)) == ("E001", 1, 0)


@row(63, "no-operation")
def _no_operation(world: World) -> None:
    for one in (None, "subject.give", [op("subject.give")], 5):
        world.refuses(InvalidOperationsError, "E001", "operation 1 must be a dict", one)


@row(64, "timeouts")
def _timeouts(world: World) -> None:
    for bad in (-1, 0, math.nan, math.inf, "5", 1e300, True, [1]):
        for name in ("timeout", "deadline"):
            says = f"{name} must be a positive number of seconds"
            world.refuses(InvalidTimeoutError, "E001", says, {**op("subject.give"), name: bad})
            with pytest.raises(InvalidTimeoutError, match=says):
                world.rt.call("subject.give", **{name: bad})  # type: ignore[arg-type]
    assert world.rt.run([{**op("subject.give", value=1), "timeout": None}])[0].result == 1


class Charge:
    @operation(idempotent=False)
    def charge(self, ledger: str) -> None:
        note(ledger)
        raise ConnectionError("lost")


@row(65, "retries-idempotent-unless-said-otherwise")
def _retries(world: World) -> None:
    for bad in (-1, 0, 10**9, 1.5, "3", {"attempts": -1}, {"attempt": 3}, {"wait_min": math.nan}):
        world.refuses(InvalidOperationsError, "E001", "retry", {**op("subject.give"), "retry": bad})
    world.register(Charge)
    once = op("charge.charge", ledger=world.ledger.path)
    error = world.refuses(InvalidParamsError, "E001", "idempotent", {**once, "retry": 3})
    assert "charge.charge" in str(error)
    assert world.rt.run([once])[0].error_code == "E003"
    assert len(world.ledger) == 1


@row(66, "concurrency")
def _concurrency(world: World) -> None:
    for bad in (0, -1, 10**9, math.nan, True, "2"):
        with pytest.raises(InvalidToolError, match="concurrency is"):
            world.register(Charge, concurrency=bad)


@row(67, "time-to-live")
def _ttl(world: World) -> None:
    for bad in (-1, math.nan, math.inf, "60", 1e18, True):
        with pytest.raises(InvalidToolError, match="ttl is"):
            operation(ttl=bad)(world.give)
    world.register(Stored)
    user, path = world.ledger.path, world.ledger.path
    assert [world.rt.call("stored.never", {"ledger": path}, user_id=user) for _ in "12"] == [1, 2]
    # None is a value: the second call is a hit.
    assert [world.rt.call("stored.nothing", {"ledger": path}, user_id=user) for _ in "12"] == [None, None]
    assert len(world.ledger) == 3
    # However long the parameters, the key is short.
    long = {"ledger": path, "text": "k" * 2**20}
    assert [world.rt.call("stored.nothing", long, user_id=user) for _ in "12"] == [None, None]
    assert len(world.ledger) == 4


class Stored:
    @operation(ttl=0)
    def never(self, ledger: str) -> int:
        return note(ledger)

    @operation
    def nothing(self, ledger: str, text: str = "") -> None:  # noqa: ARG002
        note(ledger)


@row(68, "resources")
def _resources(world: World) -> None:
    for bad in ({"num_cpus": -1}, {"num_cpus": math.nan}, {"num_cpus": "a"}, {"num_cpus": 1.5}, {"memory": -1}):
        with pytest.raises(InvalidToolError, match=f"{next(iter(bad))} is"):
            world.register(Charge, **bad)
    for number, lacking in enumerate(({"num_gpus": 1}, {"resources": {"nope": 1}}, {"memory": 2**60})):
        world.register(Charge, f"lacking{number}", **lacking)
        watch = Stopwatch()
        says = "asks for"
        world.raises(InfeasibleResourcesError, "E003", says, f"lacking{number}.charge", ledger=world.ledger.path)
        assert watch.seconds < 5
    assert len(world.ledger) == 0


@row(69, "options-of-ray")
def _options(world: World) -> None:
    for name in ("concurrency_group", "scheduling_strategy", "max_restarts", "lifetime"):
        with pytest.raises(InvalidToolError, match=f"there is no option '{name}'"):
            world.register(Charge, **{name: "x"})
        with pytest.raises(TypeError):
            world.rt.call("subject.give", **{name: "x"})  # type: ignore[arg-type]


@row(70, "ids-of-runs")
def _runs(world: World) -> None:
    # An id is chosen by the runtime alone; what it did not choose is the id of nothing.
    for bad in (None, 5, b"x"):
        with pytest.raises(InvalidInputError, match="a run's id is a text"):
            world.rt.attach(bad)  # type: ignore[arg-type]
    for bad in ("../../x", "x" * 10_000, "a b", "", "somebody-elses"):
        with pytest.raises(RunLostError) as caught:
            world.rt.attach(bad)
        assert (caught.value.error_code, len(str(caught.value)) < 300) == ("E003", True)
    with pytest.raises(ResultExpiredError):
        world.rt.attach(f"{world.rt.incarnation}-guessed")

    # The same request sent twice is one run.
    prepared = world.rt.prepare([op("subject.note", ledger=world.ledger.path)], RunOptions())
    first, second = world.rt.start(prepared), world.rt.start(prepared)
    assert (first.id, first.result(timeout=20)) == (second.id, second.result(timeout=20))
    assert len(world.ledger) == 1


@pytest.mark.parametrize("row", ROWS.of(ray=False))
def test_a_bad_list_or_setting_is_refused_before_anything_runs(world: World, row: Row) -> None:
    row.check(world)

    assert world.give("good") == "good"
