from __future__ import annotations

import itertools
import pickle
from typing import Any

import pytest

from aiecs_ray.errors import AiecsError, InvalidInputError, StatusTransitionError
from aiecs_ray.model import TaskStatus, can_transition, check_transition

LEGAL = {
    ("pending", "running"),
    ("running", "completed"),
    ("running", "failed"),
    ("running", "timed_out"),
    ("running", "cancelled"),
}

PAIRS = list(itertools.product(TaskStatus, TaskStatus))


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_strict_table_allows_the_documents_transitions_and_no_other(old: TaskStatus, new: TaskStatus) -> None:
    allowed = can_transition(old, new, allow_pending_cancel=False)

    assert allowed == ((old.value, new.value) in LEGAL)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_pending_work_can_be_cancelled_unless_that_is_switched_off(old: TaskStatus, new: TaskStatus) -> None:
    allowed = can_transition(old, new)

    assert allowed == ((old.value, new.value) in LEGAL | {("pending", "cancelled")})


@pytest.mark.parametrize(("old", "new"), PAIRS)
@pytest.mark.parametrize("allow", [True, False])
def test_checking_raises_exactly_where_a_transition_is_not_allowed(
    old: TaskStatus,
    new: TaskStatus,
    allow: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    try:
        check_transition(old, new, allow_pending_cancel=allow)
    except StatusTransitionError:
        refused = True
    else:
        refused = False

    assert refused != can_transition(old, new, allow_pending_cancel=allow)


def test_refused_transition_names_both_statuses_and_the_way_out() -> None:
    with pytest.raises(StatusTransitionError) as caught:
        check_transition(TaskStatus.PENDING, TaskStatus.COMPLETED, allow_pending_cancel=False)

    assert str(caught.value) == (
        "Invalid status transition: PENDING → COMPLETED. Valid transitions from PENDING: RUNNING"
    )
    assert (caught.value.old, caught.value.new, caught.value.valid) == ("PENDING", "COMPLETED", ("RUNNING",))


def test_refused_transition_lists_successors_in_the_order_of_the_statuses() -> None:
    with pytest.raises(StatusTransitionError, match=r"from PENDING: RUNNING, CANCELLED$"):
        check_transition("pending", "failed")
    with pytest.raises(StatusTransitionError, match=r"from RUNNING: COMPLETED, CANCELLED, TIMED_OUT, FAILED$"):
        check_transition("running", "pending")
    with pytest.raises(StatusTransitionError, match=r"from COMPLETED: none$"):
        check_transition("completed", "running")


def test_refused_transition_is_an_input_error_that_pickles() -> None:
    error = StatusTransitionError("PENDING", "COMPLETED", ("RUNNING",))

    copied = pickle.loads(pickle.dumps(error))

    assert {AiecsError, ValueError} < set(type(copied).__mro__)
    assert copied.error_code == "E001"
    assert (copied.old, copied.new, copied.valid, str(copied)) == (error.old, error.new, error.valid, str(error))


@pytest.mark.parametrize("value", ["PENDING", "success", "", None, 3, []])
def test_unknown_status_is_refused_with_the_known_ones(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="one of pending, running, completed"):
        can_transition("pending", value)
    with pytest.raises(InvalidInputError, match="one of pending, running, completed"):
        check_transition(value, "running")
