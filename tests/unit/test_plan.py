from __future__ import annotations

import sys
from typing import Any

import pytest

from aiecs_ray import failures
from aiecs_ray.errors import UpstreamFailedError
from aiecs_ray.messages import ErrorInfo, RetryOptions
from aiecs_ray.model import TaskStatus
from aiecs_ray.plan import Plan
from aiecs_ray.plan_values import Actions, Ending, PlanStep, State

PASSING = ErrorInfo("E003", "reset by peer", "ConnectionResetError", ("ConnectionResetError", "ConnectionError"))
LASTING = ErrorInfo("E003", "no such column", "KeyError", ("KeyError", "LookupError"))
LOST = ErrorInfo("E003", "a replica died: SIGKILL", "ReplicaLostError", ("ReplicaLostError",))
LATE = ErrorInfo("E002", "timed out after 1s", "OperationTimeoutError", ("OperationTimeoutError",))


def steps_of(*needs: tuple[int, ...], **common: Any) -> list[PlanStep]:
    return [PlanStep(f"t.s{index}", needs=before, **common) for index, before in enumerate(needs)]


def plan_of(steps: list[PlanStep], **options: Any) -> Plan:
    return Plan(steps, random=lambda: 0.0, **options)


def begun(steps: list[PlanStep], **options: Any) -> Plan:
    """Return a plan that has begun; what was ready is with a replica and has started."""
    plan = plan_of(steps, **options)
    for step in plan.begin().ready:
        plan.handed([step])
        plan.started(step)
    return plan


def send(plan: Plan, *steps: int) -> None:
    for step in steps:
        plan.handed([step])
        plan.started(step)


def codes(actions: Actions) -> dict[int, str]:
    return {ending.step: ending.error.code for ending in actions.ended if ending.error is not None}


def messages(actions: Actions) -> dict[int, str]:
    return {ending.step: ending.error.message for ending in actions.ended if ending.error is not None}


def test_a_plan_of_no_steps_is_done_at_once() -> None:
    plan = plan_of([])

    actions = plan.begin()

    assert actions == Actions()
    assert plan.done
    assert plan_of([], keep="last", sequence=True).cancel() == Actions()


def test_steps_without_edges_are_ready_at_once_in_input_order() -> None:
    plan = plan_of(steps_of((), (), ()))

    assert plan.begin() == Actions(ready=[0, 1, 2])


def test_a_sequence_offers_each_step_when_the_one_before_has_ended() -> None:
    plan = plan_of(steps_of((), (), ()), sequence=True)

    first = plan.begin()
    send(plan, 0)
    second = plan.succeeded(0)
    send(plan, 1)
    third = plan.failed(1, LASTING)

    assert (first.ready, second.ready, third.ready) == ([0], [1], [2])


def test_a_step_waits_for_everything_it_refers_to_and_depends_on() -> None:
    plan = begun([PlanStep("t.a"), PlanStep("t.b"), PlanStep("t.c", needs=(0,), after=(1,))])

    one = plan.succeeded(1)
    both = plan.succeeded(0)

    assert (one.ready, both.ready) == ([], [2])


def test_depends_on_may_point_to_a_later_step() -> None:
    plan = plan_of([PlanStep("t.a", after=(1,)), PlanStep("t.b")])

    first = plan.begin()
    send(plan, 1)

    assert first.ready == [1]
    assert plan.succeeded(1).ready == [0]


def test_one_step_named_in_every_way_is_one_edge() -> None:
    plan = begun([PlanStep("t.a"), PlanStep("t.b", needs=(0,), after=(0,))], sequence=True)

    assert plan.succeeded(0).ready == [1]


def test_a_run_is_done_when_its_last_step_has_ended() -> None:
    plan = begun(steps_of((), ()))

    plan.succeeded(1)
    before = plan.done
    plan.failed(0, LASTING)

    assert (before, plan.done) == (False, True)


def test_a_cancelled_plan_does_not_begin() -> None:
    plan = plan_of(steps_of((), (0,)))

    plan.cancel()

    assert plan.begin() == Actions()
    assert plan.state(0) is State.CANCELLED


