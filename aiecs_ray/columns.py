"""Many named tuples on their way to another process, as columns: the pickle of a column costs a tenth of its rows'."""

from __future__ import annotations

import functools
from itertools import repeat
from operator import is_
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


Columns = tuple[int, tuple[tuple[bool, Any], ...]]
"""How many rows, and per field: whether all rows hold the very same object, then that object, else one per row."""


def to_columns(rows: Sequence[tuple[Any, ...]]) -> Columns:
    """Return ``rows`` by columns.

    >>> to_columns([(1, None), (2, None)])
    (2, ((False, (1, 2)), (True, None)))
    """
    return len(rows), tuple([_column(column) for column in zip(*rows, strict=True)])


def _column(column: tuple[Any, ...]) -> tuple[bool, Any]:
    first = column[0]
    # By identity: 1, 1.0 and True are equal, and comparing values could run anybody's code.
    return (True, first) if all(map(is_, column, repeat(first))) else (False, column)


def to_rows(kind: type[T], columns: Columns) -> list[T]:
    """Return the rows of the named tuple ``kind`` that :func:`to_columns` took apart.

    >>> from collections import namedtuple
    >>> Pair = namedtuple("Pair", "left right")
    >>> to_rows(Pair, to_columns([Pair(1, None), Pair(2, None)]))
    [Pair(left=1, right=None), Pair(left=2, right=None)]
    """
    count, fields = columns
    if not count:
        return []
    parts = [repeat(part, count) if same else part for same, part in fields]
    make: Any = tuple.__new__
    return list(map(functools.partial(make, kind), zip(*parts, strict=True)))
