"""What a language model calls is run by the names and in the forms that it was given."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import OperationExecutor
from aiecs_ray.errors import InvalidOperationsError, InvalidParamsError, OperationNotFoundError
from aiecs_ray.schemas import to_anthropic, to_mcp, to_openai

if TYPE_CHECKING:
    from aiecs_ray import Runtime

pytestmark = pytest.mark.timeout(40)

LONG = "counts_whatever_texts_are_made_of_and_says_how_many_there_are"


class Texts:
    def count(self, text: str) -> int:
        return len(text.split())

    def odd__name(self, text: str) -> str:
        return text.upper()


class Op:
    def run(self, op: str = "none") -> str:
        return op


@pytest.fixture
def texts(rt: Runtime) -> Runtime:
    rt.register(Texts, "texts")
    rt.register(Texts, LONG)
    rt.register(Op, "op__tool")
    return rt


def test_every_name_of_every_form_can_be_called(texts: Runtime) -> None:
    names = [form["function"]["name"] for tool in ("texts", LONG) for form in to_openai(texts.registry.get(tool))]

    values = [texts.call(name, '{"text": "a b"}') for name in names]

    assert values == [2, "A B"] * 2
    assert names == [form["name"] for tool in ("texts", LONG) for form in to_anthropic(texts.registry.get(tool))]
    assert names == [form["name"] for tool in ("texts", LONG) for form in to_mcp(texts.registry.get(tool))]


def test_a_name_that_is_almost_right_is_answered_with_the_right_one(texts: Runtime) -> None:
    with pytest.raises(OperationNotFoundError, match="did you mean 'count'"):
        texts.call("texts__cuont", {"text": "a"})


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ('{"text": ', "params is text, but no JSON"),
        ("[1, 2]", "JSON text of a value of type list, expected an object"),
        ('"text"', "JSON text of text, expected an object"),
    ],
)
def test_arguments_that_are_no_json_object_are_refused(texts: Runtime, params: str, text: str) -> None:
    with pytest.raises(InvalidParamsError, match=text):
        texts.call("texts__count", params)


def batch(rt: Runtime, *calls: Any) -> list[Any]:
    executor = OperationExecutor(runtime=rt, config={"rate_limit_requests_per_second": None})
    return asyncio.run(executor.batch_tool_calls(list(calls)))


def test_calls_are_taken_in_the_forms_of_the_models_makers(texts: Runtime) -> None:
    results = batch(
        texts,
        {"tool": "texts.count", "params": {"text": "a"}},
        {"tool": "texts", "params": {"op": "count", "text": "a b"}},
        {"tool": "texts__count", "params": '{"text": "a b c"}'},
        {"id": "1", "type": "function", "function": {"name": "texts__count", "arguments": '{"text": "a"}'}},
        {"id": "2", "type": "tool_use", "name": "texts__count", "input": {"text": "a b"}},
        {"name": "texts__count", "arguments": {"text": ""}},
        {"tool": "op__tool", "params": {"op": "run"}},
    )

    assert results == [1, 2, 3, 1, 2, 0, "none"]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (5, "tool call 1 must be a dict of 'tool' and 'params', got 5"),
        ({}, "tool call 1 lacks 'tool'; it has no keys"),
        ({"tol": "x"}, "tool call 1 lacks 'tool'; it has tol"),
        ({"tool": "texts.count", "parms": {}}, "tool call 1 has the unknown key 'parms'"),
        ({"tool": 7}, "tool call 1 must name its tool by a text, got 7"),
        ({"function": {"arguments": "{}"}}, "tool call 1 must name its tool by a text, got None"),
        ({"tool": "texts", "params": "{"}, "tool call 1 params is text, but no JSON"),
        ({"tool": "texts", "params": {}}, "tool call 1 names no operation"),
    ],
)
def test_a_call_of_no_known_form_is_told_what_is_wrong_with_it(texts: Runtime, call: Any, text: str) -> None:
    with pytest.raises((InvalidOperationsError, InvalidParamsError), match=text) as caught:
        batch(texts, {"tool": "texts.count", "params": {"text": "a"}}, call)

    assert caught.value.index == 1
