"""Tool calls in a text, and the inputs of a plan (S0-47; D-37)."""

from __future__ import annotations

import contextlib
import keyword
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiecs_ray import OperationExecutor
from aiecs_ray.errors import InvalidParamsError
from aiecs_ray.templates import extract_tool_calls, fill_inputs

INPUT = {"x": [1, 2], "csv": "a table"}
CONTEXT = {"y": {"user": "ann"}}


def params_of(text: str) -> dict[str, Any]:
    (call,) = extract_tool_calls(text, INPUT, CONTEXT)
    return dict(call["params"])


def test_the_documented_call_is_understood() -> None:
    text = r"{{tool(a='b', c='input.x', d='context.y', n=5, flag=true, q='it\'s')}}"

    assert extract_tool_calls(text, INPUT, CONTEXT) == [
        {"tool": "tool", "params": {"a": "b", "c": [1, 2], "d": {"user": "ann"}, "n": 5, "flag": True, "q": "it's"}}
    ]


def test_calls_come_in_their_order_from_within_a_text() -> None:
    text = "First {{load(file='a.csv')}}, then {{ stats_tool.mean(of=\"input.x\") }} and {{done()}}."

    assert extract_tool_calls(text, INPUT) == [
        {"tool": "load", "params": {"file": "a.csv"}},
        {"tool": "stats_tool.mean", "params": {"of": [1, 2]}},
        {"tool": "done", "params": {}},
    ]


@pytest.mark.parametrize(
    "text", ["", "plain", "{{ user }}", "{tool(a='b')}", "tool(a='b')", "{{tool}}", "{{tool(a='b'"]
)
def test_a_text_without_a_whole_call_has_none(text: str) -> None:
    assert extract_tool_calls(text, INPUT, CONTEXT) == []


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5", 5),
        ("-2.5", -2.5),
        ("1e3", 1000.0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("None", None),
        ("'a, b=c'", "a, b=c"),
        ("')}}'", ")}}"),
        ('"it\'s"', "it's"),
        (r"'C:\data\q'", r"C:\data\q"),
        (r"r'\d+'", r"\d+"),
        (r"'a\nb'", "a\nb"),
        ("[1, 'input.x', {'k': 'context.y'}]", [1, [1, 2], {"k": {"user": "ann"}}]),
        ("(1, 2)", (1, 2)),
        ("{}", {}),
    ],
)
def test_a_value_is_a_literal(written: str, value: Any) -> None:
    assert params_of("{{tool(v=" + written + ")}}")["v"] == value


@pytest.mark.parametrize(
    "text", ["input.missing", "context.x", "input.", "inputs.x", "see input.x", "input", " input.x"]
)
def test_a_text_that_names_nothing_given_stays_text(text: str) -> None:
    assert params_of("{{tool(v='" + text + "')}}") == {"v": text}


def test_a_file_name_stays_a_file_name() -> None:
    assert extract_tool_calls("{{read(file='input.csv')}}", {"rows": 1}) == [
        {"tool": "read", "params": {"file": "input.csv"}}
    ]


def test_what_was_looked_up_is_not_looked_up_again() -> None:
    assert extract_tool_calls("{{t(v='input.a')}}", {"a": "input.b", "b": "secret"})[0]["params"] == {"v": "input.b"}


@pytest.mark.parametrize(
    "arguments",
    [
        "'x'",
        "a",
        "a=b",
        "a=b.c",
        "a=f(1)",
        "a=__import__('os').system('x')",
        "a=[x for x in (1,)]",
        "a=1, a=2",
        "**{'a': 1}",
        "*[1]",
        "a=f'{1}'",
        "a=b'x'",
        "a=1j",
        "a=...",
        "a=1+1",
        "a='x' if 1 else 'y'",
        "a=lambda: 1",
        "a=1)(b=2",
        "a=1) or f(b=2",
        "a=1; b=2",
        r"a='\u12'",
        "a=\x00",
        "a=" + "-" * 5000 + "1",
        "a=" + "[" * 500 + "]" * 500,
    ],
)
def test_anything_but_named_literals_is_refused_and_quoted(arguments: str) -> None:
    with pytest.raises(InvalidParamsError, match="Invalid tool call") as caught:
        extract_tool_calls("Please {{tool(" + arguments + ")}}.")

    assert caught.value.error_code == "E001"


