"""Makes the plan of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiecs_ray.plan import Plan
from aiecs_ray.plan_values import PlanStep

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs_ray.messages import Input, RunRequest


def plan_of(request: RunRequest, random: Callable[[], float]) -> Plan:
    """Return the plan that a run of ``request`` follows; ``random`` draws its pauses between attempts."""
    return Plan(
        _plan_steps(request),
        random=random,
        sequence=request.mode == "sequence",
        stop_on_failure=request.stop_on_failure,
        keep=request.keep,
    )


def _plan_steps(request: RunRequest) -> list[PlanStep]:
    alone = [PlanStep(policy.spec, (), (), policy.idempotent, policy.retry) for policy in request.policies]
    return [
        _plan_step(step.inputs, step.after, alone[step.policy]) if step.inputs or step.after else alone[step.policy]
        for step in request.steps
    ]


def _plan_step(inputs: tuple[Input, ...], after: tuple[int, ...], alone: PlanStep) -> PlanStep:
    needs = tuple({source.place: None for source in inputs if source.kind == "step"})
    return alone._replace(needs=needs, after=after)
