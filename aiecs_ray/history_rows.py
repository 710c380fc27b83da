"""From what coordinators tell to the rows of the history: previews are made here, and secrets masked."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiecs_ray.history_facts import Batch, BulkFact, EndFact, EventsFact, RunFact, StepFact
from aiecs_ray.masking import mask
from aiecs_ray.previews import LIMIT, preview

if TYPE_CHECKING:
    from collections.abc import Mapping

Row = dict[str, Any]
MESSAGE_LIMIT = 8192
"""Characters of one error message."""
SECRET_VALUE = "something in it is secret"  # noqa: S105  # the reason why a value is not there
NO_VALUE = "it was too large, or not kept by its run"


@dataclass(slots=True)
class Rows:
    """What one batch changes."""

    runs: list[Row] = field(default_factory=list)
    ended_runs: list[Row] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)
    ended_steps: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    bulk: list[Row] = field(default_factory=list)


class RowMaker:
    """Makes rows, and remembers the secrets of the runs that go on.

    A secret is the value of a parameter whose name looks like one; wherever it turns up again in its run, in an error,
    in progress or in a result, it is masked.
    """

    def __init__(self) -> None:
        self._secrets: dict[str, set[str]] = {}

    def rows(self, batch: Batch) -> Rows:
        """Return the rows of a batch."""
        rows = Rows()
        begun: dict[str, Row] = {}
        for fact in batch.facts:
            if isinstance(fact, StepFact):
                (rows.steps if fact.fresh else rows.ended_steps).append(self._step(fact))
            elif isinstance(fact, EventsFact):
                rows.events.append(self._events(fact))
            elif isinstance(fact, BulkFact):
                rows.bulk.append(_bulk(fact))
            elif isinstance(fact, RunFact):
                begun[fact.run] = _run(fact, batch.feed)
                rows.runs.append(begun[fact.run])
            elif fact.run in begun:
                begun[fact.run].update(_end(fact))
            else:
                rows.ended_runs.append({"run_id": fact.run, **_end(fact)})
        return rows

    def forget(self, batch: Batch) -> None:
        """A batch is written: the runs that end with it tell nothing more."""
        for fact in batch.facts:
            if isinstance(fact, EndFact):
                self._secrets.pop(fact.run, None)

    def _step(self, fact: StepFact) -> Row:
        shown = preview(fact.params, slots=fact.slots, known=self._secrets.get(fact.run, ()))
        if shown.secrets:
            self._secrets.setdefault(fact.run, set()).update(shown.secrets)
        row: Row = {"run_id": fact.run, "step": fact.step} if fact.fresh else {"run": fact.run, "place": fact.step}
        if fact.fresh:
            tool, _, operation = fact.spec.partition(".")
            row.update(spec=fact.spec, tool=tool, operation=operation, id=fact.id, params=_text(shown.text))
        row.update(self._ending(fact, self._secrets.get(fact.run, set())))
        return row

    def _ending(self, fact: StepFact, known: set[str]) -> Row:
        value, why, shown = None, NO_VALUE, ""
        if fact.has_payload:
            made = preview(fact.payload, known=known)
            shown = made.text
            value, why = (None, SECRET_VALUE) if made.masked else (pickle.dumps(fact.payload, 5), "")
        message = None if fact.message is None else _text(mask(fact.message, known), MESSAGE_LIMIT)
        return {
            "status": fact.status,
            "attempts": fact.attempts,
            "seconds": fact.seconds,
            "from_cache": fact.from_cache,
            "size": fact.size,
            "summary": _text(fact.summary),
            "preview": _text(shown),
            "cache_key": fact.key,
            "replica": fact.replica,
            "node": fact.node,
            "ended": fact.ended,
            "code": fact.code,
            "message": message,
            "value": value,
            "value_missing": why,
        }

    def _events(self, fact: EventsFact) -> Row:
        return {
            "run_id": fact.run,
            "first": fact.events[0][0],
            "last": fact.events[-1][0],
            "content": _listed(fact, self._secrets.get(fact.run, set())),
        }


def _listed(fact: EventsFact, secrets: set[str]) -> str:
    if not secrets:
        with contextlib.suppress(TypeError, ValueError):
            return json.dumps(fact.events, separators=(",", ":"), allow_nan=False)
    events = [[number, kind, time, step, _data(data, secrets)] for number, kind, time, step, data in fact.events]
    return json.dumps(events, separators=(",", ":"))


def _run(fact: RunFact, feed: str) -> Row:
    return {
        "id": fact.run,
        "feed": feed,
        "user_id": _text(fact.user_id),
        "task_id": _text(fact.task_id),
        "mode": fact.mode,
        "steps": fact.steps,
        "detach": fact.detach,
        "compact": fact.compact,
        "began": fact.began,
        "status": "running",
        "ended": None,
        "seconds": None,
        "counts": "{}",
    }


def _end(fact: EndFact) -> Row:
    return {
        "status": fact.status,
        "ended": fact.ended,
        "seconds": fact.seconds,
        "counts": json.dumps(dict(fact.counts)),
    }


def _bulk(fact: BulkFact) -> Row:
    tool, _, operation = fact.spec.partition(".")
    return {
        "run_id": fact.run,
        "spec": fact.spec,
        "tool": tool,
        "operation": operation,
        "counts": json.dumps(dict(fact.counts)),
        "seconds": fact.seconds,
        "size": fact.size,
        "from_cache": fact.from_cache,
        "retries": fact.retries,
        "ended": fact.last,
    }


def _data(data: Mapping[str, Any], secrets: set[str]) -> dict[str, Any]:
    """Return the data of an event as JSON knows it."""
    plain: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, str):
            plain[name] = _text(mask(value, secrets), MESSAGE_LIMIT)
        elif isinstance(value, float) and not math.isfinite(value):
            plain[name] = None
        elif value is None or isinstance(value, (bool, int, float, dict)):
            plain[name] = value
        else:
            plain[name] = str(type(value).__name__)
    return plain


def _text(text: str, limit: int = LIMIT) -> str:
    """Return a text that every database takes: without zero characters and halves of characters."""
    if len(text) <= limit and text.isascii() and "\0" not in text:
        return text
    return text[:limit].replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
