"""Bad inputs 116 to 124: what surrounds a runtime, and who calls it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import itertools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest

import aiecs_ray
from aiecs_ray import messages
from aiecs_ray.actors import coordinator
from aiecs_ray.config import Settings
from aiecs_ray.errors import AuthenticationError, HistoryError, RuntimeUnavailableError
from tests.contract.bad_inputs import DEADLINE, Row, Rows, Stopwatch, World, note, op
from tests.contract.probes import visit

ROWS = Rows()
row = ROWS.row
HOUR = 3600.0


class Waits:
    def visit(self, gate: int) -> str:
        return visit(gate)

    def count(self, ledger: str) -> int:
        return note(ledger)


@row(116, "a-cluster-of-somebody-else", ray=True)
def _stranger(world: World) -> None:
    cluster = importlib.import_module("aiecs_ray.ray_cluster")
    asked: list[dict[str, Any]] = []

    def init(**options: Any) -> None:
        asked.append(options)
        raise ConnectionError("not in this test")

    # This process is connected already; one that is not starts its own.
    world.monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    world.monkeypatch.setattr(cluster.ray, "init", init)
    world.monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(RuntimeUnavailableError, match="cannot start Ray on this machine") as caught:
        aiecs_ray.connect(settings=Settings(), registry=aiecs_ray.Registry())
    assert caught.value.error_code == "E003"
    assert [options["address"] for options in asked] == ["local"]


@row(117, "another-version-has-another-coordinator-by-design")
def _version(world: World) -> None:
    theirs, ours = messages.PROTOCOL, messages.PROTOCOL + 1
    world.monkeypatch.setattr(messages, "PROTOCOL", ours)
    address = "inprocess" if world.backend == "inprocess" else None
    says = f"the coordinator speaks protocol {theirs}, this client protocol {ours}"
    with pytest.raises(RuntimeUnavailableError, match=says) as caught:
        aiecs_ray.connect(address, settings=Settings(), registry=aiecs_ray.Registry())
    assert caught.value.error_code == "E003"
    if world.backend == "ray":
        # Two versions do not even meet: the name holds the protocol.
        ray: Any = importlib.import_module("ray")
        assert ray.get_actor(f"aiecs_ray_coordinator_v{theirs}", "aiecs_ray")


@row(118, "a-wrong-token-simulated", ray=True)
def _token(world: World) -> None:
    grpc: Any = importlib.import_module("grpc")
    cluster = importlib.import_module("aiecs_ray.ray_cluster")

    class Refuses(grpc.GenericRpcHandler):  # type: ignore[misc]
        """Answers as the head of a cluster does to a wrong token."""

        def service(self, _: Any) -> Any:
            def refuse(_: bytes, context: Any) -> None:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken: the token is incorrect")

            return grpc.unary_unary_rpc_method_handler(refuse)

    world.monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    world.monkeypatch.setattr(cluster.token_setup, "maybe_enable_token_auth_if_token_available", lambda **_: None)
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1), handlers=[Refuses()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    watch = Stopwatch()
    try:
        with pytest.raises(AuthenticationError, match=r"does not accept this token.*RAY_AUTH_TOKEN") as caught:
            aiecs_ray.connect(f"127.0.0.1:{port}", settings=Settings(), registry=aiecs_ray.Registry())
    finally:
        server.stop(None).wait()
    assert caught.value.error_code == "E003"
    assert watch.seconds < 2


LOSES_ITS_HEAD = """
    import json, sys
    import psutil
    import aiecs_ray, aiecs_ray.ray_head as head
    from aiecs_ray.errors import ClusterLostError

    head.PAUSE, head.PATIENCE = 0.1, 1.0

    class Sleeper:
        def sleep(self):
            import time
            time.sleep(1e9)

    rt = aiecs_ray.connect("local", num_cpus=1, object_store_memory=100 * 2**20)
    rt.register(Sleeper)
    run = rt.submit([{"operation": "sleeper.sleep"}])
    for process in psutil.Process().children(recursive=True):
        if "gcs_server" in process.name():
            process.kill()
    said = []
    for ask in (run.result, lambda: rt.call("sleeper.sleep")):
        try:
            ask()
        except ClusterLostError as error:
            said.append([error.error_code, str(error)])
    print(json.dumps(said), flush=True)
    sys.stdin.read()
