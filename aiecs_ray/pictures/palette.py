"""The colours and signs of statuses: told apart with every kind of colour vision, on light pages and on dark ones."""

from __future__ import annotations

from typing import NamedTuple


class Look(NamedTuple):
    """How a status is shown."""

    colour: str
    sign: str
    words: str


LOOKS = {
    "completed": Look("#14916c", "✓", "completed"),
    "cached": Look("#3d98d6", "≡", "from the cache"),
    "running": Look("#d18b00", "▶", "running"),
    "retrying": Look("#d18b00", "↻", "waits to be tried again"),
    "failed": Look("#d1541a", "✗", "failed"),
    "timed_out": Look("#b4609a", "⧗", "timed out"),
    "cancelled": Look("#8a8a8a", "⊘", "cancelled"),
    "skipped": Look("#8a8a8a", "\N{EN DASH}", "skipped"),
    "pending": Look("#8a8a8a", "·", "waiting"),
    "lost": Look("#d1541a", "?", "lost"),
}
"""After Okabe and Ito's colours, a little darker or lighter so that white text and dark pages both go with them."""


def look(status: str) -> Look:
    """Return how a status is shown; one that nobody knows as itself.

    >>> look("timed_out").words
    'timed out'
    """
    return LOOKS.get(status) or Look("#8a8a8a", "·", status.replace("_", " "))
