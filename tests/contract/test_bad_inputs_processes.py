"""Bad inputs 86 to 97: what ends a tool's process, or must."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import locale
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from aiecs_ray import operation
from aiecs_ray.backend import ReplicaDied
from aiecs_ray.errors import OperationFailedError, OutcomeUnknownError, ReplicaLostError
from aiecs_ray.messages import Item, Work
from tests.contract.bad_inputs import Row, Rows, Stopwatch, World, eventually, note, op
from tests.contract.probes import visit

ROWS = Rows()
row = ROWS.row
MIB = 2**20
TIMEOUT = 0.4
GRACE = 0.3


class Deadly:
    @operation
    def pid(self) -> int:
        return os.getpid()

    @operation
    def give(self, value: Any) -> Any:
        return value

    @operation(idempotent=False)
    def die(self, how: str, ledger: str) -> None:
        note(ledger, how)
        ways: dict[str, Any] = {
            "os._exit": lambda: os._exit(3),
            "os.abort": os.abort,
            "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
            "SIGSEGV": lambda: ctypes.string_at(0),
            "C stack": _overflow,
        }
        ways[how]()

    @operation
    def plant(self, gate: int) -> str:
        """Leave a thread behind that ends the process when the gate opens."""

        def later() -> None:
            visit(gate, "planted")
            os._exit(5)

        threading.Thread(target=later, daemon=True).start()
        return "planted"

    @operation(idempotent=False)
    def stand(self, gate: int) -> str:
        return visit(gate, "standing")

    @operation
    def hang(self, how: str, ledger: str) -> None:
        note(ledger, str(os.getpid()))
        if how == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if how == "C call":
            ctypes.PyDLL(None).sleep(1000)  # it holds the interpreter
        while how == "loop":
            pass
        time.sleep(1e9)

    @operation
    def leave_children(self, ledger: str) -> None:
        note(ledger, str(subprocess.Popen(["sleep", "1000"]).pid))  # noqa: S607
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
        child.start()
        note(ledger, str(child.pid))
        time.sleep(1e9)

    @operation
    def allocate(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + 256 * MIB, hard))
        try:
            bytearray(2**33)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    @operation
    def chatter(self) -> list[int]:
        before = os.fstat(1).st_size
        for _ in range(20):
            print("\x1b[31m\0" + "x" * MIB)  # noqa: T201
        sys.stdout.flush()
        return [before, os.fstat(1).st_size]

    @operation
    def unsettle(self, folder: str) -> None:
        os.chdir(folder)
        os.environ["AIECS_RAY_TEST_OF_ROW_96"] = "set"
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, "C")
        random.seed(1)
        os.getcwd = lambda: "patched"

    @operation
    def end_ray(self, how: str) -> str:
        ray: Any = sys.modules["ray"]
        if how == "shutdown":
            ray.shutdown()
        elif how == "init":
            ray.init()
        elif how == "exit_actor":
            ray.actor.exit_actor()
        elif how == "kill":
            ray.kill(ray.get_runtime_context().current_actor)
        return how


class Blocking:
    @operation
    async def block(self, ledger: str) -> None:
        note(ledger, str(os.getpid()))
        time.sleep(1e9)  # noqa: ASYNC251  # on purpose

    @operation
    async def give(self, value: Any) -> Any:
        return value


def _overflow() -> Any:
    sys.setrecursionlimit(10**9)

    def deeper(_: Any = None) -> Any:
        return list(map(deeper, [0]))

    return deeper()


def _address_space() -> int:
    with open("/proc/self/statm", encoding="utf-8") as file:  # noqa: PTH123
        return int(file.read().split()[0]) * resource.getpagesize()


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True


@row(86, "ends-its-process", ray=True)
def _die(world: World) -> None:
    ways = ["os._exit", "os.abort", "SIGKILL", "SIGSEGV", "C stack"]
    operations = [op("deadly.give", value=n) for n in range(10)]
    for place, how in enumerate(ways):
        operations.insert(2 * place + 1, op("deadly.die", how=how, ledger=world.ledger.path))

    results = world.rt.run(operations, "batch")

    died = results[1:10:2]
    assert [(result.status, result.error_code) for result in died] == [("failed", "E003")] * 5
    assert all("Outcome unknown" in str(result.error_message) for result in died)
    assert sorted(world.ledger.lines()) == sorted(ways)
    assert [result.result for result in results if result not in died] == list(range(10))
    watch = Stopwatch()
    world.raises(OutcomeUnknownError, "E003", "died", "deadly.die", how="os._exit", ledger=world.ledger.path)
    assert world.rt.call("deadly.give", {"value": 1}) == 1
    assert watch.seconds < 10


@row(87, "ends-its-process-later", ray=True)
def _later(world: World) -> None:
    world.rt.call("deadly.plant", {"gate": world.gate.port})
    planted = world.gate.arrival()
    run = world.rt.submit([op("deadly.stand", gate=world.gate.port), op("deadly.give", value=1)])
    world.gate.arrival()

    planted.let_go()

    results = run.result(timeout=30)
    assert (results[0].status, results[0].error_code) == ("failed", "E003")
    assert "Outcome unknown" in str(results[0].error_message)
    assert results[1].result == 1


def hangs(world: World, spec: str, most: float, **params: Any) -> None:
    world.rt.call("deadly.give", {"value": 1})  # the process is there
    watch = Stopwatch()
    asked = {**op(spec, ledger=world.ledger.path, **params), "timeout": TIMEOUT}
    result = world.rt.run([asked])[0]
    assert (result.status, result.error_code) == ("timed_out", "E002")
    assert f"timed out after {TIMEOUT}s" in str(result.error_message)
    assert watch.seconds < TIMEOUT + most
    eventually(lambda: all(is_gone(int(pid)) for pid in world.ledger.lines()))


@row(88, "stops-itself", ray=True)
def _stopped(world: World) -> None:
    hangs(world, "deadly.hang", 10, how="stopped")


@row(89, "never-ends", ray=True)
def _endless(world: World) -> None:
    for how in ("loop", "sleep", "C call"):
        hangs(world, "deadly.hang", 10, how=how)


@row(90, "blocks-its-loop", ray=True)
def _blocks(world: World) -> None:
    world.register(Blocking)
    assert world.rt.call("blocking.give", {"value": 1}) == 1
    hangs(world, "blocking.block", 10)
    assert world.rt.call("blocking.give", {"value": 1}) == 1


class _Raises:
    """An actor's method whose answer is an error of Ray's."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def options(self, **_: Any) -> _Raises:
        return self

    def remote(self, *_: Any) -> tuple[Any, None]:
        async def answer() -> None:
            raise self._error

        return answer(), None


