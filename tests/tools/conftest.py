from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from aiecs_ray.reference import is_reference, look_up, parse
from aiecs_ray.tool import describe
from aiecs_ray.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable


def ship(value: Any) -> Any:
    """Return a value as the object store delivers it: its own containers, and buffers that cannot be written."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(text, buffers=[memoryview(bytes(buffer.raw())).toreadonly() for buffer in buffers])


@pytest.fixture
def shipped() -> Callable[[Any], Any]:
    return ship


@pytest.fixture(scope="session")
def runner() -> Callable[[list[dict[str, Any]]], dict[int | str, Any]]:
    """Run a plan's operations in their order; see ``run_plan``."""
    return run_plan


@pytest.fixture(scope="session")
def referred() -> Callable[[Any], set[str]]:
    """Find the ids that a value refers to; see ``references``."""
    return references


@pytest.fixture
def orders() -> pd.DataFrame:
    return ship(
        pd.DataFrame(
            {
                "date": ["2024-01-05", "2024-01-20", "2024-02-03", "2024-02-10", "2024-02-10"],
                "category": ["toys", "books", "toys", "food", "food"],
                "amount": [10.0, 20.0, 30.0, 5.0, 5.0],
                "units": [1, 2, 3, 4, 4],
            }
        )
    )


def run_plan(plan: list[dict[str, Any]]) -> dict[int | str, Any]:
    """Run operations in order, each result delivered as the object store would; return them by index and by id."""
    operations = {
        operation.spec: (operation.function, cls()) for cls in TOOLS for operation in describe(cls).operations.values()
    }
    results: dict[int | str, Any] = {}
    for index, step in enumerate(plan):
        function, instance = operations[step["operation"]]
        results[index] = ship(function(instance, **_resolved(step["params"], results)))
        results[step.get("id", index)] = results[index]
    return results


def references(value: Any) -> set[int | str]:
    """Return the indices and ids of the steps that a value refers to."""
    if isinstance(value, str):
        return {parse(value).target} if is_reference(value) else set()
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*(references(part) for part in parts))


def _resolved(value: Any, results: dict[int | str, Any]) -> Any:
    if isinstance(value, str) and is_reference(value):
        reference = parse(value)
        return look_up(results[reference.target], reference.path, value)
    if isinstance(value, dict):
        return {key: _resolved(part, results) for key, part in value.items()}
    return [_resolved(part, results) for part in value] if isinstance(value, list) else value
