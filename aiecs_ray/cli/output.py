"""What a command writes: data to standard output, everything else to standard error."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any, TextIO

from pydantic_core import PydanticSerializationError, to_jsonable_python

from aiecs_ray import packing
from aiecs_ray.cli.ending import described
from aiecs_ray.quoting import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aiecs_ray.cli.ending import ExitCode

VALUE_LIMIT = 65_536
"""Characters of JSON up to which a value is shown; of a larger one, type and size."""
WIDEST = 60
"""Characters of one column of a table."""


@dataclasses.dataclass
class Output:
    """Writes in the form that was asked for."""

    json: bool = False
    jsonl: bool = False
    quiet: bool = False
    stream: TextIO = dataclasses.field(default_factory=lambda: sys.stdout)
    """Where data go; what tools print in this process meanwhile goes elsewhere."""

    @property
    def machine(self) -> bool:
        """Whether a program reads it."""
        return self.json or self.jsonl

    def note(self, text: str) -> None:
        """Say something to people."""
        if not self.quiet:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def document(self, command: str, data: Any, text: str) -> None:
        """Write the one result of a command: ``data`` for programs, ``text`` for people."""
        if self.machine:
            self._write(json.dumps({"ok": True, "command": command, "data": data}))
        elif text:
            self._write(text)

    def rows(self, command: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """Write rows: as a table, as one document, or one a line."""
        if self.jsonl:
            for row in rows:
                self.line(row)
        else:
            self.document(command, list(rows), table(rows, columns))

    def line(self, data: Mapping[str, Any]) -> None:
        """Write one line of JSON."""
        self._write(json.dumps(data))

    def failure(self, command: str, error: BaseException, code: ExitCode) -> None:
        """Say that a command failed, and why."""
        if self.machine:
            self._write(
                json.dumps(
                    {
                        "ok": False,
                        "command": command,
                        "error": described(error, code),
                        "data": getattr(error, "data", None),
                    }
                )
            )
        sys.stderr.write(f"aiecs-ray: {error}\n")
        for note in getattr(error, "__notes__", ()):
            sys.stderr.write(f"  {note}\n")

    def _write(self, text: str) -> None:
        self.stream.write(f"{text}\n")
        self.stream.flush()


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as aligned text.

    >>> print(table([{"tool": "text", "calls": 3}], ["tool", "calls"]))
    tool  calls
    text  3
    """
    cells = [list(columns), *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value).split())
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def plain(value: Any) -> Any:
    """Return a value as JSON shows it; of what JSON cannot say, and of large values, type and shape.

    >>> plain({"a": (1, 2)}), plain(object())
    ({'a': [1, 2]}, {'type': 'object', 'summary': 'object'})
    """
    try:
        shown = to_jsonable_python(value, inf_nan_mode="null")
        if len(text := json.dumps(shown, allow_nan=False)) <= VALUE_LIMIT:
            return json.loads(text)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError):
        pass
    return {"type": type(value).__name__, "summary": packing.summarise(value)}


def brief(value: Any) -> str:
    """Return a value in one short line."""
    shown = plain(value)
    text = (
        shown["summary"]
        if isinstance(shown, dict) and set(shown) == {"type", "summary"}
        else json.dumps(shown, ensure_ascii=False)
    )
    return shorten(text, WIDEST)
