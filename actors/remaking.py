"""Makes lost results anew: a large result dies with its node, or stayed in a replica, and can be computed again."""

from __future__ import annotations

import asyncio
import dataclasses
import weakref
from functools import cached_property, partial
from itertools import count
from typing import TYPE_CHECKING, Any

from aiecs_ray.actors.tasks import Tasks
from aiecs_ray.messages import Elided, ErrorInfo, EventKind, Input, RunRequest, Step
from aiecs_ray.model import TaskStatus
from aiecs_ray.packing import is_small

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from aiecs_ray.actors.run import Run
    from aiecs_ray.messages import Settled

ROUNDS = 3
"""How often one result is made anew before the run does without it."""


def closure(steps: Sequence[Step], lost: Iterable[int], at_hand: Callable[[int], bool]) -> list[int]:
    """Return which steps have to run again, in their order: those whose results are lost, and what they need.

    ``at_hand`` says of a step whether its result can be used.
    """
    again = set(lost)
    pending = list(again)
    while pending:
        for source in steps[pending.pop()].inputs:
            if source.kind == "step" and source.place not in again and not at_hand(source.place):
                again.add(source.place)
                pending.append(source.place)
    return sorted(again)


def request_again(
    request: RunRequest, again: Sequence[int], lost: Collection[int], value: Callable[[int], Any]
) -> RunRequest:
    """Return the request that runs some steps of another again, for the results of those that are ``lost``.

    ``value`` gives the results of the others.
    """
    places = {step: place for place, step in enumerate(again)}
    objects = list(request.objects)
    known: dict[int, int] = {}

    def moved(source: Input) -> Input:
        if source.kind == "object":
            return source
        if source.place in places:
            return source._replace(place=places[source.place])
        if source.place not in known:
            known[source.place] = len(objects)
            objects.append(value(source.place))
        return source._replace(kind="object", place=known[source.place])

    steps = tuple(
        request.steps[step]._replace(inputs=tuple(map(moved, request.steps[step].inputs)), after=()) for step in again
    )
    return dataclasses.replace(
        request,
        steps=steps,
        # What is in the cache need not be made; nothing else about the key is known any more.
        policies=tuple(policy._replace(cache="off") for policy in request.policies),
        objects=tuple(objects),
        object_ids=(None,) * len(objects),
        mode="parallel",
        stop_on_failure=True,
        keep=tuple(place for place, step in enumerate(again) if step in lost),
        deadline=None,
    )


