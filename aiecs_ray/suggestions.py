"""What a spec that is none may have meant."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from aiecs_ray.errors import AiecsError, InvalidSpecError, OperationForbiddenError
from aiecs_ray.quoting import shorten

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from aiecs_ray.catalog import Catalog

SHOWN = 5
"""Operations that a hint names."""


def hinted(error: InvalidSpecError, catalog: Catalog) -> InvalidSpecError:
    """Return ``error`` with a hint, when its spec has only one half: the operations of that tool, or the whole name."""
    tool, dot, operation = error.spec.partition(".")
    if error.hint or isinstance(error, OperationForbiddenError) or operation or not tool.isascii():
        return error
    try:
        _, operations = catalog.tool(tool)
    except AiecsError:
        return error
    names = list(operations)
    more = ", ..." if len(names) > SHOWN else ""
    hint = f"{tool} has {', '.join(names[:SHOWN])}{more}" if dot else f"did you mean {tool}.{names[0]}?"
    better = InvalidSpecError(error.spec, hint)
    better.locate(operation=error.operation, index=error.index)
    for note in getattr(error, "__notes__", ()):
        better.add_note(note)
    return better


def nearest(name: str, known: Iterable[str] | Collection[str]) -> tuple[str, ...]:
    """Return up to three known names that are close to ``name``, whatever their case.

    >>> nearest("Pandas_Tool", ["pandas_tool", "stats_tool"])
    ('pandas_tool',)
    """
    spelled = {one.lower(): one for one in known}
    return tuple(spelled[one] for one in get_close_matches(shorten(name).lower(), spelled, n=3, cutoff=0.7))
