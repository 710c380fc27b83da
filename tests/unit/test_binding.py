"""Parameters of a request become keyword arguments: the right names, the right types, nothing copied."""

# Tools without annotations are what some of these tests are about.
# ruff: noqa: ANN001, ANN003, ANN201, ANN202, ANN205

from __future__ import annotations

import logging
import timeit
from collections.abc import Iterable  # noqa: TC003  # the hint is read at run time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel, Field, SecretStr

from aiecs_ray.binding import Binder, check_names
from aiecs_ray.errors import InvalidParamsError, OperationNotFoundError
from aiecs_ray.tool import describe

if TYPE_CHECKING:
    from nowhere import Unknown


class Colour(Enum):
    RED = "red"


class Settings(BaseModel):
    rate: int
    name: str = "x"
    api_key: str = ""


@dataclass
class Point:
    x: int
    y: int = 0


class Table:
    """Every kind of parameter."""

    def plain(self, a, b=1): ...

    def head(self, path: str, n: int = 5, ratio: float = 1.0): ...

    def tenant(self, user_id, x=0): ...

    def maybe_tenant(self, user_id: str = "nobody", task_id: str | None = None): ...

    def operate(self, op): ...

    def collect(self, first, **rest): ...

    def model(self, settings: Settings): ...

    def models(self, settings: list[Settings]): ...

    def point(self, point: Point): ...

    def kinds(self, colour: Colour, how: Literal["a", "b"] = "a", where: Path | None = None): ...

    def bounded(self, n: Annotated[int, Field(ge=1)]): ...

    def loose(self, n: int = None): ...  # noqa: RUF013  # common, and it means Optional

    def array(self, values: np.ndarray, more: Any = None): ...

    def unknown(self, value: Unknown, n: int = 1): ...

    def lazy(self, rows: Iterable[int]): ...

    def secret(self, password: int, key: SecretStr | None = None): ...

    async def later(self, n: int): ...

    @staticmethod
    def _hidden(): ...


@pytest.fixture
def binder():
    return Binder(Table)


@pytest.fixture
def strict():
    return Binder(describe(Table, unknown_params="error"))


def test_parameters_become_keyword_arguments_without_defaults(binder: Binder) -> None:
    params = {"a": 1}

    bound = binder.bind("plain", params)

    assert bound == {"a": 1}
    assert bound is not params


def test_unknown_operation_names_the_nearest(binder: Binder) -> None:
    with pytest.raises(OperationNotFoundError, match=r"'heat' not found in tool 'table'.*'head'"):
        binder.bind("heat", {})


@pytest.mark.parametrize("name", ["_hidden", "__init__", "__class__"])
def test_private_names_are_no_operations(binder: Binder, name: str) -> None:
    with pytest.raises(OperationNotFoundError):
        binder.bind(name, {})


def test_system_names_are_dropped_silently(binder: Binder, caplog: pytest.LogCaptureFixture) -> None:
    bound = binder.bind("plain", {"a": 1, "user_id": "u", "task_id": "t", "op": "o"}, "ann", "task")

    assert bound == {"a": 1}
    assert not caplog.records


def test_system_names_are_dropped_before_keyword_collectors(binder: Binder) -> None:
    assert binder.bind("collect", {"first": 1, "user_id": "u", "more": 2}) == {"first": 1, "more": 2}


def test_declared_system_names_arrive(binder: Binder) -> None:
    assert binder.bind("tenant", {"user_id": "u"}, "ann") == {"user_id": "u"}
    assert binder.bind("operate", {"op": "sum"}) == {"op": "sum"}


def test_declared_ids_are_filled_in_from_the_context(binder: Binder) -> None:
    assert binder.bind("tenant", {}, "ann", "t1") == {"user_id": "ann"}
    assert binder.bind("maybe_tenant", {}, "ann", "t1") == {"user_id": "ann", "task_id": "t1"}


def test_empty_context_fills_in_nothing(binder: Binder) -> None:
    assert binder.bind("maybe_tenant", {}, "", None) == {}
    with pytest.raises(InvalidParamsError, match="needs the parameter 'user_id'"):
        binder.bind("tenant", {}, "", "")


