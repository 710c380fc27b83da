"""Circuit breakers: an operation that keeps failing is left alone, for all callers, until it works again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import Registry, Runtime, connect, operation
from aiecs_ray.errors import (
    BusyError,
    CircuitOpenError,
    InvalidInputError,
    InvalidToolError,
    OperationFailedError,
    OperationNotFoundError,
    RetryExhaustedError,
)
from tests.contract.probes import Gate, Ledger, Stopwatch, note, op, visit

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs_ray.run import Run

pytestmark = pytest.mark.timeout(60)

LONG = {"minimum_calls": 3, "open_seconds": 60.0}
SHORT = {"minimum_calls": 3, "open_seconds": 0.3}
ONCE = {"attempts": 1}


def work(ledger: str, fail: str) -> int:
    number = note(ledger)
    if Path(fail).exists():
        kind = Path(fail).read_text(encoding="utf-8")
        raise {"connection": ConnectionError, "value": ValueError}[kind](f"failed {number} times")
    return number


class Service:
    @operation(breaker=LONG)
    def long(self, ledger: str, fail: str) -> int:
        return work(ledger, fail)

    @operation(breaker=SHORT)
    def short(self, ledger: str, fail: str) -> int:
        return work(ledger, fail)

    @operation(breaker={**LONG, "on": [ValueError]})
    def strict(self, ledger: str, fail: str) -> int:
        return work(ledger, fail)

    @operation(breaker=LONG, cache=True)
    def cached(self, ledger: str, fail: str, n: int = 0) -> int:
        return work(ledger, fail) + n

    @operation(breaker=LONG)
    def slow(self, gate: int) -> str:
        return visit(gate)

    @operation()
    def bare(self, ledger: str, fail: str) -> int:
        return work(ledger, fail)


class Failure:
    """Whether the service fails, as a file says."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, kind: str = "connection") -> None:
        self.path.write_text(kind, encoding="utf-8")

    def end(self) -> None:
        self.path.unlink()


@pytest.fixture
def failure(tmp_path: Path) -> Failure:
    failure = Failure(tmp_path / "fail")
    failure.begin()
    return failure


@pytest.fixture
def service(rt: Runtime) -> Runtime:
    """Return a runtime whose breakers are closed: those on Ray are shared by all tests."""
    rt.register(Service)
    for spec in rt.breakers():
        rt.reset_breaker(spec)
    return rt


def request(name: str, ledger: Ledger, failure: Failure, **options: Any) -> dict[str, Any]:
    return {**op(f"service.{name}", ledger=ledger.path, fail=str(failure.path)), "retry": ONCE, **options}


def kinds(run: Run) -> list[str]:
    return [event.kind for event in run.events() if event.kind.startswith("breaker")]


def fail_three_times(rt: Runtime, name: str, ledger: Ledger, failure: Failure) -> None:
    results = rt.run([request(name, ledger, failure)] * 3)
    assert not any(result.completed for result in results)


def test_after_so_many_failures_calls_are_rejected_at_once(service: Runtime, ledger: Ledger, failure: Failure) -> None:
    fail_three_times(service, "long", ledger, failure)
    watch = Stopwatch()

    with pytest.raises(CircuitOpenError, match=r"service\.long is open: 3 of 3 calls failed within 60 s") as caught:
        service.call("service.long", {"ledger": ledger.path, "fail": str(failure.path)})

    assert (len(ledger), caught.value.error_code) == (3, "E003")
    assert 50 < caught.value.retry_after <= 60
    assert isinstance(caught.value, BusyError)
    assert watch.seconds < 1.0


def test_one_callers_failures_protect_the_other(
    connect: Callable[[], Runtime], ledger: Ledger, failure: Failure, backend: str
) -> None:
    one = connect()
    other = connect() if backend == "ray" else one
    for rt in (one, other):
        rt.register(Service)
    one.reset_breaker("service.long")
    fail_three_times(one, "long", ledger, failure)

    result = other.run([request("long", ledger, failure)])[0]

    assert (result.error_code, len(ledger)) == ("E003", 3)
    assert "is open" in (result.error_message or "")


def test_other_operations_go_on(service: Runtime, ledger: Ledger, failure: Failure) -> None:
    fail_three_times(service, "long", ledger, failure)
    failure.end()

    assert service.call("service.bare", {"ledger": ledger.path, "fail": str(failure.path)}) == 4