def test_a_step_that_refers_to_a_failed_one_is_skipped_with_e007() -> None:
    plan = begun(steps_of((), (0,)))

    actions = plan.failed(0, LASTING)

    assert actions.ended[0] == Ending(0, TaskStatus.FAILED, LASTING)
    assert actions.ended[1].status is TaskStatus.CANCELLED
    assert codes(actions)[1] == "E007"
    assert messages(actions)[1] == "Skipped: step 0 (t.s0) failed"


def test_the_error_of_a_skipped_reader_is_an_upstream_failed_error() -> None:
    plan = begun(steps_of((), (0,)))

    info = plan.failed(0, LASTING).ended[1].error

    assert info is not None
    error = failures.to_exception(info)
    assert isinstance(error, UpstreamFailedError)
    assert (error.step, error.spec, error.status) == (0, "t.s0", "failed")


def test_a_step_that_only_depends_on_a_failed_one_is_skipped_with_e004() -> None:
    plan = begun([PlanStep("t.a"), PlanStep("t.b", after=(0,))])

    actions = plan.failed(0, LASTING)

    assert codes(actions)[1] == "E004"
    assert messages(actions)[1] == "Skipped: step 0 (t.a) failed"


def test_every_step_behind_a_failure_names_the_root_cause() -> None:
    steps = [*steps_of((), (0,), (1,)), PlanStep("t.s3", after=(2,)), PlanStep("t.s4", needs=(3,))]
    plan = begun(steps)

    actions = plan.failed(0, LASTING)

    assert codes(actions) == {0: "E003", 1: "E007", 2: "E007", 3: "E004", 4: "E007"}
    assert set(messages(actions).values()) == {"no such column", "Skipped: step 0 (t.s0) failed"}


def test_the_message_says_how_the_cause_ended() -> None:
    late, stopped = begun(steps_of((), (0,))), begun(steps_of((), (0,), idempotent=False))

    assert messages(late.timed_out(0, LATE))[1] == "Skipped: step 0 (t.s0) timed out"
    assert messages(stopped.stopped(0))[1] == "Skipped: step 0 (t.s0) was cancelled"


def test_a_sequence_goes_on_after_a_failure() -> None:
    plan = begun(steps_of((), ()), sequence=True)

    actions = plan.failed(0, LASTING)

    assert actions.ready == [1]
    assert list(codes(actions)) == [0]


def test_a_step_with_one_failed_need_is_skipped_while_the_other_runs() -> None:
    plan = begun(steps_of((), (), (0, 1)))

    actions = plan.failed(1, LASTING)

    assert codes(actions)[2] == "E007"
    assert plan.succeeded(0).ready == []


def test_a_chain_of_a_hundred_thousand_skips_needs_no_deep_stack() -> None:
    count = 100_000
    plan = begun([PlanStep("t.o", needs=(index - 1,) if index else ()) for index in range(count)])

    actions = plan.failed(0, LASTING)

    assert [ending.step for ending in actions.ended] == list(range(count))
    assert messages(actions)[count - 1] == "Skipped: step 0 (t.o) failed"
    assert plan.done
    assert sys.getrecursionlimit() < count


def test_after_a_failure_nothing_new_starts() -> None:
    plan = plan_of(steps_of((), (), (), (1,)), stop_on_failure=True)
    plan.begin()
    send(plan, 0, 1)

    failed = plan.failed(0, LASTING)
    rest = plan.succeeded(1)

    assert codes(failed) == {0: "E003", 2: "E004", 3: "E004"}
    assert messages(failed)[2] == "Skipped: step 0 (t.s0) failed"
    assert (failed.ready, rest.ready) == ([], [])
    assert rest.ended == [Ending(1, TaskStatus.COMPLETED)]


def test_a_skipped_reader_of_the_failure_that_stops_a_run_has_e007() -> None:
    plan = begun(steps_of((), (0,), ()), sequence=True, stop_on_failure=True)

    assert codes(plan.failed(0, LASTING)) == {0: "E003", 1: "E007", 2: "E004"}


def test_only_a_step_that_never_started_counts_as_skipped() -> None:
    plan = begun(steps_of((), (), (0,)), stop_on_failure=True)
    plan.failed(1, PASSING)

    ended = plan.failed(0, LASTING).ended

    assert [(ending.step, ending.skipped) for ending in ended] == [(0, False), (1, False), (2, True)]


