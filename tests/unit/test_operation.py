from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiecs_ray.errors import (
    AiecsError,
    DuplicateNameError,
    InvalidInputError,
    InvalidOperationsError,
    InvalidParamsError,
    InvalidSpecError,
    InvalidTimeoutError,
    OperationForbiddenError,
)
from aiecs_ray.messages import RetryOptions
from aiecs_ray.operation import MAX_PARAMS, Operation, Requested, check_params, parse_operations, seconds, split_spec

SPEC_TEXT = "Invalid operation spec: {}, expected 'tool_name.operation_name'"


def one(**fields: Any) -> Requested:
    (parsed,) = parse_operations([{"operation": "t.op", **fields}])
    return parsed


def refused(**fields: Any) -> AiecsError:
    with pytest.raises(InvalidInputError) as caught:
        one(**fields)
    assert (caught.value.index, caught.value.operation) == (0, "t.op")
    return caught.value


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("pandas_tool.read_csv", ("pandas_tool", "read_csv")),
        ("a.b", ("a", "b")),
        ("my-tool.op2", ("my-tool", "op2")),
        ("Tool.Op", ("Tool", "Op")),
        (f"{'t' * 64}.{'o' * 64}", ("t" * 64, "o" * 64)),
    ],
)
def test_a_spec_is_a_tool_and_an_operation(spec: str, parts: tuple[str, str]) -> None:
    assert split_spec(spec) == parts


