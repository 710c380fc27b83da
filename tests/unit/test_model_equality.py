# ruff: noqa: FBT003 - the document's constructor takes its fields by position
from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiecs_ray.model import TaskStepResult

COMPLETED = TaskStepResult("pandas_tool.read_csv", {"rows": 1000}, True, "Read", "completed")


class Hostile:
    """Its comparison raises, its truth and its text too."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError


class Vague:
    """Its comparison answers with something else than a bool."""

    def __eq__(self, other: object) -> Any:
        return ["perhaps"]

    __hash__ = object.__hash__


def step(result: Any) -> TaskStepResult:
    return TaskStepResult("tool.op", result)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, 1),
        (1, 1.0),
        ("a", "a"),
        (None, None),
        ([1, [2, {"a": (3,)}]], [1, [2, {"a": (3,)}]]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.float64(1.5), np.float64(1.5)),
        (np.float64(1.5), 1.5),
        (np.array([1, 2]), np.array([1, 2])),
        (np.array([1.0, math.nan]), np.array([1.0, math.nan])),
        (np.array([]), np.array([])),
        (np.array(3), np.array(3)),
        (np.array(["a", "b"]), np.array(["a", "b"])),
        (np.array(["a", None], dtype=object), np.array(["a", None], dtype=object)),
        (np.array(["NaT"], "datetime64[s]"), np.array(["NaT"], "datetime64[s]")),
        (pd.DataFrame({"a": [1.0, math.nan]}), pd.DataFrame({"a": [1.0, math.nan]})),
        (pd.Series(["x", "y"]), pd.Series(["x", "y"])),
        (pd.Index([1, 2]), pd.Index([1, 2])),
        (pd.DataFrame(), pd.DataFrame()),
        ({"frame": pd.DataFrame({"a": [1]})}, {"frame": pd.DataFrame({"a": [1]})}),
        ([np.array([1, 2]), {"b": np.array([[3]])}], [np.array([1, 2]), {"b": np.array([[3]])}]),
        ((np.array([1, 2]), 3), (np.array([1, 2]), 3)),
        (TaskStepResult("a.b", np.array([1, 2])), TaskStepResult("a.b", np.array([1, 2]))),
    ],
)
def test_results_of_equal_values_are_equal(first: Any, second: Any) -> None:
    assert step(first) == step(second)
    assert step(second) == step(first)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, 2),
        (1, "1"),
        (None, 0),
        ([1], (1,)),
        ([1, 2], [1]),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        (np.float64(1.5), np.float64(2.5)),
        (np.array([1, 2]), np.array([1, 3])),
        (np.array([1, 2]), np.array([1.0, 2.0])),
        (np.array([1]), np.array([[1]])),
        (np.array([1, 1]), np.array([1])),
        (np.array([1, 1]), 1),
        (np.array([1, 1]), [1, 1]),
        (np.array([math.nan]), np.array([1.0])),
        ([np.array([1])], [np.array([[1]])]),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
        (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1]})),
        (pd.DataFrame({"a": [1]}), np.array([[1]])),
        (pd.Series([1]), pd.DataFrame({"a": [1]})),
        ({"frame": pd.DataFrame({"a": [1]})}, {"frame": pd.DataFrame({"a": [2]})}),
        (Vague(), Vague()),
        (Hostile(), Hostile()),
        ([Hostile()], [Hostile()]),
    ],
)
def test_results_of_other_values_differ_without_raising(first: Any, second: Any) -> None:
    assert step(first) != step(second)
    assert step(second) != step(first)


@pytest.mark.parametrize("value", [Hostile(), Vague(), math.nan, [Hostile()], {"a": Hostile()}, (Vague(),)])
def test_the_same_object_equals_itself_whatever_its_comparison_does(value: Any) -> None:
    assert step(value) == step(value)


def test_endless_and_bottomless_values_differ_without_raising() -> None:
    first: list[Any] = []
    second: list[Any] = []
    first.append(first)
    second.append(second)

    assert step(first) != step(second)
    assert step(first) == step(first)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", "other.op"),
        ("result", 4),
        ("completed", False),
        ("message", "other"),
        ("status", "failed"),
        ("error_code", "E003"),
        ("error_message", "other"),
    ],
)
def test_every_field_counts_for_equality(name: str, value: Any) -> None:
    made = TaskStepResult("tool.op", 3, True, "m", "completed", "E001", "e")

    assert dataclasses.replace(made, **{name: value}) != made
    assert dataclasses.replace(made) == made


def test_result_differs_from_everything_that_is_no_result() -> None:
    assert COMPLETED.dict() != COMPLETED
    assert object() != COMPLETED
    assert COMPLETED.__eq__(3) is NotImplemented


@pytest.mark.parametrize("value", [1, "a", None, (1, "b"), 2.5, frozenset({1}), np.float64(1.5), pd.Timestamp(0)])
def test_equal_results_have_equal_hashes(value: Any) -> None:
    first, second = step(value), step(copy.deepcopy(value))

    assert first == second
    assert hash(first) == hash(second)
    assert len({first, second}) == 1


@pytest.mark.parametrize("value", [[1], {"a": 1}, ([1],), np.array([1]), pd.DataFrame({"a": [1]}), {1}])
def test_result_that_holds_something_unhashable_cannot_be_hashed(value: Any) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(step(value))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(values, values)
def test_plain_values_compare_as_python_compares_them(first: Any, second: Any) -> None:
    assert (step(first) == step(second)) == (first == second)
    assert step(first) == pickle.loads(pickle.dumps(step(first)))