def test_what_was_handed_to_a_replica_comes_back_to_be_skipped() -> None:
    plan = plan_of(steps_of((), ()), stop_on_failure=True)
    plan.begin()
    plan.handed([0, 1])
    plan.started(0)

    failed = plan.failed(0, LASTING)
    back = plan.returned(1)

    assert list(codes(failed)) == [0]
    assert messages(back) == {1: "Skipped: step 0 (t.s0) failed"}


def test_a_step_that_waits_for_its_next_attempt_is_not_tried_again_after_a_failure() -> None:
    plan = begun(steps_of((), ()), stop_on_failure=True)
    plan.failed(1, PASSING)

    actions = plan.failed(0, LASTING)

    assert codes(actions) == {0: "E003", 1: "E004"}
    assert plan.done
    assert plan.due(1) == Actions()


def test_a_failure_that_may_pass_stops_nothing() -> None:
    plan = begun(steps_of((), (), ()), sequence=True, stop_on_failure=True)

    first = plan.failed(0, PASSING)
    plan.due(0)
    send(plan, 0)

    assert first.ended == []
    assert plan.succeeded(0).ready == [1]


def test_a_timeout_stops_the_run_as_a_failure_does() -> None:
    plan = begun(steps_of((), ()), sequence=True, stop_on_failure=True)

    assert messages(plan.timed_out(0, LATE))[1] == "Skipped: step 0 (t.s0) timed out"


def test_an_error_that_may_pass_is_tried_again_after_growing_waits() -> None:
    plan = begun(steps_of((), retry=RetryOptions(attempts=4)))
    waits = []

    for _ in range(3):
        waits += plan.failed(0, PASSING).delayed
        assert plan.due(0).ready == [0]
        send(plan, 0)

    assert waits == [(0, 1.0), (0, 2.0), (0, 4.0)]
    assert plan.failed(0, PASSING).ended == [Ending(0, TaskStatus.FAILED, PASSING._replace(code="E005"))]
    assert plan.tries(0) == 4


def test_the_jitter_comes_from_the_given_randomness() -> None:
    plan = Plan(steps_of(()), random=lambda: 0.5)
    plan.begin()
    send(plan, 0)

    assert plan.failed(0, PASSING).delayed == [(0, 1.125)]


@pytest.mark.parametrize(
    ("error", "options", "idempotent"),
    [
        (LASTING, RetryOptions(), True),
        (PASSING, RetryOptions(), False),
        (PASSING, RetryOptions(attempts=1), True),
    ],
    ids=["an error that lasts", "not idempotent", "one attempt"],
)
def test_no_second_attempt_is_made_for_what_cannot_pass(
    error: ErrorInfo, options: RetryOptions, idempotent: Any
) -> None:
    plan = begun(steps_of((), retry=options, idempotent=idempotent))

    actions = plan.failed(0, error)

    assert actions == Actions(ended=[Ending(0, TaskStatus.FAILED, error)])


def test_an_error_that_the_options_name_is_tried_again() -> None:
    plan = begun(steps_of((), retry=RetryOptions(on=("LookupError",))))

    assert plan.failed(0, LASTING).delayed == [(0, 1.0)]


def test_an_attempt_that_ran_out_of_time_is_not_tried_again_unless_asked() -> None:
    plan, asked = begun(steps_of(())), begun(steps_of((), retry=RetryOptions(timeouts=True)))

    assert plan.timed_out(0, LATE).ended == [Ending(0, TaskStatus.TIMED_OUT, LATE)]
    assert asked.timed_out(0, LATE).delayed == [(0, 1.0)]


def test_no_attempt_follows_when_no_time_is_left() -> None:
    plan = begun(steps_of((), retry=RetryOptions(timeouts=True)))

    assert plan.timed_out(0, LATE, final=True).ended == [Ending(0, TaskStatus.TIMED_OUT, LATE)]


@pytest.mark.parametrize("state", [State.WAITING, State.READY, State.BACKOFF])
def test_a_step_with_no_time_left_ends_wherever_it_stands(state: State) -> None:
    plan = begun(steps_of((), ()), sequence=True)
    step = 1 if state is State.WAITING else 0
    if state is State.READY:
        plan.returned(0)
    elif state is State.BACKOFF:
        plan.failed(0, PASSING)
    assert plan.state(step) is state

    actions = plan.timed_out(step, LATE, final=True)

    assert actions.ended == [Ending(step, TaskStatus.TIMED_OUT, LATE)]