class _Actor:
    def __init__(self, error: Exception) -> None:
        self.call = _Raises(error)


def death_of(error: Exception) -> ReplicaDied:
    # Importing it imports Ray, which the tests without Ray do not.
    replica = importlib.import_module("aiecs_ray.ray_replicas").RayReplica(_Actor(error), "node")

    async def send() -> None:
        async for _ in replica.send(Work(1, "run", (Item(0, 1, "op", b""),)), stream=False):
            pass

    with pytest.raises(ReplicaDied) as caught:
        asyncio.run(send())
    return caught.value


@row(92, "takes-all-memory-simulated", ray=True)
def _memory(world: World) -> None:
    # What Ray raises when its monitor ends a process; nothing here takes that much.
    errors: Any = sys.modules["ray"].exceptions
    monitored = "The actor died unexpectedly.\n1 worker was killed due to the node running low on memory.\n"
    guessed = "The actor died.\nSome common causes include: (1) the process was killed by the OOM killer: out of memory"
    for error in (errors.OutOfMemoryError("low"), errors.RayActorError(error_msg=monitored)):
        death = death_of(error)
        # What the tool had asked for is added where the tool is known.
        assert ("no memory left" in str(death), death.of_memory) == (True, True)
    assert not death_of(errors.RayActorError(error_msg=guessed)).of_memory
    # A limit of its own, as a container has one, is an error like any other.
    error = world.raises(OperationFailedError, "E003", "MemoryError", "deadly.allocate")
    assert error.type_name == "MemoryError"


@row(93, "fills-the-object-store-simulated", ray=True)
def _store(_: World) -> None:
    errors: Any = sys.modules["ray"].exceptions
    for error in (errors.ObjectStoreFullError("the store is full"), errors.OutOfDiskError("the disk is full")):
        assert "its result found no room" in str(death_of(error))
        assert "is full" in str(death_of(error))


@row(94, "prints-twenty-megabytes", ray=True)
def _prints(world: World) -> None:
    for _ in range(2):
        before, after = world.rt.call("deadly.chatter")
        assert MIB <= after - before < MIB + 1000


@row(95, "leaves-children", ray=True)
def _children(world: World) -> None:
    hangs(world, "deadly.leave_children", 10)
    assert len(world.ledger) == 2


@row(96, "unsettles-its-process", ray=True)
def _unsettles(world: World) -> None:
    world.rt.call("deadly.unsettle", {"folder": str(world.tmp_path)})
    assert os.getcwd() != str(world.tmp_path)  # noqa: PTH109  # what was patched is looked at
    assert "AIECS_RAY_TEST_OF_ROW_96" not in os.environ
    world.rt.request("clear_tools", ["deadly"])


@row(97, "ends-ray-in-its-process", ray=True)
def _ends_ray(world: World) -> None:
    world.raises(OperationFailedError, "E003", "ray.init twice", "deadly.end_ray", how="init")
    assert world.rt.call("deadly.end_ray", {"how": "shutdown"}) == "shutdown"
    assert world.rt.call("deadly.give", {"value": 1}) == 1
    with pytest.raises(ReplicaLostError, match="died") as caught:
        world.rt.call("deadly.end_ray", {"how": "exit_actor"}, retry=1)
    assert caught.value.error_code == "E003"
    assert world.rt.call("deadly.give", {"value": 1}) == 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("row", ROWS.of(ray=True))
def test_what_ends_a_process_ends_nothing_else(ray_world: World, row: Row) -> None:
    ray_world.register(Deadly, max_replicas=1)

    row.check(ray_world)

    assert ray_world.give("good") == "good"
    assert ray_world.rt.call("deadly.give", {"value": "good"}) == "good"
