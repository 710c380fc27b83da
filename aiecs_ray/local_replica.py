"""A replica without Ray: a tool in threads of this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import queue
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from aiecs_ray.actors.deliveries import Large
from aiecs_ray.backend import Remains, ReplicaDied
from aiecs_ray.messages import Mark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from aiecs_ray.actors.tool import ToolHost
    from aiecs_ray.backend import Running, Stopped
    from aiecs_ray.messages import ErrorInfo, Outcome, Work
    from aiecs_ray.packing import Packed

logger = logging.getLogger(__name__)


class LocalRef(NamedTuple):
    """A large value of this process."""

    packed: Packed


class Worker:
    """One worker thread that runs jobs in order."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._given = self._done = 0
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            self._done += 1
            # An idle thread would keep the inputs of its last job.
            del job

    @property
    def load(self) -> int:
        """How many jobs it has."""
        return self._given - self._done

    def submit(self, job: Callable[[], None]) -> None:
        """Run ``job`` after those before it."""
        self._given += 1
        self._jobs.put(job)

    def end(self) -> None:
        """End the thread after the jobs that it has."""
        self._jobs.put(None)


class LocalReplica:
    """A tool in threads of this process."""

    def __init__(self, host: ToolHost, name: str, threads: int) -> None:
        self.node = platform.node()
        self._host = host
        self._name = name
        self._workers: list[Worker] = []
        self._threads = threads
        self._dead = asyncio.Event()

    async def start(self) -> ErrorInfo | None:
        """Build the tool."""
        loop = asyncio.get_running_loop()
        built: asyncio.Future[ErrorInfo | None] = loop.create_future()

        def build() -> None:
            error = self._host.start()
            _call_soon(loop, _set, built, error)

        self._submit(build)
        return await self._unless_dead(built)  # type: ignore[no-any-return]

    async def send(self, work: Work, *, stream: bool) -> AsyncIterator[list[Outcome]]:
        """Run ``work``; outcomes arrive as the host yields them."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[list[Outcome] | None] = asyncio.Queue()

        def run() -> None:
            for delivery in self._host.stream(work, hold=not stream):
                # Here and now, as an object store does: the tool may go on writing to what it returned.
                larges = [packed.copy() for packed in delivery.larges]
                _call_soon(loop, arrived.put_nowait, [_with_reference(one, larges) for one in delivery.outcomes])
            _call_soon(loop, arrived.put_nowait, None)

        self._submit(run)
        while (outcomes := await self._unless_dead(loop.create_task(arrived.get()))) is not None:
            yield outcomes

    async def status(self) -> Sequence[Running]:
        """Return what is running now."""
        return self._host.status()

    async def stop(self, work: int, ask: Sequence[int] = ()) -> Stopped:
        """Begin nothing more of ``work``; tell the bodies of the steps ``ask`` to end."""
        return self._host.stop(work, ask)

    async def collect(self, work: int) -> Stopped:
        """Hand over the outcomes of ``work`` that wait for the end of a body after them."""
        return self._host.collect(work)

    def kill(self) -> None:
        """Let go of the threads."""
        if self._dead.is_set():
            return
        self._dead.set()
        self._host.seal()
        if self._host.status():
            logger.warning(
                "a running operation of %s cannot be stopped in this process; its thread is left", self._name
            )
        for worker in self._workers:
            worker.end()

    async def remains(self) -> Remains:
        """Return how far the threads had come; they begin nothing more, but what they prepared they start."""
        marks = self._host.marks()
        return Remains({key: Mark.STARTED if mark is Mark.PREPARING else mark for key, mark in marks.items()})

    def _submit(self, job: Callable[[], None]) -> None:
        free = min(self._workers, key=lambda worker: worker.load, default=None)
        if free is None or (free.load and len(self._workers) < self._threads):
            free = Worker(f"{self._name}-{len(self._workers)}")
            self._workers.append(free)
        free.submit(job)

    async def _unless_dead(self, awaited: asyncio.Future[Any]) -> Any:
        dead = asyncio.ensure_future(self._dead.wait())
        try:
            await asyncio.wait({awaited, dead}, return_when=asyncio.FIRST_COMPLETED)
            if awaited.done():
                return awaited.result()
            raise ReplicaDied("it was stopped")
        finally:
            dead.cancel()
            awaited.cancel()


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
    """Hand something to the coordinator's loop; once that is closed, nobody waits for it any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)


def _set(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _with_reference(outcome: Outcome, larges: list[Packed]) -> Outcome:
    if type(outcome.payload) is Large:
        return outcome._replace(payload=LocalRef(larges[outcome.payload.place]))
    return outcome
