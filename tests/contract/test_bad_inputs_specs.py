"""Bad inputs 1 to 19: what names an operation."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from aiecs_ray import operation
from aiecs_ray.errors import (
    InvalidOperationsError,
    InvalidSpecError,
    OperationForbiddenError,
    OperationNotFoundError,
    ToolNotFoundError,
)
from aiecs_ray.run_options import RunOptions
from tests.contract.bad_inputs import Row, Rows, World, op

ROWS = Rows()
row = ROWS.row
EXPECTED = "expected 'tool_name.operation_name'"


def refused(world: World, *specs: Any, says: str = EXPECTED) -> None:
    for spec in specs:
        world.refuses(InvalidSpecError, "E001", says, {"operation": spec})


@row(1, "empty")
def _empty(world: World) -> None:
    refused(world, "")


@row(2, "a-dot")
def _dot(world: World) -> None:
    refused(world, ".")


@row(3, "half-a-name")
def _half(world: World) -> None:
    refused(world, "subject.", says="subject has give, note")
    refused(world, ".give", "nobody.")


@row(4, "no-dot")
def _no_dot(world: World) -> None:
    refused(world, "subject", says="did you mean subject.")
    refused(world, "nobody")


@row(5, "three-parts")
def _three(world: World) -> None:
    refused(world, "subject.give.value", "a.b.c")


@row(6, "dunder-tool")
def _dunder_tool(world: World) -> None:
    refused(world, "__class__.x")


@row(7, "dunder-operation")
def _dunder(world: World) -> None:
    for name in ("__init__", "__class__", "__dict__"):
        world.refuses(OperationForbiddenError, "E001", "private member", op(f"subject.{name}"))


@row(8, "private-operation")
def _private(world: World) -> None:
    world.refuses(OperationForbiddenError, "E001", "private member", op("subject._private"))


@row(9, "what-ray-would-run")
def _rays_own(world: World) -> None:
    for name in ("__ray_call__", "__ray_terminate__", "__ray_ready__"):
        world.refuses(OperationForbiddenError, "E001", "private member", op(f"subject.{name}"))
    # A tool may have operations of these names (row 80); one that has none does not get Ray's.
    for name in ("remote", "options"):
        world.refuses(OperationNotFoundError, "E003", f"'{name}' not found in tool 'subject'", op(f"subject.{name}"))


@row(10, "no-method")
def _attribute(world: World) -> None:
    # Class names follow another grammar than operations.
    for name in ("limit", "size"):
        world.refuses(OperationNotFoundError, "E003", f"'{name}' not found in tool 'subject'", op(f"subject.{name}"))
    world.refuses(OperationNotFoundError, "E003", "not found", op("subject.Inner"))


@row(11, "unknown")
def _unknown(world: World) -> None:
    before = world.rt.stats()["tools"].get("subject")

    error = world.refuses(ToolNotFoundError, "E003", "did you mean 'subject'", op("subjekt.give"))
    assert len(error.nearest) <= 3
    missing = world.refuses(OperationNotFoundError, "E003", "did you mean 'give'", op("subject.giv"))
    assert missing.nearest[0] == "give"

    assert world.rt.stats()["tools"].get("subject") == before


@row(12, "blanks")
def _blanks(world: World) -> None:
    refused(
        world, " subject.give", "subject.give ", "subject .give", "subject.\tgive", "subject.give\n", "subject.\0give"
    )


@row(13, "look-alikes")
def _look_alikes(world: World) -> None:
    refused(world, "subj\N{CYRILLIC SMALL LETTER IE}ct.give", "\N{RIGHT-TO-LEFT MARK}subject.give")
    refused(world, *(f"{unicodedata.normalize(form, 'é')}subject.give" for form in ("NFC", "NFD")))


@row(14, "ten-megabytes")
def _long(world: World) -> None:
    for spec in ("a" * 10_000_000, "subject." + "g" * 10_000_000):
        with pytest.raises(InvalidSpecError) as caught:
            world.rt.prepare([{"operation": spec}], RunOptions())
        assert len(str(caught.value)) < 300


@row(15, "no-text")
def _no_text(world: World) -> None:
    refused(world, None, 5, b"subject.give", ["subject.give"], world.give)


@row(16, "keys")
def _keys(world: World) -> None:
    world.refuses(InvalidSpecError, "E001", "no 'operation' key", {"params": {}})
    world.refuses(InvalidSpecError, "E001", "did you mean 'operation'", {"opration": "subject.give"})
    world.refuses(InvalidSpecError, "E001", "unknown key extra", {**op("subject.give"), "extra": 1})
    world.refuses(InvalidSpecError, "E001", "unknown key", {**op("subject.give"), 5: 1})


@row(17, "paths")
def _paths(world: World) -> None:
    refused(world, "../subject.give", "a/b.c", "file:///tmp/x.y", "..\\subject.give")


@row(18, "another-case")
def _case(world: World) -> None:
    world.refuses(ToolNotFoundError, "E003", "did you mean 'subject'", op("Subject.give"))
    world.refuses(ToolNotFoundError, "E003", "did you mean 'subject'", op("SUBJECT.GIVE"))
    world.refuses(OperationNotFoundError, "E003", "did you mean 'give'", op("subject.Give"))


class Declared:
    @operation
    @staticmethod
    def declared() -> str:
        return "static"

    @operation
    @classmethod
    def of_class(cls) -> str:
        return cls.__name__

    @staticmethod
    def hidden() -> str:
        return "hidden"


@row(19, "static-only-if-declared")
def _static(world: World) -> None:
    world.refuses(OperationNotFoundError, "E003", "not found", op("subject.undeclared"))
    world.register(Declared)
    world.refuses(OperationNotFoundError, "E003", "not found", op("declared.hidden"))

    assert world.rt.call("declared.declared") == "static"
    assert world.rt.call("declared.of_class") == "Declared"


@pytest.mark.parametrize("row", ROWS.of(ray=False))
def test_a_bad_name_is_refused_before_anything_runs(world: World, row: Row) -> None:
    row.check(world)

    assert world.give("good") == "good"


def test_a_list_of_names_is_no_list_of_operations(world: World) -> None:
    with pytest.raises(InvalidOperationsError):
        world.rt.run(["subject.give"])
