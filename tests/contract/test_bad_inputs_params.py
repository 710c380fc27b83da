"""Bad inputs 38 to 57: parameters of one operation."""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.errors import InvalidParamsError, OperationFailedError
from aiecs_ray.run_options import RunOptions
from tests.contract.bad_inputs import Row, Rows, World, note, op
from tests.contract.probes import visit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS = Rows()
row = ROWS.row
MIB = 2**20


class Strict:
    def give(self, value: Any = None) -> Any:
        return value


class Cached:
    def count(self, ledger: str, value: Any) -> int:  # noqa: ARG002
        return note(ledger)


class WrittenBadly:
    def __reduce__(self) -> str:
        raise RuntimeError("this cannot be written")


def refused(world: World, params: Any, *says: str) -> None:
    for part in says or ("params",):
        world.refuses(InvalidParamsError, "E001", part, {"operation": "subject.give", "params": params})


def value_refused(world: World, value: Any, *says: str) -> None:
    refused(world, {"value": value}, "parameter 'value'", *says)


@row(38, "no-dict")
def _no_dict(world: World) -> None:
    for params in (None, [1], "text", 5, {1, 2}):
        refused(world, params, "params must be a dict")
    assert world.rt.run([{"operation": "subject.give"}])[0].completed


@row(39, "keys-of-other-types")
def _keys(world: World) -> None:
    for key in (1, None, ("a",), b"value", True):
        refused(world, {key: 2}, "which is not a parameter name")


@row(40, "nan-as-a-key")
def _nan_key(world: World) -> None:
    refused(world, {math.nan: 1}, "has the key nan")


@row(41, "names-that-are-no-parameters-C-10-decides-on-those-that-could-be")
def _names(world: World) -> None:
    for name in ("", "a b", "1st", "x" * 10_000, "a-b"):
        refused(world, {name: 1}, "which is not a parameter name")
    world.register(Strict, "strict", unknown_params="error")
    for name in ("class", "self", "__x"):
        error = world.refuses(InvalidParamsError, "E001", f"no parameter '{name}'", op("strict.give", **{name: 1}))
        assert "it takes value" in str(error)
        # Where the tool does not refuse them, undeclared ones are left out (C-10).
        assert world.rt.call("subject.give", {name: 1, "value": 2}) == 2
    asked = {"operation": "subject.everything", "params": {"self": 1}}
    world.ends("it is the instance itself", asked, code="E001")


@row(42, "rays-own-parameter-C-10-decides")
def _trace(world: World) -> None:
    world.register(Strict, "strict", unknown_params="error")
    world.refuses(InvalidParamsError, "E001", "_ray_trace_ctx", op("strict.give", _ray_trace_ctx={}))
    assert world.rt.call("subject.give", {"_ray_trace_ctx": {}, "value": 2}) == 2
    assert world.rt.call("subject.everything", {"_ray_trace_ctx": 1}) == {"_ray_trace_ctx": 1}


@row(43, "names-of-the-envelope")
def _envelope(world: World) -> None:
    world.register(Cached)
    params = {"ledger": world.ledger.path, "value": 1}

    for name in ("user_id", "task_id", "op", "run_id", "timeout"):
        assert world.rt.call("cached.count", {**params, name: "other"}, user_id=world.ledger.path) == 1
    assert world.rt.call("cached.count", {**params, "user_id": world.ledger.path}, user_id=f"{world.ledger.path}2") == 2

    # A tool may declare one: then it is a parameter like any other, and changes nothing else.
    assert world.rt.call("subject.who", {"user_id": "in params"}, user_id="of the context") == "in params"
    assert world.rt.call("subject.who", user_id="of the context") == "of the context"


@row(44, "missing-unknown-badly-typed-C-10-decides-on-unknown")
def _typed(world: World) -> None:
    world.refuses(InvalidParamsError, "E001", "needs the parameter 'n'", op("subject.add", m=1))
    world.raises(InvalidParamsError, "E001", "'n' is 'three'", "subject.add", n="three")
    world.raises(InvalidParamsError, "E001", "'n' is a value of type list", "subject.add", n=[1])
    assert world.rt.call("subject.add", {"n": "3", "unknown": 1}) == 4


@row(45, "holding-itself")
def _cyclic(world: World) -> None:
    value: dict[str, Any] = {}
    value["me"] = value
    refused(world, {"value": value}, "contain themselves")


@row(46, "too-deep")
def _deep(world: World) -> None:
    for depth in (500, 20_000):
        value: Any = 1
        for _ in range(depth):
            value = [value]
        refused(world, {"value": value}, "deeper than 64 levels")
        # The interpreter frees so many levels one inside the other only when it is asked in steps.
        while isinstance(value, list):
            value = value.pop()


@row(47, "large-travels-by-itself-by-design")
def _large(world: World) -> None:
    with _quiet("aiecs_ray") as records:
        text = "x" * (10 * MIB)
        assert world.give(text) == text
        prepared = world.rt.prepare([op("subject.give", value=text)], RunOptions())
    # What travels in the request is a slot; the value was put beside it.
    assert sum(len(bytes(step.params)) for step in prepared.request.steps) < 1000
    assert all("xxxx" not in record.getMessage() for record in records)


