"""Bad inputs 71 to 82: classes that are to be tools, and their constructors."""

from __future__ import annotations

import ctypes
import importlib
import linecache
import logging
import platform
import secrets
import sys
import threading
from typing import Any

import pytest

import aiecs_ray
from aiecs_ray import operation
from aiecs_ray.config import Settings
from aiecs_ray.errors import InvalidToolError, ToolConflictError, ToolInitError
from tests.contract.bad_inputs import DEADLINE, Ledger, Row, Rows, Stopwatch, World, eventually, note, op
from tests.contract.probes import visit

ROWS = Rows()
row = ROWS.row
MIB = 2**20


class Refuses:
    def __init__(self, ledger: str, works_from: int) -> None:
        if note(ledger) < works_from:
            raise LookupError("no licence")

    def work(self) -> str:
        return "built"


@row(71, "constructor-raises")
def _raises(world: World) -> None:
    world.register(Refuses, config={"ledger": world.ledger.path, "works_from": 2})

    error = world.raises(ToolInitError, "E003", "LookupError: no licence", "refuses.work")

    assert "Tool 'refuses' cannot be constructed" in str(error)
    assert isinstance(error.__cause__, LookupError)
    # The same tool, at once: these settings have no pause.
    assert world.rt.call("refuses.work") == "built"


@row(72, "constructor-hangs")
def _hangs(world: World) -> None:
    class Hangs:
        def __init__(self, gate: int) -> None:
            visit(gate)

        def work(self) -> str:
            return "built"

    # On Ray the start of the process counts, too.
    world.register(Hangs, config={"gate": world.gate.port}, init_timeout=0.3 if world.backend == "inprocess" else 4.0)
    run = world.rt.submit([op("hangs.work")])
    visitor = world.gate.arrival()

    result = run.result(timeout=30)[0]

    assert (result.status, result.error_code) == ("failed", "E003")
    assert "Tool 'hangs' cannot be constructed" in str(result.error_message)
    assert "init_timeout" in str(result.error_message)
    if world.backend == "ray":
        visitor.wait_until_gone()
    # The name is free.
    world.rt.register(Refuses, "hangs", replace=True, num_cpus=0, config={"ledger": world.ledger.path, "works_from": 0})
    assert world.rt.call("hangs.work") == "built"


class Doomed:
    def __init__(self, ledger: str) -> None:
        if note(ledger) <= 3:
            ctypes.string_at(0)

    def work(self) -> str:
        return "built"


@row(73, "constructor-ends-its-process", ray=True)
def _crashes(world: World) -> None:
    world.register(Doomed, config={"ledger": world.ledger.path})
    watch = Stopwatch()

    world.raises(ToolInitError, "E003", "its process died 3 times", "doomed.work")

    # Pauses of half a second, and one second, lie between the three.
    assert watch.seconds > 1.5
    assert len(world.ledger) == 3
    assert world.rt.call("doomed.work") == "built"


@row(74, "constructor-exits")
def _exits(world: World) -> None:
    class Exits:
        def __init__(self, ledger: str) -> None:
            if note(ledger) < 2:
                sys.exit(3)

        def work(self) -> str:
            return "built"

    world.register(Exits, config={"ledger": world.ledger.path})
    world.raises(ToolInitError, "E003", "SystemExit: the tool called sys.exit(3)", "exits.work")
    assert world.rt.call("exits.work") == "built"


@row(75, "constructor-misses-a-module")
def _module(world: World) -> None:
    class Misses:
        def __init__(self) -> None:
            importlib.import_module("nowhere_to_be_found")

        def work(self) -> None: ...

    world.register(Misses)
    error = world.raises(ToolInitError, "E003", "No module named 'nowhere_to_be_found'", "misses.work")
    assert "ModuleNotFoundError" in str(error)
    assert f"on node {platform.node()}" in str(error)


@row(76, "defined-again")
def _again(world: World) -> None:
    answers = []
    for number, answer in enumerate((1, 1, 2)):
        source = f"class Cell:\n    def answer(self):\n        return {answer}\n"
        name = f"<cell-{number}-{world.tmp_path}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(source, name, "exec"), namespace)  # noqa: S102  # what a notebook does
        world.register(namespace["Cell"])
        answers.append(world.rt.call("cell.answer"))
    assert answers == [1, 1, 2]


def holding(value: Any) -> type:
    class Holds:
        def size(self) -> int:
            return len(value)

        def kind(self) -> str:
            return type(value).__name__

    return Holds


