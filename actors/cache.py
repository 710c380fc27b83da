"""The shared cache of results: a bounded LRU store with a time to live per entry."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aiecs_ray.store import Missing, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiecs_ray.backend import CacheEntry
    from aiecs_ray.config import Settings


DEFAULT_BYTES = 256 * 2**20
"""Where there is no object store to take a share of."""


class Cache:
    """Keeps results under their keys.

    Args:
        settings: how much is kept, and for how long.
        adopt: takes a large value's reference and returns one that outlives whoever made it.
        clock: seconds, never going back.
    """

    def __init__(
        self, settings: Settings, *, adopt: Callable[[Any], Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._adopt = adopt
        self._clock = clock
        self._saved = 0.0
        self._store: Store[CacheEntry] = Store(
            max_entries=settings.cache_entries,
            max_bytes=DEFAULT_BYTES if settings.cache_bytes is None else settings.cache_bytes,
            default_ttl=settings.cache_ttl or None,
            clock=clock,
        )

    def get_many(self, keys: Sequence[str]) -> list[CacheEntry | None]:
        """Return the entries under ``keys``, None where there is none."""
        found: list[CacheEntry | None] = []
        for key in keys:
            entry = self._store.get(key)
            if entry is Missing.MISSING:
                found.append(None)
                continue
            self._saved += entry.seconds
            found.append(entry)
        return found

    def put_many(self, entries: Sequence[CacheEntry]) -> None:
        """Store ``entries``; one that cannot be adopted any more, because its maker died, is left out."""
        self._store.sweep()
        for entry in entries:
            payload = self._adopt(entry.payload)
            if payload is Missing.MISSING:
                continue
            kept = entry._replace(payload=payload)
            tags = {
                "tool": entry.tool,
                "operation": f"{entry.tool}.{entry.operation}",
                "user_id": entry.user_id,
                "task_id": entry.task_id,
            }
            ttl = {} if entry.ttl is None else {"ttl": entry.ttl}
            self._store.put(entry.key, kept, size=entry.size, tags=tags, **ttl)

    def purge(self, tags: dict[str, str]) -> int:
        """Delete the entries that carry all of ``tags`` (tool, operation, user_id, task_id); all, when it is empty."""
        if tags:
            return self._store.purge(**tags)
        count = len(self._store)
        self._store.clear()
        return count

    def stats(self) -> dict[str, Any]:
        """Return hits, misses, entries, bytes, evictions by reason, and the seconds of work that hits saved."""
        stats = self._store.stats
        return {
            "hits": stats.hits,
            "misses": stats.misses,
            "hit_rate": stats.hit_rate,
            "entries": stats.entries,
            "bytes": stats.bytes,
            "evictions": dict(stats.evictions),
            "seconds_saved": self._saved,
        }
