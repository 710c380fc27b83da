"""Classes that are defined again, as in a notebook: changed code takes effect, unchanged code keeps its replicas."""

from __future__ import annotations

import itertools
import linecache
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.probes import Ledger, eventually

if TYPE_CHECKING:
    from aiecs_ray import Runtime

pytestmark = [pytest.mark.ray, pytest.mark.timeout(60)]
_cells = itertools.count(1)

CELL = """
import os

class Cell:
    def answer(self):
        return [{answer!r}, os.getpid()]

    def count(self, ledger):
        with open(ledger, "a") as file:
            file.write("ran\\n")
        return helper()

def helper():
    return {helper!r}
"""


def run_cell(source: str, namespace: dict[str, Any]) -> None:
    """Execute a cell as a notebook does: in the main module, with its source at hand for tracebacks."""
    name = f"<cell-{next(_cells)}-{secrets.token_hex(4)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), namespace)  # noqa: S102  # what a notebook does


@pytest.fixture
def namespace() -> dict[str, Any]:
    return {"__name__": "__main__"}


def test_changed_code_takes_effect_and_unchanged_code_keeps_its_process(
    ray_rt: Runtime, namespace: dict[str, Any]
) -> None:
    answers = []

    for answer in ("first", "first", "second", "second"):
        run_cell(CELL.format(answer=answer, helper=0), namespace)
        ray_rt.register(namespace["Cell"])
        answers.append(ray_rt.call("cell.answer"))

    texts, pids = zip(*answers, strict=True)
    assert texts == ("first", "first", "second", "second")
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_a_changed_function_that_the_class_uses_takes_effect(
    ray_rt: Runtime, namespace: dict[str, Any], ledger: Ledger
) -> None:
    values = []

    for helper in (1, 1, 2):
        run_cell(CELL.format(answer="", helper=helper), namespace)
        ray_rt.register(namespace["Cell"])
        values.append(ray_rt.call("cell.count", {"ledger": ledger.path}, user_id=ledger.path))

    assert values == [1, 1, 2]
    assert len(ledger) == 2


def test_the_old_replica_ends_when_nobody_needs_it(ray_rt: Runtime, namespace: dict[str, Any]) -> None:
    for answer in ("old", "new"):
        run_cell(CELL.format(answer=answer, helper=0), namespace)
        ray_rt.register(namespace["Cell"], "lone_cell")
        ray_rt.call("lone_cell.answer")

    eventually(lambda: ray_rt.stats()["tools"]["lone_cell"]["replicas"] == 1)


def test_going_back_to_earlier_code_ends_the_later_replica(ray_rt: Runtime, namespace: dict[str, Any]) -> None:
    for answer in ("there", "back", "there"):
        run_cell(CELL.format(answer=answer, helper=0), namespace)
        ray_rt.register(namespace["Cell"], "moving_cell")
        ray_rt.call("moving_cell.answer")

    eventually(lambda: ray_rt.stats()["tools"]["moving_cell"]["replicas"] == 1)
