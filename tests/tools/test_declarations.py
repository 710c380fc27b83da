from __future__ import annotations

from typing import Any

import pytest

import aiecs_ray
from aiecs_ray.binding import Binder
from aiecs_ray.errors import ExecutionError, InvalidParamsError
from aiecs_ray.tool import describe
from aiecs_ray.tools import TOOLS, PandasTool, ReportTool


@pytest.fixture
def operations() -> dict:
    return {name: operation for cls in TOOLS for name, operation in describe(cls).operations.items()}


def test_the_tools_offer_what_the_documents_call() -> None:
    offered = {f"{describe(cls).name}.{name}" for cls in TOOLS for name in describe(cls).operations}

    assert offered >= {
        "pandas_tool.read_csv",
        "pandas_tool.clean_data",
        "pandas_tool.merge_data",
        "pandas_tool.describe",
        "pandas_tool.group_analysis",
        "pandas_tool.check_data_quality",
        "pandas_tool.analyze_sales",
        "stats_tool.calculate_metrics",
        "stats_tool.calculate_trends",
        "stats_tool.detect_anomalies",
        "stats_tool.generate_report",
        "chart_tool.create_sales_chart",
        "chart_tool.create_trend_analysis",
        "chart_tool.create_dashboard",
        "report_tool.generate_daily_report",
        "report_tool.generate_pdf",
    }


def test_what_writes_a_file_is_never_answered_from_the_cache(operations: dict[str, Any]) -> None:
    never = {name for name, operation in operations.items() if operation.options.cache is False}

    assert never == {"write_csv", "write_report"}


def test_a_changed_file_changes_the_key_of_what_reads_it() -> None:
    (reader,) = [operation for operation in describe(PandasTool).operations.values() if operation.options.fingerprint]

    assert reader.name == "read_csv"
    assert reader.options.fingerprint == {"file_path": "mtime"}


def test_any_value_reaches_read_csv_as_its_path_and_a_model_is_told_to_send_text() -> None:
    schema = describe(PandasTool).operations["read_csv"].schema

    assert Binder(PandasTool).bind("read_csv", {"file_path": 123}) == {"file_path": 123}
    assert schema["properties"]["file_path"]["type"] == "string"
    assert schema["required"] == ["file_path"]


def test_descriptions_are_for_who_uses_the_tool_and_parameters_have_a_type(operations: dict[str, Any]) -> None:
    schemas = {name: operation.schema["properties"] for name, operation in operations.items()}

    assert [name for name, operation in operations.items() if "Source:" in operation.doc] == []
    assert [(name, key) for name, schema in schemas.items() for key, value in schema.items() if not value] == []


def test_every_operation_says_what_it_does(operations: dict[str, Any]) -> None:
    assert [name for name, operation in operations.items() if not operation.summary] == []
    assert describe(ReportTool).doc


def test_what_is_no_table_is_refused_before_it_runs_with_one_reason() -> None:
    with aiecs_ray.connect("inprocess") as rt:
        rt.register(PandasTool)

        with pytest.raises(InvalidParamsError) as caught:
            rt.call("pandas_tool.describe", {"df": "input_data"})

    assert str(caught.value).count("Input should be") == 1
    assert "Input should be a DataFrame, a list of records or a dict of columns" in str(caught.value)


@pytest.mark.parametrize(
    ("file_path", "message"),
    [
        ("nonexistent_file.csv", "[Errno 2] No such file or directory: 'nonexistent_file.csv'"),
        (123, "expected str, bytes or os.PathLike object, not int"),
    ],
)
def test_read_csv_fails_in_the_documents_words(file_path: object, message: str) -> None:
    with aiecs_ray.connect("inprocess") as rt:
        rt.register(PandasTool)

        with pytest.raises(ExecutionError) as caught:
            rt.call("pandas_tool.read_csv", {"file_path": file_path})

    assert str(caught.value) == f"Error executing read_csv: {message}"
