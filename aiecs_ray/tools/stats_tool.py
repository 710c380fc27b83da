"""Numbers about a table: metrics, trends, anomalies and a summary."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd

from aiecs_ray.tool import operation, tool
from aiecs_ray.tools import frames, measures

FLAT = 0.01
"""A change over the whole table below this share of the mean size of the values counts as flat."""

_OF_EVERY_COLUMN = ("count", "sum", "mean", "std", "min", "median", "max")
_STRONGEST = 5


@tool("stats_tool")
class StatsTool:
    """Compute numbers about a table. Every input is read and never changed."""

    @operation
    def calculate_metrics(
        self,
        df: frames.FrameLike,
        headline: list[dict[str, str]] | None = None,
    ) -> dict[str, Any]:
        """Return ``rows``, statistics of each numeric column (``columns``), and the ``headline`` numbers asked for.

        A headline entry is ``{"label", "column", "statistic", "unit"}`` (unit optional; statistics: see
        ``measures.statistic``) and comes back as ``{"label", "value", "unit"}``. A value that does not exist, such as
        the standard deviation of one row, is None. Raises ValueError for a missing column or an unknown statistic.
        """
        # Source: operation_executor.md, case 1.
        frame = frames.to_frame(df)
        columns = {}
        for name in frames.numeric_columns(frame):
            values = {how: frames.plain(frame[name].agg(how)) for how in _OF_EVERY_COLUMN}
            columns[name] = {**values, "missing": int(frame[name].isna().sum())}
        return {
            "rows": len(frame),
            "columns": columns,
            "headline": [_headline(frame, entry) for entry in headline or []],
        }

    @operation
    def calculate_trends(
        self,
        data: frames.FrameLike,
        columns: list[str] | None = None,
        x: str | None = None,
    ) -> dict[str, Any]:
        """Return the straight line through each numeric column: ``trends`` by column, and the table as ``data``.

        A trend has ``slope`` (change for one unit of ``x``, or for one row), ``change`` (of the line, from the first
        value to the last), ``first``, ``last``, ``r_squared`` (0 to 1, how well the line fits) and ``direction``:
        ``rising``, ``falling`` or ``flat``. Rows without a value are left out. Raises ValueError if a column has
        fewer than two values.
        """
        # Source: operation_executor.md, scenario 3.
        frame = frames.to_frame(data, "data")
        if x is not None:
            frames.require_numeric(frame, [x], "data")
        wanted = columns if columns is not None else [name for name in frames.numeric_columns(frame) if name != x]
        if not frames.require_numeric(frame, wanted, "data"):
            raise ValueError(f"data has no column of numbers; it has: {frames.list_columns(frame)}")
        places = frame[x] if x is not None else pd.Series(range(len(frame)), index=frame.index)
        return {"trends": {name: _trend(places, frame[name], name) for name in wanted}, "data": frame}

    @operation
    def detect_anomalies(
        self,
        data: frames.FrameLike,
        columns: list[str] | None = None,
        method: Literal["zscore", "iqr"] = "zscore",
        threshold: float = 3.0,
    ) -> dict[str, Any]:
        """Return the values that lie far from the others: ``anomalies``, their ``count``, and the ``rows`` looked at.

        ``zscore`` measures in standard deviations from the mean, ``iqr`` in interquartile ranges beyond the quartiles
        (1.5 is usual there). Each anomaly is ``{"row", "column", "value", "score"}``, the farthest first; ``row``
        counts from 0. A column whose values are all alike has none. Raises ValueError for a missing column or a
        threshold that is not positive.
        """
        # Source: operation_executor.md, scenario 3.
        frame = frames.to_frame(data, "data")
        if not threshold > 0:
            raise ValueError(f"threshold must be positive, not {threshold}")
        wanted = columns if columns is not None else frames.numeric_columns(frame)
        found = []
        for name in frames.require_numeric(frame, wanted, "data"):
            scores = _SCORES[method](frame[name].to_numpy(dtype=float, na_value=np.nan))
            found += [
                {"row": int(row), "column": name, "value": frames.plain(frame[name].iloc[row]), "score": float(score)}
                for row, score in enumerate(scores)
                if score > threshold
            ]
        found.sort(key=lambda anomaly: -anomaly["score"])
        return {
            "method": method,
            "threshold": threshold,
            "rows": len(frame),
            "columns": wanted,
            "count": len(found),
            "anomalies": found,
        }

    @operation
    def generate_report(self, df: frames.FrameLike) -> dict[str, Any]:
        """Return a summary of a table: ``rows``, ``columns``, ``metrics``, ``correlations``, ``text``.

        ``columns`` has the type of each, and how many values are missing and different; ``correlations`` are the five
        strongest between two numeric columns (Pearson, from -1 to 1); ``text`` says the same in a few lines.
        """
        # Source: operation_executor.md, scenario 7.
        frame = frames.to_frame(df)
        columns = {
            str(name): {
                "type": str(frame[name].dtype),
                "missing": int(frame[name].isna().sum()),
                "unique": int(frame[name].nunique()),
            }
            for name in frame.columns
        }
        metrics = self.calculate_metrics(frame)["columns"]
        correlations = _correlations(frame)
        return {
            "rows": len(frame),
            "columns": columns,
            "metrics": metrics,
            "correlations": correlations,
            "text": _text(len(frame), columns, metrics, correlations),
        }


def _headline(frame: pd.DataFrame, entry: dict[str, str]) -> dict[str, Any]:
    missing = [key for key in ("label", "column", "statistic") if key not in entry]
    if missing:
        raise ValueError(f"a headline entry has no {missing[0]!r}; it needs label, column and statistic")
    label = entry["label"]
    column, how = measures.check_measures(frame, {label: [entry["column"], entry["statistic"]]})[label]
    return {"label": label, "value": frames.plain(measures.compute(frame[column], how)), "unit": entry.get("unit", "")}


def _trend(places: pd.Series, values: pd.Series, name: str) -> dict[str, Any]:
    known = (values.notna() & places.notna()).to_numpy()
    x, y = places.to_numpy(dtype=float, na_value=np.nan)[known], values.to_numpy(dtype=float, na_value=np.nan)[known]
    if len(y) < 2 or np.ptp(x) == 0:  # noqa: PLR2004  a line needs two points
        raise ValueError(f"a trend of {name!r} needs two values at different places; data has {len(y)} rows with both")
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    across = x - x.mean()
    slope = float(across @ (y - y.mean()) / (across @ across))
    spread = float(((y - y.mean()) ** 2).sum())
    change = slope * float(x[-1] - x[0])
    flat = abs(change) <= FLAT * float(np.abs(y).mean())
    return {
        "slope": slope,
        "change": change,
        "first": float(y[0]),
        "last": float(y[-1]),
        "r_squared": slope**2 * float(across @ across) / spread if spread else 1.0,
        "direction": "flat" if flat else "rising" if change > 0 else "falling",
    }


def _deviations(values: np.ndarray) -> np.ndarray:
    known = values[~np.isnan(values)]
    spread = known.std(ddof=1) if len(known) > 1 else 0.0
    return np.abs(values - known.mean()) / spread if spread else np.zeros(len(values))


def _ranges_beyond(values: np.ndarray) -> np.ndarray:
    known = values[~np.isnan(values)]
    if not len(known):
        return np.zeros(len(values))
    low, high = np.quantile(known, [0.25, 0.75])
    beyond = np.maximum(low - values, values - high)
    return np.maximum(beyond, 0) / (high - low) if high > low else np.zeros(len(values))


_SCORES = {"zscore": _deviations, "iqr": _ranges_beyond}


def _correlations(frame: pd.DataFrame) -> list[dict[str, Any]]:
    table = frame[frames.numeric_columns(frame)].corr()
    pairs = [
        {"columns": [first, second], "r": frames.plain(table.loc[first, second])}
        for first, second in combinations(table.columns, 2)
    ]
    known = [pair for pair in pairs if pair["r"] is not None]
    return sorted(known, key=lambda pair: -abs(pair["r"]))[:_STRONGEST]


def _text(rows: int, columns: dict[str, Any], metrics: dict[str, Any], correlations: list[dict[str, Any]]) -> str:
    lines = [f"{rows:,} rows, {len(columns)} columns"]
    for name, facts in metrics.items():
        if facts["count"]:
            lines.append(f"{name}: mean {facts['mean']:,.4g}, from {facts['min']:,.4g} to {facts['max']:,.4g}")
    lines += [f"{name}: {facts['missing']:,} missing" for name, facts in columns.items() if facts["missing"]]
    lines += [f"{' and '.join(pair['columns'])}: correlation {pair['r']:.2f}" for pair in correlations]
    return "\n".join(lines)
