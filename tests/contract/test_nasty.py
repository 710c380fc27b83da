"""Tools that misbehave: each ends its own step with a clear error, or its value, and nothing else of the list."""

from __future__ import annotations

import asyncio
import contextlib
import math
import pickle
import secrets
import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from aiecs_ray.errors import AiecsError, OperationFailedError
from tests.contract.probes import op

if TYPE_CHECKING:
    from aiecs_ray import Runtime

pytestmark = pytest.mark.timeout(60)
MIB = 2**20


class TwoArguments(Exception):  # noqa: N818  # badly made on purpose
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")


class KeywordOnly(Exception):  # noqa: N818
    def __init__(self, *, reason: str) -> None:
        super().__init__(reason)


class Mute(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError("I will not say")  # on purpose

    __repr__ = __str__


class Exits(Exception):  # noqa: N818
    def __str__(self) -> str:  # noqa: PLE0307  # on purpose
        sys.exit(3)


class HoldsALock(Exception):  # noqa: N818
    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


class Escape(BaseException):
    pass


class NeverReadAgain:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return _refuse, ("this cannot be read",)


def _refuse(text: str) -> None:
    raise RuntimeError(text)


class ExitsWhenRead:
    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return sys.exit, (0,)


class NeverWritten:
    def __reduce__(self) -> str:
        raise RuntimeError("this cannot be written")


class Contrary:
    """Raises whenever it is looked at."""

    def __bool__(self) -> bool:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(name)


class Imp:
    def __init__(self) -> None:
        self.instance = secrets.token_hex(4)

    def behave(self, value: Any = None) -> Any:
        return value

    def who(self) -> str:
        return self.instance

    def exit_zero(self) -> None:
        sys.exit(0)

    def exit_text(self) -> None:
        sys.exit("out of paper")

    def interrupt(self) -> None:
        raise KeyboardInterrupt

    def escape(self) -> None:
        raise Escape("out")

    def leave_generator(self) -> None:
        raise GeneratorExit

    def stop_iterating(self) -> None:
        raise StopIteration("no more")

    def cancel_itself(self) -> None:
        raise asyncio.CancelledError

    def raise_two_arguments(self) -> None:
        raise TwoArguments(7, "badly made")

    def raise_keyword_only(self) -> None:
        raise KeywordOnly(reason="badly made")

    def raise_mute(self) -> None:
        raise Mute

    def raise_exits(self) -> None:
        raise Exits

    def raise_lock(self) -> None:
        raise HoldsALock

    def raise_at_length(self) -> None:
        raise ValueError("x" * (50 * MIB))

    def raise_group(self) -> None:
        raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])

    def raise_chain(self) -> None:
        try:
            self.stop_iterating()
        except StopIteration as error:
            raise ValueError("because of that") from error

    def raise_ring(self) -> None:
        first, second = ValueError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        raise first

    def recurse(self) -> None:
        self.recurse()

    def write_to_input(self, array: Any) -> None:
        array[0] = 1

    def give_generator(self) -> Any:
        return (n for n in range(3))

    def yield_values(self) -> Any:
        yield 1

    def give_lock(self) -> Any:
        return {"deep": [threading.Lock()]}

    def give_file(self) -> Any:
        file = open("/dev/null", encoding="utf-8")  # noqa: PTH123, SIM115  # it leaks on purpose
        threading.Timer(0.2, file.close).start()
        return file

    def give_lambda(self) -> Any:
        return lambda: 1

    def give_module(self) -> Any:
        return math

    def give_class(self) -> Any:
        return Escape

    def give_self(self) -> Any:
        return self

    def give_bound_method(self) -> Any:
        return self.behave

    def give_unreadable(self) -> Any:
        return [1, NeverReadAgain()]

    def give_exits_when_read(self) -> Any:
        return ExitsWhenRead()

    def give_unwritable(self) -> Any:
        return NeverWritten()

    def give_too_deep(self) -> Any:
        value: list[Any] = []
        for _ in range(100_000):
            value = [value]
        return value

    def give_running_thread(self) -> Any:
        return threading.current_thread()

    def give_exception(self) -> Any:
        return ValueError("as a value")

    def give_coroutine(self) -> Any:
        async def value() -> str:
            return "awaited"

        return value()

    def give_contrary(self) -> Any:
        return [Contrary()]

    def give_runtime_error(self) -> Any:
        return OperationFailedError("as a value", "X")

    def give_long_int(self) -> int:
        return 7**20_000

    def give_cycle(self) -> Any:
        value: list[Any] = [1]
        value.append(value)
        return value


class Case(NamedTuple):
    name: str
    says: str
    params: dict[str, Any] = {}  # noqa: RUF012  # nobody changes it