def test_an_operation_that_is_not_idempotent_is_not_tried_again_after_a_timeout() -> None:
    plan = begun(steps_of((), retry=RetryOptions(timeouts=True), idempotent=False))

    assert plan.timed_out(0, LATE).ended == [Ending(0, TaskStatus.TIMED_OUT, LATE)]


def test_timeouts_that_use_up_all_attempts_end_in_e005() -> None:
    plan = begun(steps_of((), retry=RetryOptions(attempts=2, timeouts=True)))
    plan.timed_out(0, LATE)
    plan.due(0)
    send(plan, 0)

    assert plan.timed_out(0, LATE).ended == [Ending(0, TaskStatus.FAILED, LATE._replace(code="E005"))]


def test_a_step_that_was_stopped_for_the_sake_of_another_is_offered_again() -> None:
    plan = begun(steps_of((), ()))

    actions = plan.stopped(1)

    assert actions == Actions(ready=[1])
    assert plan.tries(1) == 0


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_step_lost_before_it_started_is_offered_again_and_not_counted(*, idempotent: bool) -> None:
    plan = begun(steps_of((), idempotent=idempotent, retry=RetryOptions(attempts=1)))

    actions = plan.lost(0, LOST, started=False, guilty=False)

    assert actions == Actions(ready=[0])
    assert plan.tries(0) == 0


@pytest.mark.parametrize("started", [True, None])
def test_an_idempotent_step_lost_after_it_started_is_offered_again_at_once(*, started: bool | None) -> None:
    plan = begun(steps_of(()))

    actions = plan.lost(0, LOST, started=started)

    assert actions == Actions(ready=[0])
    assert plan.tries(0) == 1


@pytest.mark.parametrize("started", [True, None])
def test_the_outcome_of_a_lost_step_that_is_not_idempotent_is_unknown(*, started: bool | None) -> None:
    plan = begun(steps_of((), idempotent=False))

    (ending,) = plan.lost(0, LOST, started=started).ended

    assert ending.status is TaskStatus.FAILED
    assert ending.error is not None
    assert (ending.error.code, ending.error.type_name) == ("E003", "OutcomeUnknownError")
    assert ending.error.message.startswith("Outcome unknown: a replica died: SIGKILL; ")


def test_an_operation_that_keeps_killing_its_replica_is_given_up() -> None:
    plan = begun(steps_of((), retry=RetryOptions(attempts=2)))
    plan.lost(0, LOST, started=True)
    plan.handed([0])

    assert plan.lost(0, LOST, started=None).ended == [Ending(0, TaskStatus.FAILED, LOST._replace(code="E005"))]


def test_the_steps_of_a_lost_chain_wait_for_each_other_again() -> None:
    plan = plan_of(steps_of((), (0,)))
    plan.begin()
    plan.handed([0, 1])

    first, second = plan.lost(0, LOST, started=True), plan.lost(1, LOST, started=False, guilty=False)

    assert (first.ready, second.ready) == ([0], [])
    assert plan.state(1) is State.WAITING
    send(plan, 0)
    assert plan.succeeded(0).ready == [1]


def mixed() -> Plan:
    """Return a plan with a step in every state: running, handed, between attempts, ready, waiting."""
    plan = plan_of(steps_of((), (), (), (), (0,)))
    plan.begin()
    send(plan, 0)
    plan.handed([1])
    send(plan, 2)
    plan.failed(2, PASSING)
    return plan


def test_cancelling_ends_what_no_replica_has_and_stops_the_rest() -> None:
    plan = mixed()

    actions = plan.cancel("enough")

    assert actions.stop == [0, 1]
    assert codes(actions) == {2: "E004", 3: "E004", 4: "E004"}
    assert set(messages(actions).values()) == {"enough"}
    assert not plan.done


def test_a_deadline_ends_the_same_steps_as_timed_out() -> None:
    plan = mixed()

    actions = plan.expire("out of time")

    assert actions.stop == [0, 1]
    assert [(ending.step, ending.status) for ending in actions.ended] == [(n, TaskStatus.TIMED_OUT) for n in (2, 3, 4)]
    assert codes(actions) == {2: "E002", 3: "E002", 4: "E002"}


