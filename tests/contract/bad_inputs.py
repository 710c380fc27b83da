"""Bad inputs and what must come of them: one row each, numbered as in the list of what a runtime has to withstand.

A row is a function that does the bad thing and asserts what came of it. Its test then makes a good call on the same
runtime.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pytest

from aiecs_ray.errors import AiecsError
from tests.contract.probes import DEADLINE, Gate, Ledger, Stopwatch, eventually, note, op

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aiecs_ray import Runtime
    from aiecs_ray.model import TaskStepResult

E = TypeVar("E", bound=AiecsError)


class Subject:
    """The tool on which the bad calls and the good ones fall."""

    limit = 7

    class Inner:
        pass

    @property
    def size(self) -> int:
        return 1

    @staticmethod
    def undeclared() -> str:
        return "static"

    def _private(self) -> str:
        return "private"

    def give(self, value: Any = None) -> Any:
        return value

    def note(self, ledger: str, text: str = "ran") -> str:
        note(ledger, text)
        return text

    def add(self, n: int, m: int = 1) -> int:
        return n + m

    def fail(self, text: str = "no") -> None:
        raise ValueError(text)

    def who(self, user_id: str = "") -> str:
        return user_id

    def everything(self, **options: Any) -> dict[str, Any]:
        return options


@dataclass
class World:
    """What a row works with."""

    rt: Runtime
    backend: str
    ledger: Ledger
    gate: Gate
    tmp_path: Path
    monkeypatch: pytest.MonkeyPatch

    def register(self, cls: type, name: str | None = None, **options: Any) -> None:
        """Register a tool that takes no CPU from the others."""
        self.rt.register(cls, name, **{"num_cpus": 0, **options})

    def give(self, value: Any) -> Any:
        return self.rt.call("subject.give", {"value": value})

    def refuses(self, kind: type[E], code: str, says: str, operation: Any, mode: Any = "sequence") -> E:
        """Ask for an operation after a good one: both are refused before anything runs."""
        operations = [op("subject.note", ledger=self.ledger.path), operation]
        with pytest.raises(kind, match=re.escape(says)) as caught:
            self.rt.run(operations, mode)
        error = caught.value
        assert type(error) is kind
        assert (error.error_code, error.index) == (code, 1)
        assert len(str(error)) < 600
        assert len(self.ledger) == 0
        return error

    def raises(self, kind: type[E], code: str, says: str, spec: str, /, **params: Any) -> E:
        """Call an operation that fails with an error of this class and code."""
        with pytest.raises(kind, match=re.escape(says)) as caught:
            self.rt.call(spec, params)
        assert type(caught.value) is kind
        assert caught.value.error_code == code
        return caught.value

    def ends(
        self, says: str, *operations: dict[str, Any], status: str = "failed", code: str = "E003"
    ) -> TaskStepResult:
        """Run operations of which the last ends in this way, and return its result."""
        last = self.rt.run(list(operations))[-1]
        assert (last.status, last.error_code) == (status, code), last
        assert says in str(last.error_message)
        return last


class Row(NamedTuple):
    """One row."""

    number: int
    name: str
    check: Callable[[World], None]
    ray: bool

    @property
    def id(self) -> str:
        return f"row-{self.number:03}-{self.name}"


class Rows:
    """The rows of one part of the list."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def row(self, number: int, name: str, *, ray: bool = False) -> Callable[[Any], Any]:
        """Take a function as a row; one with ``ray`` needs a process of its own."""

        def take(check: Callable[[World], None]) -> Callable[[World], None]:
            self._rows.append(Row(number, name, check, ray))
            return check

        return take

    def of(self, *, ray: bool) -> list[Any]:
        """Return the rows that need Ray, or those that run on both backends, as parameters of a test."""
        return [_parameter(row) for row in self._rows if row.ray is ray]


def _parameter(row: Row) -> Any:
    return pytest.param(row, id=row.id, marks=[pytest.mark.ray] if row.ray else [])


__all__ = ["DEADLINE", "Gate", "Ledger", "Row", "Rows", "Stopwatch", "Subject", "World", "eventually", "note", "op"]
