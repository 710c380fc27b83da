"""What a signature says becomes JSON Schema, and the forms that language models take."""

# Tools without annotations are what some of these tests are about.
# ruff: noqa: ANN001, ANN003, ANN201

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jsonschema
import pandas as pd  # noqa: TC002  # the hint is read at run time
import pytest
from pydantic import BaseModel, Field

from aiecs_ray.schemas import function_name, json_schema, to_anthropic, to_mcp, to_openai
from aiecs_ray.tool import describe, operation

if TYPE_CHECKING:
    from aiecs_ray.tool import ToolDef

NAME = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


class Mode(Enum):
    FAST = "fast"


class Settings(BaseModel):
    """How to do it."""

    rate: int = Field(ge=0)


@dataclass
class Point:
    x: int


class Opaque: ...


class Summary(BaseModel):
    rows: int


class Table:
    """Tables.

    More of them.
    """

    def head(self, df: pd.DataFrame, n: int = 5, mode: Mode = Mode.FAST) -> pd.DataFrame:
        """Return the first rows.

        Args:
            df: the table.
            n (int): how many rows,
                at least one.

        Returns:
            n: the rows.
        """

    @operation
    def model(self, a: Settings, b: list[Settings], c: Point | None = None) -> Summary: ...

    @operation(cache=True, tags=("tables",))
    def typed(
        self, n: Annotated[int, Field(ge=1, description="a count")], how: Literal["a", "b"] = "a", *, x: Any = None
    ) -> dict[str, int]:
        """Read.

        :param how: in which way
            it is read
        :param int x: anything
        """

    @operation(idempotent=False, tags=("destructive",))
    def write(self, user_id: str, task_id: str, path, rows: list[Opaque], **more) -> None: ...

    @operation
    async def untyped(self, a, b=float("nan"), c=Opaque(), d=(1, 2)): ...  # noqa: B008


class Plain:
    """Documented here."""

    def drop_rows(self, x: Opaque = None): ...


@pytest.fixture
def table():
    return describe(Table)


def test_parameters_schema_says_types_defaults_and_what_is_required() -> None:
    schema = describe(Plain).operations["drop_rows"].schema

    assert schema == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "x": {"anyOf": [{"description": "A Python value of type Opaque"}, {"type": "null"}], "default": None}
        },
        "additionalProperties": False,
    }


class Frames:
    def head(self, df: pd.DataFrame, n: int = 5, mode: Mode = Mode.FAST):
        """Return the first rows.

        Args:
            n (int): how many rows,
                at least one.

        Returns:
            mode: not an argument.
        """


def test_type_without_a_schema_is_described_by_its_name() -> None:
    schema = describe(Frames).operations["head"].schema

    assert schema["properties"]["df"] == {"description": "A Python value of type DataFrame"}
    assert schema["required"] == ["df"]


def test_google_docstring_describes_parameters() -> None:
    schema = describe(Frames).operations["head"].schema

    assert schema["properties"]["n"] == {
        "type": "integer",
        "default": 5,
        "description": "how many rows, at least one.",
    }
    assert "description" not in schema["properties"]["mode"]


def test_enum_default_is_its_value() -> None:
    mode = describe(Frames).operations["head"].schema["properties"]["mode"]

    assert mode["default"] == "fast"


def test_models_are_shared_definitions(table: ToolDef) -> None:
    schema = table.operations["model"].schema

    assert set(schema["$defs"]) == {"Settings", "Point"}
    assert schema["properties"]["a"] == {"$ref": "#/$defs/Settings"}
    jsonschema.validate({"a": {"rate": 1}, "b": [{"rate": 2}], "c": {"x": 1}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"a": {"rate": -1}, "b": []}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"a": {"rate": 1}, "b": [], "d": 1}, schema)


def test_sphinx_docstring_and_field_description(table: ToolDef) -> None:
    properties = table.operations["typed"].schema["properties"]

    assert properties["how"]["description"] == "in which way it is read"
    assert properties["how"]["enum"] == ["a", "b"]
    assert properties["x"] == {"default": None, "description": "anything"}
    assert properties["n"] == {"type": "integer", "minimum": 1, "description": "a count"}


