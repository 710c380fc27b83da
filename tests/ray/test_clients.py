"""Clients in processes of their own: what each brings along, and what stays when one is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import Registry, Runtime, connect
from aiecs_ray.config import Settings
from aiecs_ray.errors import RunLostError, RuntimeUnavailableError
from aiecs_ray.messages import PROTOCOL
from tests.contract.probes import Gate, Ledger, Stopwatch, eventually, note, op, visit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ray = pytest.importorskip("ray")

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]
SETTINGS = Settings(grace=0.3)


class Porter:
    def give(self, value: Any = None) -> Any:
        return value

    def count(self, ledger: str) -> int:
        return note(ledger)

    def visit(self, gate: int, text: str = "") -> str:
        return visit(gate, text)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python programs, each of which prints one line of JSON; none outlives the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, "-c", textwrap.dedent(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=cwd,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    while (line := process.stdout.readline()).startswith(("\x1b", "(")):
        continue  # Ray passes on what its own processes have to say
    assert line, f"the client ended with {process.wait()} and said nothing"
    return json.loads(line)


DRIVER = """
    import json, sys
    import aiecs_ray.config
    import house_tool

    address, directory = sys.argv[1:]
    settings = aiecs_ray.config.Settings(namespace="drivers")
    options = {"registry": aiecs_ray.Registry(), "settings": settings}
    with aiecs_ray.connect(address, runtime_env={"working_dir": directory}, **options) as rt:
        rt.register(house_tool.HouseTool, num_cpus=0)
        result = rt.run([{"operation": "house_tool.describe"}])[0]
        print(json.dumps([result.result, result.error_message]), flush=True)
"""


@pytest.fixture
def first_clients(ray_cluster: str) -> Iterator[str]:
    """Return an address where no coordinator is yet: the first client starts it, and it stays for the others."""
    yield ray_cluster
    for name in ("coordinator", "cache"):
        ray.kill(ray.get_actor(f"aiecs_ray_{name}_v{PROTOCOL}", "drivers"))


def test_two_clients_each_bring_their_own_module_of_one_name(
    first_clients: str, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    answers = []

    for name in ("alpha", "beta"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "rooms.py").write_text(f"ROOM = {name!r}\n")
        (folder / "house_tool.py").write_text(
            "import rooms\n\n\nclass HouseTool:\n    def describe(self):\n        return rooms.ROOM\n"
        )
        answers.append(said(start(DRIVER, first_clients, str(folder), cwd=folder)))

    assert answers == [["alpha", None], ["beta", None]]


def test_a_client_sends_modules_that_only_it_can_import(
    first_clients: str, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    program = DRIVER.replace('runtime_env={"working_dir": directory}, ', "")
    (tmp_path / "rooms.py").write_text("ROOM = 'by value'\n")
    (tmp_path / "house_tool.py").write_text(
        "import rooms\n\n\nclass HouseTool:\n    def describe(self):\n        return rooms.ROOM\n"
    )

    answer = said(start(program, first_clients, "", cwd=tmp_path))

    assert answer == ["by value", None]


SUBMITTER = """
    import json, sys
    import aiecs_ray

    address, gate = sys.argv[1], int(sys.argv[2])
    rt = aiecs_ray.connect(address, registry=aiecs_ray.Registry())
    runs = [
        rt.submit([{"operation": f"{text}.visit", "params": {"gate": gate, "text": text}}], detach=text == "detached")
        for text in ("attached", "detached")
    ]
    print(json.dumps([run.id for run in runs]), flush=True)
    sys.stdin.read()
