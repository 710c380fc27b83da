"""A simulated replica: messages that take time, a process that may die, and bodies that do what chance wants.

It speaks the protocol of :class:`~aiecs_ray.backend.Replica`. A further question that a coordinator may ask is a method
that returns ``await self._ask(function)``, where ``function`` is what the process answers; one that is asked after the
death reads ``world.bodies``, as a coordinator would read a file that outlived the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from typing import TYPE_CHECKING, Any

from aiecs_ray.backend import Remains, ReplicaDied
from aiecs_ray.messages import ErrorInfo
from aiecs_ray.options import ASYNC_CONCURRENCY
from aiecs_ray.scaling import calls_at_once
from aiecs_ray.testing.bodies import live
from aiecs_ray.testing.host_model import HostModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from aiecs_ray.backend import Running, Stopped
    from aiecs_ray.messages import Item, Mark, Outcome, Work
    from aiecs_ray.testing.host_model import ModelBody
    from aiecs_ray.testing.scenario import ToolPlan
    from aiecs_ray.testing.world import World

AHEAD = 16
"""Outcomes that may be under way unread; one where an operation must not run twice."""
KILL = 0.05
"""Seconds within which a process that is killed ends."""


class _Channel:
    """The answers to one call: they arrive in order, and those unread are lost when the replica dies."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._arrived: deque[tuple[Any, asyncio.Future[None] | None]] = deque()
        self._under_way: deque[asyncio.TimerHandle] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._last = 0.0
        self._over = False

    def put(self, answer: Any) -> asyncio.Future[None]:
        """Send an answer; the future is done when it was read."""
        loop = self._world.loop
        read: asyncio.Future[None] = loop.create_future()
        self._last = max(self._last, loop.time() + self._world.latency())
        self._under_way.append(loop.call_at(self._last, self._arrive, answer, read))
        return read

    def fail(self, death: str) -> None:
        """The replica died: some of what is under way never arrives, and then the reader is told."""
        if self._over:
            return
        self._over = True
        kept = self._world.rng.randint(0, len(self._under_way)) if self._under_way else 0
        while len(self._under_way) > kept:
            self._under_way.pop().cancel()
        loop = self._world.loop
        when = self._under_way[-1].when() if self._under_way else loop.time()
        loop.call_at(when + self._world.latency(), self._deliver, ReplicaDied(death), None)

    def _arrive(self, answer: Any, read: asyncio.Future[None]) -> None:
        self._under_way.popleft()
        self._deliver(answer, read)

    def _deliver(self, answer: Any, read: asyncio.Future[None] | None) -> None:
        self._arrived.append((answer, read))
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> Any:
        """Wait for the next answer. Raises ReplicaDied."""
        while not self._arrived:
            self._reader = self._world.loop.create_future()
            await self._reader
        answer, read = self._arrived.popleft()
        if isinstance(answer, ReplicaDied):
            raise answer
        if read is not None and not read.done():
            read.set_result(None)
        self._over = self._over or answer is None
        return answer