@pytest.mark.parametrize(
    "spec",
    [
        "",
        ".",
        "a.",
        ".a",
        "a",
        "a.b.c",
        "tool.op.extra",
        "invalid_format",
        "__class__.x",
        "_a.b",
        "1a.b",
        "a.1b",
        "a.b-c",
        " a.b",
        "a.b ",
        "a .b",
        "a.b\n",
        "a.b\t",
        "a\0.b",
        "t\u043e\u043el.op",
        "tool.\u202eop",
        "tool.o\u0301p",
        "tôol.op",
        "../x.y",
        "a/b.c",
        "file:///x.y",
        "tool..op",
        "tool.op()",
        f"{'t' * 65}.op",
        f"t.{'o' * 65}",
    ],
)
def test_any_other_text_is_no_spec(spec: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        split_spec(spec)

    assert not isinstance(caught.value, OperationForbiddenError)
    assert str(caught.value) == SPEC_TEXT.format(spec)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("spec", [None, 5, b"tool.op", ["tool.op"], print, 1.5, {"tool": "op"}])
def test_a_spec_is_text(spec: Any) -> None:
    with pytest.raises(InvalidSpecError, match=r"expected 'tool_name\.operation_name'"):
        split_spec(spec)


@pytest.mark.parametrize("name", ["__init__", "__class__", "__dict__", "_private", "__ray_call__", "__ray_terminate__"])
def test_private_operations_are_forbidden(name: str) -> None:
    with pytest.raises(OperationForbiddenError, match="names a private member"):
        split_spec(f"tool.{name}")


def test_a_spec_of_ten_megabytes_is_refused_and_quoted_shortly() -> None:
    with pytest.raises(InvalidSpecError) as caught:
        parse_operations([{"operation": "a" * 10_000_000}])

    assert len(str(caught.value)) < 200
    assert len(caught.value.args[0]) <= 200


@pytest.mark.parametrize("value", [1, 0.5, 1e-9, 10 * 365 * 86400])
def test_a_duration_is_a_positive_number_of_seconds(value: float) -> None:
    assert (seconds(value), type(seconds(value))) == (value, float)


@pytest.mark.parametrize(
    "value", [0, -1, -0.0, math.nan, math.inf, -math.inf, "5", 1e300, True, False, None, 10**400, [5], 1 + 0j]
)
def test_any_other_duration_is_refused(value: Any) -> None:
    with pytest.raises(InvalidTimeoutError, match=r"^deadline must be a positive number of seconds, got "):
        seconds(value, "deadline")


@pytest.mark.parametrize("name", ["timeout", "deadline"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "5", 1e300, True])
def test_a_wrong_duration_of_an_operation_is_named(name: str, value: Any) -> None:
    error = refused(**{name: value})

    assert type(error) is InvalidTimeoutError
    assert str(error).startswith(f"{name} must be a positive number of seconds, got ")


def test_no_duration_is_the_default() -> None:
    assert one(timeout=None, deadline=None) == Requested("t.op", {})
    assert one(timeout=5, deadline=2.5)[4:6] == (5.0, 2.5)


def test_parameters_are_a_dict_that_is_copied() -> None:
    params = {"a": 1, "übergröße": 2, "_x": 3, "user_id": "me"}

    checked = check_params(params)
    params["b"] = 2

    assert checked == {"a": 1, "übergröße": 2, "_x": 3, "user_id": "me"}


@pytest.mark.parametrize("params", [None, [], "text", 5, (), {"a"}, OrderedDict(a=1), [("a", 1)]])
def test_anything_but_a_dict_is_no_parameters(params: Any) -> None:
    assert type(refused(params=params)) is InvalidParamsError
    assert "params must be a dict" in str(refused(params=params))
    assert type(refused(params=params, id="x")) is InvalidParamsError


@pytest.mark.parametrize("key", [1, None, ("a",), math.nan, "", "a b", "a-b", "1a", "k" * 10_000, b"a", "a\n", True])
def test_keys_of_parameters_are_parameter_names(key: Any) -> None:
    error = refused(params={key: 1})

    assert type(error) is InvalidParamsError
    assert "which is not a parameter name" in str(error)
    assert len(str(error)) < 200


def test_parameters_are_counted() -> None:
    assert len(one(params={f"p{index}": 0 for index in range(MAX_PARAMS)}).params) == MAX_PARAMS
    assert "has 257 entries, at most 256" in str(refused(params={f"p{index}": 0 for index in range(257)}))


def test_parameters_may_be_left_out() -> None:
    assert one() == Requested("t.op", {})
    assert one().is_plain


@pytest.mark.parametrize("operations", [None, {}, "t.op", 5, {("t.op",)}, iter([])])
def test_operations_are_a_list(operations: Any) -> None:
    with pytest.raises(InvalidOperationsError, match="operations must be a list of dicts, got "):
        parse_operations(operations)


def test_a_generator_of_operations_is_not_consumed() -> None:
    generator = iter([{"operation": "t.op"}])

    with pytest.raises(InvalidOperationsError):
        parse_operations(generator)

    assert next(generator) == {"operation": "t.op"}


def test_a_list_or_tuple_of_no_operations_is_fine() -> None:
    assert parse_operations([]) == parse_operations(()) == []


@pytest.mark.parametrize(
    "operation", [None, "t.op", ["t.op"], 5, [{"operation": "t.op"}], OrderedDict(operation="t.op")]
)
def test_what_is_no_dict_is_refused_with_its_index(operation: Any) -> None:
    with pytest.raises(InvalidOperationsError, match="operation 1 must be a dict") as caught:
        parse_operations([{"operation": "t.op"}, operation])

    assert caught.value.index == 1


def test_an_error_says_which_operation_is_wrong() -> None:
    with pytest.raises(InvalidParamsError) as caught:
        parse_operations([{"operation": "t.op"}, {"operation": "t.other", "params": None}])

    assert (caught.value.index, caught.value.operation) == (1, "t.other")


@pytest.mark.parametrize(
    ("key", "hint"),
    [("opration", "did you mean 'operation'?"), ("tiemout", "did you mean 'timeout'?"), ("zzz", "there are cache")],
)
def test_an_unknown_key_is_named_with_the_nearest(key: str, hint: str) -> None:
    error = refused(**{key: 1})

    assert type(error) is InvalidSpecError
    assert f"unknown key {key}" in str(error)
    assert hint in str(error)


@pytest.mark.parametrize("operation", [{}, {"params": {}}, {"id": "x"}, {None: 1}, {"opration": "t.op"}])
def test_an_operation_names_what_to_run(operation: dict[Any, Any]) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        parse_operations([operation])

    assert (caught.value.index, caught.value.operation) == (0, None)


def test_a_missing_operation_key_is_told() -> None:
    with pytest.raises(InvalidSpecError, match="no 'operation' key"):
        parse_operations([{"params": {}}])


@pytest.mark.parametrize("spec", [None, 5, ["t.op"]])
def test_an_operation_that_is_no_text_is_refused_in_every_form(spec: Any) -> None:
    for extra in ({}, {"id": "x"}):
        with pytest.raises(InvalidSpecError) as caught:
            parse_operations([{"operation": spec, **extra}])
        assert caught.value.operation is None


def test_all_settings_of_an_operation_are_kept() -> None:
    asked = one(
        params={"a": 1},
        id="load",
        depends_on=[0, "x"],
        timeout=1,
        deadline=2,
        retry={"attempts": 2},
        cache="refresh",
        priority=-10,
    )

    assert asked == Requested("t.op", {"a": 1}, "load", (0, "x"), 1.0, 2.0, {"attempts": 2}, "refresh", -10)
    assert not asked.is_plain


@pytest.mark.parametrize(
    "fields", [{"timeout": 1}, {"deadline": 1}, {"retry": 1}, {"cache": False}, {"cache": "on"}, {"priority": 1}]
)
def test_an_operation_with_a_setting_is_not_plain(fields: dict[str, Any]) -> None:
    assert not one(**fields).is_plain


def test_an_id_and_dependencies_leave_an_operation_plain() -> None:
    assert one(id="x", depends_on=[0]).is_plain


@pytest.mark.parametrize(
    ("given", "kept"), [(3, (3,)), ("load", ("load",)), ([1, "a"], (1, "a")), ((2,), (2,)), ([], ()), (-1, (-1,))]
)
def test_depends_on_is_one_or_several_steps(given: Any, kept: tuple[Any, ...]) -> None:
    assert one(depends_on=given).depends_on == kept


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("depends_on", None),
        ("depends_on", True),
        ("depends_on", [True]),
        ("depends_on", [1.5]),
        ("depends_on", [None]),
        ("depends_on", {"a"}),
        ("id", 5),
        ("id", ""),
        ("id", "a b"),
        ("id", "ä"),
        ("id", "a/b"),
        ("id", "-a"),
        ("id", "x" * 129),
        ("id", "a\n"),
        ("cache", "yes"),
        ("cache", 1),
        ("priority", 11),
        ("priority", -11),
        ("priority", 0.5),
        ("priority", True),
        ("priority", "high"),
        ("priority", None),
    ],
)
def test_a_setting_of_the_wrong_kind_is_named(field: str, value: Any) -> None:
    error = refused(**{field: value})

    assert str(error).startswith(field)
    assert error.error_code == "E001"


