"""What the plan decides when replicas die, when work comes back, and when a result is needed no more."""

from __future__ import annotations

from typing import Any

from aiecs_ray.messages import ErrorInfo, RetryOptions
from aiecs_ray.plan import Plan
from aiecs_ray.plan_values import Actions, PlanStep, State

LOST = ErrorInfo("E003", "A replica of tool 't' died", "ReplicaLostError", ("ReplicaLostError",))
TWICE = RetryOptions(attempts=2)


def begun(*steps: PlanStep, **options: Any) -> Plan:
    plan = Plan(steps, random=lambda: 0.0, **options)
    plan.begin()
    return plan


def out(plan: Plan, *steps: int) -> None:
    plan.handed(steps)
    plan.started(steps[0])


def codes(actions: Actions) -> list[str | None]:
    return [ending.error.code if ending.error else None for ending in actions.ended]


def test_a_step_lost_before_it_began_has_had_no_attempt() -> None:
    plan = begun(PlanStep("t.op", retry=TWICE))
    out(plan, 0)

    actions = plan.lost(0, LOST, started=False, guilty=False)

    assert actions.ready == [0]
    assert plan.tries(0) == 0


def test_a_step_lost_while_it_ran_has_had_an_attempt() -> None:
    plan = begun(PlanStep("t.op", retry=TWICE))
    out(plan, 0)

    first = plan.lost(0, LOST, started=None)
    out(plan, 0)
    second = plan.lost(0, LOST, started=None)

    assert (first.ready, first.ended) == ([0], [])
    assert codes(second) == ["E005"]
    assert plan.tries(0) == 2


def test_what_is_not_idempotent_is_not_run_again_after_a_loss() -> None:
    plan = begun(PlanStep("t.pay", idempotent=False, retry=TWICE))
    out(plan, 0)

    actions = plan.lost(0, LOST, started=None)

    assert actions.ready == []
    assert codes(actions) == ["E003"]
    assert "Outcome unknown" in str(actions.ended[0].error)


def test_a_result_is_freed_when_its_last_reader_has_ended() -> None:
    plan = begun(PlanStep("t.load"), PlanStep("t.a", needs=(0,)), PlanStep("t.b", needs=(0,)), keep="last")

    freed = []
    for step in range(3):
        out(plan, step)
        freed.append(plan.succeeded(step).free)

    assert freed == [[], [1], [0]]


def test_a_result_that_is_kept_is_never_freed() -> None:
    plan = begun(PlanStep("t.load"), PlanStep("t.a", needs=(0,)), keep=[0])

    freed = []
    for step in range(2):
        out(plan, step)
        freed.append(plan.succeeded(step).free)

    assert freed == [[], [1]]


def test_what_comes_back_after_a_cancellation_is_not_offered_again() -> None:
    plan = begun(PlanStep("t.op"))
    out(plan, 0)
    plan.cancel()

    actions = plan.returned(0)

    assert actions.ready == []
    assert codes(actions) == ["E004"]
    assert plan.state(0) is State.CANCELLED
    assert plan.done
