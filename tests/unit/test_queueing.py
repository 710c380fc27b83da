from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiecs_ray.queueing import FairQueue


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


def test_a_ticket_can_go_to_the_front_of_its_owners_line() -> None:
    queue = filled("a1", "b1")

    queue.push("a0", owner="a", first=True)

    assert drained(queue) == ["a0", "b1", "a1"]


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
        self.queue: FairQueue[tuple[str, int]] = FairQueue()
        self.lines: dict[tuple[int, str], list[tuple[str, int]]] = {}
        self.turns: dict[tuple[int, str], int] = {}
        self.clock = 0

    @rule(owner=st.sampled_from("abc"), priority=st.integers(-1, 1), first=st.booleans())
    def push(self, owner: str, priority: int, *, first: bool) -> None:
        self.clock += 1
        ticket = (owner, self.clock)
        self.queue.push(ticket, owner=owner, priority=priority, first=first)
        line = self.lines.setdefault((priority, owner), [])
        if not line:
            self.turns[priority, owner] = self.clock
        line.insert(0 if first else len(line), ticket)

    @precondition(lambda self: len(self.queue) > 0)
    @rule()
    def pop(self) -> None:
        self.clock += 1
        waiting = [key for key, line in self.lines.items() if line]
        key = max(waiting, key=lambda key: (key[0], -self.turns[key]))

        assert self.queue.pop() == self.lines[key].pop(0)
        self.turns[key] = self.clock

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