@pytest.mark.parametrize("step", [0, 1])
def test_a_step_that_a_replica_has_is_stopped_when_its_deadline_passes(step: int) -> None:
    plan = mixed()

    actions = plan.overdue(step, LATE)

    assert actions == Actions(stop=[step])
    assert plan.timed_out(step, LATE, final=True).ended[0] == Ending(step, TaskStatus.TIMED_OUT, LATE)


@pytest.mark.parametrize("step", [2, 3, 4])
def test_a_step_that_no_replica_has_ends_when_its_deadline_passes(step: int) -> None:
    plan = mixed()

    actions = plan.overdue(step, LATE)

    assert actions == Actions(ended=[Ending(step, TaskStatus.TIMED_OUT, LATE)])
    assert plan.due(step) == Actions()
    assert plan.overdue(step, LATE) == Actions()


def test_who_reads_a_step_whose_deadline_passed_is_skipped() -> None:
    plan = plan_of(steps_of((), (0,), (1,)))
    plan.begin()

    actions = plan.overdue(1, LATE)

    assert messages(actions) == {1: "timed out after 1s", 2: "Skipped: step 1 (t.s1) timed out"}


def test_of_two_reasons_to_end_a_run_the_first_counts() -> None:
    plan = mixed()
    plan.cancel("enough")

    again = plan.expire("out of time")

    assert again == Actions()
    assert messages(plan.stopped(0)) == {0: "enough"}


def test_what_a_cancelled_run_had_in_a_replica_ends_as_it_really_ended() -> None:
    plan = plan_of(steps_of((), (), (), (), ()))
    plan.begin()
    send(plan, 0, 1, 2, 3, 4)
    plan.cancel("enough")

    ends = [
        plan.succeeded(0),
        plan.failed(1, LASTING),
        plan.stopped(2),
        plan.lost(3, LOST, started=None),
        plan.timed_out(4, LATE),
    ]

    assert [one.ended[0].status.value for one in ends] == ["completed", "failed", "cancelled", "cancelled", "timed_out"]
    assert plan.done


@pytest.mark.parametrize("report", ["failed", "lost", "returned", "timed_out"])
def test_a_cancelled_run_tries_nothing_again(report: str) -> None:
    plan = begun(steps_of((), retry=RetryOptions(timeouts=True)))
    plan.cancel("enough")

    if report == "lost":
        actions = plan.lost(0, LOST, started=True)
    elif report == "returned":
        actions = plan.returned(0)
    else:
        actions = getattr(plan, report)(0, PASSING)

    assert (actions.ready, actions.delayed) == ([], [])
    assert plan.done


def test_an_error_of_a_cancelled_run_says_nothing_of_attempts_that_were_not_made() -> None:
    plan = begun(steps_of((), retry=RetryOptions(attempts=3)))
    plan.failed(0, PASSING)
    plan.due(0)
    send(plan, 0)
    plan.cancel("enough")

    assert plan.failed(0, PASSING).ended == [Ending(0, TaskStatus.FAILED, PASSING)]


def test_a_run_that_ends_during_the_last_attempt_leaves_a_timeout_a_timeout() -> None:
    plan = begun(steps_of((), retry=RetryOptions(attempts=2, timeouts=True)))
    plan.timed_out(0, LATE)
    plan.due(0)
    send(plan, 0)
    plan.expire("out of time")

    assert plan.timed_out(0, LATE).ended == [Ending(0, TaskStatus.TIMED_OUT, LATE)]


def test_the_end_of_a_wait_means_nothing_after_a_cancel() -> None:
    plan = begun(steps_of(()))
    plan.failed(0, PASSING)
    plan.cancel()

    assert plan.due(0) == Actions()


def test_a_step_that_never_began_in_a_cancelled_run_counts_no_attempt() -> None:
    plan = plan_of(steps_of(()))
    plan.begin()
    plan.handed([0])
    plan.cancel("enough")

    actions = plan.lost(0, LOST, started=False, guilty=False)

    assert messages(actions) == {0: "enough"}
    assert plan.tries(0) == 0


