"""One run inside the coordinator: performs what its plan says, and keeps what came of it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from aiecs_ray.actors.admission import Admission
from aiecs_ray.actors.answers import Answers
from aiecs_ray.actors.events import EventLog
from aiecs_ray.actors.lookups import Lookups
from aiecs_ray.actors.planning import plan_of
from aiecs_ray.actors.remaking import Remaking
from aiecs_ray.actors.services import Services, Ticket
from aiecs_ray.actors.step_records import StepRecords
from aiecs_ray.actors.tasks import Tasks
from aiecs_ray.messages import ErrorInfo, EventKind, RunRequest
from aiecs_ray.model import TaskStatus
from aiecs_ray.outlines import told
from aiecs_ray.plan_values import Actions, Ending, State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiecs_ray.actors.joins import Place
    from aiecs_ray.backend import CacheEntry
    from aiecs_ray.deaths import Fate
    from aiecs_ray.messages import Outcome, Policy


class Run:
    """Drives one plan. All methods run on the coordinator's event loop."""

    def __init__(self, run_id: str, request: RunRequest, services: Services) -> None:
        self.id = run_id
        self.request = request
        self.owner = request.user_id or f"client {request.client}"
        """Whose turn it is when users take turns; a client that names no user is one."""
        self.log = EventLog(run_id, limit=services.settings.event_limit, clock=services.clock)
        self.finished = asyncio.Event()
        self.status = TaskStatus.RUNNING
        self.ended_at: float | None = None
        self.asked_at = 0.0
        self._services = services
        self._policies = [request.policies[step.policy] for step in request.steps]
        self.began = services.clock()
        self.remaking = Remaking(self, services.begin)
        self.records = StepRecords(len(request.steps), self.log, self.remaking.left_out)
        self.settled, self.payloads = self.records.settled, self.records.payloads
        lifetime = services.settings.cache_ttl or None
        lookups = Lookups(
            request, services.cache, self.payloads, services.token, clock=services.clock, lifetime=lifetime
        )
        self._answers = Answers(self, lookups, services.joins)
        self._admission = Admission(self, services.guards, request.limits)
        self._stopped_by: TaskStatus | None = None
        self._overdue: dict[int, ErrorInfo] = {}
        self.alone: set[int] = set()
        """Steps that were under way with others when a replica died: they are sent again one by one."""
        self._tasks = Tasks()
        self._timers: list[asyncio.TimerHandle] = []
        """Deadlines and waits; cancelled at the end, or one far away would keep the run in memory until then."""
        self.plan = plan_of(request, services.random)

    # --- what the coordinator says -----------------------------------------------------------------------

    def begin(self) -> None:
        """Start; a run of no steps is finished at once."""
        data: dict[str, Any] = {"steps": len(self.request.steps), "mode": self.request.mode}
        if (plan := told(self.request)) is not None:
            data["plan"] = plan
        self._services.replicas.expect(self)
        self.log.add(EventKind.RUN_STARTED, data=data)
        if self.request.deadline is not None:
            self._call_later(self.request.deadline, self._expire)
        if self.request.mode == "sequence" and len(self.request.steps) > 1:
            self._tasks.spawn(self._begin_informed())
        else:
            self._perform(self.plan.begin())

    async def _begin_informed(self) -> None:
        # The first step could start now: a cache that is slow to answer must not give it more time.
        self._set_deadlines([0])
        await self._answers.ask_early()
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
        self.remaking.cancel()
        self._services.replicas.withdraw(self)
        self._admission.withdraw()
        stop, actions.stop = actions.stop, []
        self._perform(actions)
        if stop:
            self._services.replicas.stop(self, stop, verdict=verdict)

    # --- what the replicas say ---------------------------------------------------------------------------

    def is_limited(self, step: int) -> bool:
        """Whether a step has to pass limits or a breaker before it is queued."""
        return self._admission.stands_alone(step)

    def policy(self, step: int) -> Policy:
        """Return how a step is to be run."""
        return self._policies[step]

    def is_paced(self, step: int) -> bool:
        """Whether the starts of a step are counted against a rate."""
        return self._admission.is_paced(step)

    def key(self, step: int) -> str | None:
        """Return the cache key of a step, where it has one."""
        return self._answers.key(step)

    def invalidated(self, tags: dict[str, str]) -> None:
        """Cached results that carry all of ``tags`` are deleted."""
        if not self.finished.is_set():
            self._answers.invalidated(tags)

    def dispatched(self, steps: Sequence[int], *, at_once: bool, to: tuple[str, str] = ("", "")) -> None:
        """Steps were sent to a replica on a node (``to``); with ``at_once``, one that does nothing else."""
        self.plan.handed(steps)
        self.records.sent(steps, to)
        if at_once:
            self.note_started(steps[0])
        self._admission.dispatched(steps)

    def note_started(self, step: int) -> None:
        """A step has started, as far as can be told from outside."""
        self.plan.started(step)
        self._answers.started(step)
        self.log.add(EventKind.STEP_STARTED, step, {"attempt": self.plan.tries(step), "spec": self.policy(step).spec})

    def completed(self, outcomes: Sequence[Outcome]) -> None:
        """A replica reported the values of items, in the order in which they were made."""
        waiting: list[tuple[Place, CacheEntry]] = []
        for outcome in outcomes:
            step = outcome.step
            if outcome.progress is not None:
                self.records.report(step, outcome.progress)
            self._admission.ended(step, None)
            self.records.keep(step, outcome.payload, outcome.size, outcome.summary, outcome.seconds)
            entry = self._answers.store(outcome)
            for place in self._answers.completed(step):
                assert entry is not None
                waiting.append((place, entry))
        self._perform(self.plan.succeeded(*[outcome.step for outcome in outcomes]))
        for (answers, step), entry in waiting:
            answers.joined(step, entry)

    def failed(self, outcome: Outcome, verdict: ErrorInfo | None, unreadable: Any = None) -> None:
        """A replica reported that an item ended without a value.

        ``verdict`` is set when it had been told to stop for its time, ``unreadable`` when that input was lost.
        """
        step = outcome.step
        if outcome.progress is not None:
            self.records.report(step, outcome.progress)
        if outcome.lost is not None and self.remaking.wait_for(step, outcome.lost, unreadable):
            return
        if outcome.kind == "cancelled":
            actions = self._timed_out(step, verdict) if verdict is not None else self.plan.stopped(step)
            self._stand_back(step)
        else:
            assert outcome.error is not None
            self.records.failed(step, outcome.error, outcome.seconds)
            self._admission.ended(step, outcome.error)
            actions = self.plan.failed(step, outcome.error)
        self._perform(actions)

    def resume(self, steps: Sequence[int]) -> None:
        """Go on with steps that waited for something beside the plan, and end the run if that was all."""
        self._perform(Actions(ready=[step for step in steps if self.settled[step] is None]))

    def set_aside(self, step: int) -> list[int]:
        """Take back a step that could not begin for want of an input; return it if the plan still wants it run."""
        actions = self.plan.returned(step)
        ready, actions.ready = actions.ready, []
        self._admission.left(step)
        self._perform(actions)
        return ready

    def returned(self, step: int) -> None:
        """A step came back without having begun."""
        if step in self._overdue:
            self._perform(self._timed_out(step, self._overdue[step]))
        else:
            actions = self.plan.returned(step)
            self._stand_back(step)
            self._perform(actions)

    def _stand_back(self, step: int) -> None:
        """A step that waits for others again must not be waited for: two runs could wait for each other."""
        if self.plan.state(step) is State.WAITING:
            self._answers.left(step)

    def _timed_out(self, step: int, verdict: ErrorInfo) -> Actions:
        self.records.failures[step] = verdict
        final = step in self._overdue or self._stopped_by is not None
        if self._stopped_by is None:
            self._admission.ended(step, verdict)
        return self.plan.timed_out(step, verdict, final=final)

    def _expire_step(self, step: int, deadline: float) -> None:
        if self.settled[step] is not None:
            return
        text = f"Operation timed out after {deadline:g}s (deadline of the operation)"
        if (failure := self.records.failures.get(step)) is not None:
            text += f"; the attempt before failed: {failure.message}"
        error = self._overdue[step] = ErrorInfo("E002", text, "OperationTimeoutError", ("OperationTimeoutError",))
        actions = self.plan.overdue(step, error)
        stop, actions.stop = actions.stop, []
        self._perform(actions)
        if stop:
            self._services.replicas.stop(self, stop, verdict=error)

    def lost(self, step: int, error: ErrorInfo, verdict: ErrorInfo | None, fate: Fate) -> None:
        """The replica died with a step; with ``verdict`` it was killed because the time of the step was over."""
        self.records.failures[step] = error
        if verdict is not None and fate.suspect:
            self._perform(self._timed_out(step, verdict))
            return
        if fate.suspect:
            self.alone.add(step)
        if fate.guilty and self._stopped_by is None:
            self._admission.ended(step, error)
        actions = self.plan.lost(step, error, started=fate.started, guilty=fate.guilty)
        self._stand_back(step)
        self._perform(actions)

    def again(self, steps: list[int]) -> None:
        """Steps that wait for a replica have to pass their limits and breakers again."""
        self._admission.again(steps)

    def refused(self, step: int, error: ErrorInfo) -> None:
        """A step cannot be run."""
        self._perform(self.plan.refused(step, error))

    def rejected(self, step: int, error: ErrorInfo, seconds: float) -> None:
        """A circuit breaker did not let a step through; it may for ``seconds`` not."""
        self._perform(self.plan.rejected(step, error, seconds))

    def claim(self, step: int) -> bool:
        """A replica has room for a step: return whether it is still to be run."""
        return self.plan.state(step) is State.READY and self._answers.claim(step)

    def is_stored(self, step: int) -> bool:
        """Whether the result of a step may go to the cache, or to identical steps that wait for it."""
        return self._answers.possible(step) and self.policy(step).ttl != 0

    def expects_answer(self, step: int) -> bool:
        """Whether a step may be answered by the cache, or by an identical one that is under way."""
        return self._answers.expected(step)

    # --- performing ----------------------------------------------------------------------------------------

    def _perform(self, actions: Actions) -> None:
        for ending in actions.ended:
            self._record(ending)
        self._services.backlog.ended(len(actions.ended))
        for ending in actions.ended:
            # Not before all are recorded: no limit must let through what has just ended.
            self._admission.left(ending.step)
        for step in actions.free:
            self.records.drop(step)
        if actions.ready:
            self._set_deadlines(actions.ready)
            self.let_in(actions.ready)
        for step, seconds in actions.delayed:
            self._admission.left(step)
            data: dict[str, Any] = {"attempt": self.plan.tries(step), "seconds": seconds}
            if (failure := self.records.failures.pop(step, None)) is not None:
                data.update(code=failure.code, message=failure.message)
            self.log.add(EventKind.STEP_RETRYING, step, data)
            self._call_later(seconds, self._due, step)
        if self.plan.done and not self.finished.is_set():
            if self.remaking.active:
                # Whoever waited for it has ended.
                self.remaking.cancel()
            else:
                self._finish()

    def let_in(self, steps: list[int]) -> None:
        """Go on with steps that are ready, as soon as the limit of the run lets them through."""
        self._admission.enter(self.remaking.with_inputs(steps))

    def _set_deadlines(self, steps: Sequence[int]) -> None:
        """The deadline of an operation counts from when it could first start."""
        for step in steps:
            deadline = self._policies[step].deadline
            if deadline is not None and not self.plan.tries(step):
                self._call_later(deadline, self._expire_step, step, deadline)

    def _call_later(self, seconds: float, function: Callable[..., None], *args: Any) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, function, *args))

    def _due(self, step: int) -> None:
        self._perform(self.plan.due(step))

    def _record(self, ending: Ending) -> None:
        step, status, error, _ = ending
        tries, spec = self.plan.tries(step), self._policies[step].spec
        joined = error is None and self._answers.was_joined(step)
        uncacheable = self._answers.uncacheable(step) if error is None else None
        self.records.end(ending, spec, tries, joined=joined, uncacheable=uncacheable)
        failed = status is TaskStatus.FAILED or status is TaskStatus.TIMED_OUT
        self._answers.left(step, failed=failed and tries > 0 and self._stopped_by is None)

    def _finish(self) -> None:
        statuses = [settled.status for settled in self.settled if settled is not None]
        if self._stopped_by is not None and any(status != "completed" for status in statuses):
            self.status = self._stopped_by
        else:
            failed = any(status != "completed" for status in statuses)
            self.status = TaskStatus.FAILED if failed else TaskStatus.COMPLETED
        self.ended_at = self._services.clock()
        counts = {status: statuses.count(status) for status in dict.fromkeys(statuses)}
        seconds = self.ended_at - self.began
        self.log.add(EventKind.RUN_FINISHED, data={"status": self.status.value, "counts": counts, "seconds": seconds})
        self.log.close()
        self.request = self.remaking.leave()
        self._answers.over(self.request)
        self.payloads.clear()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._overdue or (self.request.stop_on_failure and self.status is not TaskStatus.COMPLETED):
            # Steps that ended while they waited for a replica: their tickets would wait on, and ask for replicas.
            self._services.replicas.withdraw(self)
        self._services.replicas.forget(self)
        self._admission.over()
        self.finished.set()

    def let_go(self) -> None:
        """Nobody asks for the run any more: hold no large result while it is still counted and recorded."""
        self.records.let_go()
        self.request = self.request.without_inputs()

    # --- the cache -----------------------------------------------------------------------------------------

    def admit(self, steps: list[int]) -> None:
        """Look up in the cache what may be there, and queue the rest."""
        look_up, run = [], []
        asked = self.request.steps
        for step in steps:
            if self.settled[step] is not None:
                self._admission.left(step)
            elif (refusal := asked[step].refusal) is not None:
                # Not at once: the steps after it are admitted in turn, and a run may have any number of them.
                asyncio.get_running_loop().call_soon(self.refused, step, refusal)
            elif self._answers.possible(step) and not self.plan.tries(step):
                look_up.append(step)
            else:
                run.append(step)
        if look_up:
            self._tasks.spawn(self._answers.look_up(look_up))
        self._admission.proceed(run)

    def queue(self, steps: list[int]) -> None:
        """Queue steps that have passed everything; what ended meanwhile leaves."""
        by_tool: defaultdict[str, list[Ticket]] = defaultdict(list)
        for step in steps:
            if self.settled[step] is None:
                by_tool[self._policies[step].tool].append(Ticket(self, step))
            else:
                self._admission.left(step)
        for tool, tickets in by_tool.items():
            self._services.replicas.enqueue(tool, tickets)

    def waits_elsewhere(self, step: int) -> None:
        """A step waits for an identical one: it counts as a start, and holds no place at its limits meanwhile."""
        self._admission.dispatched([step])
        self._admission.left(step)

    def proceed(self, steps: list[int]) -> None:
        """Go on with steps that nothing has answered; one of them may have ended others, after which nothing starts."""
        self._admission.proceed([step for step in steps if self.settled[step] is None])

    def hit(self, step: int, entry: CacheEntry) -> None:
        """Complete a step with a result that was made before, or elsewhere."""
        self.records.came_from_cache(step)
        self._admission.dispatched([step])
        self.records.keep(step, entry.payload, entry.size, entry.summary, 0.0)
        waiting = self._answers.completed(step)
        self._perform(self.plan.succeeded(step))
        for answers, other in waiting:
            answers.joined(other, entry)