def test_undeclared_parameters_are_dropped_with_one_warning_each(
    binder: Binder, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert binder.bind("plain", {"a": 1, "file_path": "x"}) == {"a": 1}
    binder.bind("plain", {"a": 1, "other": "x"})

    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "table.plain has no parameter 'file_path': it is left out",
        "table.plain has no parameter 'other': it is left out",
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_undeclared_parameters_are_refused_where_the_tool_says_so(strict: Binder) -> None:
    with pytest.raises(
        InvalidParamsError, match=r"table.head has no parameter 'pth' \(did you mean 'path'\?\); it takes path"
    ) as caught:
        strict.bind("head", {"pth": "a", "path": "b"})

    assert caught.value.operation == "table.head"
    assert caught.value.error_code == "E001"
    assert strict.bind("head", {"path": "a", "user_id": "u"}) == {"path": "a"}


def test_keyword_collectors_take_any_name_but_their_own_self(binder: Binder) -> None:
    assert binder.bind("collect", {"first": 1, "x": 2}) == {"first": 1, "x": 2}
    with pytest.raises(InvalidParamsError, match="'self' cannot be a parameter"):
        binder.bind("collect", {"first": 1, "self": 2})


def test_all_missing_parameters_are_named_with_what_there_is() -> None:
    class Many:
        def run(self, a, b, c, d=4): ...

    with pytest.raises(InvalidParamsError) as caught:
        Binder(Many).bind("run", {"b": 1})

    assert str(caught.value) == "many.run needs the parameters 'a', 'c'; given: b; it takes a, b, c, d"


@pytest.mark.parametrize(
    ("operation", "params", "expected"),
    [
        ("head", {"path": "p", "n": "3"}, {"path": "p", "n": 3}),
        ("head", {"path": "p", "n": np.int64(3), "ratio": np.float32(0.5)}, {"path": "p", "n": 3, "ratio": 0.5}),
        ("head", {"path": "p", "ratio": 2}, {"path": "p", "ratio": 2.0}),
        ("kinds", {"colour": "red", "where": "a/b"}, {"colour": Colour.RED, "where": Path("a/b")}),
        ("bounded", {"n": 1}, {"n": 1}),
        ("loose", {"n": None}, {"n": None}),
        ("model", {"settings": {"rate": "7"}}, {"settings": Settings(rate=7)}),
        ("models", {"settings": [{"rate": 7}]}, {"settings": [Settings(rate=7)]}),
        ("point", {"point": {"x": "1"}}, {"point": Point(1)}),
        ("unknown", {"value": object, "n": "2"}, {"value": object, "n": 2}),
        ("later", {"n": "4"}, {"n": 4}),
    ],
)
def test_values_are_coerced_by_the_hints(binder: Binder, operation: str, params: dict[str, Any], expected: Any) -> None:
    bound = binder.bind(operation, params)

    assert bound == expected
    assert {name: type(value) for name, value in bound.items()} == {k: type(v) for k, v in expected.items()}


@pytest.mark.parametrize(
    ("operation", "params", "message"),
    [
        ("head", {"path": "p", "n": "three"}, r"table.head: parameter 'n' is 'three': Input should be a valid integer"),
        ("head", {"path": 5}, r"parameter 'path' is 5: Input should be a valid string"),
        ("head", {"path": "p", "n": None}, r"parameter 'n' is None: Input should be a valid integer"),
        ("head", {"path": "p", "n": "x" * 500}, r"parameter 'n' is 'x{77}\.\.\.'"),
        ("bounded", {"n": 0}, r"parameter 'n' is 0: Input should be greater than or equal to 1"),
        ("kinds", {"colour": "blue"}, r"parameter 'colour' is 'blue': Input should be 'red'"),
        ("kinds", {"colour": "red", "how": "c"}, r"parameter 'how' is 'c': Input should be 'a' or 'b'"),
        ("model", {"settings": {"rate": []}}, r"parameter 'settings.rate' is a value of type list"),
        ("models", {"settings": [{}]}, r"parameter 'settings\[0\].rate' is .*: Field required"),
        (
            "array",
            {"values": [1]},
            r"parameter 'values' is a value of type list: Input should be an instance of ndarray",
        ),
    ],
)
def test_wrong_values_are_refused_with_operation_parameter_value_and_reason(
    binder: Binder, operation: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParamsError, match=message) as caught:
        binder.bind(operation, params)

    assert caught.value.operation == f"table.{operation}"


def test_several_wrong_values_are_named_in_one_message(binder: Binder) -> None:
    with pytest.raises(
        InvalidParamsError, match=r"'path' is 1: .*; parameter 'n' is 'x': .*; parameter 'ratio' is 'y'"
    ):
        binder.bind("head", {"path": 1, "n": "x", "ratio": "y"})


def test_more_wrong_values_than_fit_are_counted(binder: Binder) -> None:
    with pytest.raises(InvalidParamsError, match="; and 7 more"):
        binder.bind("models", {"settings": [{}] * 10})


def test_values_of_parameters_that_sound_secret_are_not_quoted(binder: Binder) -> None:
    with pytest.raises(InvalidParamsError) as caught:
        binder.bind("secret", {"password": "hunter2"})
    assert "hunter2" not in str(caught.value)

    with pytest.raises(InvalidParamsError) as caught:
        binder.bind("model", {"settings": {"rate": 1, "api_key": 271828}})
    assert "271828" not in str(caught.value)


def test_secret_types_wrap_what_they_are_given(binder: Binder) -> None:
    bound = binder.bind("secret", {"password": 1, "key": "hunter2"})

    assert bound["key"].get_secret_value() == "hunter2"


def test_values_of_other_classes_and_of_any_are_not_copied(binder: Binder) -> None:
    values, more = np.zeros(3), {"a": [1]}

    bound = binder.bind("array", {"values": values, "more": more})

    assert bound["values"] is values
    assert bound["more"] is more


def test_instances_of_models_and_dataclasses_are_not_copied(binder: Binder) -> None:
    settings, point = Settings(rate=1), Point(1)

    assert binder.bind("model", {"settings": settings})["settings"] is settings
    assert binder.bind("point", {"point": point})["point"] is point


def test_iterables_are_left_as_they_are(binder: Binder) -> None:
    rows = [1, 2]

    assert binder.bind("lazy", {"rows": rows})["rows"] is rows


def test_model_that_mentions_unknown_names_is_not_checked() -> None:
    class Half(BaseModel):
        other: Missing  # noqa: F821  # the mistake under test

    class Tool:
        def run(self, half: Half): ...

    Tool.run.__annotations__["half"] = Half
    value = {"other": 1}

    assert Binder(Tool).bind("run", {"half": value})["half"] is value


def test_hints_are_read_once_per_operation(binder: Binder, monkeypatch: pytest.MonkeyPatch) -> None:
    binder.bind("head", {"path": "a"})
    monkeypatch.setattr("aiecs_ray.binding.parameter_hints", lambda *_: pytest.fail("read again"))

    assert binder.bind("head", {"path": "b", "n": "1"}) == {"path": "b", "n": 1}


def test_binding_without_hints_costs_less_than_two_microseconds(binder: Binder) -> None:
    params = {"a": 1, "b": 2}
    binder.bind("plain", params)

    seconds = min(timeit.repeat(lambda: binder.bind("plain", params), number=2000, repeat=20)) / 2000

    assert seconds < 2e-6


def test_names_can_be_checked_before_anything_runs() -> None:
    head = describe(Table).operations["head"]

    check_names(head, ["path", "user_id", "whatever"])
    with pytest.raises(InvalidParamsError, match=r"table\.head needs the parameter 'path'") as caught:
        check_names(head, ["n"])
    assert caught.value.operation == "table.head"
    with pytest.raises(InvalidParamsError, match="has no parameter 'whatever'"):
        check_names(head, ["path", "whatever", "user_id"], unknown_params="error")


def test_context_counts_when_names_are_checked() -> None:
    tenant = describe(Table).operations["tenant"]

    check_names(tenant, [], user_id="ann")
    with pytest.raises(InvalidParamsError, match="needs the parameter 'user_id'"):
        check_names(tenant, [], user_id="", task_id="t")


def test_keyword_collectors_accept_all_names_when_checked() -> None:
    collect = describe(Table).operations["collect"]

    check_names(collect, ["first", "anything"], unknown_params="error")
