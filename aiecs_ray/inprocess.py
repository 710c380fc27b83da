"""The twin without Ray: replicas are threads of this process. Values are copied by the same rules.

A Python thread cannot be killed. Where the Ray backend kills a process, this one lets go of the thread: its work is
reported as lost, its instance is never used again, and a warning says that it may still be running.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import logging
import os
import random
import secrets
import threading
from typing import TYPE_CHECKING, Any

from aiecs_ray.actors.cache import Cache
from aiecs_ray.actors.coordinator import Coordinator
from aiecs_ray.actors.history import History
from aiecs_ray.actors.tool import ToolHost
from aiecs_ray.backend import HistoryGone
from aiecs_ray.errors import HistoryError, InvalidInputError, RuntimeUnavailableError
from aiecs_ray.local_replica import LocalRef, LocalReplica, Worker
from aiecs_ray.options import ASYNC_CONCURRENCY
from aiecs_ray.outstanding import CLOSED, Outstanding
from aiecs_ray.scaling import calls_at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from aiecs_ray.backend import CacheEntry, CacheLink, KeyParts, Link, Note
    from aiecs_ray.config import Settings
    from aiecs_ray.messages import ToolSpec
    from aiecs_ray.metering import Sample
    from aiecs_ray.packing import Packed

logger = logging.getLogger(__name__)

RESULT_BYTES = 256 * 2**20
HISTORY_END = 1.0
"""Seconds that a history gets to end what it is doing when the runtime is closed."""


class _CacheLink:
    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def get_many(self, keys: Sequence[str], operations: Sequence[str]) -> list[CacheEntry | None]:
        return self._cache.get_many(keys, operations)

    def put_many(self, entries: Sequence[CacheEntry]) -> None:
        self._cache.put_many(entries)

    def note(self, notes: Sequence[Note]) -> None:
        self._cache.note(notes)

    async def explain(self, parts: KeyParts, operation: str, key: str) -> dict[str, Any]:
        return self._cache.explain(parts, operation, key)

    async def purge(self, tags: dict[str, str]) -> int:
        return self._cache.purge(tags)


class _MetricsLink:
    """Nobody looks at the numbers of one process but who asks for them."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def cache_stats(self) -> Mapping[str, Any]:
        return self._cache.stats()

    def show(self, samples: Sequence[Sample]) -> None:
        pass


def read(reference: LocalRef) -> Packed:
    """Return the large value of a reference."""
    return reference.packed


class InProcessBackend:
    """Runs replicas as threads."""

    def __init__(self, settings: Settings, cache: Cache) -> None:
        self._settings = settings
        self.cache: CacheLink = _CacheLink(cache)
        self.report: Callable[..., object] = lambda *_: None
        self.home: Callable[[], Link] | None = None

    def create(self, spec: ToolSpec) -> LocalReplica:
        """Make a replica of a tool."""
        host = ToolHost(
            spec,
            fetch=read,
            report=self._report,
            inline_limit=self._settings.inline_limit,
            most=self._settings.max_result_bytes,
            home=self.home,
        )
        concurrency = int(spec.options.get("concurrency") or (ASYNC_CONCURRENCY if spec.has_async else 1))
        return LocalReplica(host, spec.name, calls_at_once(concurrency) if spec.has_async else concurrency)

    def _report(self, run: str, step: int, done: float, total: float | None, message: str) -> None:
        self.report(run, step, done, total, message)

    async def nodes(self) -> Sequence[Mapping[str, float]]:
        """Return this machine as the only node."""
        memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        return [{"CPU": float(os.cpu_count() or 1), "memory": memory}]

    async def alive(self, lease: Any) -> bool:  # noqa: ARG002  # the client is this process
        """Return True: the client is this very process."""
        return True