"""


def test_runs_of_a_client_that_is_gone_are_cancelled_unless_detached(
    ray_cluster: str, ray_rt: Runtime, start: Callable[..., subprocess.Popen[str]], gate: Gate
) -> None:
    for name in ("attached", "detached"):
        ray_rt.register(Porter, name)
    client = start(SUBMITTER, ray_cluster, str(gate.port))
    attached, detached = map(ray_rt.attach, said(client))
    visitors = {visitor.text: visitor for visitor in gate.arrivals(2)}

    client.kill()
    watch = Stopwatch()
    cancelled = attached.result(timeout=10)[0]
    seconds = watch.seconds
    visitors["detached"].let_go("still here")

    assert (attached.status(), cancelled.error_code) == ("cancelled", "E004")
    assert seconds < 5
    visitors["attached"].wait_until_gone()
    assert detached.result(timeout=10)[0].result == "still here"


def test_a_detached_run_is_found_by_a_later_client(
    ray_cluster: str, ray_rt: Runtime, start: Callable[..., subprocess.Popen[str]]
) -> None:
    for name in ("attached", "detached"):
        ray_rt.register(Porter, name)
    program = SUBMITTER.replace('.visit", "params": {"gate": gate, "text": text}', '.give"')
    program = program.replace("sys.stdin.read()", "rt.close()")
    client = start(program, ray_cluster, "0")
    _, detached = said(client)
    client.wait(30)

    with connect(settings=SETTINGS, registry=Registry()) as later:
        results = later.attach(detached).result(timeout=10)

    assert results[0].completed


def test_large_values_of_a_client_live_as_long_as_the_run_that_uses_them(
    ray_cluster: str, ray_rt: Runtime, start: Callable[..., subprocess.Popen[str]], gate: Gate
) -> None:
    ray_rt.register(Porter)
    program = """
        import json, sys
        import aiecs_ray

        rt = aiecs_ray.connect(sys.argv[1], registry=aiecs_ray.Registry())
        operations = [
            {"operation": "porter.visit", "params": {"gate": int(sys.argv[2])}},
            {"operation": "porter.give", "params": {"value": b"x" * 500_000}},
        ]
        print(json.dumps(rt.submit(operations, detach=True).id), flush=True)
        sys.stdin.read()
    """
    client = start(program, ray_cluster, str(gate.port))
    run, visitor = ray_rt.attach(said(client)), gate.arrival()

    client.kill()
    client.wait()
    visitor.let_go()
    results = run.result(timeout=20)

    assert results[0].result == "go"
    # A large value dies with the client that put it; the step that needs it says so instead of waiting for ever.
    assert results[1].result == b"x" * 500_000 or results[1].error_code == "E003"


@pytest.fixture
def apart(ray_cluster: str) -> Iterator[Runtime]:  # noqa: ARG001  # it must run
    """Return a runtime with a coordinator that no other test uses."""
    settings = Settings(grace=0.3, namespace="apart")
    with connect(settings=settings, registry=Registry()) as runtime:
        # The CPUs are those of the other coordinator's idle replicas, of which this one knows nothing.
        runtime.register(Porter, num_cpus=0)
        yield runtime
    for name in ("coordinator", "cache"):
        ray.kill(ray.get_actor(f"aiecs_ray_{name}_v{PROTOCOL}", "apart"))


def test_runs_of_a_coordinator_that_is_gone_are_lost_at_once_and_new_ones_work(apart: Runtime, gate: Gate) -> None:
    finished = apart.submit([op("porter.give", value=1)])
    finished.wait()
    running = apart.submit([op("porter.visit", gate=gate.port)])
    visitor, following = gate.arrival(), running.events()
    next(following)

    ray.kill(ray.get_actor(f"aiecs_ray_coordinator_v{PROTOCOL}", "apart"), no_restart=False)
    watch = Stopwatch()
    for ask in (running.result, finished.result, running.status, lambda: list(following)):
        with pytest.raises(RunLostError, match="coordinator"):
            ask()
    seconds = watch.seconds

    assert seconds < 10
    visitor.wait_until_gone()
    assert apart.call("porter.give", {"value": "new"}) == "new"
    assert apart.submit([op("porter.give", value="newer")]).result(timeout=20)[0].result == "newer"


def test_a_wait_for_a_coordinator_that_dies_ends(
    apart: Runtime, gate: Gate, start: Callable[..., subprocess.Popen[str]], ray_cluster: str
) -> None:
    apart.call("porter.give")
    program = """
        import json, sys
        import aiecs_ray
        from aiecs_ray.config import Settings

        settings = Settings(namespace="apart", grace=0.3)
        rt = aiecs_ray.connect(sys.argv[1], registry=aiecs_ray.Registry(), settings=settings)
        try:
            rt.run([{"operation": "porter.visit", "params": {"gate": int(sys.argv[2])}}])
        except aiecs_ray.errors.AiecsError as error:
            print(json.dumps(type(error).__name__), flush=True)
    """
    client = start(program, ray_cluster, str(gate.port))
    gate.arrival()

    ray.kill(ray.get_actor(f"aiecs_ray_coordinator_v{PROTOCOL}", "apart"), no_restart=False)

    assert said(client) in ("RunLostError", "RuntimeUnavailableError")


def test_clients_share_one_cache(ray_rt: Runtime, ledger: Ledger) -> None:
    ray_rt.register(Porter)
    first = ray_rt.call("porter.count", {"ledger": ledger.path}, user_id=ledger.path)

    with connect(settings=SETTINGS, registry=Registry()) as other:
        second = other.call("porter.count", {"ledger": ledger.path}, user_id=ledger.path)

    assert first == second == 1


def test_leaving_does_not_shut_down_a_ray_that_was_there_before(ray_cluster: str, ray_rt: Runtime) -> None:
    ray_rt.register(Porter)

    with connect(settings=SETTINGS, registry=Registry()) as other:
        assert other.address == ray_cluster
        assert other.call("porter.give", {"value": 1}) == 1

    assert ray.is_initialized()
    assert ray_rt.call("porter.give", {"value": 2}) == 2


def test_a_dead_address_is_refused_soon(start: Callable[..., subprocess.Popen[str]]) -> None:
    program = """
        import json, time
        import aiecs_ray.ray_backend  # importing Ray takes a while of its own
        from aiecs_ray.errors import InvalidInputError, RuntimeUnavailableError

        since, problems = time.monotonic(), []
        for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "nowhere"):
            try:
                aiecs_ray.connect(address)
            except (InvalidInputError, RuntimeUnavailableError) as error:
                problems.append(str(error))
        print(json.dumps([problems, time.monotonic() - since]))
    """

    problems, seconds = said(start(program))

    assert len(problems) == 3
    assert "127.0.0.1:1" in problems[0]
    assert seconds < 5


def test_a_private_cluster_ends_with_its_runtime_and_what_it_stops_itself_is_no_news(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    program = """
        import json, os, sys, time
        import aiecs_ray
        from aiecs_ray.config import Settings

        class Anchor:
            def sleep(self, seconds):
                time.sleep(seconds)
            def pid(self):
                return os.getpid()

        settings = Settings(grace=0.1)
        with aiecs_ray.connect("local", num_cpus=1, object_store_memory=100 * 2**20, settings=settings) as rt:
            rt.register(Anchor)
            (late,) = rt.run([{"operation": "anchor.sleep", "params": {"seconds": 1e9}, "timeout": 0.2}])
            pid = rt.call("anchor.pid")
        print(json.dumps([late.error_code, pid]), flush=True)
        sys.stdin.read()
    """
    client = start(program, cwd=tmp_path)
    assert client.stdout is not None

    code, pid = json.loads(client.stdout.readline())

    assert code == "E002"
    eventually(lambda: not is_running(pid))
    assert client.poll() is None


def test_another_address_than_that_of_the_ray_at_hand_is_refused(ray_cluster: str) -> None:
    with pytest.raises(RuntimeUnavailableError):
        connect("127.0.0.1:1")

    with connect(ray_cluster, settings=SETTINGS, registry=Registry()) as same:
        assert same.address == ray_cluster


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
