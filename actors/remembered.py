"""Small cached results that a run keeps at hand, each for as long as it holds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aiecs_ray import packing

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs_ray.backend import CacheEntry

MOST = 10_000
MOST_BYTES = 16 * 2**20
"""Entries, and bytes of their values, that are kept."""


class Remembered:
    """Entries by their keys. What comes when there is no room is not kept.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[str, tuple[CacheEntry, float]] = {}
        self._bytes = 0

    def add(self, entry: CacheEntry, since: float, seconds: float | None) -> None:
        """Keep a small entry for ``seconds`` from ``since`` on; None: for ever."""
        self.forget(entry.key)
        if packing.is_small(entry.payload) and len(self._entries) < MOST and self._bytes + entry.size <= MOST_BYTES:
            self._entries[entry.key] = (entry, math.inf if seconds is None else since + seconds)
            self._bytes += entry.size

    def get(self, key: str) -> CacheEntry | None:
        """Return the entry under ``key`` if its time has not passed."""
        found = self._entries.get(key)
        if found is None:
            return None
        if self._clock() < found[1]:
            return found[0]
        self.forget(key)
        return None

    def forget(self, key: str) -> None:
        """Let go of the entry under ``key``, if there is one."""
        found = self._entries.pop(key, None)
        if found is not None:
            self._bytes -= found[0].size

    def clear(self) -> None:
        """Let go of all."""
        self._entries.clear()
        self._bytes = 0
