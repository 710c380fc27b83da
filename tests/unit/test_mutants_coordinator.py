"""What the coordinator does for clients that leave, limits that are shared and runs that are over.

Its replicas never get ready, so that whatever it lets through waits where it can be counted.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.actors import coordinator as coordinator_module
from aiecs_ray.actors.cache import Cache
from aiecs_ray.actors.coordinator import Coordinator
from aiecs_ray.actors.run_table import READING
from aiecs_ray.backend import Remains, ReplicaDied
from aiecs_ray.config import Settings
from aiecs_ray.errors import BusyError, ResultExpiredError
from aiecs_ray.inprocess import InProcessBackend
from aiecs_ray.messages import Limits, Policy, RunRequest, Step, ToolSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

SETTINGS = Settings(result_ttl=60.0, max_queued=50)
TOOL = ToolSpec("t@1", "t", "tools:Tool", "1")
POLICY = Policy("t.op", "t@1", "op")


class Unready:
    """A replica whose tool is never built."""

    def __init__(self) -> None:
        self._dead = asyncio.Event()

    async def start(self) -> None:
        await self._dead.wait()
        raise ReplicaDied

    def kill(self) -> None:
        self._dead.set()

    async def remains(self) -> Remains:
        return Remains()


class Backend(InProcessBackend):
    def __init__(self) -> None:
        super().__init__(SETTINGS, Cache(SETTINGS, adopt=lambda payload: payload))
        self.gone: set[str] = set()

    def create(self, spec: ToolSpec) -> Any:  # noqa: ARG002  # all tools are alike
        return Unready()

    async def nodes(self) -> Sequence[Mapping[str, float]]:
        return [{"CPU": 2.0}]

    async def alive(self, lease: Any) -> bool:
        return lease not in self.gone


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def coordinator(backend: Backend, clock: Clock) -> AsyncIterator[Coordinator]:
    coordinator = Coordinator(
        backend,
        SETTINGS,
        incarnation="first",
        result_bytes=1000,
        random=lambda: 0.0,
        token=bytes,
        clock=clock,
    )
    for client in ("ann", "bob"):
        await coordinator.hello(client, f"lease of {client}")
    yield coordinator
    await coordinator.shut_down()


def request(token: str, steps: int = 1, **options: Any) -> RunRequest:
    options = {"mode": "batch", "client": "ann", **options}
    return RunRequest((Step(0, b""),) * steps, (POLICY,), token=token, **options)


async def submit(coordinator: Coordinator, *requests: RunRequest) -> list[str]:
    return [(await coordinator.submit(request, (TOOL,))).run for request in requests]


async def test_the_runs_of_a_client_that_is_gone_are_cancelled(coordinator: Coordinator, backend: Backend) -> None:
    anns, bobs = await submit(coordinator, request("1"), request("2", client="bob"))

    backend.gone.add("lease of ann")
    await coordinator._check_leases()

    assert [(await coordinator.status(run)).status for run in (anns, bobs)] == ["cancelled", "running"]


async def test_a_detached_run_outlives_its_client(coordinator: Coordinator, backend: Backend) -> None:
    runs = await submit(coordinator, request("1", detach=True))

    backend.gone.add("lease of ann")
    await coordinator._check_leases()

    assert (await coordinator.status(runs[0])).status == "running"


async def test_a_cancelled_run_leaves_nothing_in_the_queue(coordinator: Coordinator) -> None:
    runs = await submit(coordinator, request("1", steps=5))
    queued = (await coordinator.stats())["queued"]

    await coordinator.cancel(runs[0])

    assert (queued, (await coordinator.stats())["queued"]) == (5, 0)


async def test_a_limited_run_lets_no_more_through_than_it_may(coordinator: Coordinator) -> None:
    await submit(coordinator, request("1", steps=5, limits=Limits("", None, 2)))

    assert (await coordinator.stats())["queued"] == 2


async def test_runs_that_name_one_limit_share_it(coordinator: Coordinator) -> None:
    limits = Limits("shared", None, 3)

    await submit(coordinator, *(request(str(n), steps=2, limits=limits) for n in range(4)))

    assert (await coordinator.stats())["queued"] == 3


async def test_the_same_request_twice_is_one_run(coordinator: Coordinator) -> None:
    first, second = await submit(coordinator, request("1"), request("1"))

    assert first == second
    assert (await coordinator.stats())["queued"] == 1


async def test_more_operations_than_may_wait_are_refused(coordinator: Coordinator) -> None:
    await submit(coordinator, request("1", steps=40))

    with pytest.raises(BusyError):
        await submit(coordinator, request("2", steps=11))


async def test_a_finished_run_is_forgotten_when_its_time_is_over(coordinator: Coordinator, clock: Clock) -> None:
    runs = await submit(coordinator, request("1"))
    await coordinator.cancel(runs[0])

    clock.now += SETTINGS.result_ttl - 1
    coordinator._runs.expire()
    kept = (await coordinator.status(runs[0])).status
    clock.now += 2
    coordinator._runs.expire()

    assert kept == "cancelled"
    with pytest.raises(ResultExpiredError):
        await coordinator.status(runs[0])


async def test_results_beyond_the_budget_stay_while_somebody_reads_them(coordinator: Coordinator, clock: Clock) -> None:
    run_id = (await submit(coordinator, request("1")))[0]
    await coordinator.cancel(run_id)
    coordinator._runs.named(run_id).records.bytes = 5000
    asked = []

    for _ in range(3):
        clock.now += READING / 2
        coordinator._runs.expire()
        asked.append((await coordinator.status(run_id)).ended)
    clock.now += READING + 1
    coordinator._runs.expire()

    assert asked == [1] * 3
    with pytest.raises(ResultExpiredError):
        await coordinator.status(run_id)


async def test_a_run_that_is_watched_stays_until_it_is_released(coordinator: Coordinator) -> None:
    watched = await coordinator.execute(request("1", 0), (TOOL,), watched=True)
    unwatched = await coordinator.execute(request("2", 0), (TOOL,))

    assert (await coordinator.status(watched.run)).status == "completed"
    with pytest.raises(ResultExpiredError):
        await coordinator.status(unwatched.run)


async def test_housekeeping_goes_on_after_a_round_that_failed(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator_module, "LEASE_INTERVAL", 0.001)
    rounds: list[str] = []
    enough = asyncio.Event()

    async def fail(lease: str) -> bool:
        rounds.append(lease)
        if len(rounds) > 4:
            enough.set()
        raise ValueError("nobody knows")

    monkeypatch.setattr(backend, "alive", fail)
    coordinator = Coordinator(
        backend, SETTINGS, incarnation="first", result_bytes=1000, random=lambda: 0.0, token=bytes
    )
    await coordinator.hello("carl", "lease of carl")

    await asyncio.wait_for(enough.wait(), 10)
    await coordinator.shut_down()

    assert set(rounds) == {"lease of carl"}
