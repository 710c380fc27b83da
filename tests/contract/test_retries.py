"""What is tried again, how often the body runs, and what it sees; a ledger that the tool writes is the judge."""

from __future__ import annotations

from typing import Any

import pytest

from aiecs_ray import Runtime, operation
from aiecs_ray.errors import InvalidInputError, OperationFailedError, OperationTimeoutError, RetryExhaustedError
from tests.contract.probes import Gate, Ledger, note, op, visit

pytestmark = pytest.mark.timeout(40)
AT_ONCE = {"attempts": 3, "wait_min": 0, "wait_max": 0}


class QuotaError(Exception):
    pass


class Flaky:
    def connect(self, ledger: str, good: int, text: str = "") -> str:
        if (attempt := note(ledger, text)) < good:
            raise ConnectionError(f"attempt {attempt}")
        return f"attempt {attempt}"

    def compute(self, ledger: str) -> None:
        note(ledger)
        raise ValueError("wrong for ever")

    def ask(self, ledger: str) -> str:
        if note(ledger) < 2:
            raise QuotaError("come back later")
        return "answered"

    @operation(idempotent=False)
    def pay(self, ledger: str) -> None:
        note(ledger)
        raise ConnectionError("paid or not?")

    @operation(retry={"attempts": 2, "wait_min": 0, "wait_max": 0})
    def connect_twice(self, ledger: str) -> None:
        note(ledger)
        raise ConnectionError("again")

    @operation
    def spoil(self, ledger: str, rows: list[int]) -> list[int]:
        rows.append(len(rows))
        if note(ledger) < 3:
            raise ConnectionError
        return rows

    @operation
    def hang_once(self, ledger: str, gate: int) -> str:
        if note(ledger) < 2:
            visit(gate)
        return "second attempt"

    @operation
    def give(self, value: Any) -> Any:
        return value


# Only decorated methods are operations as soon as one of them is decorated.
for _method in (Flaky.connect, Flaky.compute, Flaky.ask):
    operation(_method)


@pytest.fixture
def flaky(rt: Runtime) -> Runtime:
    rt.register(Flaky)
    return rt


def test_what_may_pass_is_tried_again(flaky: Runtime, ledger: Ledger) -> None:
    value = flaky.call("flaky.connect", {"ledger": ledger.path, "good": 3}, retry=AT_ONCE)

    assert value == "attempt 3"
    assert len(ledger) == 3


def test_the_last_error_is_reported_when_no_attempt_is_left(flaky: Runtime, ledger: Ledger) -> None:
    with pytest.raises(RetryExhaustedError, match="attempt 3") as caught:
        flaky.call("flaky.connect", {"ledger": ledger.path, "good": 9}, retry=AT_ONCE)

    assert caught.value.error_code == "E005"
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert len(ledger) == 3


def test_what_cannot_pass_is_not_tried_again(flaky: Runtime, ledger: Ledger) -> None:
    with pytest.raises(OperationFailedError) as caught:
        flaky.call("flaky.compute", {"ledger": ledger.path}, retry=AT_ONCE)

    assert caught.value.error_code == "E003"
    assert len(ledger) == 1


@pytest.mark.parametrize("kind", ["QuotaError", QuotaError], ids=["name", "class"])
def test_a_caller_may_name_what_passes(flaky: Runtime, ledger: Ledger, kind: Any) -> None:
    value = flaky.call("flaky.ask", {"ledger": ledger.path}, retry={**AT_ONCE, "on": [kind]})

    assert value == "answered"
    assert len(ledger) == 2


def test_one_attempt_means_one(flaky: Runtime, ledger: Ledger) -> None:
    with pytest.raises(OperationFailedError) as caught:
        flaky.call("flaky.connect", {"ledger": ledger.path, "good": 2}, retry=1)

    assert caught.value.error_code == "E003"
    assert len(ledger) == 1