FAIL = [
    Case("exit_zero", "sys.exit(0)"),
    Case("exit_text", "out of paper"),
    Case("interrupt", "KeyboardInterrupt"),
    Case("escape", "out"),
    Case("leave_generator", "GeneratorExit"),
    Case("stop_iterating", "no more"),
    Case("cancel_itself", "CancelledError"),
    Case("raise_two_arguments", "badly made (7)"),
    Case("raise_keyword_only", "badly made"),
    Case("raise_mute", "Mute"),
    Case("raise_exits", "Exits"),
    Case("raise_lock", "locked"),
    Case("raise_at_length", "xxx"),
    Case("raise_group", "several"),
    Case("raise_chain", "because of that"),
    Case("raise_ring", "first"),
    Case("recurse", "recursion"),
    Case("write_to_input", "read-only", {"array": "$result[0]"}),
    Case("give_generator", "generator"),
    Case("yield_values", "generator"),
    Case("give_lock", "lock"),
    Case("give_file", "file"),
    Case("give_lambda", "function"),
    Case("give_module", "module"),
    Case("give_class", "type"),
    Case("give_self", "Imp"),
    Case("give_bound_method", "method"),
    Case("give_unreadable", "this cannot be read"),
    Case("give_exits_when_read", ""),
    Case("give_unwritable", "this cannot be written"),
    Case("give_too_deep", "recursion"),
    Case("give_running_thread", ""),
]
SUCCEED = ["give_exception", "give_coroutine", "give_contrary", "give_runtime_error", "give_long_int", "give_cycle"]


@pytest.fixture
def imp(rt: Runtime) -> Runtime:
    rt.register(Imp, max_replicas=1)
    return rt


@pytest.mark.parametrize("case", FAIL, ids=lambda case: case.name)
def test_it_fails_its_own_step_in_a_sequence(imp: Runtime, case: Case) -> None:
    before = imp.call("imp.who")
    operations = [
        op("imp.behave", value=memoryview_of_zeros()),
        op("imp.behave", value="before"),
        op(f"imp.{case.name}", **case.params),
        op("imp.behave", value="after"),
        op("imp.behave", value="$result[2]"),
    ]

    results = imp.run(operations)

    failed = results[2]
    assert (failed.status, failed.error_code) == ("failed", "E003")
    assert case.says in str(failed.error_message)
    assert len(str(failed.error_message)) < 10_000
    assert [results[1].result, results[3].result] == ["before", "after"]
    assert (results[4].status, results[4].error_code) == ("cancelled", "E007")
    assert imp.call("imp.who") == before


@pytest.mark.parametrize("case", FAIL, ids=lambda case: case.name)
def test_it_fails_its_own_step_in_a_batch_of_a_hundred(imp: Runtime, case: Case) -> None:
    operations = [op("imp.behave", value=n) for n in range(100)]
    operations[0] = op("imp.behave", value=memoryview_of_zeros())
    operations[50] = op(f"imp.{case.name}", **case.params)

    results = imp.run(operations, "batch")

    assert (results[50].status, results[50].error_code) == ("failed", "E003")
    assert [r.result for n, r in enumerate(results) if n not in (0, 50)] == [n for n in range(1, 100) if n != 50]


@pytest.mark.parametrize("case", [case for case in FAIL if not case.params], ids=lambda case: case.name)
def test_its_error_is_raised_by_a_call_and_can_be_sent_on(imp: Runtime, case: Case) -> None:
    with pytest.raises(AiecsError) as caught:
        imp.call(f"imp.{case.name}")

    assert caught.value.error_code == "E003"
    assert len(pickle.dumps(caught.value)) < MIB
    assert imp.call("imp.behave", {"value": 1}) == 1


@pytest.mark.parametrize("name", SUCCEED)
def test_its_value_comes_back(imp: Runtime, name: str) -> None:
    results = imp.run([op("imp.behave", value="before"), op(f"imp.{name}"), op("imp.behave", value="after")])

    assert [result.status for result in results] == ["completed"] * 3
    assert (results[0].result, results[2].result) == ("before", "after")


def test_values_that_look_bad_are_what_they_were(imp: Runtime) -> None:
    values = {name: imp.call(f"imp.{name}") for name in SUCCEED}

    assert (type(values["give_exception"]), str(values["give_exception"])) == (ValueError, "as a value")
    assert values["give_coroutine"] == "awaited"
    assert type(values["give_contrary"][0]).__name__ == "Contrary"
    assert isinstance(values["give_runtime_error"], OperationFailedError)
    assert values["give_long_int"] == 7**20_000
    assert values["give_cycle"][1] is values["give_cycle"]


@pytest.mark.parametrize("name", ["give_exception", "give_runtime_error", "give_contrary"])
def test_a_value_that_looks_bad_is_an_input_like_any_other(imp: Runtime, name: str) -> None:
    results = imp.run([op(f"imp.{name}"), op("imp.behave", value=["$result[0]"])])

    assert [result.status for result in results] == ["completed"] * 2


def test_all_of_them_at_once_lose_nothing_else(imp: Runtime) -> None:
    operations: list[dict[str, Any]] = []
    for case in FAIL:
        if not case.params:
            operations += [op("imp.behave", value=len(operations)), op(f"imp.{case.name}")]

    results = imp.run(operations, "batch")

    assert [result.result for result in results[::2]] == list(range(0, len(operations), 2))
    assert {result.error_code for result in results[1::2]} == {"E003"}


def test_what_a_tool_prints_and_changes_stays_with_it(imp: Runtime) -> None:
    class Messy:
        def work(self) -> str:
            with contextlib.redirect_stdout(None):
                print("\x1b[31m" + "x" * MIB)  # noqa: T201
            threading.current_thread().name = "renamed"
            return "done"

    imp.register(Messy)

    assert imp.call("messy.work") == "done"


def memoryview_of_zeros() -> Any:
    """Return a value whose buffer is large enough to be shared, so that a reader cannot write to it."""
    import numpy as np  # noqa: PLC0415  # only where it is needed

    return np.zeros(50_000)
