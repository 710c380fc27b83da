"""The truth of a simulation: what really began and ended, where, and which promise was broken on the way."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from aiecs_ray.testing.host_model import LargeValue

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from aiecs_ray.actors.coordinator import Coordinator
    from aiecs_ray.actors.run import Run
    from aiecs_ray.messages import Item, Policy, RunRequest, Work
    from aiecs_ray.testing.scenario import OperationPlan, RunPlan, Scenario
    from aiecs_ray.testing.sim_replica import SimReplica
    from aiecs_ray.testing.virtual_time import VirtualLoop

INCARNATION = "sim"


class BodyRecord:
    """One body that began: where, when, and how it ended."""

    __slots__ = ("began", "ended", "how", "replica")

    def __init__(self, replica: SimReplica, began: float) -> None:
        self.replica, self.began = replica, began
        self.ended: float | None = None
        self.how = "runs"
        """"runs", "value", "error", "transient", "cancelled" or "killed"."""


class Sending:
    """One step of a call that was sent to a replica."""

    __slots__ = ("at", "company", "first", "replica")

    def __init__(self, replica: SimReplica, at: float, *, first: bool, company: int) -> None:
        self.replica, self.at, self.first, self.company = replica, at, first, company


class World:
    """What is true in one seed, and what is broken.

    Args:
        scenario: what the seed decided.
        loop: its time.
        rng: what it decides on the way.
        traced: whether to write down what happens.
    """

    def __init__(self, scenario: Scenario, loop: VirtualLoop, rng: random.Random, *, traced: bool) -> None:
        self.scenario, self.loop, self.rng = scenario, loop, rng
        self.faults = scenario.faults
        self.operations: dict[tuple[str, str], OperationPlan] = scenario.operations
        self.plans: dict[str, RunPlan] = {f"{INCARNATION}-{plan.request.token}": plan for plan in scenario.runs}
        self.requests: dict[str, RunRequest] = {run_id: plan.request for run_id, plan in self.plans.items()}
        self.coordinator: Coordinator
        self.runs: dict[str, Run] = {}
        self.bodies: dict[tuple[str, int], list[BodyRecord]] = {}
        self.sendings: dict[tuple[str, int], list[Sending]] = {}
        self.grants: dict[str, list[float]] = {}
        self.inside: dict[str, int] = {}
        self.replicas: list[SimReplica] = []
        self.violations: list[str] = []
        self.trace: list[str] | None = [] if traced else None
        self.calm = not (scenario.faults.slow_message or scenario.faults.lost_answer or scenario.faults.mute)
        """Whether every question is answered at once."""

    # --- chance ------------------------------------------------------------------------------------------

    def happens(self, probability: float) -> bool:
        """Decide whether something of a probability happens now; impossible things cost no randomness."""
        return probability > 0.0 and self.rng.random() < probability

    def latency(self) -> float:
        """Return how long a message takes."""
        if self.happens(self.faults.slow_message):
            return self.rng.uniform(0.0, 2.0)
        return self.rng.uniform(0.0001, 0.001)

    # --- what is said ------------------------------------------------------------------------------------

    def note(self, text: str, *args: object) -> None:
        """Write down what happens, where somebody wants to read it."""
        if self.trace is not None:
            self.trace.append(f"{self.loop.time():9.4f}  {text % args if args else text}")

    def broken(self, text: str) -> None:
        """A promise was broken."""
        self.note("BROKEN: " + text.replace("%", "%%"))
        self.violations.append(f"at {self.loop.time():.4f} s: {text}")

    def find(self, run_id: str) -> Run | None:
        """Return a run, also one that makes results of another anew and is known to nobody but that."""
        outer_id, inside, _ = run_id.rpartition("/")
        if not inside:
            return self.coordinator._runs.get(run_id) or self.runs.get(run_id)
        outer = self.find(outer_id)
        inner = () if outer is None else outer.remaking._inner
        return next((run for run in inner if run.id == run_id), self.runs.get(run_id))

    def plan_of(self, run_id: str) -> RunPlan:
        """Return what was planned of a run, or of the one that it makes results anew for."""
        return self.plans[run_id.partition("/")[0]]

    def request_of(self, run_id: str) -> RunRequest:
        """Return the request of a run."""
        if run_id not in self.requests:
            run = self.find(run_id)
            assert run is not None, f"nobody knows of {run_id}"
            self.requests[run_id] = run.request
        return self.requests[run_id]

    def policy(self, run_id: str, step: int) -> Policy:
        """Return how a step is to be run."""
        request = self.request_of(run_id)
        return request.policies[request.steps[step].policy]

    # --- what happens ------------------------------------------------------------------------------------

    def sent(self, replica: SimReplica, work: Work) -> None:
        """A call left the coordinator."""
        now = self.loop.time()
        self.note("send   %s work %s of %s: %s", replica, work.id, work.run, [item.step for item in work.items])
        limits = self.request_of(work.run).limits
        for place, item in enumerate(work.items):
            sending = Sending(replica, now, first=place == 0, company=len(work.items))
            self.sendings.setdefault((work.run, item.step), []).append(sending)
        if limits.rate is not None:
            self._grant(limits.name or work.run, limits.rate, [now] * len(work.items))

    def _grant(self, name: str, rate: float, times: Sequence[float]) -> None:
        grants = self.grants.setdefault(name, [])
        grants.extend(times)
        most = -int(-rate // 1)
        if len(grants) > most and grants[-1] - grants[-1 - most] < 1.0 - 1e-9:
            self.broken(f"limit {name!r} let more than {rate:g} operations start in one second")

    def began(self, replica: SimReplica, work: Work, item: Item) -> BodyRecord:
        """A body begins."""
        key, now = (work.run, item.step), self.loop.time()
        record = BodyRecord(replica, now)
        if self.policy(*key).is_async:
            self._judge_company(replica)
        before = self.bodies.setdefault(key, [])
        self.note("begin  %s step %s of %s", replica, item.step, work.run)
        self._judge_start(key, before)
        before.append(record)
        limits = self.request_of(work.run).limits
        if limits.concurrency is not None:
            name = limits.name or work.run
            self.inside[name] = self.inside.get(name, 0) + 1
            if self.inside[name] > limits.concurrency:
                self.broken(f"limit {name!r} has {self.inside[name]} operations inside, {limits.concurrency} allowed")
        return record

    def _judge_company(self, replica: SimReplica) -> None:
        """A replica with async operations runs no more of them side by side than it may."""
        running = 1 + sum(
            record.replica is replica and record.ended is None and self.policy(*key).is_async
            for key, records in self.bodies.items()
            for record in records
        )
        if running > replica.most:
            self.broken(f"{running} async operations run side by side in {replica}, {replica.most} may")

    def _judge_start(self, key: tuple[str, int], before: Sequence[BodyRecord]) -> None:
        run_id, step = key
        name = f"step {step} of {run_id}"
        run = self.find(run_id)
        if run is None:
            self.broken(f"{name} began, but its run is not known")
            return
        self.runs[run_id] = run
        if run.settled[step] is not None:
            self.broken(f"{name} began after it had ended as {run.settled[step].status}")  # type: ignore[union-attr]
        if (before or run_id not in self.plans) and not self.policy(run_id, step).idempotent:
            self.broken(f"{name} must not run twice and began again")
        if any(record.ended is None for record in before):
            self.broken(f"{name} began while another attempt of it was running")
        self._judge_order(run, step, name)

    def _judge_order(self, run: Run, step: int, name: str) -> None:
        request = self.request_of(run.id)
        if request.mode == "sequence" and step:
            earlier = self.bodies.get((run.id, step - 1), ())
            over = run.settled[step - 1] is not None or any(record.ended is not None for record in earlier)
            if not over or any(record.ended is None for record in earlier):
                self.broken(f"{name} began before step {step - 1} had ended")
        for needed in request.steps[step].after:
            settled = run.settled[needed]
            well = any(record.how == "value" for record in self.bodies.get((run.id, needed), ()))
            if not (well or (settled is not None and settled.status == "completed")):
                self.broken(f"{name} began, but step {needed} that it depends on has not completed")

    def ended(self, record: BodyRecord, work: Work, item: Item, how: str) -> None:
        """A body ended."""
        if record.ended is not None:
            return
        record.ended, record.how = self.loop.time(), how
        self.note("end    %s step %s of %s: %s", record.replica, item.step, work.run, how)
        limits = self.request_of(work.run).limits
        if limits.concurrency is not None:
            self.inside[limits.name or work.run] -= 1
        timeout = self.policy(work.run, item.step).timeout
        if timeout is not None:
            self._judge_time(record, timeout, f"step {item.step} of {work.run}")

    def _judge_time(self, record: BodyRecord, timeout: float, name: str) -> None:
        assert record.ended is not None
        grace = self.scenario.settings.grace
        slack = 0.1 if self.calm else 0.1 + 3 * grace + 12.0 * (self.faults.slow_message > 0)
        if record.ended - record.began > timeout + grace + slack:
            took = record.ended - record.began
            self.broken(f"{name} ran for {took:.3f} s, its timeout is {timeout:g} s and the grace period {grace:g} s")

    def running(self, run_id: str) -> list[int]:
        """Return the steps of a run whose bodies run now, also of what makes results of it anew."""
        return [
            step
            for (run, step), records in self.bodies.items()
            if run.partition("/")[0] == run_id and any(record.ended is None for record in records)
        ]

    def starts(self, run_id: str, step: int) -> int:
        """Return how often the body of a step began."""
        return len(self.bodies.get((run_id, step), ()))


def value_of(policy: Policy, salt: object, inputs: Sequence[object], user: str, task: str) -> int:
    """Return the one right result of an operation: it depends on everything that it may depend on."""
    owner = {"task": (user, task), "user": (user,), "global": ()}[policy.scope]
    return zlib.crc32(repr((policy.spec, salt, tuple(map(bare, inputs)), owner)).encode())


def bare(payload: Any) -> Any:
    """Return the value of a payload, whether it travels by reference or not."""
    return payload.value if type(payload) is LargeValue else payload


def right_values(request: RunRequest) -> list[int]:
    """Return what each step of a run must return if it completes."""
    values: list[int] = []
    for step in request.steps:
        inputs = [values[one.place] if one.kind == "step" else request.objects[one.place] for one in step.inputs]
        policy = request.policies[step.policy]
        values.append(value_of(policy, step.params, inputs, request.user_id, request.task_id))
    return values
