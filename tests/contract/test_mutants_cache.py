"""Two tools of one class, and two operations of one tool, never answer for each other."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.contract.probes import Ledger, note

if TYPE_CHECKING:
    from aiecs_ray import Runtime

pytestmark = pytest.mark.timeout(40)


class Shelf:
    def __init__(self, label: str = "") -> None:
        self.label = label

    def read(self, ledger: str) -> str:
        note(ledger)
        return f"{self.label} read"

    def count(self, ledger: str) -> str:
        note(ledger)
        return f"{self.label} counted"


@pytest.fixture
def user() -> str:
    return secrets.token_hex(8)


def test_two_tools_of_one_class_have_entries_of_their_own(rt: Runtime, ledger: Ledger, user: str) -> None:
    for name in ("upper_shelf", "lower_shelf"):
        rt.register(Shelf, name, config={"label": name})

    answers = [
        rt.call(f"{name}.read", {"ledger": ledger.path}, user_id=user) for name in ("upper_shelf", "lower_shelf")
    ]

    assert answers == ["upper_shelf read", "lower_shelf read"]
    assert len(ledger) == 2


def test_two_operations_of_one_tool_have_entries_of_their_own(rt: Runtime, ledger: Ledger, user: str) -> None:
    rt.register(Shelf)

    answers = [rt.call(f"shelf.{name}", {"ledger": ledger.path}, user_id=user) for name in ("read", "count")]

    assert answers == [" read", " counted"]
    assert len(ledger) == 2
