"""Replicas that die with several operations, or cannot be made: what is sent again, and how often one is made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiecs_ray.actors.cache import Cache
from aiecs_ray.actors.coordinator import Coordinator
from aiecs_ray.backend import Remains, ReplicaDied
from aiecs_ray.config import Settings
from aiecs_ray.inprocess import InProcessBackend
from aiecs_ray.messages import ErrorInfo, Outcome, Policy, RunRequest, Step, ToolSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from aiecs_ray.messages import Work

SETTINGS = Settings(init_pause=0)
POLICY = Policy("t.op", "t@1", "op")
NO_TOOL = ErrorInfo("E003", "cannot be constructed", "ToolInitError", ("ToolInitError",))


class Mortal:
    """A replica that dies with the first call of several operations, and leaves nothing to read."""

    def __init__(self, backend: Backend) -> None:
        self.node = ""
        self._backend = backend

    async def start(self) -> ErrorInfo | None:
        return self._backend.built

    async def send(self, work: Work, *, stream: bool) -> AsyncIterator[list[Outcome]]:  # noqa: ARG002  # a backend's
        steps = [item.step for item in work.items]
        self._backend.sent.append(steps)
        if len(steps) > 1 and not self._backend.lost:
            self._backend.lost = steps
            raise ReplicaDied("its node is gone")
        yield [Outcome(item.step, item.attempt, "value", 1, 8, "int") for item in work.items]

    def kill(self) -> None:
        """There is nothing to end."""

    async def remains(self) -> Remains:
        self._backend.while_ending()
        for _ in range(20):
            await asyncio.sleep(0)
        return Remains()


class Backend(InProcessBackend):
    def __init__(self) -> None:
        super().__init__(SETTINGS, Cache(SETTINGS, adopt=lambda payload: payload))
        self.sent: list[list[int]] = []
        self.lost: list[int] = []
        self.built: ErrorInfo | None = None
        self.made = 0
        self.while_ending: Callable[[], object] = lambda: None

    def create(self, spec: ToolSpec) -> Any:  # noqa: ARG002  # all tools are alike
        self.made += 1
        return Mortal(self)

    async def nodes(self) -> Sequence[Mapping[str, float]]:
        return [{"CPU": 1.0}]


async def ended(backend: Backend, steps: int, **options: Any) -> list[str]:
    """Run so many steps of a tool with ``options`` to their end; return how each ended."""
    coordinator = Coordinator(
        backend, SETTINGS, incarnation="first", result_bytes=1000, random=lambda: 0.0, token=bytes
    )
    backend.while_ending = coordinator._pools._scaler.soon
    await coordinator.hello("ann", None)
    request = RunRequest((Step(0, b""),) * steps, (POLICY,), token="1", mode="batch", client="ann")  # noqa: S106  # no secret
    async with asyncio.timeout(20):
        answer = await coordinator.execute(request, (ToolSpec("t@1", "t", "tools:Tool", "1", options),))
    assert answer.page is not None
    for _ in range(50):
        # Whatever would happen for no reason begins now.
        await asyncio.sleep(0)
    await coordinator.shut_down()
    return [settled.status for settled in answer.page.settled]


async def test_what_was_lost_in_company_is_sent_again_one_by_one() -> None:
    backend = Backend()

    statuses = await ended(backend, 40, max_replicas=1)

    assert statuses == ["completed"] * 40
    assert len(backend.lost) > 1
    again = backend.sent[backend.sent.index(backend.lost) + 1 :]
    assert sorted(steps for steps in again if set(steps) & set(backend.lost)) == [[step] for step in backend.lost]


async def test_a_constructor_that_failed_is_not_called_again_for_nobody() -> None:
    backend = Backend()
    backend.built = NO_TOOL

    statuses = await ended(backend, 1, min_replicas=1)

    assert statuses == ["failed"]
    assert backend.made == 1


async def test_who_is_shut_down_makes_no_replicas() -> None:
    backend = Backend()

    statuses = await ended(backend, 1, min_replicas=1)

    assert statuses == ["completed"]
    assert backend.made == 1
