from __future__ import annotations

import dataclasses
import json
import threading
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pydantic
import pytest

from aiecs_ray.errors import (
    InvalidParamsError,
    ReferenceForbiddenError,
    ReferencePathError,
    ReferenceSyntaxError,
)
from aiecs_ray.packing import Slot
from aiecs_ray.reference import MAX_DEPTH, MAX_REFERENCES, Reference, References, is_reference, look_up, parse


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass(slots=True)
class Slotted:
    x: Any
    _hidden: Any = 1
    late: Any = dataclasses.field(init=False)


class Model(pydantic.BaseModel):
    name: str
    rows: list[dict[str, int]] = []
    _hidden: int = pydantic.PrivateAttr(default=1)

    @property
    def shout(self) -> str:
        return self.name.upper()


class Pair(NamedTuple):
    left: Any
    right: Any


Couple = namedtuple("Couple", "left right")  # noqa: PYI024  # the old form has another base


class Plain:
    shared = "of the class"

    def __init__(self, **entries: Any) -> None:
        self.__dict__.update(entries)

    def method(self) -> None:
        """Stand on the class."""

    @property
    def computed(self) -> int:
        raise AssertionError("a look-up runs no property")


class Bare:
    __slots__ = ("x",)

    def __init__(self) -> None:
        self.x = 1


class Table(dict[str, Any]):
    """A dict that may carry attributes."""


class Named(Pair):
    """A named tuple that may carry attributes."""


class Node:
    _fields = ("a",)


def noted(value: Any, **attributes: Any) -> Any:
    vars(value).update(attributes)
    return value


def taken(params: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    references = References()
    return references.take_from(params), references.inputs


def refused(value: Any, *path: str | int) -> ReferencePathError:
    with pytest.raises(ReferencePathError) as caught:
        look_up(value, path, "$result[0]")
    return caught.value


@pytest.mark.parametrize(
    ("text", "target", "path"),
    [
        ("$result[0]", 0, ()),
        ("$result[12].rows", 12, ("rows",)),
        ("$result[2].rows[0].name", 2, ("rows", 0, "name")),
        ('$result["load"]', "load", ()),
        ('$result["load"].rows', "load", ("rows",)),
        ('$result["_own-id.1"]', "_own-id.1", ()),
        ('$result[0]["a.b"]["c[0]"]', 0, ("a.b", "c[0]")),
        ('$result[0]["say \\"hi\\""]', 0, ('say "hi"',)),
        ('$result[0]["\\u00e9\\n"]', 0, ("é\n",)),
        ('$result[0][""]', 0, ("",)),
        ("$result[0].a_1[10]", 0, ("a_1", 10)),
    ],
)
def test_a_reference_names_a_step_and_a_path(text: str, target: int | str, path: tuple[int | str, ...]) -> None:
    assert parse(text) == Reference(target, path, text)
    assert is_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        "$result",
        "$result[-1]",
        "$result[0",
        "$result0]",
        "$result[]",
        "$result[0]]",
        "$result[[0]]",
        "$result.x",
        "$result.x[0]",
        "$result[0].",
        "$result[0]..x",
        "$result[0].1x",
        "$result[0].a b",
        "$result[0]xyz",
        "$result[0] ",
        "$result[0]\n",
        "$result[0] + 1",
        "$result[0]$result[1]",
        "$result[0].é",
        "$result[0.5]",
        "$result[1e3]",
        "$result[ 0 ]",
        "$result[٣]",
        "$result[\uff13]",
        "$result[0x1]",
        "$result[True]",
        "$result[00]",
        "$result[01]",
        "$result[+1]",
        "$result[1_0]",
        "$result[x]",
        "$result['load']",
        '$result["load',
        '$result["a\nb"]',
        '$result["\\x"]',
        '$result[0]["a\\',
        "$result-1",
        "$result: 5",
    ],
)
def test_what_starts_as_a_reference_and_is_none_is_refused(text: str) -> None:
    assert is_reference(text)

    with pytest.raises(ReferenceSyntaxError) as caught:
        parse(text)

    assert not isinstance(caught.value, ReferenceForbiddenError)
    assert caught.value.text == text
    assert caught.value.error_code == "E007"


def test_a_wrong_bracket_is_explained() -> None:
    with pytest.raises(ReferenceSyntaxError, match=r"an index is written in digits, as in \[0\]"):
        parse("$result[-1]")
    with pytest.raises(ReferenceSyntaxError, match="unexpected 'xyz'"):
        parse("$result[0]xyz")
    with pytest.raises(ReferenceSyntaxError, match="it needs the index or the id of a step"):
        parse("$result")
    with pytest.raises(ReferenceSyntaxError, match="not a valid string"):
        parse('$result["\\x"]')