@pytest.mark.parametrize("name", ["a", "load", "_x", "2", "a.b-c_d", "x" * 128])
def test_an_id_is_a_short_word(name: str) -> None:
    assert one(id=name).id == name


@pytest.mark.parametrize("retry", [3, "api_call", {"attempts": 2}, RetryOptions(attempts=2), None])
def test_a_wish_for_retries_has_several_forms(retry: Any) -> None:
    assert one(retry=retry).retry == retry


@pytest.mark.parametrize("cache", ["on", "off", "refresh", "only", True, False, None])
def test_a_wish_for_the_cache_has_several_forms(cache: Any) -> None:
    assert one(cache=cache).cache is cache


@pytest.mark.parametrize("retry", [1.5, True, [3], (3,), {3}, object()])
def test_a_wish_for_retries_of_another_kind_is_refused(retry: Any) -> None:
    error = refused(retry=retry)

    assert type(error) is InvalidOperationsError
    assert str(error).startswith("retry: expected a number of attempts")


def test_operations_need_no_ids() -> None:
    assert len(parse_operations([{"operation": "t.op"}] * 3)) == 3


def test_two_operations_with_one_id_are_refused() -> None:
    operations = [{"operation": "t.a", "id": "x"}, {"operation": "t.b"}, {"operation": "t.c", "id": "x"}]

    with pytest.raises(DuplicateNameError, match="operations 0 and 2 both have the id 'x'") as caught:
        parse_operations(operations)

    assert (caught.value.index, caught.value.operation) == (2, "t.c")


def test_an_operation_object_is_taken_as_it_is() -> None:
    class Model(pydantic.BaseModel):
        name: str

    options, model = RetryOptions(attempts=2), Model(name="Ada")
    operation = Operation(operation="t.op", params={"model": model}, retry=options, depends_on=(0,))

    (parsed,) = parse_operations([operation])

    assert parsed.params["model"] is model
    assert parsed.retry is options
    assert parsed == Requested("t.op", {"model": model}, depends_on=(0,), retry=options)
    assert parse_operations([Operation(operation="t.op")])[0].is_plain


def test_an_operation_object_cannot_be_changed() -> None:
    operation = Operation(operation="t.op")

    with pytest.raises(pydantic.ValidationError, match="frozen"):
        operation.operation = "t.other"


def test_an_operation_object_is_checked_as_a_dict_is() -> None:
    with pytest.raises(InvalidSpecError, match="Invalid operation spec: nonsense"):
        parse_operations([Operation(operation="nonsense")])
    with pytest.raises(InvalidParamsError):
        parse_operations([Operation(operation="t.op", params={"a b": 1})])


def test_both_ways_to_parse_agree() -> None:
    plain = parse_operations([{"operation": "t.op", "params": {"a": [1]}}])
    full = parse_operations([{"operation": "t.op", "params": {"a": [1]}, "priority": 0}])

    assert plain == full


def test_a_change_of_the_list_or_its_parameters_comes_too_late() -> None:
    params: dict[str, Any] = {"a": 1}
    operations: list[Any] = [
        {"operation": "t.op", "params": params},
        {"operation": "t.op", "params": params, "id": "x"},
    ]
    parsed = parse_operations(operations)

    params["b"] = 2
    operations.clear()

    assert [operation.params for operation in parsed] == [{"a": 1}, {"a": 1}]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from([*Operation.model_fields, "opration"])


@given(st.dictionaries(fields, anything, max_size=4), st.booleans())
def test_any_dict_is_parsed_or_refused_with_its_index(operation: dict[str, Any], right: Any) -> None:
    if right:
        operation["operation"] = "t.op"

    parsed, index = attempt(operation)

    assert (parsed is None) == (index == 0)
    assert parsed is None or parsed.operation == operation["operation"]


def attempt(operation: dict[str, Any]) -> tuple[Requested | None, int | None]:
    try:
        return parse_operations([operation])[0], None
    except InvalidInputError as error:
        return None, error.index


@pytest.mark.parametrize("wrong", ["x", 1, []])
def test_a_wrong_cache_mode_is_told_in_words(wrong: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_operations([{"operation": "a.b", "cache": wrong}])

    got = "a value of type list" if wrong == [] else wrong
    assert str(caught.value) == f"cache must be one of on, off, refresh, only, True or False, got {got}"