def test_keyword_collector_opens_the_schema(table: ToolDef) -> None:
    schema = table.operations["write"].schema

    assert schema["additionalProperties"] is True
    assert schema["required"] == ["user_id", "task_id", "path", "rows"]
    assert schema["properties"]["rows"]["items"] == {"description": "A Python value of type Opaque"}


def test_untyped_parameters_take_anything_and_odd_defaults_are_left_out(table: ToolDef) -> None:
    properties = table.operations["untyped"].schema["properties"]

    assert properties == {"a": {}, "b": {}, "c": {}, "d": {"default": [1, 2]}}


def test_result_schema_follows_the_annotation(table: ToolDef) -> None:
    assert table.operations["model"].result_schema["properties"]["rows"]["type"] == "integer"
    assert table.operations["write"].result_schema["type"] == "null"
    assert table.operations["untyped"].result_schema is None
    assert describe(Table.__mro__[0]).operations["typed"].result_schema["additionalProperties"] == {"type": "integer"}


def test_every_schema_is_valid_2020_12_and_json(table: ToolDef) -> None:
    described = json.loads(json.dumps(json_schema(table)))

    assert described["name"] == "table"
    assert described["description"] == "Tables.\n\nMore of them."
    for form in described["operations"].values():
        jsonschema.Draft202012Validator.check_schema(form["parameters"])
        jsonschema.Draft202012Validator.check_schema(form["result"] or {})


def test_openai_form(table: ToolDef) -> None:
    first = to_openai(table)[0]

    assert first["type"] == "function"
    assert first["function"]["name"] == "table__model"
    assert first["function"]["parameters"]["type"] == "object"
    assert "$schema" not in first["function"]["parameters"]
    assert first["function"]["parameters"]["additionalProperties"] is False


def test_anthropic_form(table: ToolDef) -> None:
    forms = {form["name"]: form for form in to_anthropic(table)}

    assert set(forms) == {"table__model", "table__typed", "table__write", "table__untyped"}
    assert forms["table__typed"]["description"].startswith("Read.")
    assert forms["table__typed"]["input_schema"]["required"] == ["n"]


def test_models_are_not_asked_for_what_the_context_knows(table: ToolDef) -> None:
    forms = {form["name"]: form for form in to_anthropic(table)}

    schema = forms["table__write"]["input_schema"]

    assert schema["required"] == ["path", "rows"]
    assert set(schema["properties"]) == {"path", "rows"}
    assert "user_id" in table.operations["write"].schema["properties"]


def test_mcp_form_and_its_hints(table: ToolDef) -> None:
    forms = {form["name"]: form for form in to_mcp(table)}

    assert forms["table__typed"]["annotations"] == {"readOnlyHint": True, "idempotentHint": True}
    assert forms["table__write"]["annotations"] == {
        "readOnlyHint": False,
        "idempotentHint": False,
        "destructiveHint": True,
    }
    assert forms["table__model"]["annotations"] == {"readOnlyHint": False, "idempotentHint": True}
    assert forms["table__model"]["outputSchema"]["properties"]["rows"]["type"] == "integer"
    assert "outputSchema" not in forms["table__write"]
    assert forms["table__write"]["inputSchema"]["type"] == "object"


def test_operation_without_a_docstring_is_described_by_its_name_and_tool() -> None:
    (form,) = to_anthropic(describe(Plain))

    assert form["description"] == "drop rows (Documented here.)"


def test_function_names_are_short_and_distinct() -> None:
    specs = [
        ("a", "b"),
        ("a__b", "c"),
        ("a", "b__c"),
        ("x" * 64, "y" * 64),
        ("x" * 64, "y" * 63),
        ("a_", "b"),
        ("a", "b_"),
    ]

    names = [function_name(*spec) for spec in specs]

    assert len(set(names)) == len(specs)
    assert all(NAME.match(name) for name in names)