@pytest.mark.parametrize(
    "text",
    [
        "$result[0].__class__.__mro__",
        "$result[0]._secret",
        "$result[0].__dict__",
        "$result[0].__init__.__globals__",
        '$result[0]["__class__"]',
        '$result[0]["_x"]',
        '$result[0]["\\u005fx"]',
        "$result[0].rows[1]._x",
        "$result[0]._",
    ],
)
def test_private_names_are_forbidden_before_anything_runs(text: str) -> None:
    with pytest.raises(ReferenceForbiddenError, match="private"):
        parse(text)


def test_an_index_of_thousands_of_digits_is_only_out_of_range() -> None:
    reference = parse(f"$result[{'9' * 5000}]")

    assert isinstance(reference.target, int)
    assert reference.target > 10**90


@pytest.mark.parametrize(
    "text",
    [
        "",
        "$",
        "result[0]",
        "total: $result[0]",
        "$5 of $result[0]",
        " $result[0]",
        "$results of the year",
        "$result_table",
        "$result is 5",
        "$Result[0]",
        "$resultés",
        "€result[0]",
    ],
)
def test_text_that_only_looks_like_a_reference_stays_text(text: str) -> None:
    assert not is_reference(text)
    assert taken({"text": text}) == ({"text": text}, [])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("$$result[0]", "$result[0]"),
        ("$$$result[0].x", "$$result[0].x"),
        ("$$result", "$result"),
        ("$$result[-1]", "$result[-1]"),
        ("$$results", "$$results"),
        ("$$result of it", "$$result of it"),
        ("$$100", "$$100"),
        ("a $$result[0]", "a $$result[0]"),
    ],
)
def test_a_doubled_dollar_makes_a_reference_literal_text(text: str, meant: str) -> None:
    assert taken({"text": text, "many": [text]}) == ({"text": meant, "many": [meant]}, [])


def test_references_are_taken_out_at_any_place() -> None:
    params, inputs = taken(
        {
            "top": "$result[0]",
            "charts": ["$result[1]", "$result[2].rows"],
            "sheets": {"plan": "$result[3]"},
            "pair": ("$result[4]", 5),
            "deep": [{"a": ({"b": "$result[5]"},)}],
        }
    )

    assert [source.text for source in inputs] == [
        *("$result[0]", "$result[1]", "$result[2].rows", "$result[3]", "$result[4]", "$result[5]")
    ]
    assert type(params["top"]) is Slot
    assert [slot.index for slot in params["charts"]] == [1, 2]
    assert params["sheets"]["plan"].index == 3
    assert (type(params["pair"]), params["pair"][0].index, params["pair"][1]) == (tuple, 4, 5)
    assert params["deep"][0]["a"][0]["b"].index == 5


def test_a_reference_as_a_key_is_a_key() -> None:
    params = {"table": {"$result[0]": 1, "$$result[0]": 2}}

    assert taken(params) == (params, [])


def test_containers_without_references_are_not_copied() -> None:
    rows: list[Any] = [1, 2, {"a": "b"}]
    tree: dict[str, Any] = {"x": ("y", [])}
    params = {"rows": rows, "tree": tree, "empty": [{}, [], ()], "ref": "$result[0]"}

    taken_params, _ = taken(params)

    assert taken_params["rows"] is rows
    assert taken_params["tree"] is tree
    assert taken_params["empty"] is params["empty"]


def test_the_parameters_themselves_are_not_changed() -> None:
    params = {"rows": ["$result[0]"], "escaped": ["$$result[0]"]}

    taken(params)

    assert params == {"rows": ["$result[0]"], "escaped": ["$$result[0]"]}


def test_equal_references_share_a_slot() -> None:
    params, inputs = taken({"a": "$result[0].x", "b": ['$result[0]["x"]'], "c": "$result[0]", "d": '$result["0"].x'})

    assert params["a"] is params["b"][0]
    assert [source.text for source in inputs] == ["$result[0].x", "$result[0]", '$result["0"].x']


def test_text_in_a_subclass_of_str_or_dict_is_left_alone() -> None:
    class Text(str):
        __slots__ = ()

    params = {"text": Text("$result[0]"), "ordered": OrderedDict(a="$result[0]")}

    assert taken(params) == (params, [])


def nested(levels: int, inner: Any = 1) -> Any:
    value = inner
    for level in range(levels):
        value = ([value], (value,), {"a": value})[level % 3]
    return value


def test_parameters_may_nest_64_levels_deep() -> None:
    params, inputs = taken({"a": nested(MAX_DEPTH - 1, "$result[0]")})

    assert len(inputs) == 1
    assert params
    with pytest.raises(InvalidParamsError, match="deeper than 64 levels"):
        taken({"a": nested(MAX_DEPTH)})
    with pytest.raises(InvalidParamsError, match="deeper than 64 levels"):
        taken({"a": nested(20_000)})