@row(48, "ten-thousand")
def _many(world: World) -> None:
    refused(world, {f"p{n}": n for n in range(10_000)}, "at most 256 are allowed")


@row(49, "what-cannot-be-pickled")
def _unpicklable(world: World) -> None:
    value_refused(world, threading.Lock(), "lock")
    value_refused(world, {"deep": [threading.Lock()]}, "lock")
    with socket.socket() as plug:
        value_refused(world, plug, "socket")
    value_refused(world, (n for n in range(3)), "generator")
    coroutine = _coroutine()
    value_refused(world, coroutine, "coroutine")
    coroutine.close()


@row(50, "own-reduce")
def _reduce(world: World) -> None:
    value_refused(world, WrittenBadly(), "this cannot be written")


@row(51, "open-file")
def _file(world: World) -> None:
    path = world.tmp_path / "data"
    path.write_text("content")
    for mode in ("r", "rb"):
        with path.open(mode) as file:
            value_refused(world, file, "an open file cannot leave its process")


@row(52, "what-equals-in-python-only")
def _keys_of_the_cache(world: World) -> None:
    world.register(Cached)

    def runs(value: Any) -> int:
        before = len(world.ledger)
        params = {"ledger": world.ledger.path, "value": value}
        world.rt.call("cached.count", params, user_id=world.ledger.path)
        return len(world.ledger) - before

    for value in (1, 1.0, True, "1", b"1", 0.0, -0.0, "\ud800", {3, 1, 2}, {"b": 1, "a": 2}):
        assert runs(value) == 1, value
        assert runs(value) == 0, value
    assert runs({2, 3, 1}) == 0
    assert runs({"a": 2, "b": 1}) == 0
    # What has no exact key runs each time.
    assert (runs(_Keyless()), runs(_Keyless())) == (1, 1)


class _Keyless:
    pass


@row(53, "odd-text")
def _text(world: World) -> None:
    for text in ("\ud800", "a\0b", "\N{BYTE ORDER MARK}", "\u202e"):
        assert world.give(text) == text


@row(54, "nan-and-infinity")
def _nan(world: World) -> None:
    found = world.give([math.nan, math.inf, -math.inf])
    assert (math.isnan(found[0]), found[1:]) == (True, [math.inf, -math.inf])


@row(55, "exception-is-a-value-because-it-is-packed")
def _exception(world: World) -> None:
    assert str(world.give(ValueError("as a value"))) == "as a value"
    assert type(world.give(OperationFailedError("as a value"))) is OperationFailedError


@row(55, "error-of-ray-is-a-value-because-it-is-packed", ray=True)
def _ray_error(world: World) -> None:
    ray = sys.modules["ray"]
    assert type(world.give(ray.exceptions.WorkerCrashedError())).__name__ == "WorkerCrashedError"


@row(56, "things-of-this-process")
def _handles(world: World) -> None:
    value_refused(world, world.rt)
    handle = world.rt.put([1, 2])
    assert world.rt.call("subject.give", {"value": {"deep": [handle]}}) == {"deep": [[1, 2]]}


@row(56, "handles-of-ray", ray=True)
def _ray_handles(world: World) -> None:
    ray = sys.modules["ray"]
    value_refused(world, ray.put(1), "ObjectRef")
    value_refused(world, {"deep": [ray.put(1)]}, "ObjectRef")
    coordinator = world.rt._link._coordinator  # type: ignore[attr-defined]
    value_refused(world, coordinator, "actor handle")


@row(57, "changed-while-it-runs")
def _mutated(world: World) -> None:
    world.register(Waiting)
    shared = {"list": [1]}
    run = world.rt.submit([op("waiting.visit", gate=world.gate.port, value=shared), op("subject.give", value=shared)])
    visitor = world.gate.arrival()

    shared["list"].append(2)
    shared["more"] = [3]
    visitor.let_go()

    assert [result.result for result in run.result(timeout=20)] == [{"list": [1]}] * 2


class Waiting:
    def visit(self, gate: int, value: Any) -> Any:
        visit(gate)
        return value


async def _coroutine() -> None: ...


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[list[logging.LogRecord]]:
    """Collect everything that is logged, the least important too."""
    records: list[logging.LogRecord] = []
    handler, logger = logging.Handler(), logging.getLogger(name)
    append: Callable[[logging.LogRecord], None] = records.append
    handler.emit = append  # type: ignore[method-assign]
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@pytest.mark.parametrize("row", ROWS.of(ray=False))
def test_bad_parameters_are_refused_or_arrive_as_they_are(world: World, row: Row) -> None:
    row.check(world)

    assert world.give("good") == "good"


@pytest.mark.parametrize("row", ROWS.of(ray=True))
def test_bad_parameters_are_refused_or_arrive_as_they_are_on_ray(ray_world: World, row: Row) -> None:
    row.check(ray_world)

    assert ray_world.give("good") == "good"
