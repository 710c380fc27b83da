"""The host of one tool: builds it where it will run, and runs operations on it.

A plain class; a backend puts it into a process (a Ray actor) or a thread. Nothing that a tool does, raises or returns
leaves it as anything but an :class:`~aiecs_ray.messages.Outcome`.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from aiecs_ray import failures, masking, packing
from aiecs_ray.actors.body import Body, CancelFlag, Throttle, lifetime
from aiecs_ray.actors.deliveries import Delivery, Large, Ran, ran, shifted
from aiecs_ray.actors.file_states import with_states, with_states_aside
from aiecs_ray.actors.inputs import InputLostError, read_inputs
from aiecs_ray.actors.ledger import Ledger
from aiecs_ray.actors.made import Made, meets_others
from aiecs_ray.actors.operation_loop import OperationLoop
from aiecs_ray.actors.values import packed_result
from aiecs_ray.backend import Running, Stopped
from aiecs_ray.binding import Binder
from aiecs_ray.definition import describe
from aiecs_ray.errors import AiecsError, ResultInvalidError
from aiecs_ray.messages import Elided, ErrorInfo, Item, Outcome, Outcomes, ToolSpec, Work
from aiecs_ray.running import Attempt, attempt_scope
from aiecs_ray.shipping import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from aiecs_ray.backend import Link
    from aiecs_ray.definition import OperationDef
    from aiecs_ray.messages import Mark
    from aiecs_ray.packing import Packed

QUICK = 0.002
"""An operation whose last run took less than this many seconds may delay the outcomes before it."""
REMEMBERED = 256
"""Pieces of work of which the host remembers what has begun, while their outcomes may be on their way."""
LARGE_TOTAL = 64 * 2**20
"""Bytes of large results after which a chunk ends early, so that they can be picked up."""


class ToolHost:
    """Runs the operations of one tool instance.

    Args:
        spec: the tool; its source is loaded by :meth:`start`.
        fetch: gets a large value for the reference that a backend made of it.
        report: sends (run, step, done, total, message) to the coordinator.
        inline_limit: results up to this many bytes travel inside their outcome.
        ledger: where attempts are marked, for the case that the process dies.
        most: larger results are refused.
        home: opens a way to the coordinator, for operations that call others.
    """

    def __init__(  # noqa: PLR0913  # what it lives on, by name
        self,
        spec: ToolSpec,
        *,
        fetch: Callable[[Any], Packed],
        report: Callable[[str, int, float, float | None, str], None],
        inline_limit: int,
        ledger: Ledger | None = None,
        most: int = 2**63,
        home: Callable[[], Link] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = spec
        self._most, self._home = most, home
        self._fetch, self._report = fetch, report
        self._inline_limit = inline_limit
        self._clock = clock
        self._ledger = Ledger() if ledger is None else ledger
        self._tool: Any = None
        self._binder: Binder | None = None
        self._operations: Mapping[str, OperationDef] = {}
        self._loop: OperationLoop | None = None
        self._turns = _turns(1 if spec.has_async else int(spec.options.get("concurrency") or 1))
        """Held by each sync operation that runs."""
        self._lock = threading.Lock()
        self._running: dict[tuple[int, int], Body] = {}
        self._recalled: dict[int, None] = {}
        self._sealed = False
        self._held: dict[int, Delivery] = {}
        self._told: dict[int, int] = {}
        """How many of the outcomes that are held were handed over; the answer may be lost, so they stay in the list."""
        self._begun: dict[int, list[int]] = {}
        self._over: OrderedDict[int, None] = OrderedDict()
        """Works that have ended; of so many it is remembered what of them had begun."""
        self._took: dict[str, float] = {}

    # --- the tool itself ---------------------------------------------------------------------------------

    def start(self) -> ErrorInfo | None:
        """Build the tool; return what its constructor raised, if anything."""
        if self._tool is not None:
            return None
        try:
            cls = load(self._spec.source)
            definition = describe(cls, self._spec.name, **self._spec.options)
            self._operations = definition.operations
            self._binder = Binder(definition)
            self._tool = cls(**self._spec.options.get("config", {}))
            if self._spec.has_async:
                loop = OperationLoop(lambda: [body.attempt.calls[-1] for body in list(self._running.values())])
                with self._lock:
                    self._loop = loop
                    sealed = self._sealed
                if sealed:
                    loop.close()
        except BaseException as error:  # noqa: BLE001  # a constructor may raise anything; it must not end the process
            return failures.of_constructor(error, self._spec.name)
        return None

    # --- work --------------------------------------------------------------------------------------------

    def call(self, work: Work) -> Delivery:
        """Run the items of ``work`` and return all outcomes at once; those of items that never began are missing."""
        outcomes = Outcomes()
        larges: list[Packed] = []
        for delivery in self.stream(work, hold=True):
            outcomes.extend([shifted(outcome, len(larges)) for outcome in delivery.outcomes])
            larges.extend(delivery.larges)
        return Delivery(outcomes, larges)

    def stream(self, work: Work, *, hold: bool = False) -> Iterator[Delivery]:
        """Run the items of ``work`` and yield their outcomes as they come.

        A chain ends with its first item that does not complete. ``hold`` collects outcomes up to the end.
        """
        try:
            together = not work.chain and len(work.items) > 1 and all(map(self._is_async, work.items))
            if self._loop is not None and together:
                yield from self._together(work, self._loop)
            else:
                yield from self._one_by_one(work, hold=hold)
        finally:
            with self._lock:
                self._recalled.pop(work.id, None)
                self._held.pop(work.id, None)
                self._told.pop(work.id, None)
                self._over[work.id] = None
                while len(self._over) > REMEMBERED:
                    self._begun.pop(self._over.popitem(last=False)[0], None)

    def _one_by_one(self, work: Work, *, hold: bool) -> Iterator[Delivery]:
        ready = self._hold(work.id)
        total = 0
        made = Made(work)
        for place, item in enumerate(work.items):
            if work.id in self._recalled:
                break
            if ready.outcomes and not hold and not self._is_quick(item):
                yield ready
                ready = self._hold(work.id)
            outcome, packed = self._run(work, item, made)
            if outcome is None:
                break
            if packed is not None and packed.buffers and meets_others(work, place, hold=hold):
                packed = packed.copy()
            made.add(item.step, outcome.payload if packed is None else packed, place)
            total += self._add(ready, outcome, packed)
            packed = None
            if not hold and (ready.larges or not item.idempotent):
                yield ready
                ready = self._hold(work.id)
            if (work.chain and outcome.kind != "value") or (hold and total > LARGE_TOTAL):
                break
        if ready.outcomes:
            yield ready

    def _hold(self, work: int) -> Delivery:
        """Begin a new delivery; until it is yielded, :meth:`stop` can tell what is in it."""
        with self._lock:
            ready = self._held[work] = Delivery(Outcomes(), [])
            self._told[work] = 0
        return ready

    def _is_quick(self, item: Item) -> bool:
        return item.idempotent and self._took.get(item.operation, QUICK) < QUICK

    def _together(self, work: Work, loop: OperationLoop) -> Iterator[Delivery]:
        """Run independent items side by side on the event loop."""
        outcomes: queue.SimpleQueue[Ran] = queue.SimpleQueue()
        for item in work.items:
            future = loop.submit(self._run_async(work, item, {}))
            if future is None:
                outcomes.put((None, None))
            else:
                future.add_done_callback(lambda done: outcomes.put(ran(done)))
        left = len(work.items)
        while left:
            ready, waiting = Delivery(Outcomes(), []), True
            while waiting:
                outcome, packed = outcomes.get()
                if outcome is not None:
                    self._add(ready, outcome, packed)
                left, waiting = left - 1, not outcomes.empty()
            if ready.outcomes:
                yield ready

    def _add(self, ready: Delivery, outcome: Outcome, packed: Packed | None) -> int:
        """Add an outcome to a delivery, a large value beside it; return the size of that."""
        if packed is None or packed.size <= self._inline_limit or outcome.payload is Elided.ELIDED:
            ready.outcomes.append(outcome)
            return 0
        ready.outcomes.append(outcome._replace(payload=Large(len(ready.larges))))
        ready.larges.append(packed)
        return packed.size

    def _is_async(self, item: Item) -> bool:
        operation = self._operations.get(item.operation)
        return operation is not None and operation.is_async

    # --- one item ----------------------------------------------------------------------------------------

    def _run(self, work: Work, item: Item, made: dict[int, Any]) -> Ran:
        """Run one item in this thread; (None, None) when it was recalled before it began."""
        if self._loop is not None and self._is_async(item):
            future = self._loop.submit(self._run_async(work, item, made))
            return (None, None) if future is None else ran(future)
        with self._turns:
            body = self._begin(work, item)
            if body is None:
                return None, None
            try:
                with attempt_scope(body.attempt):
                    function, arguments = self._prepare(work, item, made)
                    self._own(body, arguments)
                    result = function(**arguments)
                    if not packing.is_builtin(result) and inspect.isawaitable(result):
                        result = result if packing.is_foreign(result) else _awaited(result)
                outcome, packed = self._done(body, item, result)
                stopped = body.attempt.cancel_flag.is_set
                return (with_states(outcome, item.files, stopped) if item.files else outcome), packed
            except BaseException as error:  # noqa: BLE001  # the one place where a tool's failure becomes an outcome
                return self._failed(body, item, error), None
            finally:
                self._end(body)

    async def _run_async(self, work: Work, item: Item, made: dict[int, Any]) -> Ran:
        body = self._begin(work, item)
        if body is None:
            return None, None
        body.task, body.loop = asyncio.current_task(), asyncio.get_running_loop()
        try:
            with attempt_scope(body.attempt):
                # Fetching a large input waits for the network; the loop has other operations to run.
                prepare = asyncio.to_thread(self._prepare, work, item, made) if item.inputs else None
                function, arguments = await prepare if prepare is not None else self._prepare(work, item, made)
                self._own(body, arguments)
                result = await function(**arguments)
            outcome, packed = self._done(body, item, result)
            # It leaves by another thread, while other bodies run here that may write to what it is made of.
            packed = None if packed is None else packed.copy()
            stopped = body.attempt.cancel_flag.is_set
            return (await with_states_aside(outcome, item.files, stopped) if item.files else outcome), packed
        except BaseException as error:  # noqa: BLE001  # as in _run
            return self._failed(body, item, error), None
        finally:
            self._end(body)

    def _begin(self, work: Work, item: Item) -> Body | None:
        emit = Throttle(self._report, work.run, item.step, self._clock)
        attempt = Attempt(
            cancel_flag=CancelFlag(),
            emit=emit,
            user_id=work.user_id,
            task_id=work.task_id,
            run=work.run,
            step=item.step,
            calls=(*work.calls, f"{self._spec.name}.{item.operation}"),
            home=self._home,
        )
        body = Body(work.id, item.step, attempt, emit, self._clock())
        with self._lock:
            if self._sealed or work.id in self._recalled:
                return None
            self._running[work.id, item.step] = body
            body.place = self._ledger.prepare(work.id, item.step)
            self._begun.setdefault(work.id, []).append(item.step)
        return body

    def _own(self, body: Body, arguments: dict[str, Any]) -> None:
        """From here on the tool's own code runs."""
        body.own, body.arguments, body.emit.arguments = True, arguments, arguments
        self._ledger.start(body.place)

    def _end(self, body: Body) -> None:
        self._ledger.end(body.place)
        with self._lock:
            self._running.pop((body.work, body.step), None)

    def _prepare(self, work: Work, item: Item, made: dict[int, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
        assert self._binder is not None
        inputs = read_inputs(work, item, made, self._fetch) if item.inputs else ()
        params = packing.unpack(packing.as_packed(item.params), inputs=inputs)
        arguments = self._binder.bind(item.operation, params, work.user_id, work.task_id)
        operation = self._operations[item.operation]
        for name in operation.options.writable:
            if name in arguments:
                arguments[name] = packing.writable(packing.pack(arguments[name]))
        # The name is one of the table's, so nothing else of the instance can be reached.
        return getattr(self._tool, operation.name), arguments

    def _done(self, body: Body, item: Item, result: Any) -> tuple[Outcome, Packed | None]:
        seconds = self._clock() - body.since
        self._took[item.operation] = seconds
        last = body.emit.last
        ttl, uncacheable = lifetime(self._operations[item.operation].options.ttl, result)
        step, attempt = item.step, item.attempt
        rest = None, seconds, last, None, ttl, uncacheable
        if packing.inline(result):
            return Outcome(step, attempt, "value", result, 8, type(result).__name__, *rest), None
        packed = packed_result(result, self._tool, self._spec.options, self._most)
        large = Elided.ELIDED if item.left_out else None
        payload = large if packed.size > self._inline_limit else packing.to_payload(packed)
        return Outcome(step, attempt, "value", payload, packed.size, packing.summarise(result), *rest), packed

    def _failed(self, body: Body, item: Item, error: BaseException) -> Outcome:
        seconds = self._clock() - body.since
        if body.attempt.cancel_flag.is_set():
            return Outcome(item.step, item.attempt, "cancelled", seconds=seconds)
        if isinstance(error, InputLostError):
            slot, reason = error.args
            info = ErrorInfo("E003", f"an input was lost: {reason}", "ResultLostError", ("ResultLostError",))
            return Outcome(item.step, item.attempt, "error", error=info, seconds=seconds, lost=slot)
        if isinstance(error, ResultInvalidError):
            info = failures.of_runtime(error)
            info = info._replace(message=f"Error executing {item.operation}: {info.message}", exception=None)
        elif isinstance(error, AiecsError) and not body.own:
            info = failures.of_runtime(error)
        else:
            info = failures.of_tool(error, item.operation)
        info = masking.masked(info, masking.secrets_in(body.arguments))
        last = body.emit.last
        return Outcome(item.step, item.attempt, "error", error=info, seconds=seconds, progress=last)

    # --- asked from outside while an operation runs --------------------------------------------------------

    def marks(self) -> dict[tuple[int, int], Mark]:
        """Return how far attempts have come."""
        return self._ledger.marks()

    def status(self) -> list[Running]:
        """Return what is running, and for how long."""
        now = self._clock()
        with self._lock:
            return [Running(body.work, body.step, now - body.since) for body in self._running.values()]

    def seal(self) -> None:
        """Begin nothing any more, for good; cancel what runs on the event loop."""
        with self._lock:
            self._sealed = True
            loop = self._loop
        if loop is not None:
            loop.close()

    def stop(self, work: int, ask: Sequence[int] = ()) -> Stopped:
        """Begin nothing more of ``work``; tell the bodies of the steps ``ask`` that they should end."""
        with self._lock:
            if work not in self._over:
                self._recalled[work] = None
            bodies = [body for body in self._running.values() if body.work == work and body.step in ask]
        for body in bodies:
            body.ask()
        return self.collect(work)

    def collect(self, work: int) -> Stopped:
        """Hand over the outcomes of ``work`` that wait for the end of a body after them; later they come again."""
        with self._lock:
            running = tuple(body.step for body in self._running.values() if body.work == work)
            held = self._held.get(work)
            waiting: list[Outcome] = []
            if running and held is not None and not held.larges:
                # A body is running, so the thread that fills the list is not at it.
                waiting = held.outcomes[self._told[work] :]
                self._told[work] += len(waiting)
            return Stopped(running, tuple(self._begun.get(work, ())), waiting)


def _awaited(result: Any) -> Any:
    """Wait for what a plain method returned: an awaitable is run to its end, as users of async libraries expect."""

    async def wait() -> Any:
        return await result

    return asyncio.run(wait())


def _turns(most: int) -> threading.Lock | threading.Semaphore:
    """Return what lets ``most`` operations run at once; for one a lock, which is ten times faster."""
    return threading.Lock() if most <= 1 else threading.Semaphore(most)
