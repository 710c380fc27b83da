"""What a spec that is none may have meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiecs_ray.errors import AiecsError, InvalidSpecError, OperationForbiddenError

if TYPE_CHECKING:
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
