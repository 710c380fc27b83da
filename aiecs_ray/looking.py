"""Runs and plans as they are looked at: cards in notebooks, reports, traces."""

from __future__ import annotations

import datetime as dt
import json
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiecs_ray.errors import AiecsError
from aiecs_ray.pictures.card import run_card
from aiecs_ray.pictures.page import page
from aiecs_ray.pictures.trace import trace
from aiecs_ray.run_view import RunView
from aiecs_ray.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiecs_ray.history import RunRecord
    from aiecs_ray.messages import Event

LOOKS = 20
"""Digests that are read for one look at a run."""
GONE = "The cluster does not have this run any more; this is what was seen of it."


class Look:
    """What a client has seen of a run: a picture can be made of it also when the run is gone.

    Args:
        ask: calls the coordinator.
        run_id: which run.
    """

    def __init__(self, ask: Callable[..., Any], run_id: str) -> None:
        self.view = RunView(run_id)
        self.note = ""
        self._ask, self._run_id = ask, run_id

    def refresh(self) -> RunView:
        """Take in what has happened since the last look; nothing is waited for."""
        try:
            for _ in range(LOOKS):
                if self.view.over:
                    break
                before = self.view.following
                digest = self._ask("digest", self._run_id, before, 0.0)
                self.view.take(digest)
                if digest.over or self.view.following == before:
                    break
            self.note = ""
        except AiecsError:
            # Released, expired, or of a coordinator that is gone.
            self.note = GONE
        return self.view

    def card(self) -> str:
        """Return the run as a card."""
        view = self.refresh()
        return run_card(view, time.time(), note=self.note)

    def page(self) -> str:
        """Return the run as an HTML document."""
        return document(self.refresh())


def document(view: RunView) -> str:
    """Return a run as an HTML document that says when and by what it was made."""
    when = dt.datetime.now().astimezone().isoformat(" ", "seconds")
    footer = f"aiecs-ray {__version__} · Python {platform.python_version()} · {when}"
    return page(view, time.time(), footer=footer)


def write_page(view: RunView, path: str | Path) -> Path:
    """Write a run as an HTML document; return the path."""
    return _write(path, document(view))


def write_trace(events: Iterable[Event], path: str | Path) -> Path:
    """Write the events of a run as a trace; return the path."""
    return _write(path, json.dumps(trace(events), allow_nan=False, default=str))


def view_of(record: RunRecord) -> RunView:
    """Return what the history has of a run."""
    view = RunView(record.run.id)
    view.feed(record.events())
    for row in record.bulk:
        view.take_bulk(row)
    if record.run.status == "lost":
        view.status, view.ended = "lost", view.last
    return view


def _write(path: str | Path, text: str) -> Path:
    target = Path(path)
    target.write_text(text, encoding="utf-8")
    return target
