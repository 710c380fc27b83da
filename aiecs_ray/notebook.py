"""The progress of a run in a notebook: one card that changes while the run goes on, and stays as plain HTML."""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any

from IPython import display

from aiecs_ray.pictures.card import run_card

if TYPE_CHECKING:
    from aiecs_ray.run_view import RunView

html: Any = display.HTML
show: Any = display.display
SLOWEST = 20.0
"""How many times as long as drawing a card takes the next one is waited for."""


class NotebookCard:
    """Shows a run in the output of the cell that waits for it.

    With ipywidgets it is a widget while it lives, which changes without flicker; without, the output itself is
    replaced. It ends as HTML in both cases, so that a saved notebook shows it without a kernel.
    """

    interval = 0.5

    def __init__(self) -> None:
        self._handle: Any = None
        self._widget: Any = None
        self._next = 0.0

    def draw(self, view: RunView, now: float) -> None:
        """Draw a run, in the place of what was drawn before."""
        began = time.monotonic()
        if began < self._next:
            return
        card = run_card(view, now)
        if self._handle is None:
            self._widget = _widget(card)
            self._handle = show(html(card) if self._widget is None else self._widget, display_id=True)
        elif self._widget is not None:
            self._widget.value = card
        else:
            self._handle.update(html(card))
        ended = time.monotonic()
        self._next = ended + max(self.interval, SLOWEST * (ended - began))

    def close(self, view: RunView, now: float) -> None:
        """Leave how it ended."""
        card = html(run_card(view, now))
        if self._handle is None:
            show(card)
        else:
            self._handle.update(card)
        if self._widget is not None:
            self._widget.close()
            self._widget = None


def _widget(card: str) -> Any:
    """Return a widget that shows ``card``; None where there are no widgets."""
    try:
        return importlib.import_module("ipywidgets").HTML(card)
    except ImportError:
        return None