def test_with_keep_all_nothing_is_freed() -> None:
    plan = begun(steps_of((), (0,)))

    assert plan.succeeded(0).free == []
    assert plan.succeeded(1).free == []


def test_a_result_is_freed_when_its_last_reader_has_ended() -> None:
    plan = begun(steps_of((), (0,), (0,)), keep=(1, 2))

    frees = [plan.succeeded(step).free for step in (0, 1, 2)]

    assert frees == [[], [], [0]]


def test_a_result_that_nobody_reads_is_freed_at_once() -> None:
    plan = begun(steps_of((), ()), keep="last")

    assert plan.succeeded(0).free == [0]
    assert plan.succeeded(1).free == []


def test_a_result_that_is_only_waited_for_is_freed_at_once() -> None:
    plan = begun([PlanStep("t.a"), PlanStep("t.b", after=(0,))], keep="last")

    assert plan.succeeded(0).free == [0]


def test_a_result_stays_while_its_reader_is_tried_again() -> None:
    plan = begun(steps_of((), (0,)), keep="last")
    plan.succeeded(0)
    send(plan, 1)

    waiting = plan.failed(1, PASSING)
    lost = plan.due(1)
    send(plan, 1)

    assert (waiting.free, lost.free, plan.succeeded(1).free) == ([], [], [0])


def test_a_skipped_reader_reads_no_more() -> None:
    plan = begun(steps_of((), (), (0, 1)), keep="last")
    plan.succeeded(0)

    assert plan.failed(1, LASTING).free == [0]


def test_a_result_whose_readers_ended_before_it_is_freed_when_it_comes() -> None:
    plan = begun(steps_of((), (), (0, 1)), keep="last")
    plan.failed(1, LASTING)

    assert plan.succeeded(0).free == [0]


def test_a_failed_step_has_nothing_to_free() -> None:
    plan = begun(steps_of((), (0,)), keep="last")

    assert plan.failed(0, LASTING).free == []


def test_kept_results_are_never_freed() -> None:
    plan = begun(steps_of((), (0,), ()), keep=[0])

    frees = [plan.succeeded(step).free for step in (0, 1, 2)]

    assert frees == [[], [1], [2]]


def test_a_step_is_pending_until_it_has_started() -> None:
    plan = plan_of(steps_of((), (0,)))
    seen = [plan.status(0)]
    plan.begin()
    seen.append(plan.status(0))
    plan.handed([0])
    seen.append(plan.status(0))
    plan.started(0)
    seen.append(plan.status(0))

    assert [status.value for status in seen] == ["pending", "pending", "pending", "running"]


def test_a_step_between_two_attempts_is_running() -> None:
    plan = begun(steps_of(()))

    plan.failed(0, PASSING)
    waiting = plan.status(0)
    plan.due(0)

    assert (waiting, plan.status(0)) == (TaskStatus.RUNNING, TaskStatus.RUNNING)
    assert plan.tries(0) == 1


def test_a_step_that_was_said_to_run_is_not_pending_again() -> None:
    plan = begun(steps_of(()))

    plan.returned(0)

    assert plan.status(0) is TaskStatus.RUNNING
    assert plan.tries(0) == 0


def test_a_result_from_the_cache_is_no_attempt() -> None:
    plan = plan_of(steps_of((), ()))
    plan.begin()

    plan.succeeded(0)
    plan.refused(1, LASTING)

    assert (plan.tries(0), plan.tries(1)) == (0, 0)
    assert (plan.status(0), plan.status(1)) == (TaskStatus.COMPLETED, TaskStatus.FAILED)


def test_a_start_that_is_reported_twice_is_one_attempt() -> None:
    plan = begun(steps_of(()))

    plan.started(0)

    assert plan.tries(0) == 1


def news(plan: Plan, step: int) -> list[Actions]:
    return [
        plan.failed(step, PASSING),
        plan.timed_out(step, LATE),
        plan.lost(step, LOST, started=True),
        plan.lost(step, LOST, started=False, guilty=False),
        plan.stopped(step),
        plan.returned(step),
    ]


