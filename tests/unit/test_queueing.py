from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiecs_ray.queueing import AGEING, Backlog, FairQueue


def filled(*tickets: str, **options: Any) -> FairQueue[str]:
    """Return a queue of tickets that are named after their owners."""
    queue: FairQueue[str] = FairQueue()
    for ticket in tickets:
        queue.push(ticket, owner=ticket[0], **options)
    return queue


def drained(queue: FairQueue[str]) -> list[str]:
    return [queue.pop() for _ in range(len(queue))]


def test_the_tickets_of_one_owner_keep_their_order() -> None:
    assert drained(filled("a1", "a2", "a3")) == ["a1", "a2", "a3"]


def test_owners_take_turns() -> None:
    queue = filled("a1", "a2", "a3", "b1", "c1", "c2")

    assert drained(queue) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_who_comes_again_stands_behind_those_who_wait() -> None:
    queue = filled("a1", "b1", "c1")

    first = queue.pop()
    queue.push("a2", owner="a")

    assert [first, *drained(queue)] == ["a1", "b1", "c1", "a2"]


def test_higher_priorities_come_first() -> None:
    queue = filled("a1", "b1")
    queue.push("a-low", owner="a", priority=-10)
    queue.push("b-high", owner="b", priority=10)
    queue.push("b-higher", owner="b", priority=11)

    assert drained(queue) == ["b-higher", "b-high", "a1", "b1", "a-low"]


def test_the_next_ticket_can_be_seen_without_being_taken() -> None:
    queue = filled("a1", "b1", "a2")
    seen = []

    while queue:
        seen.append((queue.peek(), queue.peek(), queue.pop()))

    assert seen == [("a1",) * 3, ("b1",) * 3, ("a2",) * 3]


def test_a_low_priority_gets_one_turn_after_so_many_of_the_highest() -> None:
    queue = filled(*(f"h{number}" for number in range(1000)), priority=5)
    queue.push("low1", owner="l", priority=-5)
    queue.push("low2", owner="l", priority=-5)

    order = drained(queue)

    assert [order.index("low1"), order.index("low2")] == [AGEING, 2 * AGEING + 1]


def test_of_several_low_priorities_the_one_that_waits_longest_gets_the_turn() -> None:
    queue: FairQueue[str] = FairQueue(ageing=2)
    for number in range(20):
        queue.push(f"h{number}", owner="h", priority=9)
    for name, priority in (("a1", 0), ("b1", -9), ("a2", 0), ("b2", -9)):
        queue.push(name, owner=name[0], priority=priority)

    low = [ticket for ticket in drained(queue)[:12] if ticket[0] != "h"]

    assert low == ["a1", "b1", "a2", "b2"]


def test_turns_while_nobody_else_waited_count_for_nothing() -> None:
    queue = filled(*(f"h{number}" for number in range(100)), priority=5)
    for _ in range(80):
        queue.pop()

    queue.push("low", owner="l")

    assert drained(queue).index("low") == 20


def test_the_high_are_not_delayed_by_thousands_of_low_ones() -> None:
    queue = filled(*(f"l{number}" for number in range(10_000)))
    for number in range(10):
        queue.push(f"h{number}", owner="h", priority=1)

    assert [ticket[0] for ticket in drained(queue)[:10]] == ["h"] * 10


def test_an_empty_queue_has_nothing_to_give() -> None:
    queue = filled("a1")
    queue.pop()

    with pytest.raises(IndexError):
        queue.pop()
    assert queue.take(5, owner="a", priority=0, fits=lambda _: True) == []
    assert len(queue) == 0


def test_an_owner_who_was_served_up_is_forgotten() -> None:
    queue = filled("a1", priority=3)

    queue.pop()

    assert queue._levels == {}


def test_companions_come_from_the_front_of_one_owners_line() -> None:
    queue = filled("a1", "a2", "a3", "a4", "b1")
    queue.push("a-high", owner="a", priority=1)

    taken = queue.take(2, owner="a", priority=0, fits=lambda _: True)

    assert taken == ["a1", "a2"]
    assert drained(queue) == ["a-high", "a3", "b1", "a4"]


def test_the_first_ticket_that_does_not_fit_ends_the_taking() -> None:
    queue = filled("a1", "a2", "a3")

    assert queue.take(9, owner="a", priority=0, fits=lambda ticket: ticket != "a2") == ["a1"]
    assert queue.take(0, owner="a", priority=0, fits=lambda _: True) == []
    assert len(queue) == 2


def test_taking_a_whole_line_forgets_it() -> None:
    queue = filled("a1", "a2", "b1")

    queue.take(9, owner="a", priority=0, fits=lambda _: True)

    assert (len(queue), drained(queue)) == (1, ["b1"])
    assert queue._levels == {}


def test_unwanted_tickets_are_taken_out_wherever_they_stand() -> None:
    queue = filled("a1", "a2", "b1")
    queue.push("a3", owner="a", priority=5)

    removed = queue.remove(lambda ticket: ticket in ("a2", "b1", "a3"))

    assert sorted(removed) == ["a2", "a3", "b1"]
    assert (len(queue), drained(queue)) == (1, ["a1"])


