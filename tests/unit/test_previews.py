"""Previews show what a value holds, run no code of its class, and mask what is secret."""

from __future__ import annotations

import dataclasses
import pickle
from collections import OrderedDict
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from aiecs_ray import packing
from aiecs_ray.masking import mask, names_secret
from aiecs_ray.packing import Slot
from aiecs_ray.previews import LIMIT, Preview, preview


class Account(BaseModel):
    name: str
    password: str


ACCOUNT = Account(name="ann", password="hunter2")  # noqa: S106


@dataclasses.dataclass
class Point:
    x: int


class Loud:
    """Says when its code runs."""

    ran: list[str] = []  # noqa: RUF012  # shared on purpose

    def __setstate__(self, state: Any) -> None:
        self.ran.append("setstate")

    def __getstate__(self) -> dict[str, int]:
        return {"x": 1}

    def __repr__(self) -> str:
        self.ran.append("repr")
        return "loud"


def shown(value: Any, **options: Any) -> Preview:
    return preview(packing.to_payload(packing.pack(value)), **options)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (7, "7"),
        ("text", "'text'"),
        ({"a": [1, (2, 3)], "b": {4}}, "{'a': [1, (2, 3)], 'b': {4}}"),
        (b"12345", "<5 bytes>"),
        (OrderedDict(a=1), "OrderedDict"),
        (Point(1), "<Point>"),
        ([ACCOUNT], "[<Account>]"),
    ],
)
def test_a_value_is_shown_as_plain_text(value: Any, text: str) -> None:
    assert text in shown(value).text


@pytest.mark.parametrize(
    "value", ["x" * 10_000, list(range(10_000)), {str(n): "y" * 100 for n in range(1000)}, [10**5000]]
)
def test_a_preview_is_short(value: Any) -> None:
    assert len(shown(value).text) <= LIMIT


def test_no_code_of_a_class_runs() -> None:
    payload = packing.to_payload(packing.pack([Loud()]))
    Loud.ran.clear()

    text = preview(payload).text

    assert (text, Loud.ran) == ("[<Loud>]", [])


def test_a_pickle_that_would_run_a_command_runs_nothing(tmp_path: Any) -> None:
    evil = b"cposix\nsystem\n(S'touch " + str(tmp_path / "made").encode() + b"'\ntR."

    preview(evil)

    assert list(tmp_path.iterdir()) == []


def test_what_is_no_pickle_is_said_to_be_none() -> None:
    assert preview(b"no pickle").text.startswith("<cannot be shown")


def test_slots_show_the_reference_that_stands_there() -> None:
    assert (
        shown({"df": Slot(0), "n": Slot(1)}, slots=["$result[0].df"]).text
        == "{'df': $result[0].df, 'n': <given elsewhere>}"
    )


@pytest.mark.parametrize(
    "value",
    [
        {"password": "hunter2"},
        {"deep": [{"api_key": "hunter2"}]},
        {"credentials": {"user": "hunter2"}},
        {"db_passwd": ["hunter2"]},
        ACCOUNT,
        {"x": SecretStr("hunter2")},
    ],
)
def test_a_secret_is_masked_and_known(value: Any) -> None:
    seen = shown(value)

    assert "hunter2" not in seen.text
    assert seen.masked
    assert seen.secrets >= {"hunter2"}


def test_a_known_secret_is_masked_wherever_it_stands() -> None:
    seen = shown(["the key is hunter2" + "." * 200, Point("hunter2")], known={"hunter2"})  # type: ignore[arg-type]

    assert "hunter2" not in seen.text
    assert seen.masked


def test_names_without_a_value_hide_nothing() -> None:
    assert not shown({"token": None, "use_token": True}).masked


def test_the_longest_secret_is_masked_first() -> None:
    assert mask("abcdef abc", {"abc", "abcdef"}) == "******** ********"


def test_only_names_are_looked_at() -> None:
    assert [names_secret(name) for name in ("Authorization", "privateKey", "rows", 5, None)] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_circles_and_bombs_end() -> None:
    circle: list[Any] = []
    circle.append(circle)
    bomb: list[Any] = ["x"]
    for _ in range(60):
        bomb = [bomb, bomb]

    assert preview(pickle.dumps(circle)).text
    assert preview(pickle.dumps(bomb)).text
