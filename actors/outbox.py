"""The way of all runs to the cache: what they store in one round of the event loop goes in one message."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from aiecs_ray.backend import CacheEntries, Note

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiecs_ray.backend import CacheEntry, CacheLink, KeyParts


class Outbox:
    """Sends entries and counts to the cache.

    Args:
        cache: the way to the cache; what is sent first arrives first.
        call_soon: runs something at the end of this round of the event loop.
    """

    def __init__(self, cache: CacheLink, call_soon: Callable[..., object]) -> None:
        self._cache = cache
        self._call_soon = call_soon
        self._entries = CacheEntries()
        self._notes: Counter[tuple[str, str, str]] = Counter()
        self._saved: Counter[str] = Counter()
        self._scheduled = False

    async def get_many(self, keys: Sequence[str], operations: Sequence[str]) -> list[CacheEntry | None]:
        """Return what is under ``keys``, asked for by ``operations``; everything that was put before counts."""
        self._send()
        return await self._cache.get_many(keys, operations)

    async def explain(self, parts: KeyParts, operation: str, key: str) -> dict[str, Any]:
        """Say whether there is an entry under ``key``, or what sets it apart from the nearest one."""
        self._send()
        return await self._cache.explain(parts, operation, key)

    async def purge(self, tags: dict[str, str]) -> int:
        """Delete the entries that carry all of ``tags``, those included that were put before."""
        self._send()
        return await self._cache.purge(tags)

    def put(self, entry: CacheEntry) -> None:
        """Store an entry."""
        self._entries.append(entry)
        self._schedule()

    def note_joined(self, operation: str, seconds: float) -> None:
        """Count a step that got the result of an identical one, which took ``seconds``."""
        self._notes["joined", operation, ""] += 1
        self._saved[operation] += seconds  # type: ignore[assignment]  # a counter adds whatever can be added
        self._schedule()

    def note_uncacheable(self, operation: str, reason: str) -> None:
        """Count a step that would be cached, but cannot be."""
        self._notes["uncacheable", operation, reason] += 1
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._send)

    def _send(self) -> None:
        self._scheduled = False
        if self._entries:
            entries, self._entries = self._entries, CacheEntries()
            self._cache.put_many(entries)
        if self._notes:
            notes = [
                Note(kind, operation, reason, count, self._saved[operation] if kind == "joined" else 0.0)
                for (kind, operation, reason), count in self._notes.items()
            ]
            self._notes.clear()
            self._saved.clear()
            self._cache.note(notes)
