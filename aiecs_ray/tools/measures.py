"""Statistics by name, so that an operation's parameters can ask for them as text."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiecs_ray.tools import frames

if TYPE_CHECKING:
    import pandas as pd

Statistic = str | Callable[[Any], float]
Measures = Mapping[str, Sequence[str]]

_BY_NAME = {
    "count": "count",
    "sum": "sum",
    "mean": "mean",
    "median": "median",
    "std": "std",
    "min": "min",
    "max": "max",
    "unique": "nunique",
}
_ANY_TYPE = {"count", "min", "max", "unique"}
_PERCENTILE = re.compile(r"p([1-9][0-9]?)")
_PERCENT = re.compile(r"percent *(<=|>=|<|>) *(-?[0-9]+(?:\.[0-9]+)?)")
_COMPARE: dict[str, Callable[[Any, float], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


def statistic(text: str) -> Statistic:
    """Return what pandas' ``agg`` takes for ``text``; missing values never count.

    ``count``, ``sum``, ``mean``, ``median``, ``std``, ``min``, ``max``, ``unique`` (how many different values); ``p90``
    (a percentile, 1 to 99); ``percent<=15`` (how many of a hundred values compare so). Raises ValueError for
    anything else.

    >>> import pandas as pd
    >>> compute(pd.Series([5, 10, 15, 20, None]), statistic("percent<=15"))
    75.0
    """
    if text in _BY_NAME:
        return _BY_NAME[text]
    if found := _PERCENTILE.fullmatch(text):
        fraction = int(found[1]) / 100
        return lambda values: float(values.quantile(fraction))
    if found := _PERCENT.fullmatch(text):
        compare, limit = _COMPARE[found[1]], float(found[2])
        return lambda values: float(compare(values.dropna(), limit).mean() * 100)
    raise ValueError(f"unknown statistic {text!r}; known: {', '.join(_BY_NAME)}, p90, percent<=15")


def compute(values: pd.Series, how: Statistic) -> Any:
    """Return a statistic of one column."""
    return values.agg(how) if isinstance(how, str) else how(values)


def check_measures(frame: pd.DataFrame, measures: Measures) -> dict[str, tuple[str, Statistic]]:
    """Return ``{label: (column, statistic)}``; raise ValueError for a column or a statistic that does not exist."""
    checked = {}
    for label, measure in measures.items():
        if isinstance(measure, str) or len(measure) != 2:  # noqa: PLR2004  a pair
            raise ValueError(f"measure {label!r} must be [column, statistic], as in ['price', 'mean']")
        column, name = measure
        if name in _ANY_TYPE:
            frames.require_columns(frame, [column])
        else:
            frames.require_numeric(frame, [column])
        checked[label] = (column, statistic(name))
    return checked
