"""Whoever waits for an answer stops waiting when there will be none."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import pytest

from aiecs_ray.errors import RuntimeUnavailableError
from aiecs_ray.outstanding import Outstanding

Question = concurrent.futures.Future[Any]


def test_an_answer_is_passed_on() -> None:
    asked = Question()
    answer = Outstanding().answer_to(asked)

    asked.set_result(5)

    assert answer.result(1) == 5


def test_an_error_is_translated() -> None:
    asked = Question()
    answer = Outstanding().answer_to(asked, lambda error: KeyError(str(error)))

    asked.set_exception(ValueError("no"))

    with pytest.raises(KeyError, match="no"):
        answer.result(1)


def test_a_question_that_is_cancelled_is_answered_with_an_error() -> None:
    asked = Question()
    answer = Outstanding().answer_to(asked)

    asked.cancel()
    asked.set_running_or_notify_cancel()

    with pytest.raises(RuntimeUnavailableError, match="was closed before the answer came"):
        answer.result(1)


def test_the_end_answers_what_waits_and_what_is_asked_later() -> None:
    outstanding = Outstanding()
    waiting = outstanding.answer_to(Question())

    outstanding.end(RuntimeUnavailableError("gone"))

    for answer in (waiting, outstanding.answer_to(Question()), outstanding.refused()):
        assert answer is not None
        with pytest.raises(RuntimeUnavailableError, match="gone"):
            answer.result(1)


def test_an_answer_that_comes_after_the_end_changes_nothing() -> None:
    outstanding, asked = Outstanding(), Question()
    answer = outstanding.answer_to(asked)
    outstanding.end(RuntimeUnavailableError("gone"))

    asked.set_result(5)

    with pytest.raises(RuntimeUnavailableError, match="gone"):
        answer.result(1)
