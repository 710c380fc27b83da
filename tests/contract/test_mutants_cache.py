"""Tools, operations and inputs that differ never answer for each other."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.contract.probes import Ledger, note, op

if TYPE_CHECKING:
    from aiecs_ray import Runtime

pytestmark = pytest.mark.timeout(40)


class Shelf:
    def read(self, ledger: str) -> str:
        note(ledger)
        return "read"

    def count(self, ledger: str) -> str:
        note(ledger)
        return "counted"

    def give(self, ledger: str, value: str) -> str:
        note(ledger)
        return value


@pytest.fixture
def user() -> str:
    return secrets.token_hex(8)


def test_two_tools_of_one_class_have_entries_of_their_own(rt: Runtime, ledger: Ledger, user: str) -> None:
    for name in ("upper_shelf", "lower_shelf"):
        rt.register(Shelf, name)

    for name in ("upper_shelf", "lower_shelf"):
        rt.call(f"{name}.read", {"ledger": ledger.path}, user_id=user)

    assert len(ledger) == 2


def test_two_operations_of_one_tool_have_entries_of_their_own(rt: Runtime, ledger: Ledger, user: str) -> None:
    rt.register(Shelf)

    answers = [rt.call(f"shelf.{name}", {"ledger": ledger.path}, user_id=user) for name in ("read", "count")]

    assert answers == ["read", "counted"]
    assert len(ledger) == 2


def test_what_reads_a_cached_result_is_not_answered_for_another_one(rt: Runtime, ledger: Ledger, user: str) -> None:
    rt.register(Shelf)

    def pair(value: str) -> list[dict[str, object]]:
        return [op("shelf.give", ledger=ledger.path, value=v) for v in (value, "$result[0]")]

    rt.run(pair("a"), user_id=user)
    rt.run(pair("b")[:1], user_id=user)
    results = rt.run(pair("b"), user_id=user)

    assert [result.result for result in results] == ["b", "b"]
