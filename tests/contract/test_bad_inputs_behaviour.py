"""Bad inputs 83 to 100: what tools do while they run, and what need not end their process for it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
import threading
from typing import Any

import pytest

import aiecs_ray
from aiecs_ray import operation
from aiecs_ray.errors import OperationFailedError, ReentrancyError
from tests.contract.bad_inputs import DEADLINE, Row, Rows, Subject, World, note, op
from tests.contract.probes import visit, visit_async

ROWS = Rows()
CPUS = {"inprocess": os.cpu_count() or 1, "ray": 2}
row = ROWS.row


class Escape(BaseException):
    pass


class Wild:
    def __init__(self) -> None:
        self.instance = secrets.token_hex(4)

    def who(self) -> str:
        return self.instance

    def chain(self) -> None:
        try:
            {}["first"]
        except KeyError as error:
            raise ValueError("because of that") from error

    def group(self) -> None:
        raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])

    def escape(self, kind: str) -> None:
        raise {
            "Escape": Escape,
            "KeyboardInterrupt": KeyboardInterrupt,
            "GeneratorExit": GeneratorExit,
            "CancelledError": asyncio.CancelledError,
        }[kind]("out")

    def leave(self, code: Any = None) -> None:
        sys.exit(code)

    def leave_by_name(self) -> None:
        exit(3)  # noqa: PLR1722  # on purpose

    def fill_disk(self) -> None:
        with open("/dev/full", "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write("x" * 100_000)

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Stubborn:
    @operation
    async def block(self, gate: int) -> str:
        return visit(gate)

    @operation
    async def swallow(self, gate: int, ledger: str) -> str:
        while True:
            try:
                return await visit_async(gate)
            except asyncio.CancelledError:
                note(ledger)


@pytest.fixture
def wild(world: World) -> World:
    world.register(Wild, max_replicas=1)
    return world


def alive(world: World, *operations: str) -> None:
    """Assert that an operation fails and leaves its process as it was."""
    for spec in operations:
        before = world.rt.call("wild.who")
        world.ends("", op(f"wild.{spec}"))
        assert world.rt.call("wild.who") == before


@row(83, "raises")
def _raises(world: World) -> None:
    error = world.raises(OperationFailedError, "E003", "Error executing chain: because of that", "wild.chain")
    assert error.type_name == "ValueError"
    assert "KeyError: 'first'" in error.remote_traceback
    assert "direct cause" in error.remote_traceback
    assert isinstance(error.__cause__, ValueError)
    error = world.raises(OperationFailedError, "E003", "several (2 sub-exceptions)", "wild.group")
    assert isinstance(error.__cause__, ExceptionGroup)
    assert "TypeError: two" in error.remote_traceback
    alive(world, "chain", "group")


@row(84, "raises-what-is-no-exception")
def _escapes(world: World) -> None:
    before = world.rt.call("wild.who")
    for kind in ("Escape", "KeyboardInterrupt", "GeneratorExit", "CancelledError"):
        world.ends("out", op("wild.escape", kind=kind))
        error = world.raises(OperationFailedError, "E003", "out", "wild.escape", kind=kind)
        assert error.type_name == kind
    assert world.rt.call("wild.who") == before


@row(85, "exits")
def _exits(world: World) -> None:
    before = world.rt.call("wild.who")
    for code, says in ((0, "sys.exit(0)"), (3, "sys.exit(3)"), ("out of paper", "out of paper")):
        world.raises(OperationFailedError, "E003", says, "wild.leave", code=code)
    world.raises(OperationFailedError, "E003", "sys.exit(3)", "wild.leave_by_name")
    assert world.rt.call("wild.who") == before


@row(90, "blocks-its-loop-warns")
def _blocks(world: World) -> None:
    warned = threading.Event()
    handler, logger = logging.Handler(), logging.getLogger("aiecs_ray.actors.loop_watch")
    texts: list[str] = []

    def emit(record: logging.LogRecord) -> None:
        texts.append(record.getMessage())
        warned.set()

    handler.emit = emit  # type: ignore[method-assign]
    logger.addHandler(handler)
    world.register(Stubborn)
    try:
        run = world.rt.submit([op("stubborn.block", gate=world.gate.port)])
        visitor = world.gate.arrival()
        # On Ray the warning stands in the log of the tool's process.
        assert world.backend == "ray" or warned.wait(DEADLINE)
        visitor.let_go("done")
        assert run.result(timeout=DEADLINE)[0].result == "done"
    finally:
        logger.removeHandler(handler)
    assert all("An event loop is blocked (running: stubborn.block)" in text for text in texts)


@row(91, "swallows-its-cancellation")
def _stubborn(world: World) -> None:
    world.register(Stubborn)
    run = world.rt.submit([op("stubborn.swallow", gate=world.gate.port, ledger=world.ledger.path)])
    visitor = world.gate.arrival()

    status = run.cancel()

    assert status == "cancelled"
    assert run.result(timeout=10)[0].error_code == "E004"
    if world.backend == "ray":
        visitor.wait_until_gone()
    assert len(world.ledger) >= 1


@row(93, "full-disk")
def _disk(world: World) -> None:
    # A device that is always full; the machine's own disk stays as it is.
    error = world.raises(OperationFailedError, "E003", "No space left on device", "wild.fill_disk")
    assert error.type_name == "OSError"
    alive(world, "fill_disk")


@row(96, "signal-handlers-are-refused")
def _signals(world: World) -> None:
    world.raises(OperationFailedError, "E003", "main thread", "wild.listen")


class Calls:
    def itself(self) -> Any:
        with aiecs_ray.connect() as rt:
            return rt.call("calls.answer")

    def answer(self) -> int:
        return 42

    def other(self, value: Any) -> Any:
        with aiecs_ray.connect() as rt:
            return rt.run([op("subject.give", value=value), op("subject.give", value="$result[0]")])[1].result

    def ask(self, spec: str) -> Any:
        with aiecs_ray.connect() as rt:
            return rt.call(spec)

    def around(self) -> Any:
        with aiecs_ray.connect() as rt:
            return rt.call("further.back")

    def clear(self) -> Any:
        with aiecs_ray.connect() as rt:
            return rt.cache.clear()

    def as_somebody(self, user_id: str = "", as_user: str | None = None) -> Any:
        with aiecs_ray.connect() as rt:
            return [user_id, rt.call("subject.who", user_id=as_user)]

    def look(self) -> Any:
        with aiecs_ray.connect() as rt:
            return sorted(rt.stats()["tools"])


class Further:
    def back(self) -> Any:
        with aiecs_ray.connect() as rt:
            return rt.call("calls.answer")

    def down(self, level: int) -> int:
        if level == 0:
            return 1
        with aiecs_ray.connect() as rt:
            return 1 + int(rt.call(f"level{level - 1}.down", {"level": level - 1}))


@row(98, "calls-itself")
def _itself(world: World) -> None:
    world.register(Calls)
    # The error is raised inside the operation, which lets it through.
    error = world.raises(OperationFailedError, "E003", "calls.itself -> calls.answer", "calls.itself")
    assert "Tool 'calls' is called by its own operation" in str(error)
    assert type(error.__cause__) is ReentrancyError
    assert error.__cause__.error_code == "E003"
    assert world.rt.call("calls.answer") == 42


@row(99, "calls-others")
def _others(world: World) -> None:
    world.register(Calls)
    world.register(Further)
    assert world.rt.call("calls.other", {"value": 5}) == 5
    assert "subject" in world.rt.call("calls.look")
    says = "calls.around -> further.back -> calls.answer"
    error = world.raises(OperationFailedError, "E003", says, "calls.around")
    assert type(error.__cause__) is OperationFailedError
    assert error.__cause__.type_name == "ReentrancyError"
    # The caller may hold every CPU there is.
    world.rt.register(Calls, "greedy", num_cpus=CPUS[world.backend])
    world.rt.register(Subject, "modest", num_cpus=1)
    assert world.rt.call("greedy.ask", {"spec": "modest.give"}, timeout=DEADLINE) is None
    world.rt.request("clear_tools", ["greedy", "modest"])
    if world.backend == "ray":
        return  # nine processes more take their time, and nothing of what follows happens in them
    for level in range(9):
        world.register(Further, f"level{level}")
    assert world.rt.call("level7.down", {"level": 7}) == 8
    world.raises(OperationFailedError, "E003", "deeper than 8 levels", "level8.down", level=8)


@row(100, "uses-the-cache-of-its-user")
def _own(world: World) -> None:
    world.register(Calls)
    world.rt.cache.clear()
    users = [secrets.token_hex(4) for _ in range(2)]
    for user in users:
        world.rt.call("subject.give", {"value": user}, user_id=user)

    # What an operation calls, it calls for its own user.
    result = world.rt.call("calls.as_somebody", {}, user_id=users[0], cache="off")
    assert result == [users[0], users[0]]
    says = f"an operation of user '{users[0]}' cannot ask as user '{users[1]}'"
    with pytest.raises(OperationFailedError, match=says):
        world.rt.call("calls.as_somebody", {"as_user": users[1]}, user_id=users[0], cache="off")

    # Two entries are that user's: its own call, and the one inside of the operation.
    assert world.rt.call("calls.clear", user_id=users[0], cache="off") == 2
    assert world.rt.cache.stats()["entries"] == 1


@pytest.mark.parametrize("row", ROWS.of(ray=False))
def test_a_body_that_behaves_badly_ends_its_own_step_alone(wild: World, row: Row) -> None:
    row.check(wild)

    assert wild.give("good") == "good"
    assert len(wild.rt.call("wild.who")) == 8
