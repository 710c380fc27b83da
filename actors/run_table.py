"""The runs that a coordinator knows: open ones, finished ones whose results are kept, and ids of those that were."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from aiecs_ray.errors import ResultExpiredError, RunLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiecs_ray.actors.run import Run

READING = 30.0
"""Seconds since a run ended or was asked for during which its results are kept, however many bytes they have."""
KEPT = 10_000
"""Finished runs that are kept, however small their results are."""
STUBS = 10_000
"""Ids of expired runs that are remembered, so that asking for them says what happened."""


class RunTable:
    """Runs by id, the oldest first.

    Args:
        incarnation: what the ids of this coordinator's runs begin with; any other id is that of a lost run.
        result_ttl: seconds for which the results of a finished run are kept.
        result_bytes: bytes of results of finished runs that are kept; the oldest ones go first.
        clock: seconds since the epoch.
    """

    def __init__(self, incarnation: str, *, result_ttl: float, result_bytes: int, clock: Callable[[], float]) -> None:
        self._incarnation = incarnation
        self._result_ttl, self._result_bytes = result_ttl, result_bytes
        self._clock = clock
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._expired: OrderedDict[str, None] = OrderedDict()
        self._operations: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    def add(self, run: Run) -> None:
        """Take in a new run."""
        self._runs[run.id] = run

    def get(self, run_id: str) -> Run | None:
        """Return a run, if it is known."""
        return self._runs.get(run_id)

    def named(self, run_id: str) -> Run:
        """Return a run that somebody asks for.

        Raises:
            ResultExpiredError: it was released, or is too old.
            RunLostError: it was another coordinator's.
        """
        if (run := self._runs.get(run_id)) is not None:
            run.asked_at = self._clock()
            return run
        if run_id in self._expired or run_id.startswith(f"{self._incarnation}-"):
            text = f"Run {run_id[:80]!r} is not kept any more (released, or older than result_ttl or result_bytes)"
            raise ResultExpiredError(text)
        raise RunLostError(run_id)

    def of_client(self, client: str) -> list[Run]:
        """Return the runs that end with a client."""
        return [run for run in self if run.request.client == client and not run.request.detach]

    def forget(self, run: Run) -> None:
        """Let a run and its results go."""
        if self._runs.pop(run.id, None) is None:
            return
        for settled in run.settled:
            if settled is not None:
                self._operations[settled.status] = self._operations.get(settled.status, 0) + 1
        run.let_go()
        self._expired[run.id] = None
        while len(self._expired) > STUBS:
            self._expired.popitem(last=False)

    def expire(self) -> None:
        """Forget finished runs that are too old, and the oldest ones while there is too much."""
        now = self._clock()
        finished = [run for run in self._runs.values() if run.ended_at is not None]
        kept, count = sum(run.records.bytes for run in finished), len(finished)
        for run in finished:
            assert run.ended_at is not None
            in_time = run.ended_at + self._result_ttl > now
            if in_time and kept <= self._result_bytes and count <= KEPT:
                break
            if in_time and now - max(run.ended_at, run.asked_at) < READING:
                # Somebody is about to read them, or does: no result is dropped under its reader's hands.
                continue
            kept, count = kept - run.records.bytes, count - 1
            self.forget(run)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of active runs and of all, and that of the operations of runs that were forgotten."""
        active = sum(not run.finished.is_set() for run in self._runs.values())
        return {"runs": {"active": active, "kept": len(self._runs)}, "operations": dict(self._operations)}

    @property
    def bytes(self) -> int:
        """Bytes of the results that are kept."""
        return sum(run.records.bytes for run in self._runs.values())
