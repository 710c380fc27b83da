from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

from aiecs_ray import errors
from aiecs_ray.errors import AiecsError, InvalidSpecError, OperationFailedError, ToolNotFoundError
from aiecs_ray.quoting import shorten

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, AiecsError) and not name.startswith("_")
}

MADE: dict[str, AiecsError] = {
    "InvalidSpecError": errors.InvalidSpecError("tool", "did you mean 'tool.op'?"),
    "OperationForbiddenError": errors.OperationForbiddenError("tool._x"),
    "PlanFileError": errors.PlanFileError("plan.yaml", 6, 1, "there is no 'parms'"),
    "InvalidConfigError": errors.InvalidConfigError("chace_ttl", "is unknown", ("cache_ttl", "cache_size")),
    "ToolConflictError": errors.ToolConflictError("csv", "a.Csv", "b.Csv"),
    "StatusTransitionError": errors.StatusTransitionError("PENDING", "COMPLETED", ("RUNNING",)),
    "ReferenceRangeError": errors.ReferenceRangeError(5, 2),
    "ReferenceForwardError": errors.ReferenceForwardError("load", 2),
    "ReferenceSyntaxError": errors.ReferenceSyntaxError("$result[", "it ends early"),
    "ReferenceForbiddenError": errors.ReferenceForbiddenError("$result[0]._x", "it is private"),
    "ReferencePathError": errors.ReferencePathError("$result[0].x", "'x'", "a value of type dict", ("'y'", "'z'")),
    "UpstreamFailedError": errors.UpstreamFailedError(2, "tool.op", "timed out"),
    "ToolNotFoundError": errors.ToolNotFoundError("cvs", "", ("csv",)),
    "ToolImportError": errors.ToolImportError("spacy", "pack:Spacy", "No module named 'spacy'"),
    "OperationNotFoundError": errors.OperationNotFoundError("reed", "csv", ("read",)),
    "OperationFailedError": errors.OperationFailedError(
        "no", "ValueError", "Traceback ...", ("ValueError", "Exception")
    ),
    "DatabaseError": errors.DatabaseError("down", "OperationalError", "Traceback ...", ("OperationalError",)),
    "RetryExhaustedError": errors.RetryExhaustedError("reset", "ConnectionResetError", "", ("ConnectionResetError",)),
    "ReentrancyError": errors.ReentrancyError("a.save", ("a.load", "b.read"), 8),
    "BusyError": errors.BusyError("9 operations are waiting", 2.5),
    "CircuitOpenError": errors.CircuitOpenError("The circuit of t.op is open", 12.34),
    "UncacheableValueError": errors.UncacheableValueError("[0]['a']", "shop:Order", "no encoding"),
    "RunLostError": errors.RunLostError("1f-0123456789abcdef"),
}

TEXTS = {
    "InvalidSpecError": ("Invalid operation spec: tool, expected 'tool_name.operation_name' (did you mean 'tool.op'?)"),
    "OperationForbiddenError": (
        "Operation spec 'tool._x' names a private member; only public operations can be called"
    ),
    "PlanFileError": "plan.yaml:6: operation 1: there is no 'parms'",
    "InvalidConfigError": "Setting 'chace_ttl': is unknown (did you mean 'cache_ttl' or 'cache_size'?)",
    "ToolConflictError": (
        "Tool name 'csv' is taken: a.Csv is registered, b.Csv is another class (pass replace=True to replace it)"
    ),
    "StatusTransitionError": (
        "Invalid status transition: PENDING → COMPLETED. Valid transitions from PENDING: RUNNING"
    ),
    "ReferenceRangeError": "Referenced result index 5 out of range",
    "ReferenceForwardError": "Referenced result 'load' out of range: step 2 can only refer to earlier steps",
    "ReferenceSyntaxError": (
        "Invalid reference '$result[': it ends early (write $result[0].field, or $$result[0] for the literal text)"
    ),
    "ReferenceForbiddenError": (
        "Invalid reference '$result[0]._x': it is private (write $result[0].field, or $$result[0] for the literal text)"
    ),
    "ReferencePathError": "Reference '$result[0].x': no 'x' in a value of type dict; available: 'y', 'z'",
    "UpstreamFailedError": "Skipped: step 2 (tool.op) timed out",
    "ToolNotFoundError": "Tool 'cvs' is not registered (did you mean 'csv'?)",
    "ToolImportError": "Tool 'spacy' is not registered: pack:Spacy cannot be imported: No module named 'spacy'",
    "OperationNotFoundError": "Operation 'reed' not found in tool 'csv' (did you mean 'read'?)",
    "OperationFailedError": "no",
    "DatabaseError": "down",
    "RetryExhaustedError": "reset",
    "ReentrancyError": (
        "Tool 'a' is called by its own operation, which it would wait for: a.load -> b.read -> a.save "
        "(call the method itself, or move one of the two to another tool)"
    ),
    "BusyError": "9 operations are waiting; try again in 2.5 s",
    "CircuitOpenError": "The circuit of t.op is open; try again in 12.3 s",
    "UncacheableValueError": "A value of type shop:Order at [0]['a'] has no cache key: no encoding",
    "RunLostError": "Run '1f-0123456789abcdef' was lost: the coordinator that held it was restarted; submit it again",
}


