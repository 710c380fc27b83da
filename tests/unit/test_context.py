from __future__ import annotations

import pickle
from enum import StrEnum
from typing import Any

import pytest

from aiecs_ray.context import Context
from aiecs_ray.errors import InvalidInputError


class User(StrEnum):
    ANN = "ann"


def test_context_holds_a_user_and_a_task() -> None:
    context = Context("ann", "report")

    assert (context.user_id, context.task_id) == ("ann", "report")


def test_none_means_the_empty_string() -> None:
    assert Context(None, None) == Context("", "") == Context()


@pytest.mark.parametrize(
    ("context", "empty"),
    [(Context(), True), (Context("ann"), False), (Context(task_id="report"), False), (Context("ann", "r"), False)],
)
def test_context_is_empty_without_user_and_task(context: Context, empty: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert context.empty is empty


@pytest.mark.parametrize("value", [7, b"ann", [], True, object()])
@pytest.mark.parametrize("name", ["user_id", "task_id"])
def test_what_is_not_text_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"{name} must be a string or None"):
        Context(**{name: value})


def test_text_that_cannot_be_encoded_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="task_id holds a character"):
        Context("ann", "\ud800")


def test_a_subclass_of_str_becomes_a_plain_string() -> None:
    context = Context(User.ANN)

    assert context == Context("ann")
    assert type(context.user_id) is str


def test_context_is_a_value() -> None:
    context = Context("ann", "report")

    assert pickle.loads(pickle.dumps(context)) == context
    assert hash(Context("ann", "report")) == hash(context)
    assert Context("ann", "other") != context
    with pytest.raises(AttributeError):
        context.user_id = "bob"  # type: ignore[misc]
