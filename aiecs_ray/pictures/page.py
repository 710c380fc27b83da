"""A run as one HTML file that needs nothing else: no network, no script, no kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiecs_ray.pictures.card import run_card
from aiecs_ray.pictures.elements import element, words

if TYPE_CHECKING:
    from aiecs_ray.run_view import RunView

ERRORS = 100
STEPS = 2_000
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = (
    ":root{color-scheme:light dark}"
    "body{margin:24px auto;max-width:960px;padding:0 16px;background:Canvas;color:CanvasText}"
    "footer{font:12px system-ui,sans-serif;opacity:.7;margin-top:12px}"
)


def page(view: RunView, now: float, *, footer: str = "") -> str:
    """Return a whole HTML document about a run; ``now`` in seconds since the epoch."""
    head = element(
        "head",
        {},
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        element("title", {}, words(f"run {view.run}")),
        element("style", {}, _STYLE),
    )
    card = run_card(view, now, errors=ERRORS, steps=STEPS)
    body = element("body", {}, card, element("footer", {}, words(footer, 500)) if footer else "")
    return f"<!DOCTYPE html>\n{element('html', {'lang': 'en'}, head, body)}\n"
