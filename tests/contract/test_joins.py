"""Identical operations that are under way at once run once, and every caller gets the result.

A gate holds the body that runs until the others are seen to wait for it; a ledger counts what really ran.
"""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import OperationExecutor, Runtime, operation
from aiecs_ray.errors import AiecsError, OperationTimeoutError
from tests.contract.probes import Gate, Ledger, eventually, note, op, visit

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(60)


class Mill:
    @operation
    def grind(self, ledger: str, gate: int, grain: str = "rye") -> str:
        note(ledger, grain)
        visit(gate, grain)
        return f"{grain} flour"

    @operation
    def sack(self, ledger: str, gate: int) -> bytes:
        note(ledger)
        visit(gate, "sack")
        return b"x" * 200_000

    @operation(scope="global")
    def share(self, ledger: str, gate: int) -> int:
        visit(gate, "share")
        return note(ledger)

    @operation(idempotent=False)
    def sell(self, ledger: str, gate: int) -> int:
        visit(gate)
        return note(ledger)

    @operation(ttl=0)
    def taste(self, ledger: str, gate: int) -> int:
        visit(gate)
        return note(ledger)

    @operation
    def fail(self, ledger: str, gate: int, times: int) -> int:
        runs = note(ledger)
        visit(gate)
        if runs <= times:
            raise ValueError(f"failure {runs}")
        return runs

    @operation
    def quick(self, ledger: str, what: Any = None) -> Any:
        note(ledger)
        return what


@pytest.fixture
def mill(rt: Runtime) -> Runtime:
    rt.register(Mill, max_replicas=4, num_cpus=0.1)
    return rt


@pytest.fixture
def user() -> str:
    return secrets.token_hex(8)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads


def until_joining(rt: Runtime, count: int) -> None:
    eventually(lambda: rt.stats()["joining"] == count)


class Callers:
    """Identical calls in threads of their own; the first one is at the gate before the others begin."""

    def __init__(self, rt: Runtime, threads: ThreadPoolExecutor, gate: Gate, spec: str, ledger: Ledger) -> None:
        self.rt, self.threads, self.gate = rt, threads, gate
        self.spec, self.params = spec, {"ledger": ledger.path, "gate": gate.port}

    def call(self, **options: Any) -> Future[Any]:
        return self.threads.submit(self.rt.call, self.spec, dict(self.params), **options)


@pytest.fixture
def callers(mill: Runtime, threads: ThreadPoolExecutor, gate: Gate, ledger: Ledger) -> Callers:
    return Callers(mill, threads, gate, "mill.grind", ledger)


def test_identical_calls_at_once_run_once(callers: Callers, ledger: Ledger, user: str) -> None:
    calls = [callers.call(user_id=user) for _ in range(10)]
    body = callers.gate.arrival()
    until_joining(callers.rt, 9)

    body.let_go()

    assert [call.result() for call in calls] == ["rye flour"] * 10
    assert len(ledger) == 1
    assert callers.rt.call("mill.grind", callers.params, user_id=user, cache="only") == "rye flour"


def test_a_large_result_reaches_everybody(callers: Callers, ledger: Ledger, user: str) -> None:
    callers.spec = "mill.sack"
    calls = [callers.call(user_id=user) for _ in range(3)]
    body = callers.gate.arrival()
    until_joining(callers.rt, 2)

    body.let_go()

    assert [call.result() for call in calls] == [b"x" * 200_000] * 3
    assert len(ledger) == 1


def test_identical_steps_of_a_batch_run_once_and_say_so(mill: Runtime, gate: Gate, ledger: Ledger, user: str) -> None:
    run = mill.submit([op("mill.grind", ledger=ledger.path, gate=gate.port)] * 20, "batch", user_id=user)
    body = gate.arrival()
    until_joining(mill, 19)

    body.let_go()

    results = run.result()
    completed = [event.data for event in run.events() if event.kind == "step_completed"]
    assert [result.result for result in results] == ["rye flour"] * 20
    assert len(ledger) == 1
    assert sum(data["joined"] for data in completed) == sum(data["from_cache"] for data in completed) == 19


def test_users_wait_for_each_other_only_where_they_share(callers: Callers, gate: Gate, user: str) -> None:
    apart = [callers.call(user_id=f"{user}{n}") for n in range(2)]
    for body in gate.arrivals(2):
        body.let_go()
    assert [call.result() for call in apart] == ["rye flour"] * 2

    callers.spec = "mill.share"
    together = [callers.call(user_id=f"{user}{n}") for n in range(2)]
    body = gate.arrival()
    until_joining(callers.rt, 1)
    body.let_go()

    assert [call.result() for call in together] == [3, 3]