class Remaking:
    """Makes the lost results of one run anew, each once however many ask for it."""

    def __init__(self, run: Run, begin: Callable[[str, RunRequest], Run]) -> None:
        # Not in a circle with its run, which would keep its results until the next collection.
        self._ref = weakref.ref(run)
        self._begin = begin
        self._under_way: dict[int, asyncio.Task[ErrorInfo | None]] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self._inner: set[Run] = set()
        self._tasks = Tasks()
        self._rounds: dict[int, int] = {}
        self._numbers = count(1)
        self._stopped = False
        self.left_out: set[int] = set()
        """Steps that have completed, whose results stayed in their replicas and are still needed."""

    @property
    def _run(self) -> Run:
        """The run, which is there as long as anything of it is asked for."""
        run = self._ref()
        assert run is not None
        return run

    @property
    def active(self) -> bool:
        """Whether a step waits for something that is being made anew."""
        return bool(self._waiting)

    def cancel(self) -> None:
        """Stop what is being made."""
        self._stopped = True
        for inner in list(self._inner):
            inner.cancel()

    def leave(self) -> RunRequest:
        """Return what has to be kept of the request of a finished run, so that its large results can be made anew."""
        run = self._run
        large = [step for step, settled in enumerate(run.settled) if settled and not is_small(settled.payload)]
        if large:
            possible = self._can_run_again()
            large = [step for step in large if possible[step]]
        again = closure(run.request.steps, large, partial(_has_result, run))
        return run.request.without_inputs(set(again))

    def _can_run_again(self) -> list[bool]:
        """Return which steps may run again for their results, with those before them whose results are gone."""
        run, possible = self._run, list[bool]()
        for step, spec in enumerate(run.request.steps):
            there = (
                source.kind == "object" or possible[source.place] or _has_result(run, source.place)
                for source in spec.inputs
            )
            possible.append(run.policy(step).idempotent and all(there))
        return possible

    def wait_for(self, step: int, slot: int, payload: Any) -> bool:
        """A step could not read an input: have it made anew, and run the step then; return whether that can be."""
        source = self._run.request.steps[step].inputs[slot]
        if source.kind != "step":
            return False
        self._wait(self._run.set_aside(step), {source.place: payload})
        return True

    def with_inputs(self, steps: list[int]) -> list[int]:
        """Return those steps whose inputs are at hand; the others run once what they read has been made anew."""
        if not self.left_out:
            return steps
        ready = []
        for step in steps:
            if places := self.missing(step):
                self._wait([step], dict.fromkeys(places, Elided.ELIDED))
            else:
                ready.append(step)
        return ready

    def missing(self, step: int) -> list[int]:
        """Return the steps whose results this one reads and which stayed in a replica."""
        if not self.left_out:
            return []
        sources = self._run.request.steps[step].inputs
        places = {source.place: None for source in sources if source.kind == "step" and source.place in self.left_out}
        return list(places)

    def is_possible(self, step: int) -> bool:
        """Whether a result could be made anew after nobody else needs those that it was made of."""
        return self._possible[step]

    @cached_property
    def _possible(self) -> list[bool]:
        run, possible = self._run, list[bool]()
        for step, spec in enumerate(run.request.steps):
            policy = run.policy(step)
            at_hand = (
                source.kind == "object" or run.plan.keeps(source.place) or possible[source.place]
                for source in spec.inputs
            )
            # What a stateful tool answers depends on what it was asked before.
            possible.append(policy.idempotent and not policy.stateful and all(at_hand))
        return possible

    def _wait(self, waiting: Sequence[int], lost: Mapping[int, Any]) -> None:
        task = self._tasks.spawn(self._make_for(waiting, lost))
        # What waits keeps the run from ending, whatever becomes of its steps meanwhile.
        self._waiting.add(task)
        task.add_done_callback(self._go_on)

    def _go_on(self, done: asyncio.Task[None]) -> None:
        self._waiting.discard(done)
        self._run.resume([])

    async def _make_for(self, waiting: Sequence[int], lost: Mapping[int, Any]) -> None:
        for place, payload in lost.items():
            if _result(self._run, place) is not payload:
                # It was made anew since it was found missing.
                continue
            if (error := await self._again(place)) is not None:
                for step in waiting:
                    self._run.refused(step, error)
                return
            self._run.log.add(EventKind.STEP_REMADE, place)
        self._run.resume(waiting)

    async def result_of(self, step: int) -> Settled:
        """Make the lost result of a step anew; the step is failed in what is returned when that cannot be done."""
        self._stopped &= not self._run.finished.is_set()
        error = await self._again(step)
        settled = self._run.settled[step]
        assert settled is not None
        return settled if error is None else settled._replace(status="failed", payload=None, error=error)

    async def _again(self, step: int) -> ErrorInfo | None:
        """Make the result of a step anew; return why it cannot be, or None."""
        if step not in self._under_way:
            task = self._under_way[step] = self._tasks.spawn(self._make(step))
            task.add_done_callback(lambda _: self._under_way.pop(step))
        return await asyncio.shield(self._under_way[step])

    async def _make(self, step: int) -> ErrorInfo | None:
        run, lost = self._run, {step}
        while True:
            again = closure(run.request.steps, lost, partial(_has_result, run))
            for one in lost - self.left_out:
                self._rounds[one] = self._rounds.get(one, 0) + 1
            if (reason := self._forbidden(again)) is not None:
                return _result_lost(step, run.policy(step).spec, reason)
            request = request_again(run.request, again, lost, partial(_result, run))
            inner = self._begin(f"{run.id}/again-{next(self._numbers)}", request)
            self._inner.add(inner)
            try:
                await inner.finished.wait()
            finally:
                self._inner.discard(inner)
            if inner.status is TaskStatus.COMPLETED:
                for one, settled in zip(again, inner.settled, strict=True):
                    assert settled is not None
                    if one in lost:
                        self._replace(one, settled.payload)
                inner.let_go()
                return None
            errors = {one: settled.error for one, settled in zip(again, inner.settled, strict=True) if settled}
            gone = self._also_lost(errors) - lost
            if not gone:
                reason = next((error.message for error in errors.values() if error is not None), "it was cancelled")
                return _result_lost(step, run.policy(step).spec, reason)
            lost |= gone

    def _also_lost(self, errors: Mapping[int, ErrorInfo | None]) -> set[int]:
        """Return the steps whose results were needed for making others anew and are lost as well.

        Which input it was a failure does not say: all large ones of the step are taken for lost.
        """
        run = self._run
        return {
            source.place
            for step, error in errors.items()
            if error is not None and error.type_name == "ResultLostError"
            for source in run.request.steps[step].inputs
            if source.kind == "step" and _has_result(run, source.place) and not is_small(_result(run, source.place))
        }

    def _replace(self, step: int, payload: Any) -> None:
        """Put a result that was made anew into the place of the lost one; one that nobody needs stays dropped."""
        run, settled = self._run, self._run.settled[step]
        assert settled is not None
        if step in run.payloads:
            run.payloads[step] = payload
        if not settled.dropped:
            run.settled[step] = settled._replace(payload=payload)
        if step in self.left_out:
            self.left_out.discard(step)
            run.records.bytes += settled.size

    def _forbidden(self, again: Sequence[int]) -> str | None:
        if self._stopped:
            return "it was cancelled"
        for step in again:
            spec = self._run.policy(step).spec
            if not self._run.policy(step).idempotent:
                return f"step {step} ({spec}) is not idempotent, so it is not run again"
            if self._run.request.steps[step].params == b"":
                return f"the parameters of step {step} ({spec}) are not kept any more"
            if self._rounds.get(step, 0) > ROUNDS:
                return f"it was lost {ROUNDS + 1} times"
        return None


def _result_lost(step: int, spec: str, reason: str) -> ErrorInfo:
    text = f"The result of step {step} ({spec}) was lost and cannot be made anew: {reason}"
    return ErrorInfo("E003", text, "ResultLostError", ("ResultLostError",))


def _has_result(run: Run, step: int) -> bool:
    """Whether the result of a step is at hand, as far as is known."""
    settled = run.settled[step]
    kept = settled is not None and settled.status == TaskStatus.COMPLETED.value and not settled.dropped
    return run.payloads.get(step, Elided.ELIDED) is not Elided.ELIDED or kept


def _result(run: Run, step: int) -> Any:
    settled = run.settled[step]
    return run.payloads.get(step, settled and settled.payload)
