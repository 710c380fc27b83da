"""The way of a client to its coordinator: what it sends there, and what it makes of the answers."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import threading
import weakref
from typing import TYPE_CHECKING, Any, Self

from aiecs_ray import nesting
from aiecs_ray.catalog import Catalog
from aiecs_ray.collector import undisturbed
from aiecs_ray.errors import RuntimeUnavailableError
from aiecs_ray.forks import close_own, refuse_forked
from aiecs_ray.interrupts import wind_up
from aiecs_ray.messages import check_protocol
from aiecs_ray.packing import is_small
from aiecs_ray.prepare import Preparer
from aiecs_ray.registry import DEFAULT
from aiecs_ray.results import note_failures, open_all
from aiecs_ray.run import Run

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from aiecs_ray.actors.pages import Answer
    from aiecs_ray.backend import Link
    from aiecs_ray.config import Settings
    from aiecs_ray.messages import Settled
    from aiecs_ray.packing import Packed
    from aiecs_ray.registry import Registry
    from aiecs_ray.results import Opened
    from aiecs_ray.run_options import Prepared, RunOptions
    from aiecs_ray.watching import Watch

GOODBYE = 5.0
"""Seconds that closing waits for the coordinator."""


class Channel:
    """A connection to one coordinator; usable from any thread.

    Args:
        link: reaches the actors.
        settings: of this client.
        registry: its tools; None: those of this process.
        runtime_env: of the replicas of its tools.
    """

    def __init__(
        self,
        link: Link,
        settings: Settings,
        *,
        registry: Registry | None = None,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        self._link = link
        self._settings = settings
        self._closed = False
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._sent: set[str] = set()
        self._client = secrets.token_hex(8)
        self._timeouts: dict[str, float] = {}
        self.registry = DEFAULT if registry is None else registry
        self.catalog = Catalog(self.registry, runtime_env, self.request, link.upload)
        self.incarnation = ""
        hello = self._greet()
        self._preparer = Preparer(
            self.catalog,
            put=link.put,
            inline_limit=hello["settings"]["inline_limit"],
            client=self._client,
        )
        self._finalizer = weakref.finalize(self, close_own, link, self._process)

    # --- life ----------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """What another process passes to ``connect`` to reach the same cluster."""
        return self._link.address

    def close(self) -> None:
        """Let go of the cluster; a private one ends with everything in it. Closing twice is harmless.

        In a process forked from the one that made the runtime it does nothing.
        """
        if self._process != os.getpid():
            return
        if not self._closed:
            self._closed = True
            # A coordinator that is gone, or hangs, need not be told.
            with contextlib.suppress(RuntimeUnavailableError, TimeoutError):
                self._link.request("goodbye", self._client).result(timeout=GOODBYE)
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- runs -----------------------------------------------------------------------------------------------

    def prepare(self, operations: Any, options: RunOptions) -> Prepared:
        """Check a list of operations and make a request of it."""
        self._check_open()
        options = nesting.inside(options)
        if self._timeouts:
            options = dataclasses.replace(options, timeouts={**self._timeouts, **options.timeouts})
        return self._preparer.prepare(operations, options)

    def execute(self, prepared: Prepared, watch: Watch | None = None) -> list[Opened]:
        """Run a request to its end, showing it with ``watch``; an interrupt cancels the run before it goes on."""
        future: concurrent.futures.Future[Answer] | None = None
        opened: list[Opened] = []
        try:
            future = self.start_execute(prepared, watched=watch is not None)
            answer = future.result() if watch is None else watch.until(future)
            opened = self.open_answer(answer, prepared)
        except BaseException as error:
            # An interrupt can come when the request has just been sent.
            if isinstance(error, KeyboardInterrupt) if future is None else not future.done():
                wind_up(self.cancel(prepared), f"{self.incarnation}-{prepared.request.token}")
            if watch is None:
                self.abandon(prepared)
            raise
        finally:
            if watch is not None:
                watch.close(opened)
                self.abandon(prepared)
        return opened

    def abandon(self, prepared: Prepared) -> None:
        """End the run of a request, and let the cluster forget it with its results; does not wait."""
        with contextlib.suppress(RuntimeUnavailableError):
            self._link.request("release", f"{self.incarnation}-{prepared.request.token}")

    def cancel(self, prepared: Prepared) -> concurrent.futures.Future[Any]:
        """Cancel the run of a request whose answer is not there yet."""
        return self._link.request("cancel", f"{self.incarnation}-{prepared.request.token}")

    def start_execute(self, prepared: Prepared, *, watched: bool = False) -> concurrent.futures.Future[Answer]:
        """Send a request that is answered when the run has ended; one that is ``watched`` is kept until released."""
        with undisturbed(len(prepared.specs)):
            return self._link.request("execute", prepared.request, self._new_tools(prepared), watched)

    def start(self, prepared: Prepared) -> Run:
        """Send a request that is answered when the run has begun."""
        answer: Answer = self.request("submit", prepared.request, self._new_tools(prepared))
        if answer.stranger:
            self._greet()
            answer = self.request("submit", prepared.request, tuple(prepared.tools.values()))
        return Run(self, answer.run, prepared.specs)

    def open_answer(self, answer: Answer, prepared: Prepared) -> list[Opened]:
        """Return what a finished run produced."""
        if answer.stranger:
            self._greet()
            answer = self.request("execute", prepared.request, tuple(prepared.tools.values()))
        assert answer.page is not None
        page = answer.page
        opened = self.open(answer.run, range(len(page.settled)), page.settled, prepared.specs)
        kept = page.following is not None or not all(is_small(settled.payload) for settled in page.settled)
        while page.following is not None:
            page = self.request("results", answer.run, page.following)
            steps = range(len(opened), len(opened) + len(page.settled))
            opened.extend(self.open(answer.run, steps, page.settled, prepared.specs))
        if kept:
            self._link.request("release", answer.run)
        return opened

    def open(self, run: str, steps: Sequence[int], settled: Sequence[Settled], specs: Sequence[str]) -> list[Opened]:
        """Return the values and errors of some steps; a large value that was lost is made anew, if it may be."""
        opened = open_all(settled, self._link.fetch)
        lost = [place for place, one in enumerate(opened) if one.is_lost]
        if lost:
            again = open_all(self.request("remake", run, [steps[place] for place in lost]), self._link.fetch)
            for place, one in zip(lost, again, strict=True):
                opened[place] = one
        note_failures(run, steps, opened, specs)
        return opened

    def request(self, method: str, *args: Any) -> Any:
        """Call the coordinator and wait for its answer."""
        self._check_open()
        return self._link.request(method, *args).result()

    def request_nowait(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call the coordinator."""
        self._check_open()
        return self._link.request(method, *args)

    def cache_request(self, method: str, *args: Any, timeout: float | None = None) -> Any:
        """Call the cache and wait for its answer, for ``timeout`` seconds at most."""
        self._check_open()
        return self._link.cache_request(method, *args).result(timeout)

    def share(self, packed: Packed) -> Any:
        """Return the form in which a packed value travels: what is large is put where everybody can read it."""
        self._check_open()
        return self._preparer.parameters.payload(packed)

    def fetch(self, reference: Any) -> Packed:
        """Return the large value of a reference; raises what the backend says of one that is gone."""
        self._check_open()
        (packed,) = self._link.fetch([reference])
        if isinstance(packed, Exception):
            raise packed
        return packed

    def history_request(self, method: str, *args: Any) -> Any:
        """Call the history, which first hears of everything that has happened, and wait for its answer."""
        self.request("write_history")
        return self._link.history_request(method, *args).result()

    def _greet(self) -> dict[str, Any]:
        """Introduce this client to the coordinator; again, when that was restarted."""
        hello: dict[str, Any] = self.request("hello", self._client, self._link.lease())
        check_protocol(hello["protocol"])
        self.incarnation = hello["incarnation"]
        return hello

    def _new_tools(self, prepared: Prepared) -> tuple[Any, ...]:
        with self._lock:
            tools = prepared.tools.items()
            new = [spec for key, spec in tools if key not in self._sent and self.catalog.owns(spec)]
            self._sent.update(spec.key for spec in new)
        return tuple(new)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeUnavailableError("the runtime was closed; connect again with aiecs_ray.connect()")
        refuse_forked(self._process)
