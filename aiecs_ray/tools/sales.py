"""What a table of sales says: its columns found by their usual names, sums by category and by month."""

from __future__ import annotations

from typing import Any

import pandas as pd

from aiecs_ray.tools import frames

_AMOUNT = ("amount", "sales", "revenue", "total", "sales_amount", "total_amount")
_QUANTITY = ("quantity", "qty", "units")
_PRICE = ("price", "unit_price")
_DATE = ("date", "order_date", "sale_date", "day")
_CATEGORY = ("category", "product", "region", "store", "channel")


def analyze(frame: pd.DataFrame, amount: str | None, date: str | None, category: str | None) -> dict[str, Any]:
    """Return ``metrics`` and ``tables``, as ``PandasTool.analyze_sales`` documents them."""
    named = [column for column in (amount, date, category) if column is not None]
    frames.require_columns(frame, named)
    amounts = _amounts(frame, amount)
    tables = {}
    if group := category or _find(frame, _CATEGORY):
        tables[f"Sales by {group}"] = _sums(amounts, frame[group], group).sort_values(
            "sales", ascending=False, kind="stable", ignore_index=True
        )
    if day := date or _find(frame, _DATE):
        months = pd.to_datetime(frame[day]).dt.strftime("%Y-%m")
        tables["Sales by month"] = _sums(amounts, months, "month")
    metrics = {
        "orders": int(amounts.count()),
        "total": frames.plain(amounts.sum()),
        "average": frames.plain(amounts.mean()),
        "median": frames.plain(amounts.median()),
        "largest": frames.plain(amounts.max()),
    }
    return {"metrics": metrics, "tables": tables}


def _amounts(frame: pd.DataFrame, amount: str | None) -> pd.Series:
    if column := amount or _find(frame, _AMOUNT):
        return frame[frames.require_numeric(frame, [column])[0]]
    quantity, price = _find(frame, _QUANTITY), _find(frame, _PRICE)
    if quantity and price:
        frames.require_numeric(frame, [quantity, price])
        return frame[quantity] * frame[price]
    raise ValueError(
        f"no column of amounts found (looked for {', '.join(_AMOUNT)}, or quantity and price); "
        f"name it with amount=; df has: {frames.list_columns(frame)}"
    )


def _sums(amounts: pd.Series, groups: pd.Series, name: str) -> pd.DataFrame:
    grouped = amounts.groupby(groups, observed=True)
    table = pd.DataFrame({"sales": grouped.sum(), "orders": grouped.count()})
    return table.reset_index(names=[name])


def _find(frame: pd.DataFrame, names: tuple[str, ...]) -> str | None:
    by_lower = {str(column).lower(): str(column) for column in frame.columns}
    return next((by_lower[name] for name in names if name in by_lower), None)
