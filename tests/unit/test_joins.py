"""Identical operations under way: who runs, who waits, and who goes on when the one that runs does not complete."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiecs_ray.actors.joins import FAILURES, Joins, Turn
from aiecs_ray.backend import CacheEntry

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRY = CacheEntry("key", b"value", 5, b"generation")


class Soon:
    """What is to be called once the present event has been dealt with."""

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()

    def __call__(self, function: Callable[..., Any], *args: Any) -> None:
        self._calls.append((function, args))

    def run(self) -> None:
        while self._calls:
            function, args = self._calls.popleft()
            function(*args)


class Steps:
    """The steps of one run."""

    def __init__(self) -> None:
        self.answered: list[int] = []
        self.taken_over: list[int] = []

    def joined(self, step: int, entry: CacheEntry) -> None:
        assert entry is ENTRY
        self.answered.append(step)

    def take_over(self, step: int) -> None:
        self.taken_over.append(step)

    def hurry(self, step: int) -> None:
        raise AssertionError(step)


@pytest.fixture
def soon() -> Soon:
    return Soon()


@pytest.fixture
def joins(soon: Soon) -> Joins:
    return Joins(soon)


def limited(seconds: float | None) -> Turn:
    return Turn(math.inf if seconds is None else seconds)


def test_nobody_new_waits_for_a_leader_that_was_parted_from(joins: Joins, soon: Soon) -> None:
    run, later = Steps(), Steps()
    joins.enter("key", run, 0)
    joins.enter("key", run, 1)

    joins.part(run, 0)
    leads = joins.enter("key", later, 0)
    again = joins.enter("key", run, 0)
    waits = joins.enter("key", later, 1)

    assert (leads, again, waits) == (True, True, False)
    assert joins.completed(run, 0) == [(run, 1)]
    assert joins.completed(later, 0) == [(later, 1)]
    soon.run()
    assert joins.waiting == 0


def test_whoever_waits_for_a_parted_leader_goes_on_when_it_fails(joins: Joins, soon: Soon) -> None:
    run = Steps()
    joins.enter("key", run, 0)
    joins.enter("key", run, 1)
    joins.enter("key", run, 2)

    joins.part(run, 1)
    joins.part(run, 0)
    joins.left(run, 0, failed=True)
    soon.run()

    assert run.taken_over == [1]
    assert joins.enter("key", run, 1)
    assert joins.completed(run, 1) == [(run, 2)]


def test_a_leader_whose_key_has_changed_answers_those_who_wait_for_it(joins: Joins, soon: Soon) -> None:
    run = Steps()
    joins.enter("one", run, 0)
    joins.enter("one", run, 1)
    joins.enter("one", run, 2)
    joins.left(run, 0, failed=True)
    soon.run()

    leads = joins.enter("two", run, 1)

    assert leads
    assert joins.completed(run, 1) == [(run, 2)]
    assert joins.waiting == 0


def test_the_first_one_runs_and_the_others_wait(joins: Joins) -> None:
    run = Steps()

    entered = [joins.enter("key", run, step) for step in range(3)]

    assert entered == [True, False, False]
    assert joins.completed(run, 0) == [(run, 1), (run, 2)]
    assert joins.waiting == 0


def test_other_keys_do_not_wait(joins: Joins) -> None:
    run = Steps()

    assert [joins.enter(key, run, step) for step, key in enumerate("abc")] == [True] * 3


def test_after_the_result_the_next_one_runs_again(joins: Joins) -> None:
    run = Steps()
    joins.enter("key", run, 0)
    joins.completed(run, 0)

    assert joins.enter("key", run, 1)


def test_the_one_that_runs_may_ask_again(joins: Joins) -> None:
    run = Steps()

    assert [joins.enter("key", run, 0) for _ in range(2)] == [True, True]


def test_one_that_waits_and_leaves_changes_nothing_for_the_others(joins: Joins, soon: Soon) -> None:
    run = Steps()
    for step in range(3):
        joins.enter("key", run, step)

    joins.left(run, 1)
    soon.run()

    assert run.taken_over == []
    assert joins.completed(run, 0) == [(run, 2)]


def test_the_next_one_leads_when_the_first_one_is_cancelled(joins: Joins, soon: Soon) -> None:
    first, others = Steps(), Steps()
    for run, step in ((first, 0), (others, 1), (others, 2)):
        joins.enter("key", run, step)

    joins.left(first, 0)
    soon.run()

    assert others.taken_over == [1]
    assert joins.enter("key", others, 1)
    assert joins.completed(others, 1) == [(others, 2)]


def test_steps_that_end_together_hand_over_to_none_of_themselves(joins: Joins, soon: Soon) -> None:
    run = Steps()
    for step in range(3):
        joins.enter("key", run, step)

    for step in range(3):
        joins.left(run, step)
    soon.run()

    assert run.taken_over == []
    assert joins.enter("key", run, 3)


def test_nobody_takes_over_what_somebody_else_leads_already(joins: Joins, soon: Soon) -> None:
    run, late = Steps(), Steps()
    joins.enter("key", run, 0)
    joins.enter("key", run, 1)

    joins.left(run, 0)
    joins.enter("key", late, 7)
    soon.run()

    assert run.taken_over == []
    assert joins.completed(late, 7) == [(run, 1)]


def test_after_two_failures_the_others_run_side_by_side(joins: Joins, soon: Soon) -> None:
    run = Steps()
    for step in range(5):
        joins.enter("key", run, step)

    for step in range(FAILURES):
        joins.left(run, step, failed=True)
        soon.run()

    assert run.taken_over == [1, 2, 3, 4]
    assert [joins.enter("key", run, step) for step in (2, 3, 4)] == [True] * 3
    assert joins.waiting == 0


def test_what_is_cancelled_is_no_failure(joins: Joins, soon: Soon) -> None:
    run = Steps()
    for step in range(5):
        joins.enter("key", run, step)

    for step in range(3):
        joins.left(run, step)
        soon.run()

    assert run.taken_over == [1, 2, 3]
    assert joins.waiting == 1


def test_who_must_run_anyway_does_so_beside_the_other(joins: Joins) -> None:
    run = Steps()
    joins.enter("key", run, 0)

    assert joins.enter("key", run, 1, wait=False)
    assert joins.completed(run, 1) == []
    assert not joins.enter("key", run, 2)


def test_who_must_run_anyway_may_be_waited_for(joins: Joins) -> None:
    run = Steps()
    joins.enter("key", run, 0, wait=False)

    assert not joins.enter("key", run, 1)


@pytest.mark.parametrize(
    ("leader", "own", "waits"),
    [(None, None, True), (5.0, None, True), (5.0, 5.0, True), (None, 5.0, False), (9.0, 5.0, False)],
)
def test_nobody_waits_for_attempts_that_may_take_longer_than_its_own(
    joins: Joins, leader: float | None, own: float | None, *, waits: bool
) -> None:
    run = Steps()
    joins.enter("key", run, 0, turn=limited(leader))

    assert joins.enter("key", run, 1, turn=limited(own)) is not waits


def test_the_strictest_one_leads_on(joins: Joins, soon: Soon) -> None:
    run = Steps()
    for step, timeout in enumerate((1.0, None, 2.0)):
        joins.enter("key", run, step, turn=limited(timeout))

    joins.left(run, 0)
    soon.run()

    assert run.taken_over == [2]
    assert not joins.enter("key", run, 3, turn=limited(2.0))


def test_whether_somebody_else_leads_can_be_asked(joins: Joins, soon: Soon) -> None:
    run = Steps()
    joins.enter("key", run, 0)

    assert joins.is_led_by_other("key", run, 1)
    assert not joins.is_led_by_other("key", run, 0)
    joins.left(run, 0)
    soon.run()
    assert not joins.is_led_by_other("key", run, 1)


@pytest.mark.parametrize(
    ("turn", "overtakes"),
    [(Turn(), False), (Turn(owner="bob"), True), (Turn(priority=1), True), (Turn(priority=-1), False)],
)
def test_who_may_come_before_the_leader_queues_too(joins: Joins, turn: Turn, *, overtakes: bool) -> None:
    run = Steps()
    joins.enter("key", run, 0)
    joins.enter("key", run, 1, turn=turn)

    in_look_up = joins.may_overtake(run, 1)
    told = joins.queued(run, 0)
    joins.enter("key", run, 2, turn=turn)

    assert in_look_up is False
    assert told == ([(run, 1)] if overtakes else [])
    assert joins.may_overtake(run, 2) is overtakes
    joins.claim(run, 0)
    assert joins.may_overtake(run, 2) is False


def test_whoever_gets_a_replica_first_runs_and_the_others_wait_for_it(joins: Joins) -> None:
    run = Steps()
    for step in range(3):
        joins.enter("key", run, step)

    claims = [joins.claim(run, step) for step in (1, 0, 2)]

    assert claims == [True, False, False]
    assert sorted(step for _, step in joins.completed(run, 1)) == [0, 2]


def test_a_laxer_one_does_not_go_before_the_leader(joins: Joins) -> None:
    run = Steps()
    joins.enter("key", run, 0, turn=limited(1.0))
    joins.enter("key", run, 1, turn=limited(None))

    assert [joins.claim(run, step) for step in (1, 0)] == [False, True]


class Crowd(RuleBasedStateMachine):
    """Steps of several runs that come, wait, run, fail, are cancelled and complete, in any order."""

    keys = st.sampled_from("ab")

    def __init__(self) -> None:
        super().__init__()
        self.soon = Soon()
        self.joins = Joins(self.soon)
        self.open: dict[int, str] = {}
        self.waits: set[int] = set()
        self.count = 0

    def joined(self, step: int, entry: CacheEntry) -> None:
        raise AssertionError(step, entry)

    def hurry(self, step: int) -> None:
        raise AssertionError(step)

    def take_over(self, step: int) -> None:
        assert step in self.waits
        self.waits.discard(step)
        if not self.joins.enter(self.open[step], self, step):
            self.waits.add(step)

    def running(self) -> list[int]:
        return sorted(set(self.open) - self.waits)

    @rule(
        key=keys, wait=st.booleans(), limit=st.sampled_from([math.inf, 1.0, 2.0]), owner=st.sampled_from(["ann", "bob"])
    )
    def come(self, key: str, wait: bool, limit: float, owner: str) -> None:  # noqa: FBT001  # drawn by Hypothesis
        self.count += 1
        self.open[self.count] = key
        if not self.joins.enter(key, self, self.count, turn=Turn(limit, owner), wait=wait):
            self.waits.add(self.count)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        step = data.draw(st.sampled_from(sorted(self.open)))
        self.joins.queued(self, step)
        may_begin = self.joins.claim(self, step)
        self.waits = {step for group in self.joins._groups.values() for _, step in group.waiting}
        assert may_begin is not (step in self.waits)

    @precondition(lambda self: self.running())
    @rule(data=st.data(), failed=st.booleans())
    def end(self, data: st.DataObject, failed: bool) -> None:  # noqa: FBT001
        step = data.draw(st.sampled_from(self.running()))
        del self.open[step]
        self.joins.left(self, step, failed=failed)

    @precondition(lambda self: self.waits)
    @rule(data=st.data())
    def stop_waiting(self, data: st.DataObject) -> None:
        step = data.draw(st.sampled_from(sorted(self.waits)))
        self.waits.discard(step)
        del self.open[step]
        self.joins.left(self, step)

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        step = data.draw(st.sampled_from(self.running()))
        key = self.open.pop(step)
        for run, other in self.joins.completed(self, step):
            assert run is self
            assert self.open.pop(other) == key
            self.waits.discard(other)
            self.joins.left(self, other)
        self.joins.left(self, step)

    @invariant()
    def who_waits_waits_for_somebody(self) -> None:
        self.soon.run()
        assert self.joins.waiting == len(self.waits)
        for step in self.waits:
            assert any(self.open[other] == self.open[step] for other in self.running())

    def teardown(self) -> None:
        for step in sorted(self.open):
            self.joins.left(self, step)
        self.open.clear()
        self.waits.clear()
        self.soon.run()
        assert not self.joins._groups
        assert not self.joins._key_of
        assert not self.joins._alone


TestCrowd = Crowd.TestCase
TestCrowd.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
