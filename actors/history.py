"""The history of runs: writes what coordinators tell, and answers what people ask."""

from __future__ import annotations

import pickle
import time
from typing import TYPE_CHECKING, Any, Protocol

from aiecs_ray.history_rows import RowMaker
from aiecs_ray.history_statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from aiecs_ray.config import Settings
    from aiecs_ray.history_facts import Batch
    from aiecs_ray.history_rows import Row, Rows

PRUNE_EVERY = 3600.0
"""Seconds between two looks for runs that are too old or too many."""
DAY = 86_400.0


class Store(Protocol):
    """What a history asks of its database; :mod:`aiecs_ray.history_store` has one."""

    def write(self, feed: str, number: int, time: float, lost: int, rows: Rows) -> bool:
        """Write a batch, whole or not at all; return False for one that was written before."""

    def prune(self, before: float | None, keep: int | None) -> int:
        """Delete old runs; return how many."""

    def runs(self, now: float, filters: Mapping[str, Any], limit: int) -> list[Row]:
        """Return the latest runs first."""

    def steps(self, run: str) -> list[Row]:
        """Return the steps of a run that are recorded one by one."""

    def bulk(self, run: str) -> list[Row]:
        """Return what is recorded of a run's steps together."""

    def events(self, run: str) -> list[list[Any]]:
        """Return the events of a run."""

    def value(self, run: str, step: int) -> Row | None:
        """Return what is kept of the result of a step."""

    def timings(self, filters: Mapping[str, Any]) -> Iterator[Row]:
        """Yield what steps took."""

    def facts(self) -> Row:
        """Return where the history is and how much it holds."""

    def close(self) -> None:
        """Let go of the database."""


class History:
    """Records runs.

    Args:
        settings: how long they are kept.
        open_store: opens the database; again, when that failed.
        clock: seconds since the epoch.
    """

    def __init__(
        self, settings: Settings, open_store: Callable[[], Store], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._open, self._clock = settings, open_store, clock
        self._opened: Store | None = None
        self._maker = RowMaker()
        self._next_prune = 0.0

    def append(self, batch: bytes) -> None:
        """Write a pickled ``Batch``; returns when it is in the database.

        Raises:
            HistoryError: it could not be written.
        """
        told: Batch = pickle.loads(batch)  # noqa: S301  # of a coordinator; values inside stay packed
        self._store().write(told.feed, told.number, told.time, told.lost, self._maker.rows(told))
        self._maker.forget(told)
        now = self._clock()
        if now >= self._next_prune:
            self._next_prune = now + PRUNE_EVERY
            self.prune(now - self._settings.history_days * DAY, self._settings.history_runs)

    def prune(self, before: float | None, keep: int | None) -> int:
        """Delete the runs that began before a time, and the oldest beyond ``keep``; return how many."""
        return self._store().prune(before, keep)

    def runs(self, filters: Mapping[str, Any], limit: int) -> list[Row]:
        """Return the latest runs first."""
        return self._store().runs(self._clock(), filters, limit)

    def run(self, run: str) -> dict[str, Any] | None:
        """Return everything of one run but the values; None where it is not recorded."""
        store = self._store()
        found = store.runs(self._clock(), {"id": run}, 1)
        if not found:
            return None
        return {"run": found[0], "steps": store.steps(run), "bulk": store.bulk(run), "events": store.events(run)}

    def value(self, run: str, step: int) -> Row | None:
        """Return what is kept of the result of a step."""
        return self._store().value(run, step)

    def statistics(self, filters: Mapping[str, Any]) -> list[Row]:
        """Return, per operation, how many there were, how they ended, how long they took and how large they were."""
        statistics = Statistics()
        for timing in self._store().timings(filters):
            statistics.add(timing)
        return statistics.rows()

    def facts(self) -> Row:
        """Return where the history is and how much it holds."""
        return self._store().facts()

    def close(self) -> None:
        """Let go of the database."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _store(self) -> Store:
        if self._opened is None:
            self._opened = self._open()
        return self._opened
