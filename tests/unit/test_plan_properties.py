"""Random graphs under random failures: a simulated coordinator drives the plan, and every report is checked."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any, Literal

import pytest

from aiecs_ray.messages import ErrorInfo, RetryOptions
from aiecs_ray.model import TaskStatus
from aiecs_ray.plan import Plan
from aiecs_ray.plan_values import Actions, Ending, PlanStep, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BLOCKS, PER_BLOCK = 20, 500

PASSING = ErrorInfo("E003", "reset by peer", "ConnectionResetError", ("ConnectionResetError", "ConnectionError"))
LASTING = ErrorInfo("E003", "no such column", "KeyError", ("KeyError", "LookupError"))
HALF = 0.5
LOST = ErrorInfo("E003", "a replica died: SIGKILL", "ReplicaLostError", ("ReplicaLostError",))
LATE = ErrorInfo("E002", "timed out after 1s", "OperationTimeoutError", ("OperationTimeoutError",))
REFUSAL = ErrorInfo("E003", "no such tool", "ToolInitError", ("ToolInitError",))

BAD = (TaskStatus.FAILED, TaskStatus.TIMED_OUT, TaskStatus.CANCELLED)
SKIPPED = re.compile(r"Skipped: step (\d+) \((t\.s\d+)\) (failed|timed out|was cancelled)")
VERBS = {TaskStatus.FAILED: "failed", TaskStatus.TIMED_OUT: "timed out", TaskStatus.CANCELLED: "was cancelled"}


class Flight:
    """One call of a replica; ``begun`` is the truth, which the plan only ever hears of."""

    def __init__(self, steps: list[int], *, chain: bool) -> None:
        self.open = list(steps)
        self.chain = chain
        self.begun = 0
        """How many of the open steps have begun: in a chain the replica runs ahead of what was reported."""
        self.recalled = False


class Simulation:
    """A coordinator that makes random moves until nothing is left to do."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311  # reproducible, not secret
        self.steps = self._graph()
        self.sequence = self.in_order and self.rng.random() < 0.4
        self.stop_on_failure = self.rng.random() < 0.3
        self.trouble = self.rng.choice((0.02, 0.1, 0.4))
        """How often something goes wrong."""
        self.keep = self._keep()
        self.plan = Plan(
            self.steps,
            random=self.rng.random,
            sequence=self.sequence,
            stop_on_failure=self.stop_on_failure,
            keep=self.keep,
        )
        self.ready: list[int] = []
        self.flights: list[Flight] = []
        self.backoff: list[int] = []
        self.ended: dict[int, Ending] = {}
        self.skips: dict[int, int] = {}
        self.freed: set[int] = set()
        self.noted: set[int] = set()
        self.tries = [0] * len(self.steps)
        self.bodies = [0] * len(self.steps)
        self.doubted: set[int] = set()
        """Steps that were lost in company: nobody knows whether they had begun."""
        self.spared = [0] * len(self.steps)
        """Bodies that were stopped for another step's sake, which is no attempt."""
        self.seen = [TaskStatus.PENDING] * len(self.steps)
        self.failure: int | None = None
        self.winding_up: TaskStatus | None = None

    def _graph(self) -> list[PlanStep]:
        rng, count = self.rng, self.rng.randrange(11)
        order = list(range(count))
        if rng.random() < 0.3:
            rng.shuffle(order)
        self.in_order = order == sorted(order)
        density = rng.choice((0.0, 0.2, 0.5))
        steps: dict[int, PlanStep] = {}
        for place, index in enumerate(order):
            before = order[:place]
            steps[index] = PlanStep(
                f"t.s{index}",
                needs=tuple(one for one in before if rng.random() < density),
                after=tuple(one for one in before if rng.random() < density / 2),
                idempotent=rng.random() < 0.7,
                retry=RetryOptions(attempts=rng.randint(1, 3), timeouts=rng.random() < 0.5),
            )
        return [steps[index] for index in range(count)]

    def _keep(self) -> Literal["all", "last"] | tuple[int, ...]:
        some = tuple(index for index in range(len(self.steps)) if self.rng.random() < 0.3)
        keeps: tuple[Any, ...] = ("all", "last", some, some)
        chosen: Literal["all", "last"] | tuple[int, ...] = self.rng.choice(keeps)
        return chosen

    def run(self) -> None:
        self.take(self.plan.begin())
        while moves := self._moves():
            self.rng.choice(moves)()
        assert self.plan.done
        assert len(self.ended) == len(self.steps)

    def _moves(self) -> list[Callable[[], None]]:
        moves: list[Callable[[], None]] = []
        if self.ready:
            moves += [self.dispatch, self.dispatch, self.dispatch, self.answer]
            if self.rng.random() < self.trouble:
                moves += [self.refuse]
        if self.flights:
            moves += [self.begin_body, self.begin_body, self.report, self.report, self.report, self.recall]
            if self.rng.random() < self.trouble:
                moves += [self.die] * 5
        if self.backoff:
            moves += [self.wait_is_over]
        if moves:
            moves += [self.repeat_old_news]
            if self.rng.random() < self.trouble / 2:
                moves += [self.deadline_passes]
            if self.rng.random() < self.trouble / 5:
                moves += [self.wind_up] * 5
        return moves

    def dispatch(self) -> None:
        step = self.ready.pop(self.rng.randrange(len(self.ready)))
        if step in self.ended:
            return
        willing = self.rng.random()
        chain = self.plan.chain(step, lambda _: self.rng.random() < willing, self.rng.randint(1, 6))
        self.check_chain(chain)
        steps, is_chain = chain, len(chain) > 1
        if not is_chain and self.steps[step].idempotent:
            mates = [one for one in self.ready if one not in self.ended and self.steps[one].idempotent]
            mates = mates[: self.rng.randrange(3)]
            self.ready = [one for one in self.ready if one not in mates]
            steps = [step, *mates]
        self.flights.append(Flight(steps, chain=is_chain))
        self.plan.handed(steps)
        if self.rng.random() < 0.5:
            self.note_started(steps[0])
        self.check_statuses()

    def note_started(self, step: int) -> None:
        if step not in self.ended:
            self.plan.started(step)
            self.count_try(step)

    def count_try(self, step: int) -> None:
        """An attempt is known to have begun, unless that was known before."""
        if step not in self.noted:
            self.noted.add(step)
            self.tries[step] += 1

    def answer(self) -> None:
        """Answer a step from the cache."""
        if (step := self.ready.pop()) not in self.ended:
            self.take(self.plan.succeeded(step))
            assert self.ended[step] == Ending(step, TaskStatus.COMPLETED, None)

    def refuse(self) -> None:
        """Find out that the tool of a step cannot be made."""
        if (step := self.ready.pop()) not in self.ended:
            self.take(self.plan.refused(step, REFUSAL))
            assert self.ended[step] == Ending(step, TaskStatus.FAILED, REFUSAL)

    def begin_body(self) -> None:
        flight = self.rng.choice(self.flights)
        if flight.recalled or flight.begun == len(flight.open):
            return
        step = flight.open[flight.begun]
        flight.begun += 1
        self.bodies[step] += 1
        if step not in self.ended:
            self.check_inputs(step, within=flight.open[: flight.begun] if flight.chain else ())
        if self.steps[step].idempotent:
            assert self.bodies[step] - self.spared[step] <= self.steps[step].retry.attempts
        else:
            assert self.bodies[step] == 1

    def report(self) -> None:
        flight = self.rng.choice(self.flights)
        if not flight.begun:
            return
        step = flight.open.pop(0)
        flight.begun -= 1
        completed = flight.begun > 0 and flight.chain  # the next one has begun, so this one completed
        self.outcome(step, completed=completed, mates=bool(flight.open) and not flight.chain)
        if flight.chain and self.last_kind != "value":
            flight.recalled = True
        elif flight.chain and flight.open and self.rng.random() < 0.5 and not flight.recalled:
            self.note_started(flight.open[0])
        self.close(flight)

    def outcome(self, step: int, *, completed: bool, mates: bool) -> None:
        kinds = ["passing", "passing", "lasting", "late", "late"]
        kinds += ["stopped"] if self.winding_up or (mates and self.steps[step].idempotent) else []
        well = completed or self.rng.random() > self.trouble * 1.5
        self.last_kind = "value" if well else self.rng.choice(kinds)
        if step not in self.ended:
            self.count_try(step)
        tries = self.tries[step]
        if self.last_kind == "value":
            self.take(self.plan.succeeded(step))
        elif self.last_kind == "stopped":
            if self.winding_up is None and step not in self.ended:
                self.spared[step] += 1
                self.forget_try(step)
            self.take(self.plan.stopped(step))
        elif self.last_kind == "late":
            final = self.rng.random() < 0.2
            self.expect_retry(step, LATE, self.plan.timed_out(step, LATE, final=final), tries, final=final)
        else:
            error = PASSING if self.last_kind == "passing" else LASTING
            self.expect_retry(step, error, self.plan.failed(step, error), tries)
        self.noted.discard(step)

    def forget_try(self, step: int) -> None:
        if step in self.noted:
            self.noted.discard(step)
            self.tries[step] -= 1

    def recall(self) -> None:
        """Take back what has not begun."""
        flight = self.rng.choice(self.flights)
        flight.recalled = True
        self.close(flight)

    def close(self, flight: Flight) -> None:
        if flight.recalled or not flight.open:
            for step in flight.open[flight.begun :]:
                if step not in self.ended:
                    self.forget_try(step)
                self.take(self.plan.returned(step))
            del flight.open[flight.begun :]
            if not flight.open:
                self.flights.remove(flight)

    def die(self) -> None:
        flight = self.rng.choice(self.flights)
        self.flights.remove(flight)
        for place, step in enumerate(flight.open):
            begun = place < flight.begun
            started, guilty = self.rng.choice((begun, None)), self.rng.random() < HALF
            if step not in self.ended:
                repeated = started is False or (self.steps[step].idempotent and not self.winding_up)
                if repeated and not guilty and started is not False:
                    self.doubted.add(step)
                if repeated and not guilty:
                    self.forget_try(step)
                    self.spared[step] += begun
                else:
                    self.count_try(step)
            self.check_death(step, self.tries[step], started=started, guilty=guilty)
            self.noted.discard(step)

    def wait_is_over(self) -> None:
        step = self.backoff.pop(self.rng.randrange(len(self.backoff)))
        self.take(self.plan.due(step))

    def deadline_passes(self) -> None:
        """The deadline of one step: what runs is told to stop, and may end in any way before it hears of it."""
        step = self.rng.randrange(len(self.steps))
        out = any(step in flight.open for flight in self.flights)
        was_ended = step in self.ended
        actions = self.plan.overdue(step, LATE)
        if was_ended:
            assert actions == Actions()
        elif out:
            assert actions == Actions(stop=[step])
        else:
            self.backoff = [one for one in self.backoff if one != step]
            self.take(actions)
            assert self.ended[step] == Ending(step, TaskStatus.TIMED_OUT, LATE)

    def wind_up(self) -> None:
        out = sorted(step for flight in self.flights for step in flight.open if step not in self.ended)
        if self.winding_up is None:
            expired = self.rng.random() < 0.5
            self.winding_up = TaskStatus.TIMED_OUT if expired else TaskStatus.CANCELLED
            actions = self.plan.expire("out of time") if expired else self.plan.cancel("enough")
            assert sorted(actions.stop) == out
            self.take(actions)
            assert sorted(self.plan.unfinished()) == out
        else:
            assert self.plan.cancel() == Actions()
        for flight in list(self.flights):
            flight.recalled = True
            self.close(flight)

    def repeat_old_news(self) -> None:
        """What was reported before is reported again, of steps that no replica has any more."""
        out = {step for flight in self.flights for step in flight.open}
        there = [step for step in range(len(self.steps)) if step not in out]
        if not there:
            return
        step = self.rng.choice(there)
        plan = self.plan
        news: list[Callable[[], Actions]] = [
            lambda: plan.failed(step, PASSING),
            lambda: plan.failed(step, LASTING),
            lambda: plan.timed_out(step, LATE),
            lambda: plan.lost(
                step, LOST, started=self.rng.choice((True, False, None)), guilty=self.rng.random() < HALF
            ),
            lambda: plan.stopped(step),
            lambda: plan.returned(step),
        ]
        if step not in self.backoff:
            news.append(lambda: plan.due(step))
        if step in self.ended:
            news += [lambda: plan.succeeded(step), lambda: plan.refused(step, REFUSAL)]
            plan.started(step)
            plan.handed([step])
        before = plan.state(step), plan.tries(step)
        assert self.rng.choice(news)() == Actions()
        assert (plan.state(step), plan.tries(step)) == before

    def take(self, actions: Actions) -> None:
        """Perform what the plan said, after checking all of it."""
        for ending in actions.ended:
            self.check_ending(ending)
            self.ended[ending.step] = ending
            if self.failure is None and ending.status in (TaskStatus.FAILED, TaskStatus.TIMED_OUT):
                self.failure = ending.step
        assert actions.untold == []
        assert self.winding_up is None or not (actions.ready or actions.delayed)
        assert not (self.stop_on_failure and self.failure is not None and actions.ready)
        for step in actions.ready:
            self.check_ready(step)
            self.ready.append(step)
        for step, seconds in actions.delayed:
            self.check_delay(step, seconds)
            self.backoff.append(step)
        self.check_freed(actions.free)
        self.check_statuses()

    def check_ending(self, ending: Ending) -> None:
        step, status, error, skipped = ending
        assert step not in self.ended
        assert (error is None) == (status is TaskStatus.COMPLETED)
        assert self.plan.state(step) >= State.COMPLETED
        if error is None or not (skip := SKIPPED.fullmatch(error.message)):
            assert status is not TaskStatus.CANCELLED or self.winding_up or not self.steps[step].idempotent
            assert not skipped
            return
        cause, spec, verb = int(skip[1]), skip[2], skip[3]
        assert status is TaskStatus.CANCELLED
        assert skipped == (self.tries[step] == 0 and step not in self.doubted)
        assert spec == f"t.s{cause}"
        assert cause not in self.skips, "the cause is the root, not another step that was skipped"
        assert verb == VERBS[self.ended[cause].status]
        bad_needs = any(one in self.ended and self.ended[one].status in BAD for one in self.steps[step].needs)
        assert error.code == ("E007" if bad_needs else "E004")
        direct = [one for one in (*self.steps[step].needs, *self.steps[step].after) if one in self.ended]
        causes = {self.skips.get(one, one) for one in direct if self.ended[one].status in BAD}
        assert cause in causes or (self.stop_on_failure and cause == self.failure)
        self.skips[step] = cause

    def check_ready(self, step: int) -> None:
        assert self.plan.state(step) is State.READY
        assert step not in self.ready
        assert step not in self.backoff
        assert not any(step in flight.open[flight.begun :] and not flight.recalled for flight in self.flights)
        self.check_inputs(step)

    def check_inputs(self, step: int, within: Iterable[int] = ()) -> None:
        completed = {one for one, ending in self.ended.items() if ending.status is TaskStatus.COMPLETED}
        assert completed.union(within) >= {*self.steps[step].needs, *self.steps[step].after}
        if self.sequence and step:
            assert step - 1 in self.ended or step - 1 in within

    def check_chain(self, chain: list[int]) -> None:
        assert len(set(chain)) == len(chain)
        for place, step in enumerate(chain[1:], 1):
            assert self.plan.state(step) is State.WAITING
            self.check_inputs(step, within=chain[:place])

    def check_delay(self, step: int, seconds: float) -> None:
        options = self.steps[step].retry
        assert options.wait_min <= seconds <= options.wait_max
        assert self.plan.state(step) is State.BACKOFF
        assert self.steps[step].idempotent

    def expect_retry(self, step: int, error: ErrorInfo, actions: Actions, tries: int, *, final: bool = False) -> None:
        """Check whether an attempt that failed is followed by another, and how the step ends if not."""
        was_ended = step in self.ended
        wound_up = self.winding_up is not None
        self.take(actions)
        if was_ended:
            assert actions == Actions()
            return
        options = self.steps[step].retry
        may_pass = self.steps[step].idempotent and (
            error is PASSING or (error is LATE and options.timeouts and not final and not wound_up)
        )
        own = TaskStatus.TIMED_OUT if error is LATE else TaskStatus.FAILED
        if not may_pass or (wound_up and tries < options.attempts):
            assert self.ended[step] == Ending(step, own, error)
        elif tries < options.attempts:
            assert step in self.backoff
            assert step not in self.ended
        elif tries > 1:
            assert self.ended[step] == Ending(step, TaskStatus.FAILED, error._replace(code="E005"))
        else:
            assert self.ended[step] == Ending(step, own, error)

    def check_death(self, step: int, tries: int, *, started: bool | None, guilty: bool) -> None:
        was_ended, options = step in self.ended, self.steps[step].retry
        wound_up = self.winding_up
        actions = self.plan.lost(step, LOST, started=started, guilty=guilty)
        self.take(actions)
        if was_ended:
            assert actions == Actions()
        elif wound_up:
            assert self.ended[step].status is wound_up
        elif not self.steps[step].idempotent and started is not False:
            error = self.ended[step].error
            assert error is not None
            assert (error.code, error.type_name) == ("E003", "OutcomeUnknownError")
            assert error.message.startswith("Outcome unknown: a replica died: SIGKILL")
        elif not guilty or tries < options.attempts:
            assert step in self.ready or self.plan.state(step) is State.WAITING or step in self.skips
        else:
            code = "E005" if tries > 1 else "E003"
            assert self.ended[step] == Ending(step, TaskStatus.FAILED, LOST._replace(code=code))

    def check_freed(self, free: list[int]) -> None:
        """A result is freed in the moment in which its last reader ends, once, and never when it is kept."""
        expected = set()
        for step, ending in self.ended.items():
            kept = self.keep == "all" or (step == len(self.steps) - 1 if self.keep == "last" else step in self.keep)
            readers = (index for index, other in enumerate(self.steps) if step in other.needs)
            done = ending.status is TaskStatus.COMPLETED and all(reader in self.ended for reader in readers)
            if done and not kept and step not in self.freed:
                expected.add(step)
        assert sorted(free) == sorted(expected)
        self.freed |= expected

    def check_statuses(self) -> None:
        assert self.plan.unfinished() == [step for step in range(len(self.steps)) if step not in self.ended]
        for step, before in enumerate(self.seen):
            now = self.plan.status(step)
            if step in self.ended:
                assert now is self.ended[step].status
            assert now is before or before is TaskStatus.PENDING or (before is TaskStatus.RUNNING and now in TERMINAL)
            assert self.plan.tries(step) == self.tries[step]
            self.seen[step] = now


TERMINAL = (*BAD, TaskStatus.COMPLETED)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_a_plan_keeps_its_promises_whatever_happens(block: int) -> None:
    for seed in range(block * PER_BLOCK, (block + 1) * PER_BLOCK):
        simulation = Simulation(seed)

        try:
            simulation.run()
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
