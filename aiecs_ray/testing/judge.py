"""Whether a run kept what was promised: compares what the coordinator says with what really happened."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiecs_ray.messages import EventKind
from aiecs_ray.testing.world import bare, right_values

if TYPE_CHECKING:
    from aiecs_ray.actors.run import Run
    from aiecs_ray.messages import ErrorInfo, Policy, RunRequest, Settled
    from aiecs_ray.testing.scenario import RunPlan
    from aiecs_ray.testing.world import World

_ENDS = frozenset(
    {
        EventKind.STEP_COMPLETED,
        EventKind.STEP_FAILED,
        EventKind.STEP_TIMED_OUT,
        EventKind.STEP_CANCELLED,
        EventKind.STEP_SKIPPED,
    }
)
_SKIPPED = re.compile(r"Skipped: step (\d+) ")
EXACT = 1e-6


def judge_start_of(world: World, run: Run) -> None:
    """Remember a run that was accepted, so that it can be judged when the coordinator has forgotten it."""
    world.runs[run.id] = run


def judge_run(world: World, plan: RunPlan, run: Run, client_left: float | None) -> None:
    """Judge a run that has just finished."""
    world.note("finish %s: %s", run.id, run.status.value)
    _Verdict(world, plan, run, client_left).judge()


class _Verdict:
    def __init__(self, world: World, plan: RunPlan, run: Run, client_left: float | None) -> None:
        self.world, self.plan, self.run = world, plan, run
        self.request: RunRequest = plan.request
        self.values = right_values(plan.request)
        events = run.log.since(0, 1_000_000)
        self.began = events[0].time
        self.ends = {event.step: event for event in events if event.kind in _ENDS}
        self.told = [event for event in events if event.kind in _ENDS]
        # Who is gone is noticed within a second, whoever says goodbye at once.
        ended_by_client = client_left is not None and not plan.request.detach
        self.may_be_cancelled = plan.cancel_at is not None or ended_by_client
        self.events = events

    def judge(self) -> None:
        self._judge_log()
        if running := self.world.running(self.run.id):
            self.broken(f"finished while steps {running} were running")
        for step, settled in enumerate(self.run.settled):
            if settled is None:
                self.broken(f"finished, and step {step} has no result")
            else:
                self._judge_step(step, settled)
        self._judge_deadline()
        ended = [one for one in self.run.settled if one is not None]
        held = sum(one.size for one in ended if not one.dropped)
        held += sum(one.error.size for one in ended if one.error is not None)
        if held != self.run.records.bytes:
            self.broken(f"its results and errors are {held} bytes, and it counts {self.run.records.bytes}")

    def broken(self, text: str) -> None:
        self.world.broken(f"{self.run.id}: {text}")

    def _judge_log(self) -> None:
        """Every step has one end, and the run has one, after them."""
        if len(self.told) != len(self.ends) or len(self.ends) != len(self.request.steps):
            self.broken(f"{len(self.told)} ends were told of {len(self.ends)} of {len(self.request.steps)} steps")
        finished = [event for event in self.events if event.kind is EventKind.RUN_FINISHED]
        if len(finished) != 1 or self.events[-1] is not finished[0]:
            self.broken("its last event is not its only end")

    def _judge_step(self, step: int, settled: Settled) -> None:
        policy = self.request.policies[self.request.steps[step].policy]
        judge = {
            "completed": self._judge_completed,
            "failed": self._judge_failed,
            "timed_out": self._judge_timed_out,
            "cancelled": self._judge_cancelled,
        }[settled.status]
        judge(step, settled, policy)
        starts = self.world.starts(self.run.id, step)
        if not policy.idempotent and starts > settled.attempts:
            self.broken(f"step {step} began {starts} times and says {settled.attempts}")
        if settled.attempts > policy.retry.attempts:
            self.broken(f"step {step} made {settled.attempts} attempts, {policy.retry.attempts} allowed")
        skipped = self.ends[step].kind is EventKind.STEP_SKIPPED if step in self.ends else False
        if skipped and starts:
            self.broken(f"step {step} is told as skipped, and it began")

    def _judge_completed(self, step: int, settled: Settled, policy: Policy) -> None:
        keep = self.request.keep
        last = len(self.request.steps) - 1
        kept = keep == "all" or (step == last if keep == "last" else step in keep)
        if kept and bare(settled.payload) != self.values[step]:
            self.broken(f"step {step} returned {bare(settled.payload)}, not {self.values[step]}")
        if settled.dropped == kept:
            self.broken(f"step {step} should {'not ' * kept}be dropped")
        how = [record.how for record in self.world.bodies.get((self.run.id, step), ())]
        if settled.from_cache:
            if policy.cache in {"off", "refresh"}:
                self.broken(f"step {step} is from the cache, its mode is {policy.cache}")
        elif "value" not in how:
            self.broken(f"step {step} completed, and its bodies ended as {how}")
        if not policy.idempotent and settled.from_cache:
            self.broken(f"step {step} is not idempotent and comes from the cache")

    def _judge_failed(self, step: int, settled: Settled, policy: Policy) -> None:
        error = settled.error
        if error is None:
            self.broken(f"step {step} failed without an error")
            return
        key = (self.run.id, step)
        how = [record.how for record in self.world.bodies.get(key, ())]
        sendings = self.world.sendings.get(key, ())
        lost = sum(sending.replica.dead for sending in sendings)
        lost_last = bool(sendings) and list(sendings)[-1].replica.dead
        legal = {
            "KeyError": how[-1:] == ["error"],
            "ConnectionResetError": how[-1:] == ["transient"] and self._gave_up(settled, policy),
            "ReplicaLostError": (policy.idempotent or not how) and lost > 0 and self._gave_up(settled, policy),
            "OutcomeUnknownError": not policy.idempotent and lost_last and self._may_have_begun(key),
            "OperationTimeoutError": settled.attempts > 1 and policy.timeout is not None,
            "OSError": self._tool_is(policy, "raises"),
            "ToolInitError": self._tool_is(policy, "crashes", "sometimes crashes", "hangs") or self._is_killed(policy),
            "InfeasibleResourcesError": self._is_infeasible(policy),
            "ResultLostError": self._is_remade_badly(),
            "ExecutionError": policy.cache == "only" and not sendings,
        }
        if not legal.get(error.type_name, False):
            text = f"{error.type_name} ({error.message}) after {settled.attempts} attempts"
            self.broken(f"step {step} failed with {text}; its bodies ended as {how}, {lost} replicas died with it")
        self._judge_code(step, error, settled)

    def _judge_code(self, step: int, error: ErrorInfo, settled: Settled) -> None:
        policy = self.request.policies[self.request.steps[step].policy]
        exhausted = 1 < settled.attempts >= policy.retry.attempts
        passing = ("ConnectionResetError", "ReplicaLostError", "OperationTimeoutError")
        # What must not run twice is tried again only where its body never began.
        tried = policy.idempotent or error.type_name == "ReplicaLostError"
        repeated = exhausted and tried and error.type_name in passing
        if error.code != ("E005" if repeated else "E003"):
            self.broken(f"step {step} failed with {error.type_name} as {error.code} after {settled.attempts} attempts")

    def _may_have_begun(self, key: tuple[str, int]) -> bool:
        """Whether a step began where it was sent last, or nobody can tell: there is nothing to read of that replica."""
        last = self.world.sendings[key][-1].replica
        return not last.is_legible or any(record.replica is last for record in self.world.bodies.get(key, ()))

    def _gave_up(self, settled: Settled, policy: Policy) -> bool:
        """Whether nothing is left to try."""
        wound_up = self.may_be_cancelled or self.request.deadline is not None
        return settled.attempts >= policy.retry.attempts or not policy.idempotent or wound_up

    def _is_remade_badly(self) -> bool:
        """Whether something went wrong while results of this run were made anew."""
        mine, world = f"{self.run.id}/", self.world
        bodies = [record for (run, _), records in world.bodies.items() if run.startswith(mine) for record in records]
        sent = [key for key in world.sendings if key[0].startswith(mine)]
        died = any(sending.replica.dead for key in sent for sending in world.sendings[key])
        limited = any(world.policy(*key).deadline is not None for key in sent)
        return died or limited or any(record.how != "value" for record in bodies)

    def _tool_is(self, policy: Policy, *constructors: str) -> bool:
        return any(
            tool.spec.key == policy.tool and tool.constructor in constructors for tool in self.world.scenario.tools
        )

    def _is_killed(self, policy: Policy) -> bool:
        """Whether chance may have killed replicas of a tool while they were made."""
        return bool(self.world.faults.kill) and bool(policy.tool)

    def _is_infeasible(self, policy: Policy) -> bool:
        return any(tool.spec.key == policy.tool and not tool.feasible for tool in self.world.scenario.tools)

    def _judge_timed_out(self, step: int, settled: Settled, policy: Policy) -> None:
        key = (self.run.id, step)
        longest = max(
            ((record.ended or self.world.loop.time()) - record.began for record in self.world.bodies.get(key, ())),
            default=0.0,
        )
        now = self.ends[step].time
        since_sent = max((now - sending.at for sending in self.world.sendings.get(key, ())), default=0.0)
        attempt = policy.timeout is not None and (
            longest >= policy.timeout - EXACT or (not self.world.calm and since_sent >= policy.timeout - EXACT)
        )
        own = policy.deadline is not None and now >= self._could_start(step) + policy.deadline - EXACT
        whole = self.request.deadline is not None and now >= self.began + self.request.deadline - EXACT
        if not (attempt or own or whole):
            self.broken(f"step {step} timed out too early: {settled.error and settled.error.message}")
        if settled.error is None or settled.error.code != "E002":
            self.broken(f"step {step} timed out with {settled.error}")

    def _could_start(self, step: int) -> float:
        """Return when everything had ended that a step waits for."""
        spec = self.request.steps[step]
        before = {one.place for one in spec.inputs if one.kind == "step"} | set(spec.after)
        if self.request.mode == "sequence" and step:
            before.add(step - 1)
        return max((self.ends[one].time for one in before if one in self.ends), default=self.began)

    def _judge_cancelled(self, step: int, settled: Settled, policy: Policy) -> None:
        error = settled.error
        if error is None:
            self.broken(f"step {step} was cancelled without an error")
            return
        found = _SKIPPED.match(error.message)
        if found is None:
            if not self.may_be_cancelled:
                self.broken(f"step {step} was cancelled and nobody asked for it: {error.message}")
            if error.code != "E004":
                self.broken(f"step {step} was cancelled as {error.code}")
            return
        cause = self.run.settled[int(found[1])]
        if cause is None or cause.status == "completed":
            self.broken(f"step {step} was skipped because of step {found[1]}, which completed")
        needs = {one.place for one in self.request.steps[step].inputs if one.kind == "step"}
        unmet = any((needed := self.run.settled[one]) is None or needed.status != "completed" for one in needs)
        if error.code == "E007" and not unmet:
            self.broken(f"step {step} was skipped as E007, and what it reads is there")
        if policy.idempotent is False and self.world.starts(self.run.id, step):
            self.broken(f"step {step} was skipped, and it began")

    def _judge_deadline(self) -> None:
        """What is limited ends in time."""
        world, grace = self.world, self.world.scenario.settings.grace
        slack = 2 * grace + 0.2 if world.calm else 6 * grace + 0.2 + 20.0 * (world.faults.slow_message > 0)
        deadline = self.request.deadline
        if deadline is not None and world.loop.time() > self.began + deadline + slack:
            took = world.loop.time() - self.began
            self.broken(f"ended {took:.3f} s after it began, its deadline is {deadline:g} s")
        for step in range(len(self.request.steps)):
            own = self.request.policies[self.request.steps[step].policy].deadline
            if own is None or step not in self.ends:
                continue
            took = self.ends[step].time - self._could_start(step)
            if took > own + slack:
                self.broken(f"step {step} ended {took:.3f} s after it could start, its deadline is {own:g} s")
