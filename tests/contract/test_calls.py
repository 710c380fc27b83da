"""``rt.call`` and ``rt.tools``: a value, or an error that says what happened."""

from __future__ import annotations

import copy
import pickle
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.errors import (
    DatabaseError,
    InvalidInputError,
    InvalidParamsError,
    InvalidSpecError,
    InvalidToolError,
    OperationFailedError,
    OperationForbiddenError,
    OperationNotFoundError,
    RuntimeUnavailableError,
    ToolConflictError,
    ToolInitError,
    ToolNotFoundError,
)
from tests.contract.probes import Gate, Ledger, note, op, visit

if TYPE_CHECKING:
    from aiecs_ray import Runtime

pytestmark = pytest.mark.timeout(40)
NOTHING: dict[str, Any] = {}
FALSY: tuple[Any, ...] = (None, 0, 0.0, False, "", b"", (), [], {}, set())


class Refusal(Exception):  # noqa: N818  # a tool's author may call it as they like
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Clerk:
    def give(self, value: Any = None) -> Any:
        return value

    def add(self, a: int, b: int = 10) -> int:
        """Add two numbers."""
        return a + b

    def lookup(self) -> Any:
        return NOTHING["missing"]

    def refuse(self, reason: str) -> None:
        raise Refusal(reason)

    def query(self) -> None:
        raise sqlite3.OperationalError("no such table: clerks")

    def blame_the_caller(self) -> None:
        raise InvalidInputError("raised by the tool itself")

    def blame_the_runtime(self) -> None:
        raise RuntimeUnavailableError("raised by the tool itself")

    def time_out(self) -> None:
        raise TimeoutError("raised by the tool itself")

    def who(self, user_id: str = "?", task_id: str = "?") -> list[str]:
        return [user_id, task_id]

    def everything(self, **rest: Any) -> dict[str, Any]:
        return rest

    def visit(self, gate: int) -> str:
        return visit(gate)

    def _secret(self) -> str:
        return "secret"


@pytest.fixture
def clerk(rt: Runtime) -> Runtime:
    rt.register(Clerk)
    return rt


@pytest.mark.parametrize("value", FALSY, ids=repr)
def test_a_value_comes_back_as_it_was(clerk: Runtime, value: Any) -> None:
    result = clerk.call("clerk.give", {"value": value})

    assert result == value
    assert type(result) is type(value)


def test_a_default_is_used_and_a_type_is_coerced(clerk: Runtime) -> None:
    assert clerk.call("clerk.add", {"a": "5"}) == 15


def test_calls_of_several_threads_get_their_own_answers(clerk: Runtime) -> None:
    answers: dict[int, list[int]] = {}

    def call(number: int) -> None:
        answers[number] = [clerk.call("clerk.add", {"a": number, "b": i}) for i in range(10)]

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == {number: [number + i for i in range(10)] for number in range(6)}


def test_an_error_of_the_tool_is_the_cause_of_the_error_raised(clerk: Runtime) -> None:
    with pytest.raises(OperationFailedError) as caught:
        clerk.call("clerk.refuse", {"reason": "closed"})

    error = caught.value
    assert str(error) == "Error executing refuse: closed"
    assert (error.error_code, error.operation, error.type_name) == ("E003", "clerk.refuse", "Refusal")
    assert isinstance(error.__cause__, Exception)
    assert type(error.__cause__).__name__ == "Refusal"
    assert error.__cause__.reason == "closed"  # type: ignore[attr-defined]


def test_the_traceback_of_the_tool_shows_its_own_lines(clerk: Runtime) -> None:
    with pytest.raises(OperationFailedError) as caught:
        clerk.call("clerk.lookup")

    text = caught.value.remote_traceback
    assert 'return NOTHING["missing"]' in text
    assert text.rstrip().endswith("KeyError: 'missing'")
    assert "aiecs_ray/actors" not in text
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_error_can_be_sent_on(clerk: Runtime) -> None:
    with pytest.raises(OperationFailedError) as caught:
        clerk.call("clerk.lookup")

    again = pickle.loads(pickle.dumps(caught.value))

    assert (str(again), again.error_code) == (str(caught.value), "E003")
    assert again.remote_traceback == caught.value.remote_traceback


def test_an_error_of_a_database_has_a_code_of_its_own(clerk: Runtime) -> None:
    with pytest.raises(DatabaseError, match="no such table") as caught:
        clerk.call("clerk.query")

    assert caught.value.error_code == "E006"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("blame_the_caller", "InvalidInputError"),
        ("blame_the_runtime", "RuntimeUnavailableError"),
        ("time_out", "TimeoutError"),
    ],
)
def test_a_tool_that_raises_what_the_runtime_raises_has_failed_itself(clerk: Runtime, name: str, kind: str) -> None:
    with pytest.raises(OperationFailedError) as caught:
        clerk.call(f"clerk.{name}", retry=1)

    assert (caught.value.error_code, caught.value.type_name) == ("E003", kind)
    assert type(caught.value) is OperationFailedError