"""


@row(119, "the-head-is-gone", ray=True)
def _head(_: World) -> None:
    command = [sys.executable, "-c", textwrap.dedent(LOSES_ITS_HEAD)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        try:
            said = json.loads(process.stdout.readline())
        finally:
            # Its end ends its cluster.
            process.terminate()
    assert [code for code, _ in said] == ["E003", "E003"]
    assert all("is gone: it has not answered for 1s; its runs are lost, connect again" in text for _, text in said)


@row(120, "called-from-anywhere")
def _callers(world: World) -> None:
    async def on_a_loop() -> Any:
        return world.give("loop")

    assert asyncio.run(on_a_loop()) == "loop"
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert list(threads.map(world.give, range(8))) == list(range(8))
    says = "this process was forked from the one that made the runtime"
    assert says in in_a_fork(lambda: world.give("fork"))
    assert in_a_fork(world.rt.close) == "None"
    assert world.give("parent") == "parent"
    address = "inprocess" if world.backend == "inprocess" else None
    other = aiecs_ray.connect(address, settings=Settings(), registry=aiecs_ray.Registry())
    other.close()
    other.close()
    with pytest.raises(RuntimeUnavailableError, match="closed; connect again") as caught:
        other.call("subject.give")
    assert caught.value.error_code == "E003"


def in_a_fork(function: Any) -> str:
    """Return what comes of calling ``function`` in a child of this process, as text."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        signal.alarm(int(DEADLINE))  # a child that hangs says nothing
        try:
            text = repr(function())
        except BaseException as error:  # noqa: BLE001  # nothing may leave this process but by its exit
            text = repr(error)
        os.write(writing, text.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text


@row(121, "interrupted")
def _interrupted(world: World) -> None:
    world.register(Waits)
    visitors = []

    def interrupt() -> None:
        visitors.append(world.gate.arrival())
        os.kill(os.getpid(), signal.SIGINT)

    # A process that was started in the background ignores interrupts; this is about one that does not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    operations = [op("waits.visit", gate=world.gate.port), op("waits.count", ledger=world.ledger.path)]
    with pytest.raises(KeyboardInterrupt):
        world.rt.run(operations)
    interrupter.join(DEADLINE)
    signal.signal(signal.SIGINT, before)

    # It is over: nothing runs any more, and nothing starts.
    assert world.rt.stats()["runs"]["active"] == 0
    assert len(world.ledger) == 0
    if world.backend == "ray":
        visitors[0].wait_until_gone()


@row(123, "the-clock-is-set")
def _clock(world: World) -> None:
    real, offset = time.time, [0.0]
    world.monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    settings = Settings(grace=0.1, result_ttl=60, cache_ttl=60)
    with aiecs_ray.connect("inprocess", settings=settings, registry=aiecs_ray.Registry()) as rt:
        rt.register(Waits)
        kept = rt.submit([op("waits.count", ledger=world.ledger.path)], user_id="ann")
        kept.wait(DEADLINE)
        run = rt.submit([{**op("waits.visit", gate=world.gate.port), "timeout": DEADLINE}], deadline=DEADLINE)
        visitor = world.gate.arrival()

        for jump in (HOUR, -2 * HOUR):
            offset[0] += jump
            # It looks for what is too old every second.
            asyncio.run_coroutine_threadsafe(_tidy(rt), rt._link._loop).result(DEADLINE)  # type: ignore[attr-defined]
            assert kept.result(timeout=5)[0].result == 1
            assert rt.call("waits.count", {"ledger": world.ledger.path}, user_id="ann") == 1
            assert not run.done()

        visitor.let_go("in time")
        assert run.result(timeout=10)[0].result == "in time"
        events = list(run.events(follow=False))
        assert [event.number for event in events] == list(range(len(events)))
        assert all(first.time <= second.time for first, second in itertools.pairwise(events))
        assert 0 <= events[-1].data["seconds"] < 60


async def _tidy(rt: Any) -> None:
    rt._link._coordinator._runs.expire()


@row(124, "history-cannot-be-written-runs-go-on-by-design")
def _history(world: World) -> None:
    # Closing waits for what is not written yet; here nothing ever will be.
    world.monkeypatch.setattr(coordinator, "DRAIN", 0.1)
    damaged = world.tmp_path / "damaged.sqlite3"
    damaged.write_bytes(b"no database" * 500)
    missing = "/proc/nowhere/history.sqlite3"
    for path, says in ((damaged, "file is not a database"), (missing, "cannot be kept in")):
        settings = Settings(grace=0.1, history_url=f"sqlite:///{path}")
        with aiecs_ray.connect("inprocess", settings=settings, registry=aiecs_ray.Registry()) as rt:
            rt.register(Waits)
            assert rt.call("waits.count", {"ledger": world.ledger.path}) == len(world.ledger)
            with pytest.raises(HistoryError, match=says) as caught:
                rt.history.info()
            assert caught.value.error_code == "E003"
            assert rt.call("waits.count", {"ledger": world.ledger.path}) == len(world.ledger)
    assert damaged.read_bytes().startswith(b"no database")


@pytest.mark.parametrize("row", ROWS.of(ray=False))
def test_what_surrounds_a_runtime_does_not_break_it(world: World, row: Row) -> None:
    row.check(world)

    assert world.give("good") == "good"


@pytest.mark.parametrize("row", ROWS.of(ray=True))
def test_what_surrounds_a_runtime_does_not_break_it_on_ray(ray_world: World, row: Row) -> None:
    with ray_world.monkeypatch.context() as patches:
        ray_world.monkeypatch = patches
        row.check(ray_world)

    assert ray_world.give("good") == "good"


def test_a_second_interrupt_leaves_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    from aiecs_ray.interrupts import wind_up  # noqa: PLC0415

    class Never(concurrent.futures.Future[object]):
        def exception(self, timeout: float | None = None) -> BaseException | None:
            raise KeyboardInterrupt(timeout)

    run_id = secrets.token_hex(4)

    wind_up(Never(), run_id)

    assert re.search(f"Run {run_id} is still being cancelled", capsys.readouterr().err)