class SimReplica:
    """One simulated process with one tool."""

    def __init__(self, world: World, number: int, tool: ToolPlan) -> None:
        self.world, self.number, self.tool = world, number, tool
        self.dead = False
        self.doomed = False
        """It was killed and ends any moment."""
        self.death = ""
        self.node = "node"
        self._ended = asyncio.Event()
        self._marks: dict[tuple[int, int], Mark] | None = None
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._channels: dict[_Channel, None] = {}
        self._answers: dict[asyncio.Future[Any], None] = {}
        concurrency = int(tool.spec.options.get("concurrency") or (ASYNC_CONCURRENCY if tool.spec.has_async else 1))
        self.most = concurrency
        """Operations that it may run at once."""
        self._calls = asyncio.Semaphore(calls_at_once(concurrency) if tool.spec.has_async else concurrency)
        self.host = HostModel(
            self._run_body,
            is_async=self._is_async,
            clock=world.loop.time,
            turns=1 if tool.spec.has_async else concurrency,
            hesitate=self._hesitate if world.faults.interrupt else None,
        )
        self._mute_from, self._mute_to = math.inf, math.inf
        if world.happens(world.faults.mute):
            self._mute_from = world.loop.time() + world.rng.uniform(0.0, 2.0)
            self._mute_to = self._mute_from + world.rng.choice((0.5, 3.0, math.inf))

    def __str__(self) -> str:
        return f"{self.tool.spec.name}#{self.number}"

    # --- the protocol ------------------------------------------------------------------------------------

    async def start(self) -> ErrorInfo | None:
        """Build the tool, or do what its plan says instead."""
        answer = self._promise()
        self._spawn(self._build(answer))
        return await self._wait(answer)  # type: ignore[no-any-return]

    async def send(self, work: Work, *, stream: bool) -> AsyncIterator[list[Outcome]]:
        """Run ``work``; outcomes arrive in the order in which they were sent."""
        self.world.sent(self, work)
        channel = _Channel(self.world)
        if self.dead:
            channel.fail(self.death)
        else:
            self._channels[channel] = None
            self._spawn(self._serve(work, channel, stream=stream))
        try:
            while (outcomes := await channel.get()) is not None:
                yield outcomes
                if self.world.happens(self.world.faults.twice):
                    yield outcomes
        finally:
            self._channels.pop(channel, None)

    async def status(self) -> Sequence[Running]:
        """Return what is running now."""
        return await self._ask(self.host.status)  # type: ignore[no-any-return]

    async def stop(self, work: int, ask: Sequence[int] = ()) -> Stopped:
        """Begin nothing more of ``work``; tell the bodies of the steps ``ask`` to end."""
        asked = tuple(ask)
        self.world.note("stop   %s work %s, ask %s", self, work, list(asked))
        return await self._ask(lambda: self.host.stop(work, asked))  # type: ignore[no-any-return]

    async def collect(self, work: int) -> Stopped:
        """Hand over the outcomes that are held back."""
        return await self._ask(lambda: self.host.collect(work))  # type: ignore[no-any-return]

    def kill(self) -> None:
        """End the process, a moment later."""
        if not (self.dead or self.doomed):
            self.doomed = True
            self.world.note("kill   %s", self)
            self.world.loop.call_later(self.world.rng.uniform(0.0, KILL), self.die, "it was killed")

    async def remains(self) -> Remains:
        """Return how far the attempts had come, once the process has ended; nothing where its node is gone, too."""
        await self._ended.wait()
        await asyncio.sleep(self.world.latency())
        return Remains(self._marks)

    @property
    def is_legible(self) -> bool:
        """Whether its ledger outlived it."""
        return self._marks is not None

    # --- the process ---------------------------------------------------------------------------------------

    def die(self, reason: str) -> None:
        """The process ends now, whatever it does; who waits for it hears of that a little later."""
        if self.dead:
            return
        self.dead, self.death = True, reason
        self._ended.set()
        if not self.world.happens(self.world.faults.no_ledger):
            self._marks = dict(self.host.marks)
        self.world.note("dead   %s: %s", self, reason)
        for task in list(self._tasks):
            task.cancel()
        for channel in list(self._channels):
            channel.fail(reason)
        for answer in list(self._answers):
            self.world.loop.call_later(self.world.latency(), _fail, answer, reason)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.world.loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    async def _build(self, answer: asyncio.Future[Any]) -> None:
        constructor = self.tool.constructor
        await asyncio.sleep(self.world.rng.uniform(0.001, 0.2))
        if constructor == "hangs":
            return
        if constructor == "crashes" or (constructor == "sometimes crashes" and self.world.happens(0.5)):
            self.die("the constructor ended its process")
        elif constructor == "raises":
            text = f"Tool {self.tool.spec.name!r} cannot be constructed: OSError: no licence"
            _set(answer, ErrorInfo("E003", text, "OSError", ("ToolInitError", "OSError", "Exception")))
        else:
            self.world.note("built  %s", self)
            _set(answer, None)

    async def _serve(self, work: Work, channel: _Channel, *, stream: bool) -> None:
        await asyncio.sleep(self.world.latency())
        careful = any(not item.idempotent for item in work.items)
        unread: deque[asyncio.Future[None]] = deque()
        async with self._calls, contextlib.aclosing(self.host.stream(work, hold=not stream)) as deliveries:
            everything: list[Outcome] = []
            async for outcomes in deliveries:
                if not stream:
                    everything.extend(outcomes)
                    continue
                unread.append(channel.put(outcomes))
                while len(unread) >= (1 if careful else AHEAD):
                    await unread.popleft()
                    await asyncio.sleep(self.world.latency())
            if everything:
                channel.put(everything)
        channel.put(None)

    def _is_async(self, operation: str) -> bool:
        return self.world.operations[self.tool.spec.key, operation].policy.is_async

    async def _run_body(self, body: ModelBody, work: Work, item: Item, made: dict[int, Any]) -> Outcome:
        return await live(self, body, work, item, made)

    async def _hesitate(self) -> None:
        if self.world.happens(self.world.faults.interrupt):
            await asyncio.sleep(self.world.rng.choice((0.0, 0.001, 0.01)))

    # --- questions -----------------------------------------------------------------------------------------

    async def _ask(self, function: Callable[[], Any]) -> Any:
        answer = self._promise()
        self.world.loop.call_later(self.world.latency(), self._hear, function, answer)
        return await self._wait(answer)

    def _hear(self, function: Callable[[], Any], answer: asyncio.Future[Any]) -> None:
        """A question arrived; who asked may have given up waiting, and is not known here."""
        if self.dead:
            return
        now = self.world.loop.time()
        if self._mute_from <= now < self._mute_to:
            if self._mute_to < math.inf:
                self.world.loop.call_at(self._mute_to, self._hear, function, answer)
            return
        said = function()
        if not self.world.happens(self.world.faults.lost_answer):
            self.world.loop.call_later(self.world.latency(), self._say, answer, said)

    def _say(self, answer: asyncio.Future[Any], said: Any) -> None:
        if not self.dead:
            _set(answer, said)

    def _promise(self) -> asyncio.Future[Any]:
        answer = self.world.loop.create_future()
        self._answers[answer] = None
        if self.dead:
            self.world.loop.call_later(self.world.latency(), _fail, answer, self.death)
        return answer

    async def _wait(self, answer: asyncio.Future[Any]) -> Any:
        try:
            return await answer
        finally:
            self._answers.pop(answer, None)


def _set(answer: asyncio.Future[Any], value: Any) -> None:
    if not answer.done():
        answer.set_result(value)


def _fail(answer: asyncio.Future[Any], reason: str) -> None:
    if not answer.done():
        answer.set_exception(ReplicaDied(reason))