def test_what_is_not_idempotent_runs_once(flaky: Runtime, ledger: Ledger) -> None:
    with pytest.raises(OperationFailedError, match="paid or not") as caught:
        flaky.call("flaky.pay", {"ledger": ledger.path})

    assert caught.value.error_code == "E003"
    assert len(ledger) == 1


def test_an_operation_declares_its_own_retries(flaky: Runtime, ledger: Ledger) -> None:
    with pytest.raises(RetryExhaustedError):
        flaky.call("flaky.connect_twice", {"ledger": ledger.path})

    assert len(ledger) == 2


def test_each_attempt_sees_unspoilt_inputs(flaky: Runtime, ledger: Ledger) -> None:
    operations = [
        op("flaky.give", value=[10]),
        {**op("flaky.spoil", ledger=ledger.path, rows="$result[0]"), "retry": AT_ONCE},
        {**op("flaky.spoil", ledger=ledger.path, rows=[20, 21]), "retry": AT_ONCE},
    ]

    results = flaky.run(operations)

    assert [result.result for result in results] == [[10], [10, 1], [20, 21, 2]]
    assert len(ledger) == 4


def test_what_follows_waits_for_the_attempt_that_succeeds(flaky: Runtime, ledger: Ledger) -> None:
    operations = [
        {**op("flaky.connect", ledger=ledger.path, good=3), "retry": AT_ONCE},
        op("flaky.give", value="after $result"),
        op("flaky.give", value="$result[0]"),
    ]

    results = flaky.run(operations)

    assert [result.result for result in results] == ["attempt 3", "after $result", "attempt 3"]


@pytest.mark.parametrize("mode", ["parallel", "batch"])
def test_retries_of_one_operation_repeat_no_other(flaky: Runtime, ledger: Ledger, tmp_path: Any, mode: Any) -> None:
    others = Ledger(tmp_path / "others")
    operations = [op("flaky.connect", ledger=others.path, good=0, text=str(n)) for n in range(30)]
    operations[4] = {**op("flaky.connect", ledger=ledger.path, good=3), "retry": AT_ONCE}

    results = flaky.run(operations, mode)

    assert all(result.completed for result in results)
    assert len(ledger) == 3
    assert sorted(others.lines(), key=int) == [str(n) for n in range(30) if n != 4]


def test_an_attempt_that_hangs_is_tried_again_when_asked(flaky: Runtime, ledger: Ledger, gate: Gate) -> None:
    params = {"ledger": ledger.path, "gate": gate.port}

    value = flaky.call("flaky.hang_once", params, timeout=0.3, retry=AT_ONCE)

    assert value == "second attempt"
    assert len(ledger) == 2


def test_an_attempt_that_hangs_is_not_tried_again_otherwise(flaky: Runtime, ledger: Ledger, gate: Gate) -> None:
    with pytest.raises(OperationTimeoutError):
        flaky.call("flaky.hang_once", {"ledger": ledger.path, "gate": gate.port}, timeout=0.3)

    assert len(ledger) == 1


def test_a_run_shows_its_retries(flaky: Runtime, ledger: Ledger) -> None:
    run = flaky.submit([{**op("flaky.connect", ledger=ledger.path, good=3), "retry": AT_ONCE}])

    events = [event for event in run.events() if event.kind in ("step_retrying", "step_completed")]

    assert [event.kind for event in events] == ["step_retrying", "step_retrying", "step_completed"]
    assert [event.data.get("attempt") for event in events[:2]] == [1, 2]
    assert events[2].data["attempts"] == 3


@pytest.mark.parametrize("retry", [0, -1, 1.5, 1000, "often", {"tries": 3}, {"attempts": "3"}, {"on": [int]}], ids=repr)
def test_a_wrong_retry_is_refused(flaky: Runtime, ledger: Ledger, retry: Any) -> None:
    with pytest.raises(InvalidInputError, match="retry"):
        flaky.call("flaky.connect", {"ledger": ledger.path, "good": 1}, retry=retry)

    assert len(ledger) == 0