@pytest.mark.parametrize("kind", [list, dict])
def test_parameters_that_contain_themselves_are_refused(kind: type) -> None:
    loop: Any = kind()
    if kind is list:
        loop.append([loop])
    else:
        loop["me"] = {"again": loop}

    with pytest.raises(InvalidParamsError, match="contain themselves"):
        taken({"loop": loop})


def test_lists_that_hold_one_another_many_times_are_walked_once() -> None:
    value: Any = ["$result[0]"]
    for _ in range(50):
        value = [value, value]

    params, inputs = taken({"value": value})

    assert len(inputs) == 1
    assert params["value"][0] is params["value"][1]


def test_a_container_that_was_walked_higher_up_still_counts_its_depth() -> None:
    tall: Any = [["$result[0]"] * 2 for _ in range(20)]
    for _ in range(30):
        tall = [tall]

    with pytest.raises(InvalidParamsError, match="deeper than 64 levels"):
        taken({"flat": tall, "deep": nested(40, tall)})


def test_256_different_references_are_allowed() -> None:
    most = [f"$result[{index}]" for index in range(MAX_REFERENCES)]

    assert len(taken({"refs": most * 40})[1]) == MAX_REFERENCES
    with pytest.raises(InvalidParamsError, match="at most 256"):
        taken({"refs": [*most, "$result[0].x"]})


def test_a_visitor_replaces_other_values_by_slots() -> None:
    one, other = object(), object()
    references = References(lambda value: f"put {value is one}" if value in (one, other) else None)

    params = references.take_from({"a": one, "b": [one, other, 5]})

    assert references.inputs == ["put True", "put False"]
    assert params["a"] is params["b"][0]
    assert (params["b"][1].index, params["b"][2]) == (1, 5)


def test_a_dict_that_changes_meanwhile_is_read_once() -> None:
    params: dict[str, Any] = {"rows": {str(index): "$result[0]" for index in range(50)}}
    stop = threading.Event()

    def meddle() -> None:
        while not stop.is_set():
            params["rows"]["new"] = "$result[1]"
            params["rows"].pop("new", None)

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        sizes = {len(taken(params)[0]["rows"]) for _ in range(2000)}
    finally:
        stop.set()
        thread.join()

    assert sizes <= {50, 51}


@pytest.mark.parametrize(
    ("value", "path", "found"),
    [
        ({"a": 1}, ("a",), 1),
        ({1: "one"}, (1,), "one"),
        ({"": 0}, ("",), 0),
        ({"rows": [{"name": "Ada"}]}, ("rows", 0, "name"), "Ada"),
        ({"keys": 1}, ("keys",), 1),
        ([10, 20], (1,), 20),
        ((10, 20), (0,), 10),
        (OrderedDict(a=1), ("a",), 1),
        (defaultdict(int, a=1), ("a",), 1),
        (Point(1, [2]), ("y", 0), 2),
        (Slotted(5), ("x",), 5),
        (Model(name="Ada", rows=[{"n": 1}]), ("rows", 0, "n"), 1),
        (Pair(1, 2), ("right",), 2),
        (Pair(1, 2), (0,), 1),
        (Couple(1, 2), ("left",), 1),
        (Plain(a=1, b=Plain(c=2)), ("b", "c"), 2),
        (Table(a=1), ("a",), 1),
        (noted(Table(), note=5), ("note",), 5),
        (noted(Named(1, 2), note=5), ("note",), 5),
        (noted(Node(), a=1), ("a",), 1),
        (ValueError("no"), (), None),
        (None, (), None),
        ({"none": None}, ("none",), None),
        (pd.DataFrame({"x": [1, 2]}), ("x",), None),
        (np.array([[1, 2], [3, 4]]), (1, 0), 3),
    ],
)
def test_a_look_up_finds_data(value: Any, path: tuple[str | int, ...], found: Any) -> None:
    result = look_up(value, path)

    if found is not None:
        assert result == found


def test_an_empty_path_is_the_value_itself() -> None:
    value = object()

    assert look_up(value, ()) is value


