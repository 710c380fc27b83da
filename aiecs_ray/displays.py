"""Where the progress of a run is shown: a notebook, a terminal, or plain lines; and whether it is at all."""

from __future__ import annotations

import importlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO

from aiecs_ray.errors import InvalidInputError
from aiecs_ray.pictures.lines import lines, summary
from aiecs_ray.quoting import shorten
from aiecs_ray.running import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs_ray.run_view import RunView

Progress = bool | Literal["auto"]
EVERY = 10.0
"""Seconds between two plain lines."""
SOON = 1.0
"""Seconds that a run has to take for ``"auto"`` to show it."""
WIDEST = 200


class Display(Protocol):
    """Shows one run while it goes on, and how it ended."""

    interval: float
    """Seconds between two drawings."""

    def draw(self, view: RunView, now: float) -> None:
        """Show a run; ``now`` in seconds since the epoch."""

    def close(self, view: RunView, now: float) -> None:
        """Show how it ended, for good."""


class PlainLines:
    """A line of text now and then, for logs and for programs that read them.

    Args:
        stream: where they go.
        every: seconds between two of them.
        clock: seconds from anywhere.
    """

    interval = 1.0

    def __init__(
        self, stream: TextIO | None = None, *, every: float = EVERY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._every, self._clock = every, clock
        self._last = clock()

    def draw(self, view: RunView, now: float) -> None:
        """Write a line, unless there was one a moment ago."""
        if self._clock() - self._last >= self._every:
            self._last = self._clock()
            self._write(summary(view, now))

    def close(self, view: RunView, now: float) -> None:
        """Write how it ended, and what failed."""
        for line in lines(view, now, WIDEST):
            self._write(line.text)

    def _write(self, text: str) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        self._stream.flush()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def on_terminal() -> bool:
    """Whether somebody sees what is written to the standard error, and it can be written over."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def check_progress(progress: Any) -> Progress:
    """Return ``progress``.

    Raises:
        InvalidInputError: it is none of True, False and "auto".
    """
    if not (isinstance(progress, bool) or progress == "auto"):
        raise InvalidInputError(f"progress must be True, False or 'auto', got {shorten(progress)}")
    return progress  # type: ignore[no-any-return]


def is_shown(progress: Progress) -> bool:
    """Whether a run is shown: "auto" means where somebody looks, and not from inside an operation."""
    if progress == "auto":
        return current() is None and (in_notebook() or on_terminal())
    return progress


def display() -> Display:
    """Return what shows runs here."""
    if in_notebook():
        return _made("aiecs_ray.notebook", "NotebookCard")
    if on_terminal():
        return _made("aiecs_ray.terminal", "Terminal")
    return PlainLines()


def _made(module: str, name: str) -> Display:
    # rich and IPython take a while to import: only who looks pays.
    made: Display = getattr(importlib.import_module(module), name)()
    return made