def test_what_waited_when_the_circuit_opened_is_rejected_without_running(
    service: Runtime, ledger: Ledger, failure: Failure
) -> None:
    service.register(Service, replace=True, max_replicas=1)

    run = service.submit([request("long", ledger, failure)] * 2000, "parallel")
    results = run.result()

    assert all(result.error_code == "E003" for result in results)
    assert sum("is open" in (result.error_message or "") for result in results) == 2000 - len(ledger)
    assert len(ledger) < 1000
    assert kinds(run) == ["breaker_opened"]


def test_after_the_open_time_a_probe_that_goes_well_closes_it(
    service: Runtime, ledger: Ledger, failure: Failure
) -> None:
    fail_three_times(service, "short", ledger, failure)
    failure.end()
    retry = {"attempts": 5, "wait_min": 0, "wait_max": 2, "multiplier": 0, "on": [CircuitOpenError]}

    run = service.submit([request("short", ledger, failure, retry=retry)])
    result = run.result()[0]

    assert (result.result, len(ledger)) == (4, 4)
    assert kinds(run) == ["breaker_half_open", "breaker_closed"]
    assert service.breakers()["service.short"]["state"] == "closed"


def test_a_probe_that_fails_opens_it_again(service: Runtime, ledger: Ledger, failure: Failure) -> None:
    fail_three_times(service, "short", ledger, failure)
    retry = {"attempts": 2, "wait_min": 0, "wait_max": 2, "multiplier": 0, "on": [CircuitOpenError]}

    run = service.submit([request("short", ledger, failure, retry=retry)])
    result = run.result()[0]

    assert (result.error_code, len(ledger)) == ("E005", 4)
    assert kinds(run) == ["breaker_half_open", "breaker_opened"]
    assert service.breakers()["service.short"]["opened"] >= 2


def test_a_rejection_is_not_tried_again_unless_asked_for_and_short_enough(
    service: Runtime, ledger: Ledger, failure: Failure
) -> None:
    fail_three_times(service, "long", ledger, failure)
    asked = {"attempts": 5, "on": [CircuitOpenError], "wait_max": 5}
    watch = Stopwatch()

    results = service.run([request("long", ledger, failure, retry=retry) for retry in (5, asked)], "parallel")

    assert {result.error_code for result in results} == {"E003"}
    assert watch.seconds < 3
    assert len(ledger) == 3


def test_waiting_for_it_to_close_ends_with_the_attempts(service: Runtime, ledger: Ledger, failure: Failure) -> None:
    fail_three_times(service, "short", ledger, failure)
    retry = {"attempts": 3, "wait_min": 0, "wait_max": 2, "multiplier": 0, "on": [CircuitOpenError]}

    with pytest.raises(RetryExhaustedError):
        service.call("service.short", {"ledger": ledger.path, "fail": str(failure.path)}, retry=retry)


def test_errors_of_the_input_open_nothing(service: Runtime, ledger: Ledger, failure: Failure) -> None:
    failure.begin("value")
    fail_three_times(service, "long", ledger, failure)
    wrong = {"operation": "service.long", "params": {"ledger": ledger.path, "fail": "$result[0].nothing"}}

    results = service.run([request("bare", ledger, failure), *[wrong] * 5], "parallel")
    failure.end()

    assert {result.error_code for result in results} <= {"E001", "E003", "E007"}
    assert service.breakers()["service.long"]["state"] == "closed"
    assert service.breakers()["service.long"]["failures"] == 0


def test_errors_can_be_named_that_count(service: Runtime, ledger: Ledger, failure: Failure) -> None:
    failure.begin("value")

    fail_three_times(service, "strict", ledger, failure)

    assert service.breakers()["service.strict"]["state"] == "open"


def test_time_outs_open_it(service: Runtime, gate: Gate) -> None:
    slow = {**op("service.slow", gate=gate.port), "timeout": 0.2, "retry": ONCE}

    results = service.run([slow] * 4, "sequence")

    assert [result.error_code for result in results] == ["E002"] * 3 + ["E003"]


def test_a_cancelled_call_says_nothing(service: Runtime, gate: Gate) -> None:
    runs = [service.submit([op("service.slow", gate=gate.port)]) for _ in range(4)]
    gate.arrival()

    for run in runs:
        run.cancel()

    seen = service.breakers()["service.slow"]
    assert (seen["state"], seen["calls"]) == ("closed", 0)