NAMES = st.from_regex(r"[a-z]{1,5}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
LITERALS = st.recursive(PLAIN | TEXTS, lambda part: st.lists(part) | st.dictionaries(TEXTS, part), max_leaves=5)


@given(st.dictionaries(NAMES, LITERALS, max_size=4))
def test_every_literal_that_python_writes_is_read(params: dict[str, Any]) -> None:
    written = ", ".join(f"{name}={value!r}" for name, value in params.items())

    assert extract_tool_calls("{{tool(" + written + ")}}") == [{"tool": "tool", "params": params}]


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    try:
        calls = extract_tool_calls("{{t(" + text + ")}}", INPUT, CONTEXT)
    except InvalidParamsError:
        return

    assert all(call.keys() == {"tool", "params"} for call in calls)


@pytest.mark.timeout(60)  # quadratic work would take minutes
@pytest.mark.parametrize("end", ["", ")}}"])
@pytest.mark.parametrize("part", ["{{a(", "{{a('", "'", "x", "\\", "{{a(b='c')", '{{a(b="', "b='c')}}{{a("])
def test_a_long_text_takes_no_long_time(part: str, end: str) -> None:
    text = "{{a(" + part * 60_000 + end

    with contextlib.suppress(InvalidParamsError):
        calls = extract_tool_calls(text)

        assert all(call["tool"] == "a" for call in calls)


def test_a_description_is_text() -> None:
    bad: Any = 5

    with pytest.raises(ValueError, match="must be text"):
        extract_tool_calls(bad)


def test_it_is_a_method_of_the_executor() -> None:
    executor = OperationExecutor()

    assert executor.extract_tool_calls("{{t(a='input.x')}}", {"x": 1}, {}) == [{"tool": "t", "params": {"a": 1}}]


# --- the inputs of a plan ------------------------------------------------------------------------------------


def filled(value: Any, **inputs: Any) -> Any:
    (operation,) = fill_inputs([{"operation": "t.o", "params": {"v": value}}], inputs, "task")
    return operation["params"]["v"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$input.file", "a.csv"),
        (["$input.file", {"k": ("$input.n",)}], ["a.csv", {"k": (5,)}]),
        ("see $input.file", "see $input.file"),
        ("$input.file ", "$input.file "),
        ("$input.file.name", "$input.file.name"),
        ("$$input.file", "$input.file"),
        ({"$input.file": 1}, {"$input.file": 1}),
        ("$result[0]", "$result[0]"),
        (5, 5),
    ],
)
def test_whole_strings_are_filled_wherever_they_stand(value: Any, expected: Any) -> None:
    assert filled(value, file="a.csv", n=5) == expected


def test_what_was_filled_in_is_not_filled_again() -> None:
    assert filled("$input.a", a="$input.b", b=1) == "$input.b"


def test_missing_inputs_are_named_all_at_once() -> None:
    operations = [{"operation": "t.o", "params": {"a": "$input.one", "b": ["$input.two", "$input.three"]}}]

    with pytest.raises(InvalidParamsError) as caught:
        fill_inputs(operations, {"two": 2}, "daily")

    assert str(caught.value) == "Task 'daily' needs the input 'one', 'three'; given: two"


def test_the_plan_itself_is_not_changed() -> None:
    operations: list[dict[str, Any]] = [
        {"operation": "t.o", "id": "x", "params": {"a": ["$input.n"]}},
        {"operation": "t.p"},
    ]

    assert fill_inputs(operations, {"n": 1}, "t") == [
        {"operation": "t.o", "id": "x", "params": {"a": [1]}},
        {"operation": "t.p", "params": {}},
    ]
    assert operations[0]["params"] == {"a": ["$input.n"]}
