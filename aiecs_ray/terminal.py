"""The progress of a run on a terminal: lines that are drawn again in their place, on the standard error only."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

from aiecs_ray.displays import PlainLines
from aiecs_ray.pictures.lines import lines

if TYPE_CHECKING:
    from aiecs_ray.run_view import RunView

STYLES = {"head": "bold", "failed": "red", "running": ""}
_drawn = threading.Lock()
"""Two live displays would write over each other: the second one writes plain lines."""


class Terminal:
    """Shows a run on the terminal; what others print meanwhile appears above it.

    Colours are left out where ``NO_COLOR`` is set.
    """

    interval = 0.2

    def __init__(self, console: Console | None = None) -> None:
        self._console = Console(stderr=True, highlight=False) if console is None else console
        self._live: Live | None = None
        self._plain: PlainLines | None = None

    def draw(self, view: RunView, now: float) -> None:
        """Draw a run, in the place of what was drawn before."""
        if self._live is None and self._plain is None:
            self._begin()
        if self._plain is not None:
            self._plain.draw(view, now)
        elif self._live is not None:
            self._live.update(self._text(view, now), refresh=True)

    def close(self, view: RunView, now: float) -> None:
        """Leave how it ended."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            _drawn.release()
        self._console.print(self._text(view, now), soft_wrap=True)

    def _begin(self) -> None:
        if not _drawn.acquire(blocking=False):
            self._plain = PlainLines()
            return
        # Redirected output goes to the standard error, which is right only where both are the same terminal.
        both = sys.stdout is not None and sys.stdout.isatty()
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=both,
            redirect_stderr=both,
            vertical_overflow="crop",
        )
        try:
            self._live.start()
        except BaseException:
            self._live = None
            _drawn.release()
            raise

    def _text(self, view: RunView, now: float) -> Text:
        text = Text(no_wrap=True, overflow="ellipsis", end="\n")
        width = 200 if view.over else self._console.width - 1
        for place, line in enumerate(lines(view, now, width)):
            text.append(("\n" if place else "") + line.text, style=STYLES[line.kind])
        return text
