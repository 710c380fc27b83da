"""Tables: reading, cleaning, joining, grouping, checking and writing them with pandas."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import pandas as pd

from aiecs_ray.tool import operation, tool
from aiecs_ray.tools import files, frames, measures, sales

if TYPE_CHECKING:
    from pathlib import Path

LOW_QUALITY = 0.9
"""Below this score (0 to 1) ``check_data_quality`` calls a table low in quality."""

MISSING = "(missing)"
"""What ``group_analysis`` calls the group of rows without a value."""

Join = Literal["inner", "left", "right", "outer", "cross"]


@tool("pandas_tool")
class PandasTool:
    """Work on tables. Every input is read and never changed; every result is a new table."""

    @operation(fingerprint={"file_path": "mtime"})
    def read_csv(
        self,
        file_path: files.PathLike,
        encoding: str = "utf-8",
        delimiter: str = ",",
        columns: list[str] | None = None,
        parse_dates: list[str] | None = None,
    ) -> pd.DataFrame:
        """Return the table in a local CSV file, or its ``columns`` alone; ``parse_dates`` names those with times.

        Raises FileNotFoundError; TypeError if ``file_path`` is no path; ValueError if the file is empty, is not CSV or
        has no such column.
        """
        # Source: operation_executor.md, "单个操作执行".
        path = files.as_path(file_path)
        wanted = {*(columns or []), *(parse_dates or [])}
        with path.open("rb") as file:
            names = _column_names(file, path, encoding, delimiter)
            frames.require_columns(names, wanted, repr(str(path)))
            file.seek(0)
            frame = pd.read_csv(file, sep=delimiter, encoding=encoding, usecols=columns)
        for column in parse_dates or []:
            frame[column] = pd.to_datetime(frame[column])
        return frame

    @operation(cache=False)
    def write_csv(
        self, df: frames.FrameLike, file_path: files.PathLike, encoding: str = "utf-8", delimiter: str = ","
    ) -> dict[str, Any]:
        """Write a table to a file, which is replaced as a whole or not at all: ``path``, ``rows``, ``bytes``.

        Raises FileNotFoundError if its directory does not exist, TypeError if ``file_path`` is no path. It is never
        answered from the cache, so a file that somebody deleted is there again (defect D-09).
        """
        frame = frames.to_frame(df)
        target = files.as_path(file_path)
        text = frame.to_csv(index=False, sep=delimiter)
        size = files.write_atomically(target, text.encode(encoding))
        return {"path": str(target), "rows": len(frame), "bytes": size}

    @operation
    def clean_data(
        self,
        df: frames.FrameLike,
        *,
        drop_na: bool = False,
        remove_duplicates: bool = False,
        subset: list[str] | None = None,
        if_quality_low: bool = False,
    ) -> pd.DataFrame:
        """Return the table without rows that lack a value (``drop_na``) and without repeated rows.

        ``subset`` names the columns that must have a value; without it, all. Two rows are the same if all their
        columns are. ``if_quality_low`` leaves a table of good quality as it is, and does both to one of low quality.
        Raises ValueError if a column does not exist.
        """
        # Source: operation_executor.md, scenario 7 and case 1.
        frame = frames.to_frame(df)
        needed = frames.require_columns(frame, subset or [])
        if if_quality_low:
            if _score(frame) >= LOW_QUALITY:
                return frame
            drop_na = remove_duplicates = True
        if drop_na:
            frame = frame.dropna(subset=needed or None)
        if remove_duplicates:
            frame = frame.drop_duplicates()
        return frame.reset_index(drop=True)

    @operation
    def merge_data(
        self,
        df1: frames.FrameLike,
        df2: frames.FrameLike,
        on: str | list[str] | None = None,
        how: Join = "inner",
        validate: Literal["one_to_one", "one_to_many", "many_to_one", "many_to_many"] = "many_to_many",
    ) -> pd.DataFrame:
        """Return the rows of two tables joined where the columns ``on`` are equal; without ``on``, all they share.

        ``how`` says which rows without a partner stay. ``validate="many_to_one"`` refuses a right table in which a key
        occurs twice, instead of multiplying rows. Columns of both tables get ``_x`` and ``_y``. Raises ValueError
        for a missing column, and if the tables share none.
        """
        left, right = frames.to_frame(df1, "df1"), frames.to_frame(df2, "df2")
        if how == "cross":
            return left.merge(right, how="cross")
        keys = [on] if isinstance(on, str) else on
        if keys is None:
            keys = [str(column) for column in left.columns if column in right.columns]
            if not keys:
                raise ValueError(
                    f"df1 and df2 share no column; df1 has: {frames.list_columns(left)}; "
                    f"df2 has: {frames.list_columns(right)}"
                )
        frames.require_columns(left, keys, "df1")
        frames.require_columns(right, keys, "df2")
        return left.merge(right, on=keys, how=how, validate=validate)

    @operation
    def describe(self, df: frames.FrameLike) -> pd.DataFrame:
        """Return count, mean, std, min, quartiles and max of each numeric column, as rows of a table.

        Of a table without numbers: count, unique, top and freq. Raises ValueError if it has no columns.
        """
        # Source: operation_executor.md, "高级用法".
        frame = frames.to_frame(df)
        if frame.columns.empty:
            raise ValueError("df has no columns to describe")
        return frame.describe()

    @operation
    def group_analysis(  # noqa: PLR0913  an operation's parameters are what its callers write
        self,
        df: frames.FrameLike,
        group_by: str | list[str],
        *,
        measures: dict[str, list[str]] | None = None,
        label: str | None = None,
        bins: list[float] | None = None,
        keep_missing: bool = False,
        sort_by: str | None = None,
        descending: bool = True,
    ) -> pd.DataFrame:
        """Return one row a group: the group's columns (one alone may be renamed ``label``), then the ``measures``.

        ``measures`` maps the name of a new column to ``[column, statistic]``, as in ``{"Mean": ["price", "mean"]}``
        (statistics: see ``measures.statistic``); without it, ``rows`` and the sum and mean of each numeric column.
        ``bins`` are edges that cut one numeric column into ranges: the first holds both its ends, each later one only
        its upper end. ``keep_missing`` keeps rows without a group, as ``(missing)``. Groups are in their own order
        unless ``sort_by`` names a column of the result. Raises ValueError for what does not exist.
        """
        frame = frames.to_frame(df)
        keys = frames.require_columns(frame, group_by)
        if not keys:
            raise ValueError(f"group_by is empty; df has: {frames.list_columns(frame)}")
        if (bins or label) and len(keys) != 1:
            raise ValueError(f"bins and label need one column to group by, not {len(keys)}: {', '.join(keys)}")
        groups = _cut(frame, keys[0], bins) if bins else keys
        columns = _measured(frame, keys, measures, groups, keep_missing=keep_missing)
        named = [label] if label else keys
        clash = [name for name in columns if name in named]
        if clash:
            raise ValueError(f"a measure cannot be called {clash[0]!r}: the groups' column is")
        table = pd.DataFrame(columns).reset_index(names=named)
        for key in named if keep_missing else []:
            if table[key].isna().any():
                table[key] = table[key].astype(object).where(table[key].notna(), MISSING)
        if sort_by is None:
            return table
        frames.require_columns(table, [sort_by], "the result of group_analysis")
        return table.sort_values(sort_by, ascending=not descending, kind="stable", ignore_index=True)

    @operation
    def check_data_quality(self, df: frames.FrameLike) -> dict[str, Any]:
        """Return what is missing and repeated in a table, its ``score`` from 0 to 1 and whether that is ``low``.

        The score is the share of cells with a value times the share of rows that repeat no other. The table itself is
        passed on as ``data``, so that the next operation can take this result as its table.
        """
        # Source: operation_executor.md, scenario 7.
        frame = frames.to_frame(df)
        missing = {str(name): int(count) for name, count in frame.isna().sum().items() if count}
        repeated = int(frame.duplicated().sum())
        score = _score(frame)
        issues = [f"{name}: {count} of {len(frame)} values missing" for name, count in missing.items()]
        if repeated:
            issues.append(f"{repeated} of {len(frame)} rows repeat another")
        if frame.empty:
            issues.append("the table is empty")
        return {
            "rows": len(frame),
            "columns": [str(name) for name in frame.columns],
            "missing": missing,
            "duplicate_rows": repeated,
            "score": score,
            "low": score < LOW_QUALITY,
            "issues": issues,
            "data": frame,
        }

    @operation
    def analyze_sales(
        self,
        df: frames.FrameLike,
        amount: str | None = None,
        date: str | None = None,
        category: str | None = None,
    ) -> dict[str, Any]:
        """Return the ``metrics`` of a table of sales, and ``tables`` of sums by category and by month.

        Columns not named are found by their usual names (``amount``, ``sales``, ``revenue``, ``total``; else quantity
        times price; ``date``; ``category``, ``product``, ``region``). ``metrics`` has ``orders``, ``total``,
        ``average``, ``median`` and ``largest``, in the unit of the amounts. Raises ValueError if there is no amount.
        """
        # Source: operation_executor.md, scenario 1.
        return sales.analyze(frames.to_frame(df), amount, date, category)


def _column_names(file: BinaryIO, path: Path, encoding: str, delimiter: str) -> pd.DataFrame:
    try:
        return pd.read_csv(file, sep=delimiter, encoding=encoding, nrows=0)
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{str(path)!r} is empty: a CSV file starts with a line of column names") from error


def _score(frame: pd.DataFrame) -> float:
    if frame.empty:
        return 0.0
    filled = 1 - float(frame.isna().to_numpy().mean())
    distinct = 1 - float(frame.duplicated().mean())
    return filled * distinct


def _cut(frame: pd.DataFrame, column: str, edges: list[float]) -> pd.Series:
    if len(edges) < 2 or sorted(set(edges)) != list(edges):  # noqa: PLR2004  a range has two ends
        raise ValueError(f"bins must be two or more numbers that increase, not {edges}")
    frames.require_numeric(frame, [column])
    labels = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return pd.cut(frame[column], edges, labels=labels, include_lowest=True)


def _measured(
    frame: pd.DataFrame,
    keys: list[str],
    wanted: dict[str, list[str]] | None,
    by: Any,
    *,
    keep_missing: bool,
) -> dict[str, pd.Series]:
    groups = frame.groupby(by, observed=True, dropna=not keep_missing)
    columns: dict[str, pd.Series] = {}
    if wanted is None:
        columns["rows"] = groups.size()
        for name in frames.numeric_columns(frame):
            if name not in keys:
                columns[f"{name}_sum"], columns[f"{name}_mean"] = groups[name].sum(), groups[name].mean()
    else:
        for label, (column, how) in measures.check_measures(frame, wanted).items():
            columns[label] = groups[column].agg(how)
    return columns
