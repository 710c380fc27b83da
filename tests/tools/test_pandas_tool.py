from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from aiecs_ray.tools import PandasTool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def tool() -> PandasTool:
    return PandasTool()


def test_read_csv_returns_what_the_file_says(tool: PandasTool, tmp_path: Path) -> None:
    path = tmp_path / "cities.csv"
    path.write_text("city;people;since\nÅlesund;52000;1848-01-01\nRome;2800000;0753-04-21\n", encoding="latin-1")

    frame = tool.read_csv(path, encoding="latin-1", delimiter=";")

    assert frame["city"].tolist() == ["Ålesund", "Rome"]
    assert frame["people"].sum() == 2_852_000
    assert list(frame.columns) == ["city", "people", "since"]


def test_read_csv_takes_the_path_as_text_bytes_or_path(tool: PandasTool, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n\n1\n")

    frames = [tool.read_csv(form) for form in (str(path), os.fsencode(path), path)]

    assert [frame["n"].tolist() for frame in frames] == [[1], [1], [1]]


def test_read_csv_reads_only_the_columns_asked_for_and_their_times(tool: PandasTool, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b,when\n1,2,2024-01-02T03:00:00Z\n")

    frame = tool.read_csv(path, columns=["a", "when"], parse_dates=["when"])

    assert list(frame.columns) == ["a", "when"]
    assert frame["when"][0] == pd.Timestamp("2024-01-02 03:00", tz="UTC")


def test_read_csv_of_a_missing_file_says_so_in_the_documents_words(tool: PandasTool) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        tool.read_csv(file_path="nonexistent_file.csv")

    assert str(caught.value) == "[Errno 2] No such file or directory: 'nonexistent_file.csv'"


def test_read_csv_of_a_number_says_so_in_the_documents_words(tool: PandasTool) -> None:
    with pytest.raises(TypeError) as caught:
        tool.read_csv(file_path=123)

    assert str(caught.value) == "expected str, bytes or os.PathLike object, not int"


def test_read_csv_names_a_missing_column_and_those_there_are(tool: PandasTool, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")

    with pytest.raises(ValueError, match=r"has no column 'c'; it has: a, b"):
        tool.read_csv(path, columns=["a", "c"])


def test_read_csv_names_an_empty_file(tool: PandasTool, tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.touch()

    with pytest.raises(ValueError, match=r"empty\.csv' is empty"):
        tool.read_csv(path)


def test_write_csv_is_read_back_the_same(tool: PandasTool, orders: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"

    written = tool.write_csv(orders, path)

    assert_frame_equal(tool.read_csv(path), orders)
    assert written == {"path": str(path), "rows": 5, "bytes": path.stat().st_size}
    assert [entry.name for entry in tmp_path.iterdir()] == ["orders.csv"]


def test_a_reader_of_the_old_file_is_not_disturbed_by_a_new_one(
    tool: PandasTool, orders: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("the old one")

    with path.open() as old:
        tool.write_csv(orders, path)

        assert old.read() == "the old one"
    assert path.read_text().startswith("date,category")


def test_write_csv_that_fails_leaves_nothing_behind(tool: PandasTool, orders: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "taken.csv"
    path.mkdir()

    with pytest.raises(OSError, match=r"taken\.csv"):
        tool.write_csv(orders, path)

    assert [entry.name for entry in tmp_path.iterdir()] == ["taken.csv"]


def test_clean_data_drops_what_it_is_asked_to(tool: PandasTool, shipped: Callable[[Any], Any]) -> None:
    df = shipped(pd.DataFrame({"a": [1.0, None, 3.0, 3.0], "b": ["x", "y", None, None]}))

    kept = {
        "nothing": tool.clean_data(df),
        "missing": tool.clean_data(df, drop_na=True),
        "missing a": tool.clean_data(df, drop_na=True, subset=["a"]),
        "repeated": tool.clean_data(df, remove_duplicates=True),
    }

    assert {name: len(frame) for name, frame in kept.items()} == {
        "nothing": 4,
        "missing": 1,
        "missing a": 3,
        "repeated": 3,
    }
    assert kept["missing a"].index.tolist() == [0, 1, 2]


def test_clean_data_changes_only_a_table_of_low_quality_if_told_so(tool: PandasTool) -> None:
    good = pd.DataFrame({"a": [*range(19), None]})
    bad = pd.DataFrame({"a": [1, 1, 1, None]})

    assert len(tool.clean_data(good, if_quality_low=True)) == 20
    assert tool.clean_data(bad, if_quality_low=True)["a"].tolist() == [1.0]


def test_clean_data_takes_the_result_of_check_data_quality(tool: PandasTool) -> None:
    report = tool.check_data_quality([{"a": 1}, {"a": None}, {"a": 1}])

    cleaned = tool.clean_data(report, if_quality_low=True)

    assert cleaned["a"].tolist() == [1.0]


def test_merge_data_joins_on_the_columns_the_tables_share(tool: PandasTool) -> None:
    left = [{"id": 1, "a": "x"}, {"id": 2, "a": "y"}]
    right = [{"id": 2, "b": 20}, {"id": 3, "b": 30}]

    assert tool.merge_data(left, right).to_dict("records") == [{"id": 2, "a": "y", "b": 20}]
    assert tool.merge_data(left, right, how="left")["b"].isna().tolist() == [True, False]
    assert sorted(tool.merge_data(left, right, on="id", how="outer")["id"]) == [1, 2, 3]
    assert len(tool.merge_data(left, right, how="cross")) == 4


def test_merge_data_refuses_a_repeated_key_when_asked_to(tool: PandasTool) -> None:
    right = [{"id": 1, "b": 1}, {"id": 1, "b": 2}]

    with pytest.raises(ValueError, match="not a many-to-one merge"):
        tool.merge_data([{"id": 1}], right, on="id", validate="many_to_one")


def test_merge_data_names_the_table_that_lacks_the_key(tool: PandasTool) -> None:
    with pytest.raises(ValueError, match=r"df2 has no column 'id'; it has: key, b"):
        tool.merge_data([{"id": 1}], [{"key": 1, "b": 2}], on="id")


def test_merge_data_names_the_columns_of_tables_that_share_none(tool: PandasTool) -> None:
    with pytest.raises(ValueError, match=r"share no column; df1 has: a; df2 has: b"):
        tool.merge_data([{"a": 1}], [{"b": 1}])


def test_describe_gives_the_statistics_of_numbers(tool: PandasTool, orders: pd.DataFrame) -> None:
    described = tool.describe(orders)

    assert list(described.columns) == ["amount", "units"]
    assert described.loc["mean", "amount"] == pytest.approx(14.0)
    assert described.loc["max", "units"] == 4


def test_group_analysis_sums_every_number_unless_told_what(tool: PandasTool, orders: pd.DataFrame) -> None:
    table = tool.group_analysis(orders, "category")

    assert table.to_dict("list") == {
        "category": ["books", "food", "toys"],
        "rows": [1, 2, 2],
        "amount_sum": [20.0, 10.0, 40.0],
        "amount_mean": [20.0, 5.0, 20.0],
        "units_sum": [2, 8, 4],
        "units_mean": [2.0, 4.0, 2.0],
    }


def test_group_analysis_computes_the_measures_and_sorts_by_one(tool: PandasTool, orders: pd.DataFrame) -> None:
    table = tool.group_analysis(
        orders,
        "category",
        label="Shelf",
        measures={"Total": ["amount", "sum"], "Over 5 (%)": ["amount", "percent>5"], "Top tenth": ["units", "p90"]},
        sort_by="Total",
    )

    assert table["Shelf"].tolist() == ["toys", "books", "food"]
    assert table["Total"].tolist() == [40.0, 20.0, 10.0]
    assert table["Over 5 (%)"].tolist() == [100.0, 100.0, 0.0]
    assert table["Top tenth"].tolist() == pytest.approx([2.8, 2.0, 4.0])


def test_a_share_in_percent_leaves_out_missing_values(tool: PandasTool) -> None:
    df = pd.DataFrame({"g": ["a"] * 5, "x": [1.0, 2.0, 3.0, 4.0, None]})
    measures = {how: ["x", f"percent{how}3"] for how in ("<", "<=", ">", ">=")}

    table = tool.group_analysis(df, "g", measures=measures)

    assert table.to_dict("records") == [{"g": "a", "<": 50.0, "<=": 75.0, ">": 25.0, ">=": 50.0}]


def test_group_analysis_cuts_numbers_into_ranges_and_keeps_the_missing(tool: PandasTool) -> None:
    df = pd.DataFrame({"x": [0, 1, 1.5, 2, None, 9], "y": [1, 1, 1, 1, 1, 1]})

    table = tool.group_analysis(df, "x", bins=[0, 1, 2], keep_missing=True, measures={"n": ["y", "count"]})

    assert table.to_dict("list") == {"x": ["0 to 1", "1 to 2", "(missing)"], "n": [2, 2, 2]}


def test_group_analysis_by_several_columns_gives_a_row_for_each_pair(tool: PandasTool, orders: pd.DataFrame) -> None:
    table = tool.group_analysis(orders, ["date", "category"], measures={"n": ["units", "count"]})

    assert len(table) == 4
    assert table["n"].tolist() == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_by": "shop"}, "has no column 'shop'; it has: date, category, amount, units"),
        ({"group_by": []}, "group_by is empty"),
        ({"group_by": "category", "measures": {"n": ["units", "avg"]}}, "unknown statistic 'avg'"),
        ({"group_by": "category", "measures": {"n": ["date", "mean"]}}, "'date' of df holds .*, not numbers"),
        ({"group_by": "category", "measures": {"n": ["units"]}}, r"must be \[column, statistic\]"),
        ({"group_by": "category", "measures": {"category": ["units", "sum"]}}, "cannot be called 'category'"),
        ({"group_by": "amount", "bins": [3, 1]}, "numbers that increase"),
        ({"group_by": ["amount", "units"], "bins": [1, 2]}, "need one column"),
        ({"group_by": "category", "sort_by": "total"}, "has no column 'total'; it has: category, rows"),
    ],
)
def test_group_analysis_says_what_is_wrong(
    tool: PandasTool, orders: pd.DataFrame, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tool.group_analysis(orders, **options)


def test_check_data_quality_counts_what_is_missing_and_repeated(tool: PandasTool) -> None:
    df = pd.DataFrame({"a": [1, 1, None, 4], "b": ["x", "x", "y", "z"]})

    report = tool.check_data_quality(df)

    assert report["missing"] == {"a": 1}
    assert report["duplicate_rows"] == 1
    assert report["score"] == pytest.approx(7 / 8 * 3 / 4)
    assert report["low"] is True
    assert report["issues"] == ["a: 1 of 4 values missing", "1 of 4 rows repeat another"]
    assert report["data"] is df


def test_check_data_quality_finds_no_fault_with_a_clean_table_and_fault_with_an_empty_one(tool: PandasTool) -> None:
    assert tool.check_data_quality({"a": [1, 2]})["issues"] == []
    assert tool.check_data_quality(pd.DataFrame())["score"] == 0.0


def test_analyze_sales_finds_the_columns_and_sums_by_category_and_month(tool: PandasTool, orders: pd.DataFrame) -> None:
    analysis = tool.analyze_sales(orders)

    assert analysis["metrics"] == {"orders": 5, "total": 70.0, "average": 14.0, "median": 10.0, "largest": 30.0}
    by_category, by_month = analysis["tables"]["Sales by category"], analysis["tables"]["Sales by month"]
    assert by_category.to_dict("list") == {
        "category": ["toys", "books", "food"],
        "sales": [40.0, 20.0, 10.0],
        "orders": [2, 1, 2],
    }
    assert by_month.to_dict("list") == {"month": ["2024-01", "2024-02"], "sales": [30.0, 40.0], "orders": [2, 3]}


def test_analyze_sales_multiplies_quantity_and_price_where_there_is_no_amount(tool: PandasTool) -> None:
    analysis = tool.analyze_sales({"Quantity": [2, 3], "Price": [1.5, 4.0]})

    assert analysis["metrics"]["total"] == pytest.approx(15.0)
    assert analysis["tables"] == {}


def test_analyze_sales_says_what_it_looked_for(tool: PandasTool) -> None:
    with pytest.raises(ValueError, match=r"no column of amounts found .*; df has: x"):
        tool.analyze_sales({"x": [1]})


@pytest.mark.parametrize("value", ["input_data", 7, None, [1, {"a": 2}], {"a": 1, "b": [1]}, {"a": object()}])
def test_what_is_no_table_is_refused(tool: PandasTool, value: object) -> None:
    with pytest.raises(TypeError, match="df must be a DataFrame, a list of records or a dict of columns, not"):
        tool.describe(value)


def test_columns_of_different_length_are_named(tool: PandasTool) -> None:
    with pytest.raises(ValueError, match="different lengths: a 2, b 1"):
        tool.describe({"a": [1, 2], "b": [1]})


def test_no_operation_changes_its_input(tool: PandasTool, orders: pd.DataFrame) -> None:
    before = orders.copy(deep=True)

    tool.clean_data(orders, drop_na=True, remove_duplicates=True)
    tool.merge_data(orders, orders, on="category")
    tool.group_analysis(orders, "category", sort_by="rows")
    tool.analyze_sales(orders)
    tool.check_data_quality(orders)

    assert_frame_equal(orders, before)
    assert not np.asarray(orders["amount"].array).flags.writeable


def test_an_empty_path_is_no_file() -> None:
    with pytest.raises(FileNotFoundError, match="the path is empty"):
        PandasTool().read_csv("")
