"""What the tools share: a table made of whatever arrives, and columns checked by name.

An input may be a result of another operation, read from the object store: its buffers are read-only, so nothing here
writes to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Number
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_TABLE = "a DataFrame, a list of records or a dict of columns"


def _check_table(value: Any) -> Any:
    if isinstance(value, (pd.DataFrame, pd.Series, np.ndarray, list, tuple, Mapping)):
        return value
    raise PydanticCustomError("table_type", f"Input should be {_TABLE}")


FrameLike = Annotated[
    Any,
    AfterValidator(_check_table),
    WithJsonSchema({"description": f"A table: {_TABLE}", "type": ["array", "object"]}),
]
"""What an operation takes as a table: a DataFrame, a Series, a list of records, a list of values, a dict of columns,
or the result of an operation that passes a DataFrame on as ``data``. Anything else is refused before it runs."""

MINUS = "\N{MINUS SIGN}"
"""The sign of a negative number as a reader sees it."""

COLUMNS_SHOWN = 30
"""How many column names an error message lists."""


def to_frame(value: FrameLike, name: str = "df") -> pd.DataFrame:
    """Return ``value`` as a DataFrame; a DataFrame is returned as it is, not copied.

    Raises TypeError if it is no kind of table, ValueError if its columns have different lengths. ``name`` is what the
    message calls it.

    >>> to_frame([{"city": "Oslo", "sales": 3}, {"city": "Rome", "sales": 5}])["sales"].sum().item()
    8
    """
    if isinstance(value, pd.DataFrame):
        return value
    if isinstance(value, pd.Series):
        return value.to_frame(name="value" if value.name is None else value.name)
    if isinstance(value, Mapping):
        return _from_mapping(value, name)
    if isinstance(value, (list, tuple)):
        return _from_list(value, name)
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return pd.DataFrame({"value": value})
    raise TypeError(_not_a_table(name, type(value).__name__))


def require_columns(frame: pd.DataFrame, columns: Iterable[str], name: str = "df") -> list[str]:
    """Return ``columns`` as a list; raise ValueError naming the missing ones and those that there are.

    >>> require_columns(pd.DataFrame({"a": [1], "b": [2]}), ["c"])
    Traceback (most recent call last):
    ...
    ValueError: df has no column 'c'; it has: a, b
    """
    wanted = [columns] if isinstance(columns, str) else list(columns)
    missing = [column for column in wanted if column not in frame.columns]
    if missing:
        word = "column" if len(missing) == 1 else "columns"
        raise ValueError(f"{name} has no {word} {', '.join(map(repr, missing))}; it has: {list_columns(frame)}")
    return wanted


def list_columns(frame: pd.DataFrame) -> str:
    """Return the names of the columns as text for an error message, at most ``COLUMNS_SHOWN`` of them."""
    names = [str(column) for column in frame.columns]
    more = len(names) - COLUMNS_SHOWN
    return ", ".join(names[:COLUMNS_SHOWN]) + (f" and {more} more" if more > 0 else "") if names else "no columns"


def numeric_columns(frame: pd.DataFrame) -> list[str]:
    """Return the names of the columns that hold numbers (a column of booleans does not)."""
    return [str(name) for name in frame.select_dtypes("number").columns]


def require_numeric(frame: pd.DataFrame, columns: Iterable[str], name: str = "df") -> list[str]:
    """Return ``columns`` as a list; raise ValueError if one is missing or holds something else than numbers."""
    wanted = require_columns(frame, columns, name)
    numeric = numeric_columns(frame)
    for column in wanted:
        if column not in numeric:
            kind = frame[column].dtype
            raise ValueError(
                f"column {column!r} of {name} holds {kind}, not numbers; columns with numbers: "
                f"{', '.join(numeric) or 'none'}"
            )
    return wanted


def plain(value: Any) -> Any:
    """Return a NumPy or pandas scalar as a plain Python value; one that is missing or not finite becomes None.

    >>> plain(np.float64(2.5)), plain(np.int64(3)), plain(float("nan"))
    (2.5, 3, None)
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def format_values(values: list[float]) -> list[str]:
    """Return numbers as text with as many decimals as they need to differ, at most two.

    >>> format_values([1200.0, 3.0]), format_values([2.26, 15.8]), format_values([0.12, 0.5])
    (['1,200', '3'], ['2.3', '15.8'], ['0.12', '0.50'])
    """
    whole = all(float(value).is_integer() for value in values)
    largest = max((abs(value) for value in values), default=0.0)
    digits = 0 if whole or largest >= 1000 else 1 if largest >= 1 else 2  # noqa: PLR2004  magnitudes
    return [f"{value:,.{digits}f}".replace("-", MINUS) for value in values]


def _from_mapping(value: Mapping[Any, Any], name: str) -> pd.DataFrame:
    passed_on = value.get("data")
    if isinstance(passed_on, pd.DataFrame):
        return passed_on
    sized = {str(key): list(column) for key, column in value.items() if _is_column(column)}
    if not sized:
        if value and all(_is_scalar(item) for item in value.values()):
            return pd.DataFrame([dict(value)])
        raise TypeError(_not_a_table(name, "a dict without columns"))
    if len(sized) < len(value):
        odd = [str(key) for key in value if str(key) not in sized]
        raise TypeError(_not_a_table(name, f"a dict where {', '.join(map(repr, odd))} is not a column"))
    if len({len(column) for column in sized.values()}) > 1:
        lengths = ", ".join(f"{key} {len(column)}" for key, column in sized.items())
        raise ValueError(f"the columns of {name} have different lengths: {lengths}")
    return pd.DataFrame(dict(value))


def _from_list(value: Sequence[Any], name: str) -> pd.DataFrame:
    if all(isinstance(row, Mapping) for row in value):
        return pd.DataFrame([dict(row) for row in value])
    if all(_is_scalar(item) for item in value):
        return pd.DataFrame({"value": list(value)})
    raise TypeError(_not_a_table(name, "a list that mixes records with other values"))


def _is_column(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray, pd.Series, pd.Index))


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, Number, np.generic, pd.Timestamp))


def _not_a_table(name: str, found: str) -> str:
    return f"{name} must be {_TABLE}, not {found}"