@pytest.mark.parametrize("options", [{"cache": "off"}, {}], ids=["off", "no context"])
def test_what_is_not_cached_runs_each_time(callers: Callers, gate: Gate, user: str, options: dict[str, Any]) -> None:
    context = {"user_id": user} if options else {}

    calls = [callers.call(**context, **options) for _ in range(2)]

    for body in gate.arrivals(2):
        body.let_go()
    assert [call.result() for call in calls] == ["rye flour"] * 2


@pytest.mark.parametrize("name", ["sell", "taste"])
def test_what_must_not_be_shared_runs_each_time(
    callers: Callers, ledger: Ledger, gate: Gate, user: str, name: str
) -> None:
    callers.spec = f"mill.{name}"

    calls = [callers.call(user_id=user) for _ in range(2)]

    for body in gate.arrivals(2):
        body.let_go()
    for call in calls:
        call.result()
    assert len(ledger) == 2


def test_refresh_waits_for_nobody_and_may_be_waited_for(
    callers: Callers, ledger: Ledger, gate: Gate, user: str
) -> None:
    first = callers.call(user_id=user)
    bodies = [gate.arrival()]
    refresh = callers.call(user_id=user, cache="refresh")
    bodies.append(gate.arrival())
    for body in bodies:
        body.let_go()
    assert [first.result(), refresh.result()] == ["rye flour"] * 2

    callers.rt.cache.invalidate(user_id=user)
    refresh = callers.call(user_id=user, cache="refresh")
    body = gate.arrival()
    second = callers.call(user_id=user)
    until_joining(callers.rt, 1)
    body.let_go()

    assert [second.result(), refresh.result()] == ["rye flour"] * 2
    assert len(ledger) == 3


def test_only_waits_for_nothing(callers: Callers, gate: Gate, user: str) -> None:
    first = callers.call(user_id=user)
    body = gate.arrival()

    with pytest.raises(AiecsError, match="not in the cache"):
        callers.rt.call("mill.grind", callers.params, user_id=user, cache="only")

    body.let_go()
    assert first.result() == "rye flour"


def test_cancelling_the_first_changes_nothing_for_the_others(
    callers: Callers, ledger: Ledger, gate: Gate, user: str
) -> None:
    first = callers.rt.submit([op("mill.grind", **callers.params)], user_id=user)
    gate.arrival()
    others = [callers.call(user_id=user) for _ in range(4)]
    until_joining(callers.rt, 4)

    first.cancel()

    gate.arrival().let_go()
    assert [other.result() for other in others] == ["rye flour"] * 4
    assert len(ledger) == 2


def test_cancelling_one_that_waits_changes_nothing_for_the_others(
    callers: Callers, ledger: Ledger, gate: Gate, user: str
) -> None:
    first = callers.call(user_id=user)
    body = gate.arrival()
    other = callers.rt.submit([op("mill.grind", **callers.params)], user_id=user)
    third = callers.call(user_id=user)
    until_joining(callers.rt, 2)

    other.cancel()
    until_joining(callers.rt, 1)
    body.let_go()

    assert other.status() == "cancelled"
    assert [first.result(), third.result()] == ["rye flour"] * 2
    assert len(ledger) == 1


def test_the_deadline_of_one_that_waits_ends_only_its_own_wait(
    callers: Callers, ledger: Ledger, gate: Gate, user: str
) -> None:
    first = callers.call(user_id=user)
    body = gate.arrival()

    with pytest.raises(OperationTimeoutError):
        callers.rt.call("mill.grind", callers.params, user_id=user, deadline=0.2)
    body.let_go()

    assert first.result() == "rye flour"
    assert len(ledger) == 1


def test_a_failure_is_the_callers_own_and_the_next_one_tries(callers: Callers, gate: Gate, user: str) -> None:
    callers.spec = "mill.fail"
    callers.params["times"] = 1
    first = callers.call(user_id=user)
    body = gate.arrival()
    others = [callers.call(user_id=user) for _ in range(3)]
    until_joining(callers.rt, 3)

    body.let_go()
    gate.arrival().let_go()

    with pytest.raises(AiecsError, match="failure 1"):
        first.result()
    assert [other.result() for other in others] == [2, 2, 2]


def test_the_next_one_has_its_own_retries(callers: Callers, gate: Gate, user: str) -> None:
    callers.spec = "mill.fail"
    callers.params["times"] = 2
    first = callers.call(user_id=user)
    body = gate.arrival()
    second = callers.call(user_id=user, retry={"attempts": 2, "wait_min": 0, "wait_max": 0, "on": ["ValueError"]})
    until_joining(callers.rt, 1)

    body.let_go()
    gate.arrival().let_go()
    gate.arrival().let_go()

    with pytest.raises(AiecsError, match="failure 1"):
        first.result()
    assert second.result() == 3