class LocalHistory:
    """The history on a thread of its own: a database may be slow."""

    def __init__(self, settings: Settings) -> None:
        # Importing SQLAlchemy takes half a second: only who keeps a history pays.
        store = importlib.import_module("aiecs_ray.history_store")
        self._history = History(settings, lambda: store.HistoryStore(settings.history_url))
        # No pool: Python ends those before a runtime that nobody closed has told its history everything.
        self._worker = Worker("aiecs-ray history")

    async def append(self, batch: bytes) -> None:
        """Return when a batch is written."""
        try:
            await asyncio.wrap_future(self.ask("append", batch))
        except Exception as error:
            raise HistoryGone(str(error) if isinstance(error, HistoryError) else repr(error)) from error

    def ask(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call a method of the history."""
        answer: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def job() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(getattr(self._history, method)(*args))
                except Exception as error:  # noqa: BLE001  # it belongs to whoever asked
                    answer.set_exception(error)

        self._worker.submit(job)
        return answer

    def close(self) -> None:
        """Write what is under way and let go of the database; one that hangs is left to itself."""
        self.ask("close")
        self._worker.end()
        self._worker.thread.join(timeout=HISTORY_END)


class InProcessLink:
    """A coordinator on an event loop of its own thread."""

    address = "inprocess"

    def __init__(self, settings: Settings) -> None:
        self._cache = Cache(settings, adopt=lambda payload: payload, fetch=read, keep=LocalRef)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aiecs-ray coordinator", daemon=True)
        self._thread.start()
        backend = InProcessBackend(settings, self._cache)
        self._history = None if settings.history_url in (None, "off") else LocalHistory(settings)
        self._coordinator = Coordinator(
            backend,
            settings,
            incarnation=secrets.token_hex(4),
            result_bytes=RESULT_BYTES,
            random=random.random,
            token=secrets.token_bytes,
            history=self._history,
            metrics=_MetricsLink(self._cache) if settings.metrics else None,
        )
        backend.report = lambda *progress: self.request("report", *progress)
        backend.home = lambda: _Inner(self)
        self._closing = threading.Lock()
        self._closed = False
        self._outstanding = Outstanding()

    def request(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call a method of the coordinator."""
        return self._ask(getattr(self._coordinator, method)(*args))

    def cache_request(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call a method of the cache; it runs on the coordinator's thread."""

        async def call() -> Any:
            return getattr(self._cache, method)(*args)

        return self._ask(call())

    def history_request(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call a method of the history; it runs on the history's thread."""
        if self._history is None:
            raise InvalidInputError("no history is kept in process; say where: Settings(history_url='sqlite:///...')")
        return self._outstanding.answer_to(self._history.ask(method, *args))

    def _ask(self, question: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
        # A thread that was left behind may ask after the end, when no loop would ever run its question.
        with self._closing:
            if not self._closed:
                return self._outstanding.answer_to(asyncio.run_coroutine_threadsafe(question, self._loop))
        question.close()
        refused: concurrent.futures.Future[Any] = concurrent.futures.Future()
        refused.set_exception(_closed_error())
        return refused

    def upload(self, runtime_env: dict[str, Any]) -> dict[str, Any]:
        """Return ``runtime_env`` as it is: replicas are threads of this process and have its files."""
        return runtime_env

    def put(self, packed: Packed) -> LocalRef:
        """Return a reference to a copy of ``packed``: what its owner changes later is not seen."""
        return LocalRef(packed.copy())

    def fetch(self, references: Sequence[LocalRef]) -> list[Packed | Exception]:
        """Return the values of ``references``."""
        return [_read_or_error(reference) for reference in references]

    def lease(self) -> None:
        """Return nothing: the client cannot outlive this process, nor this process the client."""

    def close(self) -> None:
        """End every run and the coordinator's thread."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._cache.close()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(timeout=10)
        self._outstanding.end(_closed_error())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        if not self._thread.is_alive():
            self._loop.close()
        if self._history is not None:
            self._history.close()

    async def _end(self) -> None:
        await self._coordinator.shut_down()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _read_or_error(reference: LocalRef) -> Packed | Exception:
    try:
        return read(reference)
    except ConnectionError as error:
        return error


class _Inner:
    """The way of an operation to the coordinator that runs it; to close it ends nothing."""

    def __init__(self, link: InProcessLink) -> None:
        self._link = link

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def close(self) -> None:
        """Do nothing: the coordinator belongs to whoever started it."""


def _closed_error() -> RuntimeUnavailableError:
    return RuntimeUnavailableError(CLOSED)