@row(77, "holding-too-much")
def _closure(world: World) -> None:
    with pytest.raises(InvalidToolError, match=r"variable 'value'.* is a value of type lock"):
        world.register(holding(threading.Lock()))
    with pytest.raises(InvalidToolError, match=r"takes 96.0 MiB, most of it variable 'value'.*at most 95 MiB"):
        world.register(holding(bytes(96 * MIB)), "huge")
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("aiecs_ray.shipping")
    logger.addHandler(handler)
    try:
        world.register(holding(bytes(2 * MIB)), "large")
    finally:
        logger.removeHandler(handler)
    assert len(messages) == 1
    assert "variable 'value'" in messages[0]
    assert world.rt.call("large.size") == 2 * MIB


@row(78, "two-of-one-name")
def _conflict(world: World) -> None:
    with pytest.raises(ToolConflictError, match=r"is taken: .*Subject is registered, .*Refuses is another") as caught:
        world.register(Refuses, "subject", config={"ledger": world.ledger.path, "works_from": 1})
    assert caught.value.error_code == "E001"
    assert "replace=True" in str(caught.value)


class Empty:
    def _hidden(self) -> None: ...


class Mixed:
    def __init__(self) -> None:
        self.loop_thread = 0

    async def where(self) -> int:
        return threading.get_ident()

    def where_sync(self) -> int:
        return threading.get_ident()


@row(79, "no-tool")
def _no_tool(world: World) -> None:
    for thing, says in ((5, "expected a class"), (Empty(), "expected a class"), (Empty, "no public operations")):
        with pytest.raises(InvalidToolError, match=says) as caught:
            world.register(thing)  # type: ignore[arg-type]
        assert caught.value.error_code == "E001"
    world.register(Mixed)
    loop, other = (result.result for result in world.rt.run([op("mixed.where"), op("mixed.where_sync")]))
    assert loop != other


@row(79, "actor-class-of-ray", ray=True)
def _actor(world: World) -> None:
    ray: Any = sys.modules["ray"]
    with pytest.raises(InvalidToolError, match="already a Ray actor"):
        world.register(ray.remote(Empty))


class Named:
    def call(self) -> str:
        return "call"

    def ping(self) -> str:
        return "ping"

    def remote(self) -> str:
        return "remote"

    def options(self) -> str:
        return "options"

    def stream(self) -> str:
        return "stream"

    def start(self) -> str:
        return "start"


@row(80, "names-of-the-host")
def _names(world: World) -> None:
    world.register(Named)
    names = ["call", "ping", "remote", "options", "stream", "start"]
    assert [result.result for result in world.rt.run([op(f"named.{name}") for name in names])] == names


@row(81, "parameters-without-names")
def _signatures(world: World) -> None:
    class Stars:
        @operation
        def work(self, *values: Any) -> None: ...

    class Positional:
        @operation
        def work(self, value: Any, /) -> None: ...

    for cls, says in ((Stars, "values"), (Positional, "value")):
        with pytest.raises(InvalidToolError, match=says) as caught:
            world.register(cls)
        assert caught.value.error_code == "E001"


class Counts:
    def __init__(self) -> None:
        self.count = 0

    def next(self) -> int:
        self.count += 1
        return self.count


@row(82, "state-between-calls-is-shared-if-stateful")
def _state(world: World) -> None:
    name = f"counts{secrets.token_hex(4)}"
    world.register(Counts, name, stateful=True)
    assert [world.rt.call(f"{name}.next", user_id=user, cache="off") for user in ("ann", "bob", "ann")] == [1, 2, 3]


@pytest.mark.parametrize("row", ROWS.of(ray=False))
def test_a_bad_tool_is_refused_and_spoils_no_other(world: World, row: Row) -> None:
    row.check(world)

    assert world.give("good") == "good"


@pytest.mark.parametrize("row", ROWS.of(ray=True))
def test_a_bad_tool_is_refused_and_spoils_no_other_on_ray(ray_world: World, row: Row) -> None:
    row.check(ray_world)

    assert ray_world.give("good") == "good"


def test_what_a_constructor_raised_stands_for_a_while(ledger: Ledger) -> None:
    settings = Settings(grace=0.1, init_pause=0.3)
    with aiecs_ray.connect("inprocess", settings=settings, registry=aiecs_ray.Registry()) as rt:
        rt.register(Refuses, config={"ledger": ledger.path, "works_from": 2})

        for says in ("no licence", "no licence.*is tried again in 0"):
            with pytest.raises(ToolInitError, match=says):
                rt.call("refuses.work")
        tries = len(ledger)
        eventually(lambda: rt.run([op("refuses.work")])[0].completed, DEADLINE)

    assert tries == 1
    assert len(ledger) == 2
