"""Python's cyclic garbage collector, kept out of the way of bulk work."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 1_000
"""Items from which a piece of work counts as bulk."""


@contextmanager
def undisturbed(items: int) -> Iterator[None]:
    """Collect no garbage inside the block, when it makes objects for many ``items``.

    Objects made by the ten thousand look like a leak to the collector, which answers with full collections: each
    holds up every thread of the process for some 60 ms, and finds nothing, for what is made here holds no cycles.
    """
    if items < MANY or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