def test_each_ticket_is_asked_about_once() -> None:
    asked: list[str] = []
    queue = filled("a1", "a2", "b1")

    removed = queue.remove(lambda ticket: bool(asked.append(ticket)) or len(asked) % 2 == 1)  # type: ignore[func-returns-value]

    assert (asked, removed, len(queue)) == (["a1", "a2", "b1"], ["a1", "b1"], 1)


def test_removing_everything_leaves_an_empty_queue() -> None:
    queue = filled("a1", "b1", "c1")

    queue.remove(lambda _: True)

    assert (len(queue), queue._levels) == (0, {})


def test_a_flood_of_one_owner_delays_another_by_one_ticket() -> None:
    queue = filled(*(f"a{index}" for index in range(10_000)))

    queue.pop()
    queue.push("b1", owner="b")

    assert [queue.pop(), queue.pop()][-1] == "b1"


class Model(RuleBasedStateMachine):
    """The queue beside one that sorts everything whenever it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[tuple[str, int]] = FairQueue(ageing=2)
        self.lines: dict[tuple[int, str], list[tuple[str, int]]] = {}
        self.turns: dict[tuple[int, str], int] = {}
        self.waiting_since: dict[int, int] = {}
        self.history: list[bool] = []
        self.clock = 0

    def levels(self) -> list[int]:
        return sorted({priority for (priority, _), line in self.lines.items() if line})

    @rule(owner=st.sampled_from("abc"), priority=st.integers(-1, 1))
    def push(self, owner: str, priority: int) -> None:
        self.clock += 1
        ticket = (owner, self.clock)
        self.queue.push(ticket, owner=owner, priority=priority)
        if priority not in self.levels():
            self.waiting_since[priority] = self.clock
        line = self.lines.setdefault((priority, owner), [])
        if not line:
            self.turns[priority, owner] = self.clock
        line.append(ticket)

    @precondition(lambda self: len(self.queue) > 0)
    @rule()
    def pop(self) -> None:
        self.clock += 1
        *lower, highest = self.levels()
        # The two turns before this one went to the highest priority over the heads of others.
        aged = bool(lower) and self.history[-2:] == [True, True]
        priority = min(lower, key=self.waiting_since.__getitem__) if aged else highest
        waiting = [key for key, line in self.lines.items() if line and key[0] == priority]
        key = min(waiting, key=self.turns.__getitem__)

        assert self.queue.peek() == self.lines[key][0]
        assert self.queue.pop() == self.lines[key].pop(0)
        self.turns[key] = self.waiting_since[priority] = self.clock
        self.history.append(bool(lower) and not aged)

    @rule(owner=st.sampled_from("abc"), priority=st.integers(-1, 1), count=st.integers(0, 3), most=st.integers(0, 30))
    def take(self, owner: str, priority: int, count: int, most: int) -> None:
        line = self.lines.get((priority, owner), [])
        expected: list[tuple[str, int]] = []
        while line and len(expected) < count and line[0][1] <= most:
            expected.append(line.pop(0))

        assert self.queue.take(count, owner=owner, priority=priority, fits=lambda one: one[1] <= most) == expected

    @rule(seed=st.integers(0, 99))
    def remove(self, seed: int) -> None:
        unwanted = {one for line in self.lines.values() for one in line if random.Random(one[1] * seed).random() < 0.5}  # noqa: S311  # reproducible

        removed = self.queue.remove(unwanted.__contains__)

        assert sorted(removed) == sorted(unwanted)
        self.lines = {key: [one for one in line if one not in unwanted] for key, line in self.lines.items()}

    @invariant()
    def the_length_is_right(self) -> None:
        assert len(self.queue) == sum(map(len, self.lines.values()))


TestModel = Model.TestCase


def test_what_is_open_counts_until_it_has_ended() -> None:
    backlog = Backlog(10)

    answers = [backlog.accept(6, 0.0), backlog.accept(5, 0.0)]
    backlog.ended()
    answers.append(backlog.accept(5, 0.0))

    assert [answer is None for answer in answers] == [True, False, True]
    assert backlog.open == 10


def test_what_was_refused_takes_no_room() -> None:
    backlog = Backlog(10)

    backlog.accept(8, 0.0)
    backlog.accept(8, 0.0)

    assert backlog.accept(2, 0.0) is None


def test_the_time_to_come_again_is_what_is_too_much_over_how_fast_operations_end() -> None:
    backlog = Backlog(100)
    backlog.accept(100, 0.0)
    backlog.ended(50)
    backlog.sample(10.0)
    backlog.accept(50, 10.0)

    assert backlog.accept(20, 10.5) == pytest.approx(20 / 5)


def test_recent_seconds_say_more_of_the_speed_than_earlier_ones() -> None:
    backlog = Backlog(1000)
    backlog.accept(1000, 0.0)
    for second in range(1, 20):
        backlog.ended(1 if second < 10 else 10)
        backlog.sample(float(second))

    wait = backlog.accept(950, 19.0)

    assert wait is not None
    assert (950 - backlog.most + backlog.open) / wait == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize(("ended", "expected"), [(0, 5.0), (1, 300.0), (100_000, 0.1)])
def test_the_time_to_come_again_is_a_sensible_one(ended: int, expected: float) -> None:
    backlog = Backlog(1_000_000)
    backlog.accept(1_000_000, 0.0)
    backlog.ended(ended)
    backlog.sample(1.0)

    assert backlog.accept(ended + 1000, 1.0) == expected
