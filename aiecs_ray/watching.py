"""Following a run to show it: reads its events in few words, draws now and then, and never disturbs the run."""

from __future__ import annotations

import concurrent.futures
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from aiecs_ray.callbacks import describe_callable, takes
from aiecs_ray.collector import undisturbed
from aiecs_ray.displays import SOON, check_progress, display, is_shown
from aiecs_ray.errors import AiecsError, InvalidInputError
from aiecs_ray.results import to_step_result
from aiecs_ray.run_view import RunView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiecs_ray.client import Client
    from aiecs_ray.displays import Display, Progress
    from aiecs_ray.model import TaskStepResult
    from aiecs_ray.results import Opened
    from aiecs_ray.run_options import Prepared

logger = logging.getLogger(__name__)

WAIT = 30.0
"""Seconds that one question to the coordinator may wait for its answer."""
PAUSE = 0.25
"""Seconds between two questions; a run of many small steps is not slowed by being looked at."""
LAST = 5.0
"""Seconds that the last events of a run are waited for."""


class Watch:
    """Shows one run.

    Args:
        client: asks the coordinator.
        run_id: which run.
        shown: what draws; None waits ``delay`` seconds and then looks where it is.
        delay: seconds in which nothing is shown; a run that is shorter is not shown at all.
    """

    def __init__(self, client: Client, run_id: str, shown: Display | None = None, *, delay: float = 0.0) -> None:
        self.view = RunView(run_id)
        self._client, self._run_id = client, run_id
        self._display = shown
        self._quiet_until = time.monotonic() + delay
        self._drawn = 0.0
        self._asked: concurrent.futures.Future[Any] | None = None
        self._over = False

    def until(self, future: concurrent.futures.Future[Any]) -> Any:
        """Show the run until ``future`` is done, and return its result."""
        quiet = self._quiet_until - time.monotonic()
        if quiet > 0:
            concurrent.futures.wait((future,), timeout=quiet)
        while not future.done():
            self.tick(wait_for=future)
        if self._is_due():
            # Now, because the run may be released when its results are read.
            self._catch_up(LAST)
        return future.result()

    def end(self) -> str:
        """Show the run until it has ended; return its status."""
        while not self._over:
            self.tick()
        return self.view.status

    def tick(self, wait_for: concurrent.futures.Future[Any] | None = None, *, block: bool = True) -> None:
        """Take in what has happened, draw, and wait a moment."""
        self._ask()
        waiting = {one for one in (self._asked, wait_for) if one is not None}
        if block:
            pause = PAUSE if self._display is None else self._display.interval
            concurrent.futures.wait(waiting, timeout=pause, return_when=concurrent.futures.FIRST_COMPLETED)
        if self._asked is not None and self._asked.done():
            self._take(self._asked)
        now = time.monotonic()
        known = self.view.began is not None
        if known and now >= self._quiet_until and now - self._drawn >= PAUSE / 2:
            self._draw(now)

    def close(self, opened: Iterable[Opened] = (), *, patience: float = LAST) -> None:
        """Show how the run has ended.

        Args:
            opened: its results, which say so where its last events were not seen.
            patience: seconds that those are waited for.
        """
        if not self._is_due():
            return
        self._catch_up(patience)
        counts = Counter(one.settled.status for one in opened)
        if counts:
            self.view.conclude(counts, time.time())
        if self._display is None:
            self._show(self._begin)
        shown, self._display = self._display, None
        if shown is not None:
            self._show(lambda: shown.close(self.view, time.time()))

    def _catch_up(self, patience: float) -> None:
        """Read what there is, up to the last event of the run."""
        deadline = time.monotonic() + patience
        while not self._over and time.monotonic() < deadline:
            self._ask()
            if self._asked is None:
                return
            concurrent.futures.wait((self._asked,), timeout=patience)
            if not self._asked.done():
                return
            self._take(self._asked)

    def _is_due(self) -> bool:
        return self._display is not None or time.monotonic() >= self._quiet_until

    def _ask(self) -> None:
        if self._asked is None and not self._over:
            try:
                self._asked = self._client.request_nowait("digest", self._run_id, self.view.following, WAIT, PAUSE)
            except AiecsError:
                self._over = True

    def _take(self, answered: concurrent.futures.Future[Any]) -> None:
        self._asked = None
        try:
            digest = answered.result()
        except Exception as error:  # noqa: BLE001  # whatever it is, the run's own answer says what has become of it
            logger.debug("run %s is not shown any more: %s", self._run_id, error)
            self._over = True
            return
        self.view.take(digest)
        self._over = digest.over

    def _draw(self, now: float) -> None:
        self._drawn = now
        if self._display is None:
            self._show(self._begin)
        shown = self._display
        if shown is not None:
            self._show(lambda: shown.draw(self.view, time.time()))

    def _begin(self) -> None:
        self._display = display()

    def _show(self, do: Callable[[], object]) -> None:
        try:
            do()
        except Exception:  # a terminal that is gone, a kernel that closes: the run matters, not its picture
            logger.debug("run %s cannot be shown", self._run_id, exc_info=True)
            self._display = _Nothing()


class _Nothing:
    """Shows nothing."""

    interval = 1.0

    def draw(self, view: RunView, now: float) -> None:
        """Do nothing."""

    def close(self, view: RunView, now: float) -> None:
        """Do nothing."""


def run_prepared(
    client: Client,
    prepared: Prepared,
    progress: Progress,
    on_step: Callable[[int, TaskStepResult], object] | None,
) -> list[TaskStepResult]:
    """Run a request to its end and return its results, showing it meanwhile where that is wanted.

    Raises:
        InvalidInputError: ``on_step`` cannot be called with an index and a result; nothing has run.
    """
    check_progress(progress)
    if on_step is not None and not takes(on_step, 2):
        raise InvalidInputError(f"on_step must be a function of (index, result), got {describe_callable(on_step)}")
    watch = None
    if is_shown(progress) and not (progress == "auto" and on_step is not None):
        run_id = f"{client.incarnation}-{prepared.request.token}"
        watch = Watch(client, run_id, delay=SOON if progress == "auto" else 0.0)
    if on_step is not None:
        run = client.start(prepared)
        try:
            return run.follow(on_step, watch)
        finally:
            run.release()
    opened = client.execute(prepared, watch)
    with undisturbed(len(opened)):
        return [to_step_result(one, spec) for one, spec in zip(opened, prepared.specs, strict=True)]
