from __future__ import annotations

import heapq
import math
import random
from typing import TYPE_CHECKING

import pytest

from aiecs_ray.actors.gate import Gate
from aiecs_ray.messages import Limits

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """A loop's clock and its timers."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, int, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (when, len(self.timers), callback))

    def run(self) -> bool:
        """Go on to the next timer; return whether there was one."""
        if not self.timers:
            return False
        when, _, callback = heapq.heappop(self.timers)
        self.now = max(self.now, when)
        callback()
        return True


class Line:
    """A run at a gate: notes when each of its steps is let through."""

    def __init__(self, clock: Clock, *, at_once: bool = False) -> None:
        self.clock = clock
        self.gate: Gate | None = None
        self.at_once = at_once
        self.admitted: list[int] = []
        self.times: list[float] = []

    def admit(self, steps: list[int]) -> None:
        self.admitted.extend(steps)
        if self.at_once:
            assert self.gate is not None
            for step in steps:
                self.times.append(self.clock.now)
                self.gate.dispatched(self, step)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def gate_of(clock: Clock, rate: float | None = None, concurrency: int | None = None) -> Gate:
    return Gate(Limits("limit", rate, concurrency), clock=clock, call_at=clock.call_at)


def test_without_limits_everything_passes_at_once(clock: Clock) -> None:
    gate, line = gate_of(clock), Line(clock)

    gate.enter(line, [0, 1, 2])

    assert line.admitted == [0, 1, 2]
    assert not clock.timers


def test_so_many_are_inside_and_no_more(clock: Clock) -> None:
    gate, line = gate_of(clock, concurrency=2), Line(clock)
    gate.enter(line, [0, 1, 2, 3])

    before = list(line.admitted)
    gate.dispatched(line, 0)
    gate.left(line, 1)

    assert (before, line.admitted) == ([0, 1], [0, 1, 2])


def test_starts_are_spaced(clock: Clock) -> None:
    gate, line = gate_of(clock, rate=2.0), Line(clock, at_once=True)
    line.gate = gate
    gate.enter(line, [0, 1, 2, 3])

    while clock.run():
        pass

    assert line.times == [100.0, 100.5, 101.0, 101.5]


def test_one_timer_is_enough_for_a_whole_line(clock: Clock) -> None:
    gate, line = gate_of(clock, rate=0.1), Line(clock, at_once=True)
    line.gate = gate

    for step in range(10):
        gate.enter(line, [step])

    assert len(clock.timers) == 1


def test_a_start_counts_when_the_step_reaches_a_replica(clock: Clock) -> None:
    gate, line = gate_of(clock, rate=10.0), Line(clock)
    gate.enter(line, [0, 1])

    clock.now += 60.0
    waiting = list(line.admitted)
    gate.dispatched(line, 0)
    clock.run()

    assert waiting == [0]
    assert line.admitted == [0, 1]
    assert clock.now == pytest.approx(160.1)


def test_a_step_that_never_started_leaves_its_turn_to_the_next(clock: Clock) -> None:
    gate, line = gate_of(clock, rate=10.0), Line(clock)
    gate.enter(line, [0, 1])

    gate.left(line, 0)

    assert (line.admitted, clock.now) == ([0, 1], 100.0)


def test_a_start_is_counted_once(clock: Clock) -> None:
    gate, line = gate_of(clock, rate=10.0), Line(clock)
    gate.enter(line, [0])
    gate.dispatched(line, 0)

    for _ in range(50):
        gate.dispatched(line, 0)
        gate.dispatched(line, 7)
    gate.enter(line, [1])
    clock.run()

    assert line.admitted == [0, 1]
    assert clock.now == pytest.approx(100.1)


def test_runs_share_a_gate_in_the_order_of_coming(clock: Clock) -> None:
    gate, first, second = gate_of(clock, concurrency=1), Line(clock), Line(clock)

    gate.enter(first, [0, 1])
    gate.enter(second, [0])
    gate.left(first, 0)
    middle = (list(first.admitted), list(second.admitted))
    gate.left(first, 1)

    assert middle == ([0, 1], [])
    assert second.admitted == [0]


@pytest.mark.parametrize("rate", [None, 1000.0])
def test_a_step_that_comes_back_does_not_block_itself(clock: Clock, rate: float | None) -> None:
    gate, line = gate_of(clock, rate=rate, concurrency=1), Line(clock)
    gate.enter(line, [0])
    gate.dispatched(line, 0)

    gate.enter(line, [0])
    clock.run()

    assert line.admitted == [0, 0]


def test_thousands_of_steps_that_ended_in_line_pass_without_a_deep_stack(clock: Clock) -> None:
    gate = gate_of(clock, rate=100.0, concurrency=1)

    class Ended(Line):
        def admit(self, steps: list[int]) -> None:
            super().admit(steps)
            gate.left(self, steps[0])

    line = Ended(clock)
    gate.enter(line, list(range(20_000)))

    assert line.admitted == list(range(20_000))
    assert gate.forgettable(clock.now)


def test_a_gate_opens_again_after_a_passer_that_raised(clock: Clock) -> None:
    gate, good = gate_of(clock, concurrency=2), Line(clock)

    class Broken(Line):
        def admit(self, steps: list[int]) -> None:
            raise RuntimeError(steps)

    with pytest.raises(RuntimeError):
        gate.enter(Broken(clock), [0])
    gate.enter(good, [0])

    assert good.admitted == [0]


def test_a_withdrawn_run_waits_no_more_and_the_others_do(clock: Clock) -> None:
    gate, first, second = gate_of(clock, concurrency=1), Line(clock), Line(clock)
    gate.enter(first, [0, 1])
    gate.enter(second, [0])

    gate.withdraw(first)
    gate.left(first, 0)

    assert (first.admitted, second.admitted) == ([0], [0])


def test_a_higher_rate_counts_at_once(clock: Clock) -> None:
    gate, line = gate_of(clock, rate=0.1), Line(clock, at_once=True)
    line.gate = gate
    gate.enter(line, [0, 1, 2])

    clock.now += 0.5
    gate.adjust(Limits("limit", 10.0))
    while len(line.times) < 3:
        assert clock.run()

    assert line.times[1:] == pytest.approx([100.5, 100.6])


def test_a_lower_rate_holds_from_now_on(clock: Clock) -> None:
    gate, line = gate_of(clock, rate=10.0), Line(clock, at_once=True)
    line.gate = gate
    gate.enter(line, [0, 1, 2])

    gate.adjust(Limits("limit", 1.0))
    while clock.run():
        pass

    assert line.times == pytest.approx([100.0, 101.0, 102.0])


def test_a_limit_that_is_lifted_lets_everybody_in(clock: Clock) -> None:
    gate, line = gate_of(clock, rate=0.1, concurrency=1), Line(clock)
    gate.enter(line, [0, 1, 2])

    gate.adjust(Limits("limit"))

    assert line.admitted == [0, 1, 2]


def test_more_room_is_used_at_once(clock: Clock) -> None:
    gate, line = gate_of(clock, concurrency=1), Line(clock)
    gate.enter(line, [0, 1, 2])

    gate.adjust(Limits("limit", concurrency=2))

    assert line.admitted == [0, 1]


def test_a_gate_can_be_forgotten_once_a_new_one_would_do_the_same(clock: Clock) -> None:
    gate, line = gate_of(clock, rate=1.0, concurrency=1), Line(clock)
    gate.enter(line, [0, 1])
    seen = [gate.forgettable(clock.now)]
    gate.dispatched(line, 0)
    gate.withdraw(line)
    seen.append(gate.forgettable(clock.now + 60))
    gate.left(line, 0)
    seen.append(gate.forgettable(clock.now + 0.5))
    seen.append(gate.forgettable(clock.now + 1.0))

    assert seen == [False, False, False, True]


def test_a_gate_with_a_line_before_it_is_not_forgotten(clock: Clock) -> None:
    gate, line = gate_of(clock, rate=1.0), Line(clock)
    gate.enter(line, [0, 1])
    gate.dispatched(line, 0)
    gate.left(line, 0)

    assert line.admitted == [0]
    assert not gate.forgettable(clock.now + 60)


@pytest.mark.parametrize("seed", range(50))
def test_whatever_happens_the_limits_hold_and_everybody_passes(clock: Clock, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  # reproducible
    rate, most = rng.choice((3.0, 7.5)), rng.choice((1, 2, 5))
    gate, lines = gate_of(clock, rate=rate, concurrency=most), [Line(clock), Line(clock)]
    places = {(number, step): 0 for number in (0, 1) for step in range(12)}
    for number, line in enumerate(lines):
        gate.enter(line, [step for owner, step in places if owner == number])
    inside: set[tuple[int, int]] = set()
    flying: set[tuple[int, int]] = set()
    starts: list[float] = []

    for _ in range(5000):
        fresh = {(n, step) for n, line in enumerate(lines) for step in line.admitted}
        for line in lines:
            line.admitted.clear()
        assert not fresh & inside
        inside |= fresh
        assert len(inside) <= most
        waiting = sorted(inside - flying)
        assert len(waiting) <= 1
        if waiting and rng.random() < 0.7:
            flying.add(waiting[0])
            starts.append(clock.now)
            gate.dispatched(lines[waiting[0][0]], waiting[0][1])
        elif inside and rng.random() < 0.6:
            one = rng.choice(sorted(inside))
            inside.discard(one)
            flying.discard(one)
            places[one] += 1
            if rng.random() < 0.3:
                gate.enter(lines[one[0]], [one[1]])
            else:
                gate.left(lines[one[0]], one[1])
        else:
            clock.now += rng.random() / 10
            while clock.timers and clock.timers[0][0] <= clock.now:
                clock.run()
        if not inside and not clock.timers and all(places.values()) and not any(line.admitted for line in lines):
            break

    assert all(places.values())
    assert gate.forgettable(clock.now + 10)
    assert all(later - earlier >= 1.0 for earlier, later in zip(starts, starts[math.ceil(rate) :], strict=False))


def test_a_gate_is_not_forgotten_while_a_run_that_uses_it_is_between_two_steps(clock: Clock) -> None:
    gate = Gate(Limits("shared", 10.0, None), clock=clock, call_at=clock.call_at)

    gate.opened_to(2)
    gate.opened_to(-1)
    while_used = gate.forgettable(clock.now)
    gate.opened_to(-1)

    assert (while_used, gate.forgettable(clock.now)) == (False, True)
