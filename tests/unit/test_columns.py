"""Many named tuples as columns, and the messages that travel so."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from aiecs_ray.actors.pages import Page
from aiecs_ray.backend import CacheEntries, CacheEntry, KeyParts
from aiecs_ray.columns import to_columns, to_rows
from aiecs_ray.messages import Input, Item, Limits, Outcome, Outcomes, Policy, RunRequest, Settled, Step, Work

PARTS = KeyParts("1", "task", ("ann", "t1"), b"digest")
ENTRY = CacheEntry("key", 1, 8, b"generation", parts=PARTS)


def test_rows_come_back_as_they_were() -> None:
    rows = [Settled("completed", 1), Settled("failed", None, attempts=2), Settled("completed", b"x")]

    back = to_rows(Settled, to_columns(rows))

    assert back == rows
    assert {type(row) for row in back} == {Settled}


def test_no_rows_are_no_rows() -> None:
    assert to_rows(Settled, to_columns([])) == []


def test_what_is_only_equal_stays_apart() -> None:
    rows = [Settled("completed", value) for value in (1, True, 1.0)]

    back = to_rows(Settled, to_columns(rows))

    assert [type(row.payload) for row in back] == [int, bool, float]


@pytest.mark.parametrize(
    "message",
    [
        RunRequest((), (), limits=Limits("", 1.0)),
        RunRequest(
            steps=(Step(0, b"p"), Step(0, b"q", (Input("step", 0, ("rows",), "$result[0].rows"),), (0,), id="b")),
            policies=(Policy("tool.op", "tool", "op"),),
            mode="batch",
            user_id="ann",
            calls=("tool.op",),
        ),
        Work(1, "run", (Item(0, 1, "op", b"p"), Item(1, 1, "op", b"q", (("item", 0, (), "$result[0]"),)))),
        Work(2, "run", (Item(0, 1, "op", b"p", idempotent=False),), (b"v",), chain=True, user_id="ann"),
        Outcomes([Outcome(0, 1, "value", 1), Outcome(1, 1, "error")]),
        Outcomes(),
        Page([Settled("completed", 1), Settled("failed")], 2),
        Page([], None),
        CacheEntries(),
        CacheEntries([None, None]),
        CacheEntries([ENTRY, None, ENTRY._replace(key="other", parts=PARTS._replace(params=b"other"))]),
        CacheEntries([ENTRY, ENTRY]),
        CacheEntries([ENTRY, ENTRY._replace(parts=None)]),
    ],
    ids=repr,
)
def test_a_message_arrives_as_it_was_sent(message: Any) -> None:
    arrived = pickle.loads(pickle.dumps(message, 5))

    assert arrived == message
    assert type(arrived) is type(message)
