"""A body speaks to its own host and to no other."""

# Tools without annotations are what some of these tests are about.
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING

import pytest

from aiecs_ray.running import Attempt, attempt_scope, cancelled, progress

if TYPE_CHECKING:
    from typing import Any


@pytest.fixture
def flag():
    return threading.Event()


@pytest.fixture
def said():
    return []


@pytest.fixture
def attempt(flag, said):
    return Attempt(flag, lambda *report: said.append(report), "ann", "task", 3)


def test_outside_of_an_operation_nothing_happens() -> None:
    progress(1, 2, "x")

    assert cancelled() is False


def test_progress_reaches_the_host(attempt: Attempt, said: list[Any]) -> None:
    with attempt_scope(attempt):
        progress(1)
        progress(2.5, 10, "rows")
    progress(3)

    assert said == [(1, None, ""), (2.5, 10, "rows")]


def test_cancelled_follows_the_flag_of_its_own_operation(attempt: Attempt, flag: threading.Event) -> None:
    with attempt_scope(attempt):
        before = cancelled()
        flag.set()
        after = cancelled()

    assert (before, after) == (False, True)
    assert cancelled() is False


def test_scope_ends_when_the_body_raises(attempt: Attempt, flag: threading.Event) -> None:
    flag.set()

    with pytest.raises(KeyError), attempt_scope(attempt):
        raise KeyError

    assert cancelled() is False


def test_operations_in_several_threads_do_not_see_each_other(attempt: Attempt, flag: threading.Event) -> None:
    flag.set()
    seen = []

    with attempt_scope(attempt):
        plain = threading.Thread(target=lambda: seen.append(cancelled()))
        copied = threading.Thread(target=contextvars.copy_context().run, args=(lambda: seen.append(cancelled()),))
        for thread in (plain, copied):
            thread.start()
            thread.join()

    assert seen == [False, True]