def test_an_id_that_no_run_has_is_not_called_lost() -> None:
    assert str(errors.RunLostError("run")) == "Run 'run' never was: a run's id has another form (run.id)"


TOLD_WHOLE = (
    *("OperationFailedError", "DatabaseError", "RetryExhaustedError", "BusyError", "CircuitOpenError"),
    *("ToolConflictError", "StatusTransitionError", "UpstreamFailedError"),
)
"""Their first field is a text of bounded length already, or none that a user wrote."""


def made(name: str) -> AiecsError:
    """Return an error of a class; those that take a text alone are made of one."""
    return copy.copy(MADE[name]) if name in MADE else CLASSES[name]("what happened")


@pytest.mark.parametrize("name", CLASSES)
def test_an_error_survives_the_way_between_processes_with_every_field(name: str) -> None:
    error = made(name).locate(operation="tool.op", index=3)
    error.error_code = "E00x"

    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert (again.args, vars(again), str(again)) == (error.args, vars(error), str(error))
        assert (again.operation, again.index, again.error_code) == ("tool.op", 3, "E00x")


@pytest.mark.parametrize("name", CLASSES)
def test_a_message_names_what_is_wrong(name: str) -> None:
    assert str(made(name)) == TEXTS.get(name, "what happened")


@pytest.mark.parametrize("name", CLASSES)
def test_an_error_shows_its_class_and_its_text(name: str) -> None:
    error = made(name)

    assert repr(error) == f"{name}({str(error)!r})"


@pytest.mark.parametrize("name", MADE)
def test_the_facts_of_an_error_are_its_attributes(name: str) -> None:
    error = made(name)
    parameters = list(inspect.signature(type(error)).parameters)

    facts = {fact: getattr(error, fact) for fact in parameters if hasattr(error, fact)}

    assert list(facts.values()) == list(error.args)
    assert len(facts) == len(parameters)


def test_every_class_with_facts_of_its_own_is_tried_here() -> None:
    with_facts = {name for name, kind in CLASSES.items() if inspect.isfunction(kind.__init__)}

    assert with_facts == MADE.keys()
    assert MADE.keys() == TEXTS.keys()


def tree() -> dict[str, tuple[str, tuple[str, ...], str]]:
    """Return what the module says of each class: its parent, its built-in bases, its code."""
    found: dict[str, tuple[str, tuple[str, ...], str]] = {}
    path: list[tuple[str, str]] = [("AiecsError", "E003")]
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(
            r"    (?P<lead>[│├└─ ]+)(?P<name>\w+)(?: \((?P<bases>[\w, ]+)\))?(?: +(?P<code>E\d+))?", line
        )
        if match is None:
            continue
        depth = len(match["lead"]) // 4
        del path[depth:]
        code = match["code"] or path[-1][1]
        found[match["name"]] = (path[-1][0], tuple((match["bases"] or "").split(", ")) if match["bases"] else (), code)
        path.append((match["name"], code))
    return found


