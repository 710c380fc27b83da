from __future__ import annotations

import heapq
import math
import random
from itertools import count
from typing import TYPE_CHECKING

import pytest

from aiecs_ray.actors.gate import Entry, Gates
from aiecs_ray.limits import Meter
from aiecs_ray.messages import Limits

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """A loop's clock and its timers."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = count()

    def __call__(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (when, next(self.numbers), callback))

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

    def again(self, steps: list[int]) -> None:
        raise NotImplementedError


class Gate:
    """One limit, and the gates at which its line stands."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self.clock = clock
        self.gates = Gates(clock=clock, call_at=clock.call_at)
        self.meter = Meter(limits)

    def enter(self, line: Line, steps: list[int], *, weight: int = 1) -> None:
        self.gates.enter((self.meter,), [Entry(line, step, line.admit, weight) for step in steps])

    def dispatched(self, line: Line, step: int) -> None:
        self.gates.dispatched(line, [step])

    def left(self, line: Line, step: int) -> None:
        self.gates.left(line, step)

    def withdraw(self, line: Line) -> None:
        self.gates.withdraw(line)

    def adjust(self, limits: Limits) -> None:
        self.meter.adjust(limits)
        self.gates.readjusted(self.meter)

    def forgettable(self, now: float) -> bool:
        return self.meter.is_fresh(now) and not self.gates.waiting(self.meter)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def gate_of(clock: Clock, rate: float | None = None, concurrency: int | None = None) -> Gate:
    return Gate(clock, Limits("limit", rate, concurrency))


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


class Crossing:
    """Several limits, and lines that pass some of them."""

    def __init__(self, clock: Clock, **limits: Limits) -> None:
        self.clock = clock
        self.gates = Gates(clock=clock, call_at=clock.call_at)
        self.meters = {name: Meter(limit) for name, limit in limits.items()}
        self.line = Line(clock)

    def enter(self, names: str, *steps: int, weight: int = 1, owner: str = "", priority: int = 0) -> None:
        meters = tuple(self.meters[name] for name in names.split())
        entries = [Entry(self.line, step, self.line.admit, weight, owner, priority, names) for step in steps]
        self.gates.enter(meters, entries)

    def left(self, step: int) -> None:
        self.gates.left(self.line, step)


def test_a_step_passes_all_of_its_limits_or_none(clock: Clock) -> None:
    crossing = Crossing(clock, run=Limits(concurrency=1), tool=Limits(concurrency=1))
    crossing.enter("tool", 0)
    crossing.enter("run tool", 1)

    crossing.enter("run", 2)

    assert crossing.line.admitted == [0, 2]


def test_two_lines_that_cross_never_wait_for_each_other(clock: Clock) -> None:
    crossing = Crossing(clock, a=Limits(concurrency=1), b=Limits(concurrency=1))
    crossing.enter("a b", *range(10))
    crossing.enter("b a", *range(10, 20))

    for _ in range(20):
        crossing.left(crossing.line.admitted[-1])

    assert sorted(crossing.line.admitted) == list(range(20))


def test_a_rate_counts_no_start_of_a_step_that_waits_elsewhere(clock: Clock) -> None:
    crossing = Crossing(clock, rated=Limits(rate=1.0), full=Limits(concurrency=1))
    crossing.enter("full", 0)
    crossing.enter("rated full", 1)

    crossing.enter("rated", 2)
    crossing.gates.dispatched(crossing.line, [2])

    assert crossing.line.admitted == [0, 2]
    assert crossing.meters["rated"].inside == 1


def test_one_start_counts_against_every_rate_it_passes(clock: Clock) -> None:
    crossing = Crossing(clock, slow=Limits(rate=1.0), quick=Limits(rate=10.0))
    crossing.enter("slow quick", 0, 1)

    crossing.gates.dispatched(crossing.line, [0])
    crossing.enter("quick", 2)
    while clock.run():
        pass

    assert crossing.line.admitted == [0, 2]
    assert clock.now == pytest.approx(101.0)


def test_lines_of_one_limit_take_turns(clock: Clock) -> None:
    crossing = Crossing(clock, tool=Limits(concurrency=1), one=Limits(concurrency=9), two=Limits(concurrency=9))
    crossing.enter("tool one", *range(100))
    crossing.enter("tool two", 100, 101)

    for _ in range(5):
        crossing.left(crossing.line.admitted[-1])

    assert crossing.line.admitted[:4] == [0, 100, 1, 101]


def test_a_higher_priority_passes_before_the_other_lines(clock: Clock) -> None:
    crossing = Crossing(clock, tool=Limits(concurrency=1), one=Limits(concurrency=9))
    crossing.enter("tool one", 0, 1, 2)
    crossing.enter("tool", 10, 11, priority=1)

    for _ in range(3):
        crossing.left(crossing.line.admitted[-1])

    assert crossing.line.admitted == [0, 10, 11, 1]


def test_no_line_waits_for_ever_behind_a_higher_priority(clock: Clock) -> None:
    crossing = Crossing(clock, tool=Limits(concurrency=1), one=Limits(concurrency=9))
    crossing.enter("tool", *range(1000), priority=5)
    crossing.enter("tool one", 1000)

    for _ in range(200):
        crossing.left(crossing.line.admitted[-1])

    assert crossing.line.admitted.index(1000) <= 100


