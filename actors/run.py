"""One run inside the coordinator: performs what its plan says, and keeps what came of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiecs_ray.actors.events import EventLog
from aiecs_ray.actors.lookups import Lookups
from aiecs_ray.actors.services import Services, Ticket
from aiecs_ray.actors.tasks import Tasks
from aiecs_ray.messages import ErrorInfo, EventKind, Item, RunRequest, Settled, Work
from aiecs_ray.model import TaskStatus
from aiecs_ray.plan import Plan
from aiecs_ray.plan_values import Actions, Ending, PlanStep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiecs_ray.backend import CacheEntry
    from aiecs_ray.messages import Input, Outcome, Policy

_KINDS = {
    TaskStatus.COMPLETED: EventKind.STEP_COMPLETED,
    TaskStatus.FAILED: EventKind.STEP_FAILED,
    TaskStatus.TIMED_OUT: EventKind.STEP_TIMED_OUT,
    TaskStatus.CANCELLED: EventKind.STEP_CANCELLED,
}
CHAIN_LIMIT = 256
"""Steps in one segment."""


class Run:
    """Drives one plan. All methods run on the coordinator's event loop."""

    def __init__(self, run_id: str, request: RunRequest, services: Services) -> None:
        self.id = run_id
        self.request = request
        self.owner = request.user_id
        self.log = EventLog(run_id, limit=services.settings.event_limit, clock=services.clock)
        self.settled: list[Settled | None] = [None] * len(request.steps)
        self.finished = asyncio.Event()
        self.status = TaskStatus.RUNNING
        self.ended_at: float | None = None
        self.bytes = 0
        self._services = services
        self._began = services.clock()
        self._payloads: dict[int, Any] = {}
        self._sizes: dict[int, tuple[int, str, float]] = {}
        self._hits: set[int] = set()
        self._lookups = Lookups(request, services.cache, self._payloads, services.token)
        self._stopped_by: TaskStatus | None = None
        self._overdue: dict[int, ErrorInfo] = {}
        self._progress: dict[int, tuple[float, float | None, str]] = {}
        self.alone: set[int] = set()
        """Steps that were under way with others when a replica died: they are sent again one by one."""
        self._tasks = Tasks()
        self._timers: list[asyncio.TimerHandle] = []
        """Deadlines and waits; cancelled at the end, for one far away would keep the run in memory until then."""
        policies = request.policies
        self.plan = Plan(
            [_plan_step(step.inputs, step.after, policies[step.policy]) for step in request.steps],
            random=services.random,
            sequence=request.mode == "sequence",
            stop_on_failure=request.stop_on_failure,
            keep=request.keep,
        )

    # --- what the coordinator says -----------------------------------------------------------------------

    def begin(self) -> None:
        """Start; a run of no steps is finished at once."""
        if self._services.gate is not None:
            self._services.gate.opened_to(1)
        self.log.add(EventKind.RUN_STARTED, data={"steps": len(self.request.steps), "mode": self.request.mode})
        if self.request.deadline is not None:
            self._call_later(self.request.deadline, self._expire)
        if self.request.mode == "sequence" and len(self.request.steps) > 1:
            self._tasks.spawn(self._begin_informed())
        else:
            self._perform(self.plan.begin())

    async def _begin_informed(self) -> None:
        # The first step could start now: a cache that is slow to answer must not give it more time.
        self._set_deadlines([0])
        await self._lookups.ask_early()
        self._perform(self.plan.begin())

    def cancel(self, message: str = "Cancelled") -> None:
        """Start nothing more and stop what runs; ``finished`` is set once nothing of the run can happen any more."""
        if not self.plan.done:
            self._wind_up(TaskStatus.CANCELLED, self.plan.cancel(message), None)

    def _expire(self) -> None:
        if not self.plan.done:
            text = f"Operation timed out after {self.request.deadline:g}s (deadline of the run)"
            error = ErrorInfo("E002", text, "OperationTimeoutError", ("OperationTimeoutError",))
            self._wind_up(TaskStatus.TIMED_OUT, self.plan.expire(text), error)

    def _wind_up(self, status: TaskStatus, actions: Actions, verdict: ErrorInfo | None) -> None:
        self._stopped_by = status
        self._services.replicas.withdraw(self)
        if self._services.gate is not None:
            self._services.gate.withdraw(self)
        stop, actions.stop = actions.stop, []
        self._perform(actions)
        if stop:
            self._services.replicas.stop(self, stop, verdict=verdict)

    # --- what the replicas say ---------------------------------------------------------------------------

    def policy(self, step: int) -> Policy:
        """Return how a step is to be run."""
        return self.request.policies[self.request.steps[step].policy]

    def dispatched(self, steps: Sequence[int], *, at_once: bool) -> None:
        """Steps were sent to a replica; with ``at_once``, one that does nothing else."""
        self.plan.handed(steps)
        if at_once:
            self.note_started(steps[0])
        if self._services.gate is not None:
            for step in steps:
                self._services.gate.dispatched(self, step)

    def note_started(self, step: int) -> None:
        """A step has started, as far as can be told from outside."""
        self.plan.started(step)
        self.log.add(EventKind.STEP_STARTED, step, {"attempt": self.plan.tries(step), "spec": self.policy(step).spec})

    def outcome(self, outcome: Outcome, verdict: ErrorInfo | None) -> None:
        """A replica reported how an item ended; ``verdict`` is set when it had been told to stop for its time."""
        step = outcome.step
        if outcome.progress is not None:
            self.report(step, outcome.progress)
        if outcome.kind == "value":
            self._keep(step, outcome.payload, outcome.size, outcome.summary, outcome.seconds)
            self._lookups.store(step, outcome.payload, outcome.size, outcome.summary, outcome.seconds)
            actions = self.plan.succeeded(step)
        elif outcome.kind == "cancelled":
            actions = self._timed_out(step, verdict) if verdict is not None else self.plan.stopped(step)
        else:
            assert outcome.error is not None
            self._sizes[step] = (0, "", outcome.seconds)
            actions = self.plan.failed(step, outcome.error)
        self._perform(actions)

    def report(self, step: int, progress: tuple[float, float | None, str]) -> None:
        """An operation reported its progress; what comes after its outcome is of no interest."""
        if self.settled[step] is None and self._progress.get(step) != progress:
            self._progress[step] = progress
            done, total, message = progress
            self.log.add(EventKind.PROGRESS, step, {"done": done, "total": total, "message": message[:1000]})

    def returned(self, step: int) -> None:
        """A step came back without having begun."""
        if step in self._overdue:
            self._perform(self._timed_out(step, self._overdue[step]))
        else:
            self._perform(self.plan.returned(step))

    def _timed_out(self, step: int, verdict: ErrorInfo) -> Actions:
        final = step in self._overdue or self._stopped_by is not None
        return self.plan.timed_out(step, verdict, final=final)

    def _expire_step(self, step: int, deadline: float) -> None:
        if self.settled[step] is not None:
            return
        text = f"Operation timed out after {deadline:g}s (deadline of the operation)"
        error = self._overdue[step] = ErrorInfo("E002", text, "OperationTimeoutError", ("OperationTimeoutError",))
        actions = self.plan.overdue(step, error)
        stop, actions.stop = actions.stop, []
        self._perform(actions)
        if stop:
            self._services.replicas.stop(self, stop, verdict=error)

    def lost(self, step: int, error: ErrorInfo, verdict: ErrorInfo | None, *, started: bool | None) -> None:
        """The replica died with a step."""
        self.alone.add(step)
        if verdict is not None:
            actions = self._timed_out(step, verdict)
        else:
            actions = self.plan.lost(step, error, started=started)
        self._perform(actions)

    def refused(self, step: int, error: ErrorInfo) -> None:
        """A step cannot be run."""
        self._perform(self.plan.refused(step, error))

    # --- work --------------------------------------------------------------------------------------------

    def chain_from(self, step: int) -> list[int]:
        """Return ``step`` and what can follow it in one segment on the same tool."""
        tool = self.policy(step).tool

        if step in self.alone:
            return [step]

        def accept(following: int) -> bool:
            policy, files = self.policy(following), self.request.steps[following].files
            if policy.tool != tool or self._services.gate is not None or following in self.alone:
                return False
            # In a segment nothing would ask the cache, and nothing would count a deadline from when the step can start.
            if policy.cache == "only" or policy.deadline is not None:
                return False
            # A step that the cache might answer leaves the segment, unless its key needs a result of the segment.
            if not self._lookups.possible(following) or self._lookups.is_missing(following):
                return True
            return self._waits_for_result(following) and not files

        return self.plan.chain(step, accept, CHAIN_LIMIT)

    def _waits_for_result(self, step: int) -> bool:
        return any(
            source.kind == "step" and source.place not in self._payloads for source in self.request.steps[step].inputs
        )

    def compose(self, work_id: int, steps: Sequence[int], *, chain: bool) -> Work:
        """Return the message that runs ``steps`` in one call to a replica."""
        values: list[Any] = []
        places: dict[tuple[str, int], int] = {}
        inside = set(steps) if chain else set()
        items = []
        for step in steps:
            spec, policy = self.request.steps[step], self.policy(step)
            inputs = []
            for source in spec.inputs:
                if source.kind == "step" and source.place in inside and source.place not in self._payloads:
                    inputs.append(("item", source.place, source.path, source.text))
                    continue
                place = (source.kind, source.place)
                if place not in places:
                    places[place] = len(values)
                    values.append(self._source(source))
                inputs.append(("value", places[place], source.path, source.text))
            attempt = self.plan.tries(step) + 1
            items.append(Item(step, attempt, policy.operation, spec.params, tuple(inputs), policy.idempotent))  # type: ignore[arg-type]  # the literals are right
        user, task = self.request.user_id, self.request.task_id
        return Work(work_id, self.id, tuple(items), tuple(values), chain and len(items) > 1, user, task)

    def _source(self, source: Input) -> Any:
        return self._payloads[source.place] if source.kind == "step" else self.request.objects[source.place]

    # --- performing ----------------------------------------------------------------------------------------

    def _perform(self, actions: Actions) -> None:
        for ending in actions.ended:
            self._record(ending)
        for ending in actions.ended:
            # Not before all are recorded: the gate must not let through what has just ended.
            self._leave(ending.step)
        for step in actions.free:
            self._drop(step)
        if actions.ready:
            self._set_deadlines(actions.ready)
            if self._services.gate is None:
                self.admit(actions.ready)
            else:
                self._services.gate.enter(self, actions.ready)
        for step, seconds in actions.delayed:
            self._leave(step)
            self.log.add(EventKind.STEP_RETRYING, step, {"attempt": self.plan.tries(step), "seconds": seconds})
            self._call_later(seconds, self._due, step)
        if self.plan.done and not self.finished.is_set():
            self._finish()

    def _set_deadlines(self, steps: Sequence[int]) -> None:
        """The deadline of an operation counts from when it could first start."""
        for step in steps:
            deadline = self.policy(step).deadline
            if deadline is not None and not self.plan.tries(step):
                self._call_later(deadline, self._expire_step, step, deadline)

    def _call_later(self, seconds: float, function: Callable[..., None], *args: Any) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, function, *args))

    def _due(self, step: int) -> None:
        self._perform(self.plan.due(step))

    def _leave(self, step: int) -> None:
        if self._services.gate is not None:
            self._services.gate.left(self, step)

    def _record(self, ending: Ending) -> None:
        step, error = ending.step, ending.error
        size, summary, seconds = self._sizes.pop(step, (0, "", 0.0))
        self._progress.pop(step, None)
        from_cache = step in self._hits
        payload = self._payloads.get(step) if ending.status is TaskStatus.COMPLETED else None
        tries = self.plan.tries(step)
        status = ending.status.value
        self.settled[step] = Settled(status, payload, error, from_cache, seconds, tries, size)
        data: dict[str, Any] = {"spec": self.policy(step).spec, "seconds": seconds, "attempts": tries}
        if error is not None:
            data.update(code=error.code, message=error.message)
        else:
            data.update(from_cache=from_cache, size=size, summary=summary)
            if reason := self.request.steps[step].uncacheable:
                data["uncacheable"] = reason
        kind = EventKind.STEP_SKIPPED if ending.skipped else _KINDS[ending.status]
        self.log.add(kind, step, data)

    def _drop(self, step: int) -> None:
        self._payloads.pop(step, None)
        settled = self.settled[step]
        if settled is not None:
            self.bytes -= settled.size
            self.settled[step] = settled._replace(payload=None, dropped=True)

    def _finish(self) -> None:
        statuses = [settled.status for settled in self.settled if settled is not None]
        if self._stopped_by is not None and any(status != "completed" for status in statuses):
            self.status = self._stopped_by
        else:
            failed = any(status != "completed" for status in statuses)
            self.status = TaskStatus.FAILED if failed else TaskStatus.COMPLETED
        self.ended_at = self._services.clock()
        counts = {status: statuses.count(status) for status in dict.fromkeys(statuses)}
        seconds = self.ended_at - self._began
        self.log.add(EventKind.RUN_FINISHED, data={"status": self.status.value, "counts": counts, "seconds": seconds})
        self.log.close()
        self.request = self.request.without_inputs()
        self._payloads.clear()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._overdue or (self.request.stop_on_failure and self.status is not TaskStatus.COMPLETED):
            # Steps that ended while they waited for a replica: their tickets would wait on, and ask for replicas.
            self._services.replicas.withdraw(self)
        self._services.replicas.forget(self)
        if self._services.gate is not None:
            self._services.gate.opened_to(-1)
        self.finished.set()

    # --- the cache -----------------------------------------------------------------------------------------

    def admit(self, steps: list[int]) -> None:
        """Look up in the cache what may be there, and queue the rest."""
        look_up, run = [], []
        for step in steps:
            if self.settled[step] is not None:
                self._leave(step)
            elif (refusal := self.request.steps[step].refusal) is not None:
                # Not at once: the steps after it are admitted in turn, and a run may have any number of them.
                asyncio.get_running_loop().call_soon(self.refused, step, refusal)
            elif self._lookups.possible(step) and not self.plan.tries(step):
                look_up.append(step)
            else:
                run.append(step)
        if look_up:
            self._tasks.spawn(self._look_up(look_up))
        self._queue(run)

    def _queue(self, steps: Sequence[int]) -> None:
        by_tool: dict[str, list[Ticket]] = {}
        for step in steps:
            by_tool.setdefault(self.policy(step).tool, []).append(Ticket(self, step))
        for tool, tickets in by_tool.items():
            self._services.replicas.enqueue(tool, tickets)

    async def _look_up(self, steps: list[int]) -> None:
        hits = await self._lookups.find(steps)
        misses = []
        for step in steps:
            if self.settled[step] is not None:
                continue
            if (entry := hits.get(step)) is not None:
                self._hit(step, entry)
            elif self.policy(step).cache == "only":
                text = f"{self.policy(step).spec} is not in the cache, and cache='only' forbids running it"
                self.refused(step, ErrorInfo("E003", text, "ExecutionError", ("ExecutionError",)))
            else:
                misses.append(step)
        # One of them may have ended the others, by a failure after which nothing starts.
        self._queue([step for step in misses if self.settled[step] is None])

    def _hit(self, step: int, entry: CacheEntry) -> None:
        self._hits.add(step)
        if self._services.gate is not None:
            self._services.gate.dispatched(self, step)
        self._keep(step, entry.payload, entry.size, entry.summary, 0.0)
        self._perform(self.plan.succeeded(step))

    def _keep(self, step: int, payload: Any, size: int, summary: str, seconds: float) -> None:
        self._payloads[step] = payload
        self._sizes[step] = (size, summary, seconds)
        self.bytes += size


def _plan_step(inputs: tuple[Input, ...], after: tuple[int, ...], policy: Policy) -> PlanStep:
    needs = tuple({source.place: None for source in inputs if source.kind == "step"}) if inputs else ()
    return PlanStep(policy.spec, needs, after, policy.idempotent, policy.retry)
