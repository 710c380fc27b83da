"""The history of runs, as its user sees it: which there were, how they went, what they took."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import pickle
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiecs_ray import packing
from aiecs_ray.errors import InvalidInputError, OperationTimeoutError, ResultExpiredError
from aiecs_ray.failures import text_of, to_exception
from aiecs_ray.looking import view_of, write_page, write_trace
from aiecs_ray.messages import ErrorInfo, Event, EventKind
from aiecs_ray.model import TaskStatus
from aiecs_ray.operation import seconds as checked_seconds
from aiecs_ray.pictures.card import run_card
from aiecs_ray.quoting import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DAY = 86_400.0
_STATUSES = ("running", "lost", *(status.value for status in TaskStatus if status.value != "running"))
_EXPORTED = 2**31
"""Runs of an export that does not say how many."""


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run in the history. Times are seconds since the epoch."""

    id: str
    status: str
    """As of a run; ``lost`` where its coordinator was last heard of a minute ago and did not say how it ended."""
    mode: str
    steps: int
    user_id: str
    task_id: str
    began: float
    ended: float | None
    seconds: float | None
    counts: Mapping[str, int]
    """Steps by status, once it has ended."""
    detach: bool
    compact: bool
    """It had too many steps (``history_detail``) to be recorded one by one."""


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedStep:
    """A step in the history."""

    step: int
    id: str | None
    spec: str
    status: str
    attempts: int
    seconds: float
    from_cache: bool
    size: int
    """Bytes of the result."""
    summary: str
    """Type and shape of the result."""
    params: str
    """The parameters as text, shortened and with secrets masked; so is ``preview``, the result."""
    preview: str
    cache_key: str | None
    replica: str
    node: str
    ended: float | None
    code: str | None
    message: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedAttempt:
    """An attempt of a step: when it was seen to start (None: it ended before that was reported) and how it ended."""

    step: int
    attempt: int
    started: float | None
    ended: float | None
    status: str
    code: str | None = None
    message: str | None = None


