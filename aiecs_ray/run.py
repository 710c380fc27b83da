"""A run as its user holds it: status, results, events, cancellation. It holds an id, and no data of the cluster."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from aiecs_ray.ended_steps import EndedSteps
from aiecs_ray.errors import InvalidInputError, OperationTimeoutError, ResultExpiredError, RunLostError
from aiecs_ray.looking import Look, write_page, write_trace
from aiecs_ray.operation import seconds
from aiecs_ray.quoting import shorten
from aiecs_ray.results import to_step_result, to_value
from aiecs_ray.watching import PAUSE, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aiecs_ray.client import Client
    from aiecs_ray.messages import Event
    from aiecs_ray.model import TaskStepResult

POLL = 30.0
"""Seconds that one question to the coordinator may wait for its answer."""


class Run:
    """One execution of a plan.

    >>> import aiecs_ray
    >>> class Counter:
    ...     def double(self, n: int) -> int:
    ...         return 2 * n
    >>> with aiecs_ray.connect("inprocess") as rt:
    ...     _ = rt.register(Counter)
    ...     run = rt.submit([{"operation": "counter.double", "params": {"n": 21}}])
    ...     run.result()[0].result
    42
    """

    def __init__(self, runtime: Client, run_id: str, specs: list[str]) -> None:
        self._runtime = runtime
        self._specs = specs
        self._look = Look(runtime.request, run_id)
        self.id = run_id

    def __repr__(self) -> str:
        return f"<run {self.id}: {len(self._specs)} operations>"

    def __len__(self) -> int:
        return len(self._specs)

    def status(self) -> str:
        """Return "running", "completed", "failed" (a step did not complete), "cancelled" or "timed_out"."""
        return str(self._runtime.request("status", self.id).status)

    def done(self) -> bool:
        """Return whether every step has ended."""
        return bool(self._runtime.request("wait", self.id, 0.0))

    def progress(self) -> tuple[int, int]:
        """Return how many steps have ended, and how many there are."""
        status = self._runtime.request("status", self.id)
        return status.ended, status.total

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the run, at most ``timeout`` seconds; return whether it has ended."""
        deadline = None if timeout is None else time.monotonic() + seconds(timeout)
        while True:
            left = POLL if deadline is None else min(POLL, deadline - time.monotonic())
            if self._runtime.request("wait", self.id, max(0.0, left)):
                return True
            if left < POLL:
                return False

    def result(self, timeout: float | None = None) -> list[TaskStepResult]:
        """Return one result per operation, in input order, once all have ended.

        Raises:
            OperationTimeoutError: the run has not ended within ``timeout`` seconds; it goes on.
            RunLostError: the coordinator was restarted.
            ResultExpiredError: the results are not kept any more.
        """
        if not self.wait(timeout):
            raise OperationTimeoutError(f"Run {self.id} has not ended within {timeout:g}s; it goes on")
        results: list[TaskStepResult] = []
        following: int | None = 0
        while following is not None:
            page = self._runtime.request("results", self.id, following)
            steps = range(following, following + len(page.settled))
            opened = self._runtime.open(self.id, steps, page.settled, self._specs)
            specs = self._specs[following : following + len(opened)]
            results.extend(to_step_result(one, spec) for one, spec in zip(opened, specs, strict=True))
            following = page.following
        return results

    def value(self, step: int | str) -> Any:
        """Return the value of one step that has completed, or raise its error.

        Args:
            step: its index, or the id that its operation gave it.

        Raises:
            InvalidInputError: the run has no such step.
            OperationTimeoutError: the step has not ended yet.
        """
        step = self._index(step)
        settled = self._runtime.request("result_of", self.id, [step])[0]
        if settled is None:
            raise OperationTimeoutError(f"Step {step} of run {self.id} has not ended yet")
        return to_value(self._runtime.open(self.id, [step], [settled], self._specs)[0], self._specs[step], step)

    def _index(self, step: int | str) -> int:
        index = self._runtime.request("index_of", self.id, step) if type(step) is str else step
        if type(index) is not int or not 0 <= index < len(self._specs):
            text = f"step must be an index from 0 to {len(self._specs) - 1} or the id of a step"
            raise InvalidInputError(f"{text}, got {shorten(step)}")
        return index

    def stream(self) -> Iterator[tuple[int, TaskStepResult]]:
        """Yield index and result of each step as it ends."""
        return self._stream(None)

    def _stream(self, watch: Watch | None) -> Iterator[tuple[int, TaskStepResult]]:
        ended = EndedSteps(len(self._specs))
        while True:
            events, last = self._runtime.request("events", self.id, ended.number, POLL if watch is None else PAUSE)
            if watch is not None:
                watch.tick(block=False)
            for asked in ended.to_ask(events, last=last):
                steps, settled = ended.told(asked, self._runtime.request("result_of", self.id, asked))
                for step, opened in zip(steps, self._runtime.open(self.id, steps, settled, self._specs), strict=True):
                    yield step, to_step_result(opened, self._specs[step])
            if last:
                return

    def follow(
        self, on_step: Callable[[int, TaskStepResult], object], watch: Watch | None = None
    ) -> list[TaskStepResult]:
        """Call ``on_step`` with index and result of each step as it ends, and return all results.

        An exception of ``on_step``, or an interrupt, cancels the run and goes on. ``watch`` shows it meanwhile.
        """
        try:
            for index, result in self._stream(watch):
                on_step(index, result)
            return self.result()
        finally:
            if not self.done():
                self.cancel()
            if watch is not None:
                watch.close()

    def watch(self) -> str:
        """Show the run until it has ended, and return its status: a card in a notebook, lines on a terminal.

        Elsewhere a line every 10 seconds goes to the standard error. An interrupt ends the watching, not the run.
        """
        watch = Watch(self._runtime, self.id)
        try:
            watch.end()
        except BaseException:
            watch.close(patience=0.0)
            raise
        watch.close()
        return self.status()

    def report(self, path: str | Path) -> Path:
        """Write what is known of the run to one HTML file that needs nothing else; return its path.

        Results are named by type, shape and size; they are not fetched.
        """
        return write_page(self._look.refresh(), path)

    def trace(self, path: str | Path) -> Path:
        """Write the run's events to a JSON file that ui.perfetto.dev and chrome://tracing open; return its path.

        Raises:
            RunLostError, ResultExpiredError: the cluster does not have the run any more.
        """
        return write_trace(self.events(follow=False), path)

    def _repr_html_(self) -> str:
        return self._look.card()

    def events(self, after: int = -1, *, follow: bool = True) -> Iterator[Event]:
        """Yield the events after number ``after``: first those there are, then, with ``follow``, new ones live.

        A reader that is slower than the run misses the oldest events beyond ``event_limit`` and sees the gap in the
        numbers; it never slows the run.

        Raises:
            InvalidInputError: ``after`` is no number of an event, nor -1.
        """
        if type(after) is not int or after < -1:
            raise InvalidInputError(f"after is the number of an event, or -1 for all, got {shorten(after)}")
        return self._events(after + 1, follow=follow)

    def _events(self, number: int, *, follow: bool) -> Iterator[Event]:
        while True:
            events, last = self._runtime.request("events", self.id, number, POLL if follow else 0.0)
            yield from events
            if last or not (follow or events):
                return
            number = events[-1].number + 1 if events else number

    def cancel(self) -> str:
        """Cancel the run; return its status once nothing of it runs any more, and nothing of it can start."""
        return str(self._runtime.request("cancel", self.id))

    def release(self) -> None:
        """Let the cluster forget the run and its results; a run that is lost already is forgotten."""
        with contextlib.suppress(RunLostError, ResultExpiredError):
            self._runtime.request("release", self.id)