def test_at_one_limit_owners_take_turns_and_priorities_go_first(clock: Clock) -> None:
    crossing = Crossing(clock, tool=Limits(concurrency=1))
    crossing.enter("tool", *range(50), owner="ann")
    crossing.enter("tool", 100, 101, owner="bob")
    crossing.enter("tool", 200, owner="ann", priority=1)

    for _ in range(4):
        crossing.left(crossing.line.admitted[-1])

    assert crossing.line.admitted[:2] == [0, 200]
    assert 100 in crossing.line.admitted[2:4]


def test_what_is_heavy_is_not_passed_by_light_ones_for_ever(clock: Clock) -> None:
    crossing = Crossing(clock, tool=Limits(concurrency=4), one=Limits(concurrency=99))
    crossing.enter("tool", 0, 1, 2, 3)
    crossing.enter("tool one", 100, weight=4)
    crossing.enter("tool", *range(4, 50))

    for step in range(30):
        crossing.left(step)

    assert crossing.line.admitted.index(100) <= 8


def test_steps_that_are_taken_back_wait_no_more(clock: Clock) -> None:
    crossing = Crossing(clock, run=Limits(concurrency=1), tool=Limits(concurrency=1))
    crossing.enter("run tool", 0, 1)
    crossing.enter("tool", 2)

    taken = crossing.gates.take_back(lambda spec: spec == "run tool")
    crossing.left(0)

    assert [entry.step for entry in taken] == [1]
    assert crossing.line.admitted == [0, 2]


def test_steps_that_wait_for_their_run_alone_are_not_taken_back(clock: Clock) -> None:
    gate, line = gate_of(clock, concurrency=1), Line(clock)
    gate.enter(line, [0, 1])

    assert gate.gates.take_back(lambda _: True) == []


def test_nothing_is_left_of_lines_that_are_empty(clock: Clock) -> None:
    crossing = Crossing(clock, run=Limits(rate=5.0), tool=Limits(concurrency=1))
    crossing.enter("run tool", 0, 1)
    crossing.gates.dispatched(crossing.line, [0])
    crossing.left(0)
    crossing.gates.withdraw(crossing.line)
    while clock.run():
        pass

    gates = crossing.gates
    assert (gates._lines, gates._at, gates._inside, gates._wakes) == ({}, {}, {}, {})


class Traffic:
    """Steps of random ways and weights, which end after random times."""

    def __init__(self, crossing: Crossing, rng: random.Random) -> None:
        self.crossing, self.rng = crossing, rng
        ways = ("run", "tool", "tool op", "run tool op", "tool other", "run tool other")
        self.steps = {step: (rng.choice(ways), rng.randint(1, 3)) for step in range(60)}
        self.flying: dict[int, float] = {}
        self.starts: dict[str, list[tuple[float, int]]] = {name: [] for name in crossing.meters}
        self.done: set[int] = set()
        for step, (names, weight) in self.steps.items():
            crossing.enter(names, step, weight=weight, owner=rng.choice("ab"), priority=rng.randint(-1, 1))

    def start(self) -> None:
        """Send what was let through, and see that no limit is passed."""
        crossing = self.crossing
        for step in crossing.line.admitted:
            names, weight = self.steps[step]
            self.flying[step] = crossing.clock.now + self.rng.random()
            for name in names.split():
                inside = [self.steps[one][1] for one in self.flying if name in self.steps[one][0].split()]
                most = crossing.meters[name].limits.concurrency
                assert most is None or sum(inside) <= most or len(inside) == 1
                self.starts[name].append((crossing.clock.now, weight))
            crossing.gates.dispatched(crossing.line, [step])
        crossing.line.admitted.clear()

    def go_on(self) -> None:
        """End one step whose time is over, or let time pass."""
        clock = self.crossing.clock
        ended = next((step for step, end in self.flying.items() if end <= clock.now), None)
        if ended is not None:
            self.done.add(ended)
            del self.flying[ended]
            self.crossing.left(ended)
            return
        clock.now += self.rng.random() / 20
        while clock.timers and clock.timers[0][0] <= clock.now:
            clock.run()


@pytest.mark.parametrize("seed", range(60))
def test_whatever_crosses_the_limits_hold_and_everybody_passes(clock: Clock, seed: int) -> None:
    limits = {"run": Limits(concurrency=3), "tool": Limits("", 20.0, 4, 2), "op": Limits(rate=8.0)}
    crossing = Crossing(clock, other=Limits(concurrency=2), **limits)
    traffic = Traffic(crossing, random.Random(seed))  # noqa: S311  # reproducible

    for _ in range(20_000):
        traffic.start()
        traffic.go_on()
        if len(traffic.done) == len(traffic.steps):
            break

    assert len(traffic.done) == len(traffic.steps)
    for name, rate in (("tool", 20), ("op", 8)):
        for begin, _ in traffic.starts[name]:
            assert sum(units for start, units in traffic.starts[name] if 0 <= start - begin < 1.0) <= rate