def test_reports_of_a_step_that_has_ended_change_nothing() -> None:
    plan = begun(steps_of((), (0,)))
    plan.failed(0, LASTING)

    plan.started(0)
    plan.handed([0, 1])
    later = [*news(plan, 0), *news(plan, 1), plan.succeeded(0), plan.refused(1, LASTING), plan.due(0)]

    assert all(actions == Actions() for actions in later)
    assert (plan.status(0), plan.status(1)) == (TaskStatus.FAILED, TaskStatus.CANCELLED)


@pytest.mark.parametrize("state", [State.READY, State.BACKOFF])
def test_reports_of_an_attempt_that_is_over_change_nothing(state: State) -> None:
    plan = begun(steps_of((), retry=RetryOptions(timeouts=True)))
    if state is State.READY:
        plan.lost(0, LOST, started=True)
    else:
        plan.failed(0, PASSING)

    later = news(plan, 0)

    assert all(actions == Actions() for actions in later)
    assert (plan.state(0), plan.tries(0)) == (state, 1)


def everything(_: int) -> bool:
    return True


def test_a_chain_follows_a_sequence_up_to_its_limit() -> None:
    plan = plan_of(steps_of(*[()] * 6), sequence=True)
    plan.begin()

    assert plan.chain(0, everything, 4) == [0, 1, 2, 3]
    assert plan.chain(0, everything, 1) == [0]


def test_a_chain_ends_before_a_step_that_is_not_accepted() -> None:
    plan = plan_of(steps_of(*[()] * 6), sequence=True)
    plan.begin()

    assert plan.chain(0, lambda step: step != 3, 100) == [0, 1, 2]


def test_a_chain_follows_references() -> None:
    plan = plan_of(steps_of((), (0,), (0, 1), ()))
    plan.begin()

    assert plan.chain(0, everything, 100) == [0, 1, 2]


def test_a_chain_leaves_out_what_waits_for_a_step_outside() -> None:
    plan = begun(steps_of((), (), (0, 1)))

    before = plan.chain(0, everything, 100)
    plan.succeeded(1)

    assert before == [0]
    assert plan.chain(0, everything, 100) == [0, 2]


def test_a_chain_holds_no_step_that_a_replica_has() -> None:
    plan = plan_of(steps_of((), ()), sequence=True)
    plan.begin()
    plan.handed([0, 1])

    assert plan.chain(0, everything, 100) == [0]


def test_of_several_followers_a_chain_takes_the_first() -> None:
    plan = plan_of(steps_of((), (0,), (0,)))
    plan.begin()

    assert plan.chain(0, everything, 100) == [0, 1]


def test_a_chain_that_breaks_gives_its_rest_back() -> None:
    plan = plan_of(steps_of((), (), (1,)), sequence=True)
    plan.begin()
    plan.handed([0, 1, 2])
    plan.started(0)

    failed = plan.failed(0, PASSING)
    back = [plan.returned(1), plan.returned(2)]

    assert (failed.ready, [actions.ready for actions in back]) == ([], [[], []])
    assert (plan.state(1), plan.state(2)) == (State.WAITING, State.WAITING)
    assert plan.due(0).ready == [0]


def test_a_sequence_of_a_hundred_thousand_steps_takes_seconds_at_most() -> None:
    count = 100_000
    plan = plan_of([PlanStep("t.o")] * count, sequence=True)
    ready = plan.begin().ready

    for step in range(count):
        assert ready == [step]
        plan.handed([step])
        ready = plan.succeeded(step).ready

    assert plan.done


def test_a_result_is_needed_beside_a_chain_by_whoever_kept_it_or_reads_it_elsewhere() -> None:
    kept = begun(steps_of((), (0,)))
    last = begun(steps_of((), (0,), (0,)), keep="last")

    assert kept.is_needed_beside(0, {1})
    assert last.is_needed_beside(2, set())
    assert last.is_needed_beside(0, {1})
    assert not last.is_needed_beside(0, {1, 2})


def test_a_reader_that_has_ended_needs_nothing() -> None:
    plan = begun(steps_of((), (0,), (0,)), keep="last")
    plan.overdue(2, LATE)

    assert not plan.is_needed_beside(0, {1})


def test_a_step_that_only_comes_after_another_does_not_need_its_result() -> None:
    plan = begun([PlanStep("t.a"), PlanStep("t.b", after=(0,))], keep="last")

    assert not plan.is_needed_beside(0, set())