class RunRecord:
    """Everything that is recorded of one run."""

    def __init__(self, ask: Callable[..., Any], content: Mapping[str, Any]) -> None:
        self._ask = ask
        self.run = RecordedRun(**content["run"])
        self.steps = [_step(row) for row in content["steps"]]
        """Those that are recorded one by one, in order."""
        self.bulk: list[dict[str, Any]] = list(content["bulk"])
        """Of a compact run, per operation: ``spec``, ``counts`` by status, ``size`` in bytes, ``from_cache``."""
        self._events = content["events"]

    def __repr__(self) -> str:
        return f"<recorded run {self.run.id}: {self.run.steps} operations, {self.run.status}>"

    def events(self) -> Iterator[Event]:
        """Yield the events; of a compact run, those of the run itself and of recorded steps, so numbers are missing."""
        for number, kind, when, step, data in self._events:
            yield Event(number, EventKind(kind), self.run.id, when, step, data)

    def attempts(self) -> list[RecordedAttempt]:
        """Return every attempt of the recorded steps, in the order in which they ended."""
        started: dict[int, float] = {}
        found = []
        for event in self.events():
            step, data = event.step, event.data
            if step is None:
                continue
            if event.kind is EventKind.STEP_STARTED:
                started[step] = event.time
            elif event.kind is EventKind.STEP_RETRYING:
                begun = started.pop(step, None)
                code, message = data.get("code"), data.get("message")
                found.append(RecordedAttempt(step, data["attempt"], begun, event.time, "failed", code, message))
            elif data.get("attempts"):
                status = event.kind.value.removeprefix("step_")
                code, message = data.get("code"), data.get("message")
                begun = started.pop(step, None)
                found.append(RecordedAttempt(step, data["attempts"], begun, event.time, status, code, message))
        return found

    def value(self, step: int) -> Any:
        """Return the result of a step, also when its coordinator has dropped it.

        Raises:
            InvalidInputError: the step is not recorded.
            ResultExpiredError: its value was not kept; the message says why.
            AiecsError: it did not complete.
        """
        row = self._ask("value", self.run.id, step) if type(step) is int else None
        if row is None:
            raise InvalidInputError(f"step {shorten(step)} of run {self.run.id} is not recorded")
        if row["status"] == "running":
            raise OperationTimeoutError(f"Step {step} of run {self.run.id} has not ended yet")
        if row["status"] != "completed":
            raise to_exception(ErrorInfo(row["code"] or "E003", row["message"] or row["status"]))
        if row["value"] is None:
            text = f"the history has no value of step {step} of run {self.run.id}: {row['value_missing']}"
            raise ResultExpiredError(text)
        try:
            return packing.from_payload(pickle.loads(row["value"]))  # noqa: S301  # results are trusted code's
        except Exception as error:
            text = f"the value of step {step} of run {self.run.id} cannot be read: {type(error).__name__}"
            raise ResultExpiredError(f"{text}: {text_of(error)}") from error

    def report(self, path: str | Path) -> Path:
        """Write it to one HTML file that needs nothing else; return its path."""
        return write_page(view_of(self), path)

    def trace(self, path: str | Path) -> Path:
        """Write its events to a JSON file that ui.perfetto.dev and chrome://tracing open; return its path."""
        return write_trace(self.events(), path)

    def _repr_html_(self) -> str:
        view = view_of(self)
        return run_card(view, view.last)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, without results."""
        return {
            **dataclasses.asdict(self.run),
            "recorded_steps": [dataclasses.asdict(step) for step in self.steps],
            "bulk": self.bulk,
            "events": [
                {"number": number, "kind": kind, "time": when, "step": step, "data": data}
                for number, kind, when, step, data in self._events
            ],
        }


class HistoryView:
    """The history, seen from a client: ``rt.history``.

    Args:
        ask: calls a method of the history.
    """

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask

    def runs(  # noqa: PLR0913  # filters, by name
        self,
        *,
        user: str | None = None,
        task: str | None = None,
        tool: str | None = None,
        status: str | None = None,
        since: float | dt.datetime | None = None,
        limit: int = 100,
    ) -> list[RecordedRun]:
        """Return runs, the latest first.

        Args:
            user: of this ``user_id``.
            task: of this ``task_id``.
            tool: that used this tool.
            status: "running", "completed", "failed", "cancelled", "timed_out" or "lost".
            since: that began then or later: seconds since the epoch, or a datetime.
            limit: at most so many.

        Raises:
            InvalidInputError: a filter is wrong, or no history is kept.
            HistoryError: the database cannot be read.
        """
        if status is not None and status not in _STATUSES:
            raise InvalidInputError(f"status must be one of {', '.join(_STATUSES)}, got {shorten(status)}")
        if type(limit) is not int or limit < 1:
            raise InvalidInputError(f"limit must be a whole number from 1 on, got {shorten(limit)}")
        filters = {"user_id": user, "task_id": task, "tool": tool, "status": status, "since": _moment(since)}
        return [RecordedRun(**row) for row in self._ask("runs", filters, limit)]

    def run(self, run_id: str) -> RunRecord:
        """Return everything that is recorded of a run.

        Raises:
            InvalidInputError: there is no such run in the history.
        """
        content = self._ask("run", run_id) if type(run_id) is str else None
        if content is None:
            raise InvalidInputError(f"run {shorten(run_id)!r} is not in the history")
        return RunRecord(self._ask, content)

    def statistics(  # filters, by name
        self,
        *,
        tool: str | None = None,
        operation: str | None = None,
        user: str | None = None,
        task: str | None = None,
        since: float | dt.datetime | None = None,
    ) -> list[dict[str, Any]]:
        """Return one dict per operation that was recorded.

        Keys: ``operation`` (tool.op), ``count`` of those that ended, ``completed``, ``failed``, ``timed_out``,
        ``cancelled``, ``running``, ``success_rate`` (completed among those not cancelled), ``from_cache``, ``retries``,
        ``p50``, ``p95`` and ``seconds`` (in all) of those that were computed and completed, ``bytes`` of results.
        """
        names = {"tool": tool, "operation": operation, "user_id": user, "task_id": task}
        rows: list[dict[str, Any]] = self._ask("statistics", {**names, "since": _moment(since)})
        return rows

    def prune(self, *, older_than: float | None = None, keep: int | None = None) -> int:
        """Delete the runs that began more than ``older_than`` seconds ago, and the oldest beyond ``keep``.

        Return how many there were. Without being asked, the history keeps ``history_days`` and ``history_runs``.
        """
        if older_than is None and keep is None:
            raise InvalidInputError("say what to delete: older_than= in seconds, or keep= as a number of runs")
        if keep is not None and (type(keep) is not int or keep < 0):
            raise InvalidInputError(f"keep must be a whole number from 0 on, got {shorten(keep)}")
        before = None if older_than is None else time.time() - checked_seconds(older_than, "older_than")
        return int(self._ask("prune", before, keep))

    def export(self, path: str | Path, **filters: Any) -> int:
        """Write runs with their steps and events to a file, one JSON object a line, the latest first.

        Filters are those of :meth:`runs`. Results are not written, only their previews. Return how many runs there
        were.
        """
        runs = self.runs(**{"limit": _EXPORTED, **filters})
        with Path(path).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(self.run(run.id).to_dict()) + "\n" for run in runs)
        return len(runs)

    def info(self) -> dict[str, Any]:
        """Return where the history is kept, its schema's version, and how many runs and steps it holds."""
        facts: dict[str, Any] = self._ask("facts")
        return facts


def _moment(since: float | dt.datetime | None) -> float | None:
    if since is None:
        return None
    if isinstance(since, dt.datetime):
        return since.timestamp()
    if isinstance(since, bool) or not isinstance(since, (int, float)):
        raise InvalidInputError(f"since must be seconds since the epoch or a datetime, got {shorten(since)}")
    return float(since)


def _step(row: Mapping[str, Any]) -> RecordedStep:
    names = (field.name for field in dataclasses.fields(RecordedStep))
    return RecordedStep(**{name: row[name] for name in names})
