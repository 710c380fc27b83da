"""What of a run goes to a replica in one call, and the message that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs_ray.messages import Item, Work

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from aiecs_ray.actors.run import Run
    from aiecs_ray.messages import Input

CHAIN_LIMIT = 256
"""Steps in one segment."""


def chain_from(run: Run, step: int) -> list[int]:
    """Return ``step`` and what can follow it in one segment on the same tool."""
    if step in run.alone:
        return [step]
    tool = run.policy(step).tool

    def accept(following: int) -> bool:
        policy, files = run.policy(following), run.request.steps[following].files
        if policy.tool != tool or run.is_limited(following) or following in run.alone:
            return False
        if run.remaking.missing(following):
            return False
        # In a segment nothing would ask the cache, and nothing would count a deadline from when the step can start.
        if policy.cache == "only" or policy.deadline is not None:
            return False
        # A step that the cache might answer leaves the segment, unless its key needs a result of the segment.
        if not run.expects_answer(following):
            return True
        return _waits_for_result(run, following) and not files

    return run.plan.chain(step, accept, CHAIN_LIMIT)


def _waits_for_result(run: Run, step: int) -> bool:
    return any(source.kind == "step" and source.place not in run.payloads for source in run.request.steps[step].inputs)


def compose(run: Run, work_id: int, steps: Sequence[int], *, chain: bool) -> Work:
    """Return the message that runs ``steps`` in one call to a replica."""
    values: list[Any] = []
    places: dict[tuple[str, int], int] = {}
    inside = set(steps) if chain else set()
    items = []
    asked, plan = run.request.steps, run.plan
    for step in steps:
        spec, policy = asked[step], run.policy(step)
        inputs = []
        for source in spec.inputs:
            if source.kind == "step" and source.place in inside and source.place not in run.payloads:
                inputs.append(("item", source.place, source.path, source.text))
                continue
            place = (source.kind, source.place)
            if place not in places:
                places[place] = len(values)
                values.append(_source(run, source))
            inputs.append(("value", places[place], source.path, source.text))
        attempt = plan.tries(step) + 1
        # Only a result that may be stored needs the state of its files.
        files = spec.files if spec.files and run.key(step) is not None else ()
        left_out = _may_be_left_out(run, step, inside)
        items.append(
            Item(step, attempt, policy.operation, spec.params, tuple(inputs), policy.idempotent, files, left_out)  # type: ignore[arg-type]  # the literals are right
        )
    request = run.request
    chained = chain and len(items) > 1
    return Work(work_id, run.id, tuple(items), tuple(values), chained, request.user_id, request.task_id, request.calls)


def _may_be_left_out(run: Run, step: int, inside: Collection[int]) -> bool:
    """Return whether a large result of a step can stay in its replica.

    That is where nobody reads it but steps that are sent along, it does not go to the cache, and it may be made anew
    for those of them that have to run elsewhere after all.
    """
    if run.plan.is_needed_beside(step, inside):
        return False
    return not run.is_stored(step) and run.remaking.is_possible(step)


def _source(run: Run, source: Input) -> Any:
    return run.payloads[source.place] if source.kind == "step" else run.request.objects[source.place]