def test_an_answer_from_the_cache_needs_no_open_circuit(service: Runtime, ledger: Ledger, failure: Failure) -> None:
    failure.end()
    known = {"ledger": ledger.path, "fail": str(failure.path)}
    value = service.call("service.cached", known)
    failure.begin()
    broken = [{**request("cached", ledger, failure), "params": {**known, "n": n}} for n in (1, 2, 3)]
    service.run(broken * 2)

    again = service.call("service.cached", known)

    assert service.breakers()["service.cached"]["state"] == "open"
    assert again == value


def test_it_can_be_closed_by_hand(service: Runtime, ledger: Ledger, failure: Failure) -> None:
    fail_three_times(service, "long", ledger, failure)
    failure.end()

    service.reset_breaker("service.long")

    assert service.call("service.long", {"ledger": ledger.path, "fail": str(failure.path)}) == 4
    assert service.breakers()["service.long"]["state"] == "closed"


def test_only_what_has_a_breaker_can_be_reset(service: Runtime) -> None:
    with pytest.raises(OperationNotFoundError, match="long"):
        service.reset_breaker("service.lng")
    with pytest.raises(InvalidInputError, match="has no circuit breaker"):
        service.reset_breaker("service.bare")


def test_the_state_of_every_breaker_can_be_asked_for(service: Runtime, ledger: Ledger, failure: Failure) -> None:
    fail_three_times(service, "long", ledger, failure)
    service.run([request("long", ledger, failure)] * 2)

    seen = service.breakers()

    assert set(seen) >= {"service.long", "service.short", "service.strict", "service.cached", "service.slow"}
    assert "service.bare" not in seen
    assert (seen["service.long"]["state"], seen["service.long"]["calls"], seen["service.long"]["failures"]) == (
        "open",
        3,
        3,
    )
    assert service.stats()["breakers"]["service.long"]["opened"] >= 1


def test_steps_that_need_a_rejected_one_are_skipped(service: Runtime, ledger: Ledger, failure: Failure) -> None:
    fail_three_times(service, "long", ledger, failure)
    following = {"operation": "service.bare", "params": {"ledger": "$result[0]", "fail": ""}}

    results = service.run([request("long", ledger, failure), following], "parallel")

    assert [result.error_code for result in results] == ["E003", "E007"]


def test_a_long_sequence_is_rejected_to_its_end(service: Runtime, ledger: Ledger, failure: Failure) -> None:
    fail_three_times(service, "long", ledger, failure)

    results = service.run([request("long", ledger, failure)] * 2000)

    assert {result.error_code for result in results} == {"E003"}
    assert len(ledger) == 3


def test_a_tool_gives_each_operation_a_breaker_of_its_own(ledger: Ledger, failure: Failure) -> None:
    class Plain:
        def one(self, ledger: str, fail: str) -> int:
            return work(ledger, fail)

        def two(self, ledger: str, fail: str) -> int:
            return work(ledger, fail)

    with connect("inprocess", registry=Registry()) as rt:
        rt.register(Plain, breaker=LONG)
        params = {"ledger": ledger.path, "fail": str(failure.path)}
        rt.run([{"operation": "plain.one", "params": params, "retry": ONCE}] * 4)

        assert {spec: seen["state"] for spec, seen in rt.breakers().items()} == {
            "plain.one": "open",
            "plain.two": "closed",
        }
        with pytest.raises(OperationFailedError):
            rt.call("plain.two", params, retry=ONCE)


@pytest.mark.parametrize("wrong", [3, {"window": 0}, {"windw": 5}], ids=repr)
def test_a_breaker_is_checked_at_once(wrong: Any) -> None:
    with pytest.raises(InvalidToolError, match="breaker"):
        operation(breaker=wrong)(work)


@pytest.mark.ray
def test_a_replica_that_dies_counts(ray_rt: Runtime) -> None:
    class Mortal:
        @operation(breaker=LONG)
        def die(self) -> None:
            import os  # noqa: PLC0415  # the class travels by value

            os._exit(1)

    ray_rt.register(Mortal)
    results = ray_rt.run([{"operation": "mortal.die", "retry": ONCE}] * 4)

    assert [result.error_code for result in results][-1] == "E003"
    assert "is open" in (results[-1].error_message or "")
    assert ray_rt.breakers()["mortal.die"]["state"] == "open"
