"""A replica of threads that is let go: nothing more begins in it, and nobody is told that what may begin has not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from aiecs_ray import packing
from aiecs_ray.actors.tool import ToolHost
from aiecs_ray.backend import ReplicaDied
from aiecs_ray.local_replica import LocalReplica
from aiecs_ray.messages import Item, Mark, ToolSpec, Work
from aiecs_ray.shipping import ship
from tests.contract.probes import DEADLINE, Gate, Ledger, note, visit

if TYPE_CHECKING:
    from aiecs_ray.packing import Packed


class Porter:
    def visit(self, gate: int) -> str:
        return visit(gate)

    def note(self, ledger: str) -> int:
        return note(ledger)

    def take(self, data: bytes, ledger: str) -> int:
        note(ledger)
        return len(data)


class Replica(LocalReplica):
    """A replica whose large inputs come when a gate opens."""

    def __init__(self, gate: Gate) -> None:
        def fetch(_: Any) -> Packed:
            visit(gate.port)
            return packing.pack(b"input")

        spec = ToolSpec("porter@1", "porter", ship(Porter), "1")
        super().__init__(ToolHost(spec, fetch=fetch, report=lambda *_: None, inline_limit=1000), "porter", 1)

    async def run(self, work: Work) -> None:
        async for _ in self.send(work, stream=True):
            pass


def item(step: int, operation: str, inputs: tuple[Any, ...] = (), **params: Any) -> Item:
    return Item(step, 1, operation, packing.to_payload(packing.pack(params)), inputs, idempotent=False)


async def test_what_follows_in_a_chain_does_not_begin_once_its_replica_was_let_go(gate: Gate, ledger: Ledger) -> None:
    replica = Replica(gate)
    assert await replica.start() is None
    items = (item(0, "visit", gate=gate.port), item(1, "note", ledger=ledger.path))
    running = asyncio.ensure_future(replica.run(Work(1, "run", items, chain=True)))
    visitor = await asyncio.to_thread(gate.arrival)

    replica.kill()
    marks = (await replica.remains()).marks
    visitor.let_go()
    await asyncio.to_thread(replica._workers[0].thread.join, DEADLINE)

    with contextlib.suppress(ReplicaDied):  # the outcome of the first may have come in time
        await running
    assert marks == {(1, 0): Mark.STARTED}
    assert len(ledger) == 0


async def test_what_was_about_to_start_when_its_replica_was_let_go_may_have_started(gate: Gate, ledger: Ledger) -> None:
    replica = Replica(gate)
    assert await replica.start() is None
    taking = item(0, "take", (("value", 0, (), ""),), data=packing.Slot(0), ledger=ledger.path)
    running = asyncio.ensure_future(replica.run(Work(1, "run", (taking,), (object(),))))
    visitor = await asyncio.to_thread(gate.arrival)

    replica.kill()
    marks = (await replica.remains()).marks
    visitor.let_go()
    await asyncio.to_thread(replica._workers[0].thread.join, DEADLINE)

    with contextlib.suppress(ReplicaDied):
        await running
    assert len(ledger) == 1
    assert marks == {(1, 0): Mark.STARTED}
