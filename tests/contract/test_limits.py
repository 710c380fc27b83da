"""Limits that all callers share: of a tool, an operation, a run; declared, and changed while it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import Registry, Runtime, connect, operation
from aiecs_ray.config import Settings
from aiecs_ray.errors import (
    BusyError,
    InvalidInputError,
    InvalidOperationsError,
    InvalidToolError,
    OperationNotFoundError,
    ToolNotFoundError,
)
from tests.contract.probes import Gate, Ledger, Stopwatch, note, op, visit, visit_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs_ray.run import Run

pytestmark = pytest.mark.timeout(60)


class Press:
    @operation()
    async def visit(self, gate: int, text: str = "") -> str:
        return await visit_async(gate, text)

    @operation(max_concurrency=2)
    async def narrow(self, gate: int, text: str = "") -> str:
        return await visit_async(gate, text)

    @operation(weight=2)
    async def heavy(self, gate: int, text: str = "") -> str:
        return await visit_async(gate, text)


class Stamp:
    @operation(rate=20)
    def paced(self, ledger: str) -> None:
        note(ledger, repr(time.time()))

    @operation(rate=20, burst=5)
    def burst(self, ledger: str) -> None:
        note(ledger, repr(time.time()))

    @operation(rate=0.01, cache=True)
    def rare(self, n: int) -> int:
        return n

    @operation()
    def free(self, ledger: str) -> None:
        note(ledger, repr(time.time()))

    @operation()
    def flaky(self, ledger: str) -> int:
        if note(ledger, repr(time.time())) < 4:
            raise ConnectionError("not yet")
        return 1

    @operation()
    def stand(self, gate: int) -> str:
        return visit(gate)


def starts(run: Run) -> list[float]:
    run.wait()
    return [event.time for event in run.events() if event.kind == "step_started"]


def nobody_comes(gate: Gate) -> bool:
    """Return whether nobody stands at the gate soon; what would be wrong comes at once."""
    with pytest.raises(TimeoutError):
        gate.arrival(0.3)
    return True


def test_no_more_of_an_operation_run_at_once_than_it_says_whoever_calls(
    connect: Callable[[], Runtime], gate: Gate
) -> None:
    one, other = connect(), connect()
    for rt in (one, other):
        rt.register(Press)
    request = [op("press.narrow", gate=gate.port)] * 2
    shared = [one] if other.address == "inprocess" else [one, other]
    runs = [rt.submit(request, "parallel") for rt in (shared * 2)[:2]]

    visitors = gate.arrivals(2)
    quiet = nobody_comes(gate)
    visitors[0].let_go()
    gate.arrival().let_go()
    visitors[1].let_go()
    gate.arrival().let_go()

    assert quiet
    assert all(result.completed for run in runs for result in run.result())


def test_a_tool_can_be_limited_as_a_whole(rt: Runtime, gate: Gate) -> None:
    rt.register(Press, max_concurrency=1)
    run = rt.submit([op("press.visit", gate=gate.port), op("press.heavy", gate=gate.port)], "parallel")

    first = gate.arrival()
    quiet = nobody_comes(gate)
    first.let_go()
    gate.arrival().let_go()

    assert quiet
    assert all(result.completed for result in run.result())


def test_a_heavy_operation_takes_the_room_of_several(rt: Runtime, gate: Gate) -> None:
    rt.register(Press)
    rt.set_limit("press", concurrency=3)
    operations = [
        op("press.heavy", gate=gate.port, text="heavy"),
        *[op("press.visit", gate=gate.port, text="light")] * 2,
    ]
    run = rt.submit(operations, "parallel")

    visitors = gate.arrivals(2)
    quiet = nobody_comes(gate)
    for visitor in visitors:
        visitor.let_go()
    gate.arrival().let_go()
    run.wait()
    rt.reset_limit("press")

    assert quiet
    assert sorted(visitor.text for visitor in visitors) == ["heavy", "light"]


def test_a_run_has_no_more_in_flight_than_it_was_given(rt: Runtime, gate: Gate) -> None:
    rt.register(Press)
    run = rt.submit([op("press.visit", gate=gate.port)] * 3, "parallel", concurrency=2)

    visitors = gate.arrivals(2)
    quiet = nobody_comes(gate)
    visitors[0].let_go()
    gate.arrival().let_go()
    visitors[1].let_go()

    assert quiet
    assert all(result.completed for result in run.result())


def test_starts_of_an_operation_are_spaced(rt: Runtime, ledger: Ledger) -> None:
    rt.register(Stamp)

    times = starts(rt.submit([op("stamp.paced", ledger=ledger.path)] * 8, "parallel"))

    assert len(times) == len(ledger) == 8
    assert 7 / 20 - 0.02 <= times[-1] - times[0] < 2.0


def test_several_callers_share_a_rate(connect: Callable[[], Runtime], ledger: Ledger) -> None:
    one, other = connect(), connect()
    callers = [one] * 4 if one.address == "inprocess" else [one, other] * 2
    for rt in callers:
        rt.register(Stamp)

    runs = [rt.submit([op("stamp.paced", ledger=ledger.path)] * 10, "parallel") for rt in callers]
    done = all(run.wait() for run in runs)
    times = sorted(map(float, ledger.lines()))

    assert done
    assert len(times) == 40
    # By the tools' own clock: one more than the rate, for what reached a replica late.
    assert all(later - earlier >= 1.0 for earlier, later in zip(times, times[21:], strict=False))
    assert 39 / 20 - 0.1 <= times[-1] - times[0] < 39 / 20 * 1.5


def test_a_burst_may_start_at_once(rt: Runtime, ledger: Ledger) -> None:
    rt.register(Stamp)

    rt.run([op("stamp.burst", ledger=ledger.path)] * 10, "parallel")

    times = sorted(map(float, ledger.lines()))
    assert times[-1] - times[0] >= 5 / 20 - 0.02
    assert times[-1] - times[4] >= 5 / 20 - 0.1


def test_a_run_can_be_paced(rt: Runtime, ledger: Ledger) -> None:
    rt.register(Stamp)

    times = starts(rt.submit([op("stamp.free", ledger=ledger.path)] * 6, "parallel", rate=20))

    assert times[-1] - times[0] >= 5 / 20 - 0.02


def test_a_sequence_is_paced_step_by_step(rt: Runtime, ledger: Ledger) -> None:
    rt.register(Stamp)
    watch = Stopwatch()

    results = rt.run([op("stamp.paced", ledger=ledger.path)] * 5)

    assert all(result.completed for result in results)
    assert watch.seconds >= 4 / 20 - 0.02


def test_each_attempt_passes_the_limit_again(rt: Runtime, ledger: Ledger) -> None:
    rt.register(Stamp)
    rt.set_limit("stamp.flaky", rate=4)
    retry = {"attempts": 4, "wait_min": 0, "wait_max": 0, "multiplier": 0}

    value = rt.call("stamp.flaky", {"ledger": ledger.path}, retry=retry)

    times = list(map(float, ledger.lines()))
    assert value == 1
    assert times[-1] - times[0] >= 3 / 4 - 0.1


def test_an_answer_from_the_cache_is_no_start(rt: Runtime) -> None:
    rt.register(Stamp)
    rt.call("stamp.rare", {"n": 1})
    watch = Stopwatch()

    values = [result.result for result in rt.run([op("stamp.rare", n=1)] * 5, "parallel")]

    assert values == [1] * 5
    assert watch.seconds < 10


def test_a_step_that_is_cancelled_at_a_limit_leaves_its_place(rt: Runtime, ledger: Ledger) -> None:
    rt.register(Stamp)
    rt.set_limit("stamp.free", rate=0.01)
    rt.call("stamp.free", {"ledger": ledger.path})
    run = rt.submit([op("stamp.free", ledger=ledger.path)] * 3, "parallel")

    status = run.cancel()
    rt.set_limit("stamp.free", rate=1000)
    rt.call("stamp.free", {"ledger": ledger.path})
    rt.reset_limit("stamp.free")

    assert status == "cancelled"
    assert {result.error_code for result in run.result()} == {"E004"}
    assert len(ledger) == 2


def test_a_limit_holds_for_what_was_queued_before_it_was_set(rt: Runtime, gate: Gate, ledger: Ledger) -> None:
    rt.register(Stamp, max_replicas=1)
    door = rt.submit([op("stamp.stand", gate=gate.port)])
    visitor = gate.arrival()
    run = rt.submit([op("stamp.free", ledger=ledger.path)] * 6, "parallel")

    rt.set_limit("stamp.free", rate=20)
    seen = rt.limits()["stamp.free"]
    visitor.let_go()
    door.wait()
    run.wait()
    rt.set_limit("stamp.free")

    times = sorted(map(float, ledger.lines()))
    assert (seen["in_flight"], seen["waiting"]) == (1, 5)
    assert times[-1] - times[0] >= 5 / 20 - 0.05
    assert "stamp.free" not in rt.limits()


def test_a_limit_that_is_lifted_lets_everybody_go_on(rt: Runtime, ledger: Ledger) -> None:
    rt.register(Stamp)
    rt.set_limit("stamp.free", rate=0.01)
    run = rt.submit([op("stamp.free", ledger=ledger.path)] * 20, "parallel")

    rt.set_limit("stamp.free")
    done = run.wait()

    assert done
    assert len(ledger) == 20


def test_what_is_in_force_can_be_asked_for_and_reset(rt: Runtime) -> None:
    rt.register(Stamp)
    declared = rt.limits()["stamp.burst"]

    rt.set_limit("stamp.burst", rate=3, concurrency=7)
    changed = rt.limits()["stamp.burst"]
    rt.reset_limit("stamp.burst")

    assert declared == {"rate": 20, "burst": 5, "concurrency": None, "set": False, "in_flight": 0, "waiting": 0}
    assert (changed["rate"], changed["burst"], changed["concurrency"], changed["set"]) == (3, 1, 7, True)
    assert rt.limits()["stamp.burst"] == declared
    assert rt.stats()["limits"]["stamp.burst"] == declared


def test_a_limit_needs_something_to_limit(rt: Runtime) -> None:
    rt.register(Stamp)

    with pytest.raises(OperationNotFoundError, match="paced"):
        rt.set_limit("stamp.pced", rate=1)
    with pytest.raises(ToolNotFoundError):
        rt.set_limit("stmp", rate=1)
    with pytest.raises(ToolNotFoundError):
        rt.reset_limit("stmp.free")


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"rate": -1.0}, {"concurrency": 0}, {"concurrency": 1.5}], ids=repr)
def test_a_limit_that_is_none_is_refused(rt: Runtime, ledger: Ledger, wrong: dict[str, Any]) -> None:
    rt.register(Stamp)

    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        rt.set_limit("stamp.free", **wrong)
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        rt.run([op("stamp.free", ledger=ledger.path)], **wrong)

    assert len(ledger) == 0


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"burst": 0}, {"max_concurrency": "2"}, {"weight": 0}], ids=repr)
def test_a_declared_limit_is_checked_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidToolError, match=f"{next(iter(wrong))} is"):
        operation(**wrong)(visit)


def test_other_limits_need_no_other_replicas() -> None:
    with connect("inprocess", registry=Registry()) as rt:
        rt.register(Stamp)
        first = rt.catalog.tool("stamp")[0].key
        rt.register(Stamp, replace=True, rate=5, burst=2, max_concurrency=3, breaker=True)

        assert rt.catalog.tool("stamp")[0].key == first
        assert rt.limits()["stamp"]["rate"] == 5


def test_what_waits_for_other_steps_or_at_a_limit_counts_as_open(gate: Gate) -> None:
    with connect("inprocess", settings=Settings(max_queued=10, grace=0.3), registry=Registry()) as rt:
        rt.register(Press)
        line = rt.submit([op("press.visit", gate=gate.port)] * 4)
        limited = rt.submit([op("press.visit", gate=gate.port)] * 4, "parallel", concurrency=1)
        visitors = gate.arrivals(2)
        seen = rt.stats()["open"]
        watch = Stopwatch()
        with pytest.raises(BusyError, match="8 operations are under way, 3 more are too many") as caught:
            rt.submit([op("press.visit", gate=gate.port)] * 3, "parallel")
        seconds = watch.seconds
        for _ in range(6):
            visitors.pop(0).let_go()
            visitors.append(gate.arrival())
        for visitor in visitors:
            visitor.let_go()
        line.wait()
        limited.wait()

        assert (seen, rt.stats()["open"]) == (8, 0)
        assert caught.value.retry_after > 0
        assert seconds < 0.1


def test_a_run_that_never_fits_is_refused_for_good() -> None:
    with connect("inprocess", settings=Settings(max_queued=10), registry=Registry()) as rt:
        rt.register(Stamp)

        with pytest.raises(InvalidOperationsError, match="11 operations in one run, at most 10"):
            rt.run([op("stamp.rare", n=1)] * 11, "parallel")