@pytest.mark.parametrize(
    ("spec", "params", "error"),
    [
        ("clark.add", {}, ToolNotFoundError),
        ("clerk.ad", {}, OperationNotFoundError),
        ("clerk._secret", {}, OperationForbiddenError),
        ("clerk.__init__", {}, OperationForbiddenError),
        ("clerk.__class__", {}, OperationForbiddenError),
        ("clerk", {}, InvalidSpecError),
        ("clerk.add.more", {}, InvalidSpecError),
        ("clerk.add ", {}, InvalidSpecError),
        ("clerk.give", {"value": threading.Lock()}, InvalidParamsError),
        ("clerk.give", {"value": (n for n in range(3))}, InvalidParamsError),
        ("clerk.add", {}, InvalidParamsError),
        ("clerk.add", [("a", 1)], InvalidParamsError),
        ("clerk.add", {1: 1}, InvalidParamsError),
        ("clerk.everything", {"self": 1}, InvalidParamsError),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_request_is_refused(clerk: Runtime, spec: str, params: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        clerk.call(spec, params)

    assert clerk.call("clerk.add", {"a": 1}) == 11


def test_a_parameter_that_cannot_be_sent_is_named(clerk: Runtime) -> None:
    with pytest.raises(InvalidParamsError, match=r"'value'.*lock"):
        clerk.call("clerk.give", {"value": {"deep": [threading.Lock()]}})


def test_a_parameter_of_a_wrong_type_fails_before_the_body(rt: Runtime, ledger: Ledger) -> None:
    class Typed:
        def double(self, ledger: str, n: int) -> int:
            note(ledger)
            return 2 * n

    rt.register(Typed)

    with pytest.raises(InvalidParamsError, match="'n'") as caught:
        rt.call("typed.double", {"ledger": ledger.path, "n": "many"})

    assert caught.value.error_code == "E001"
    assert len(ledger) == 0


def test_parameters_that_nobody_declared_are_left_out_or_refused(rt: Runtime) -> None:
    class Loose:
        def work(self, a: int) -> int:
            return a

    class Strict:
        def work(self, a: int) -> int:
            return a

    rt.register(Loose)
    rt.register(Strict, unknown_params="error")

    assert rt.call("loose.work", {"a": 1, "b": 2}) == 1
    with pytest.raises(InvalidParamsError, match="'b'"):
        rt.call("strict.work", {"a": 1, "b": 2})


def test_the_context_reaches_an_operation_that_declares_it(clerk: Runtime) -> None:
    assert clerk.call("clerk.who", user_id="ann", task_id="t1", cache="off") == ["ann", "t1"]
    assert clerk.call("clerk.who") == ["?", "?"]
    assert clerk.call("clerk.give", {"value": 1}, user_id="ann", cache="off") == 1


def test_parameters_win_over_the_context(clerk: Runtime) -> None:
    assert clerk.call("clerk.who", {"user_id": "bob"}, user_id="ann", cache="off") == ["bob", "?"]


def test_the_context_is_no_parameter_of_an_operation_that_takes_any(clerk: Runtime) -> None:
    result = clerk.call("clerk.everything", {"a": 1, "user_id": "bob"}, user_id="ann", cache="off")

    assert result == {"a": 1}


@pytest.mark.parametrize("user_id", [7, b"ann", ["ann"], "\ud800"])
def test_a_context_is_text(clerk: Runtime, user_id: Any) -> None:
    with pytest.raises(InvalidInputError):
        clerk.call("clerk.who", user_id=user_id)


def test_tools_are_called_like_objects(clerk: Runtime) -> None:
    assert clerk.tools.clerk.add(a=1, b=2) == 3
    assert clerk.tools["clerk"].add(a=1) == 11
    assert clerk.tools.clerk.add.__doc__ == "Add two numbers."
    assert {"add", "give", "who"} <= set(dir(clerk.tools.clerk))
    assert "_secret" not in dir(clerk.tools.clerk)


def test_the_tools_can_be_walked_counted_and_asked_for(clerk: Runtime) -> None:
    assert "clerk" in clerk.tools
    assert "clerc" not in clerk.tools
    assert 0 not in clerk.tools
    # Others may be there: on Ray the cluster is shared with other tests.
    assert "clerk" in list(clerk.tools)
    assert len(clerk.tools) == len(list(clerk.tools))
    assert "clerk" in dir(clerk.tools)
    assert "clerk" in repr(clerk.tools)


def test_a_closed_runtime_still_shows_the_tools_it_had(clerk: Runtime) -> None:
    clerk.close()

    assert repr(clerk.tools) == "<tools: clerk>"
    assert "clerk" in dir(clerk.tools)


def test_a_tool_as_an_object_can_be_copied(clerk: Runtime) -> None:
    copied = copy.copy(clerk.tools.clerk)

    assert copied.add(a=1, b=2) == 3


def test_tools_that_do_not_exist_are_refused_by_name(clerk: Runtime) -> None:
    with pytest.raises(ToolNotFoundError, match="did you mean 'clerk'"):
        _ = clerk.tools.clerc
    with pytest.raises(OperationNotFoundError, match="did you mean 'add'"):
        _ = clerk.tools.clerk.ad
    with pytest.raises(AttributeError):
        _ = clerk.tools.clerk._secret


def test_tools_are_listed_with_their_operations(clerk: Runtime) -> None:
    (listed,) = clerk.tools.list()

    assert listed["name"] == "clerk"
    add = next(operation for operation in listed["operations"] if operation["name"] == "add")
    assert [(one["name"], one["required"]) for one in add["parameters"]] == [("a", True), ("b", False)]


def test_two_classes_of_one_name_are_refused_unless_one_replaces_the_other(clerk: Runtime) -> None:
    class Other:
        def add(self, a: int) -> str:
            return f"other {a}"

    with pytest.raises(ToolConflictError, match="clerk"):
        clerk.register(Other, "clerk")

    clerk.register(Other, "clerk", replace=True)
    assert clerk.call("clerk.add", {"a": 1}) == "other 1"


def test_a_tool_whose_constructor_lacks_arguments_is_refused_when_it_is_registered(rt: Runtime) -> None:
    class NeedsUrl:
        def __init__(self, url: str, times: int = 1) -> None: ...

        def get(self) -> None: ...

    with pytest.raises(InvalidToolError, match=r"missing a required argument: 'url'; give .* as config=\{...\}"):
        rt.register(NeedsUrl, config={"times": 2})

    assert "needs_url" not in rt.tools


def test_a_value_that_cannot_be_put_is_a_wrong_input(rt: Runtime) -> None:
    with pytest.raises(InvalidParamsError, match="cannot"):
        rt.put(threading.Lock())


def test_a_tool_is_constructed_with_its_config(rt: Runtime) -> None:
    class Configured:
        def __init__(self, greeting: str, times: int = 1) -> None:
            self.greeting, self.times = greeting, times

        def greet(self) -> str:
            return self.greeting * self.times

    rt.register(Configured, config={"greeting": "hi", "times": 2})

    assert rt.call("configured.greet") == "hihi"


def test_a_constructor_that_raises_fails_what_waits_and_is_tried_again(rt: Runtime, ledger: Ledger) -> None:
    class Broken:
        def __init__(self, ledger: str) -> None:
            if note(ledger) < 2:
                raise Refusal("no licence")

        def work(self) -> str:
            return "works now"

    rt.register(Broken, config={"ledger": ledger.path})

    with pytest.raises(ToolInitError, match="Refusal: no licence") as caught:
        rt.call("broken.work")

    assert caught.value.error_code == "E003"
    assert rt.call("broken.work") == "works now"
    assert len(ledger) == 2


def test_a_constructor_that_hangs_is_given_up(rt: Runtime, gate: Gate, backend: str) -> None:
    class Hanging:
        def __init__(self, gate: int) -> None:
            visit(gate)

        def work(self) -> str:
            return "never"

    # On Ray the start of the process counts, too.
    rt.register(Hanging, config={"gate": gate.port}, init_timeout=0.5 if backend == "inprocess" else 4.0)
    run = rt.submit([op("hanging.work")])
    visitor = gate.arrival()

    result = run.result()[0]

    assert (result.status, result.error_code) == ("failed", "E003")
    assert "init_timeout" in str(result.error_message)
    if backend == "ray":
        visitor.wait_until_gone()


def test_resources_that_no_node_has_are_refused_with_the_reason(rt: Runtime) -> None:
    class Trainer:
        def train(self) -> None: ...

    rt.register(Trainer, num_gpus=1)

    result = rt.run([op("trainer.train")])[0]

    assert (result.status, result.error_code) == ("failed", "E003")
    assert "GPU=1" in str(result.error_message)


def test_counters_count_what_ended_and_how(clerk: Runtime) -> None:
    before = clerk.stats()["operations"]

    clerk.run([op("clerk.give", value=n) for n in range(5)])
    clerk.run([op("clerk.lookup"), op("clerk.give", value="$result[0]")])

    after = clerk.stats()["operations"]
    counts = {status: after[status] - before.get(status, 0) for status in ("completed", "failed", "cancelled")}
    assert counts == {"completed": 5, "failed": 1, "cancelled": 1}


def test_counters_show_what_is_under_way(clerk: Runtime, gate: Gate) -> None:
    active = clerk.stats()["runs"]["active"]
    run = clerk.submit([op("clerk.visit", gate=gate.port)])
    visitor = gate.arrival()

    stats = clerk.stats()
    visitor.let_go()
    run.wait()

    assert stats["runs"]["active"] == active + 1
    assert stats["tools"]["clerk"]["busy"] == 1
    assert clerk.stats()["runs"]["active"] == active