def test_columns_of_a_data_frame_are_found_by_their_labels() -> None:
    frame = pd.DataFrame({"name": ["Ada"], "mean": [1.5], 3: [7]})

    assert look_up(frame, ("name",)).tolist() == ["Ada"]
    assert look_up(frame, ("mean",)).tolist() == [1.5]
    assert look_up(frame, (3,)).tolist() == [7]
    assert refused(frame, "columns").available == ("'name'", "'mean'", "3")
    assert refused(frame, 0).found == "a value of type DataFrame"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": 1}, ("b",)),
        ({"a": 1}, ("keys",)),
        ({"a": 1}, ("items",)),
        ({"a": 1}, ("pop",)),
        ({"1": 1}, (1,)),
        ({1: 1}, ("1",)),
        ([1], (1,)),
        ([], (0,)),
        ([1], ("append",)),
        ([1], ("0",)),
        ((1,), (2,)),
        (None, ("x",)),
        (5, ("real",)),
        (5, (0,)),
        (1.5, ("is_integer",)),
        ("text", (0,)),
        ("text", ("upper",)),
        (b"bytes", (0,)),
        ({1, 2}, (1,)),
        (range(3), (1,)),
        (Point(1), ("z",)),
        (Slotted(1), ("late",)),
        (Model(name="x"), ("shout",)),
        (Model(name="x"), ("model_dump",)),
        (Model(name="x"), ("model_fields_set",)),
        (Pair(1, 2), ("count",)),
        (Pair(1, 2), (2,)),
        (Plain(), ("shared",)),
        (Plain(), ("method",)),
        (Plain(), ("computed",)),
        (Bare(), ("x",)),
        (UserDict(a=1), ("a",)),
        (np.array(5), (0,)),
        (np.array([1]), (1,)),
        (np.array([1]), ("shape",)),
        (np.array([1, None], dtype=object), (0,)),
        (pd.Series([1]), (0,)),
        (defaultdict(list), ("new",)),
        (ValueError("no"), ("args",)),
    ],
)
def test_what_is_not_there_as_data_is_not_found(value: Any, path: tuple[str | int, ...]) -> None:
    refused(value, *path)


def test_a_look_up_does_not_make_entries_of_a_default_dict() -> None:
    value: defaultdict[str, list[Any]] = defaultdict(list)

    refused(value, "new")

    assert not value


def test_nothing_callable_is_returned() -> None:
    class Callable:
        def __call__(self) -> None:
            """Be code."""

    holder = Plain(function=print, kind=int, instance=Callable(), data=1)

    for name in ("function", "kind", "instance"):
        refused(holder, name)
        refused({name: holder.__dict__[name]}, name)
        refused([holder.__dict__[name]], 0)
    assert look_up(holder, ("data",)) == 1


@pytest.mark.parametrize("name", ["_x", "__class__", "__dict__", "_hidden"])
@pytest.mark.parametrize(
    "value", [{"_x": 1, "__class__": 2}, Plain(_x=1), Slotted(1), Model(name="x"), pd.DataFrame({"_x": [1]})]
)
def test_a_private_name_is_never_found(value: Any, name: str) -> None:
    assert "_x" not in "".join(refused(value, name).available)


def test_the_error_lists_what_there_is() -> None:
    error = refused({"first": {"b": 1, "a": 2, "_c": 3, 4: 5, ("t",): 6}}, "first", "nope")

    assert (error.element, error.found) == ("'nope'", "a value of type dict")
    assert error.available == ("'b'", "'a'", "4")
    assert str(error) == "Reference '$result[0]': no 'nope' in a value of type dict; available: 'b', 'a', 4"


def test_the_error_lists_ten_names_at_most() -> None:
    error = refused({f"k{index}": index for index in range(100_000)}, "nope")

    assert error.available == tuple(f"'k{index}'" for index in range(10))


@pytest.mark.parametrize(
    ("value", "available"),
    [
        ([1, 2, 3], ("indexes 0 to 2",)),
        ([], ("nothing: it is empty",)),
        ((), ("nothing: it is empty",)),
        (Pair(1, 2), ("'left'", "'right'")),
        (Point(1), ("'x'", "'y'")),
        (Slotted(1), ("'x'", "'late'")),
        (Model(name="x"), ("'name'", "'rows'")),
        (Plain(a=1), ("'a'",)),
        (None, ()),
        ({"k" * 500: 1}, (f"'{'k' * 39}",)),
    ],
)
def test_the_error_names_what_each_kind_of_value_has(value: Any, available: tuple[str, ...]) -> None:
    assert refused(value, "nope").available == available


def test_an_int_of_thousands_of_digits_can_be_a_key() -> None:
    assert refused({10**5000: 1}, "nope").available == ("an int of 16610 bits",)
    assert refused(10**5000, "nope").found == "a value of type int"


def test_a_look_up_stops_at_the_first_element_that_is_missing() -> None:
    error = refused({"data": {"rows": [1]}}, "data", "rows", 3, "x")

    assert (error.element, error.found, error.available) == ("3", "a value of type list", ("indexes 0 to 0",))


def test_data_that_came_from_json_can_be_walked_to_its_end() -> None:
    value = json.loads('{"a": [{"b c": [[1, 2], [3, {"d.e": "found"}]]}]}')

    assert look_up(value, parse('$result[0].a[0]["b c"][1][1]["d.e"]').path) == "found"