def test_who_waits_goes_on_while_the_first_one_is_tried_again(
    callers: Callers, ledger: Ledger, gate: Gate, user: str
) -> None:
    callers.spec = "mill.fail"
    callers.params["times"] = 1
    first = callers.call(user_id=user, retry={"attempts": 2, "wait_min": 0, "wait_max": 0, "on": ["ValueError"]})
    body = gate.arrival()
    second = callers.call(user_id=user)
    until_joining(callers.rt, 1)

    body.let_go()
    gate.arrival().let_go()

    assert [first.result(), second.result()] == [2, 2]
    assert len(ledger) == 2


def test_a_later_step_of_a_segment_can_be_waited_for(mill: Runtime, ledger: Ledger, gate: Gate, user: str) -> None:
    operations = [
        op("mill.quick", ledger=ledger.path, what=1),
        op("mill.grind", ledger=ledger.path, gate=gate.port),
        op("mill.quick", ledger=ledger.path, what=2),
    ]
    run = mill.submit(operations, user_id=user)
    body = gate.arrival()

    others = mill.submit(operations[1:], user_id=user)
    until_joining(mill, 1)
    body.let_go()

    assert [result.result for result in run.result()] == [1, "rye flour", 2]
    assert [result.result for result in others.result()] == ["rye flour", 2]
    assert len(ledger) == 3


def test_a_result_that_was_shared_is_an_input_like_any_other(
    mill: Runtime, ledger: Ledger, gate: Gate, user: str
) -> None:
    operations = [
        op("mill.sack", ledger=ledger.path, gate=gate.port),
        op("mill.quick", ledger=ledger.path, what="$result[0]"),
    ]
    runs = [mill.submit(operations, user_id=user) for _ in range(2)]
    body = gate.arrival()
    until_joining(mill, 1)
    body.let_go()

    results = [run.result() for run in runs]

    assert [one[1].result for one in results] == [b"x" * 200_000] * 2
    assert len(ledger) == 2


def test_nobody_waits_for_what_stands_before_an_identical_step(
    mill: Runtime, ledger: Ledger, gate: Gate, user: str
) -> None:
    operations = [op("mill.grind", ledger=ledger.path, gate=gate.port), op("mill.quick", ledger=ledger.path, what=2)]
    run = mill.submit(operations, user_id=user)
    body = gate.arrival()

    assert mill.call("mill.quick", operations[1]["params"], user_id=user) == 2

    body.let_go()
    assert [result.result for result in run.result()] == ["rye flour", 2]


def test_another_user_need_not_wait_behind_what_stands_before_the_first_one(
    rt: Runtime, ledger: Ledger, gate: Gate, user: str
) -> None:
    rt.register(Mill, max_replicas=1)
    context = {"ledger": ledger.path, "gate": gate.port}
    # No two of a kind one after the other, which would be sent together.
    rye, corn = (op("mill.grind", grain=grain, **context) for grain in ("rye", "corn"))
    before = [rye, op("mill.sack", **context), corn]
    long = rt.submit([*before, op("mill.share", **context)], "parallel", user_id=user)
    body = gate.arrival()
    quick = rt.submit([op("mill.share", **context)], user_id=f"{user}2")
    until_joining(rt, 1)

    came = [body.text]
    for _ in range(3):
        body.let_go()
        body = gate.arrival()
        came.append(body.text)
    body.let_go()

    # Users take turns, so the second one's comes before the last of the first one's.
    assert came == ["rye", "sack", "share", "corn"]
    assert [result.status for result in (*long.result(), *quick.result())] == ["completed"] * 5
    assert len(ledger) == 4


def test_who_waits_holds_no_place_in_a_batch(
    mill: Runtime, threads: ThreadPoolExecutor, ledger: Ledger, gate: Gate, user: str
) -> None:
    executor = OperationExecutor(config={"rate_limit_requests_per_second": None, "batch_size": 2}, runtime=mill)
    context = {"ledger": ledger.path, "gate": gate.port, "user_id": user, "task_id": "t"}
    operations = [op("mill.grind", grain=grain, **context) for grain in ("rye", "rye", "oat")]

    values = threads.submit(asyncio.run, executor.batch_execute_operations(operations))

    for body in gate.arrivals(2):
        body.let_go()
    assert values.result() == ["rye flour", "rye flour", "oat flour"]
    assert len(ledger) == 2