def test_the_tree_in_the_module_is_the_tree_of_the_classes() -> None:
    told = tree()

    assert told.keys() | {"AiecsError"} == CLASSES.keys()
    for name, (parent, builtins, code) in told.items():
        kind = CLASSES[name]
        ours = [base.__name__ for base in kind.__mro__[1:] if base.__name__ in CLASSES]
        inherited = {base for base in CLASSES[parent].__mro__ if base.__module__ == "builtins"}
        own = [base.__name__ for base in kind.__mro__ if base.__module__ == "builtins" and base not in inherited]
        assert ours[0] == parent, name
        assert {*builtins} <= {*own} | {base.__name__ for base in inherited}, name
        assert kind.error_code == code, name


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("InvalidSpecError", (ValueError,)),
        ("ReferenceRangeError", (ValueError,)),
        ("ReferencePathError", (ValueError,)),
        ("InterfaceMismatchError", (TypeError, ValueError)),
        ("ToolNotFoundError", (AttributeError, ValueError)),
        ("ToolImportError", (AttributeError, ValueError)),
        ("OperationNotFoundError", (AttributeError, ValueError)),
        ("OperationTimeoutError", (TimeoutError,)),
        ("RuntimeUnavailableError", (ConnectionError,)),
    ],
)
def test_an_error_is_caught_as_what_the_documents_raise(name: str, kinds: tuple[type[Exception], ...]) -> None:
    for kind in kinds:
        assert isinstance(pickle.loads(pickle.dumps(made(name))), kind)


def test_a_place_is_told_part_by_part() -> None:
    error = InvalidSpecError("x")

    assert (error.operation, error.index) == (None, None)
    assert error.locate(index=0) is error
    error.locate(operation="tool.op")
    error.locate()
    assert (error.operation, error.index) == ("tool.op", 0)
    assert (AiecsError.operation, AiecsError.index) == (None, None)


def test_a_reference_out_of_range_tells_an_index_from_an_id() -> None:
    assert str(errors.ReferenceRangeError("lod")) == "Referenced result 'lod' is not the id of an operation of this run"
    assert str(errors.ReferenceForwardError(4, 2)) == (
        "Referenced result index 4 out of range: step 2 can only refer to earlier steps"
    )
    assert str(errors.ReferenceRangeError(10**100)) == "Referenced result index an int of 333 bits out of range"


def test_hints_that_are_missing_leave_no_trace() -> None:
    assert str(InvalidSpecError("x")) == "Invalid operation spec: x, expected 'tool_name.operation_name'"
    assert str(ToolNotFoundError("x")) == "Tool 'x' is not registered"
    assert str(errors.OperationNotFoundError("x", "t")) == "Operation 'x' not found in tool 't'"
    assert str(errors.InvalidConfigError("x", "is wrong")) == "Setting 'x': is wrong"
    assert str(errors.ReferencePathError("r", "'x'", "a list")) == "Reference 'r': no 'x' in a list"
    assert str(errors.ReferenceSyntaxError("$result")).startswith("Invalid reference '$result': malformed")
    assert str(errors.UncacheableValueError("", "a")) == "A value of type a has no cache key: no exact encoding"
    assert str(errors.StatusTransitionError("A", "B")).endswith("Valid transitions from A: none")
    assert str(OperationFailedError("no")) == "no"


@pytest.mark.parametrize("name", [name for name, error in MADE.items() if name not in TOLD_WHOLE])
def test_a_message_quotes_a_long_value_shortly(name: str) -> None:
    kind: Any = CLASSES[name]

    error = kind("x" * 100_000, *MADE[name].args[1:])

    assert len(str(error)) < 400
    assert pickle.loads(pickle.dumps(error)).args == error.args


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("short", "short"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 77 + "..."),
        (None, "None"),
        (True, "True"),
        (1.5, "1.5"),
        (12, "12"),
        (b"bytes", "b'bytes'"),
        (b"x" * 500, "b'" + "x" * 75 + "..."),
        ([1], "a value of type list"),
        ({"password": "secret"}, "a value of type dict"),
        (int, "a value of type type"),
    ],
)
def test_a_bad_value_is_quoted_shortly(value: Any, text: str) -> None:
    assert shorten(value) == text


def test_an_int_of_thousands_of_digits_is_told_by_its_size() -> None:
    assert shorten(10**5000) == "an int of 16610 bits"
    assert shorten(2**239 - 1) == str(2**239 - 1)


def test_quoting_a_value_runs_none_of_its_code() -> None:
    class Loud:
        def __repr__(self) -> str:
            raise AssertionError("code ran")

        __str__ = __repr__

    class Number(int):
        __repr__ = Loud.__repr__

    assert shorten(Loud()) == "a value of type Loud"
    assert shorten(Number(5)) == "a value of type Number"
    assert shorten("x" * 20, 10) == "xxxxxxx..."
