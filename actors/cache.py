"""The shared cache of results: a bounded LRU store with a time to live per entry."""

from __future__ import annotations

import math
import secrets
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from aiecs_ray import packing
from aiecs_ray.actors.counts import Counts
from aiecs_ray.actors.shelf import Shelf
from aiecs_ray.backend import CacheEntries, tags_of
from aiecs_ray.store import Missing, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aiecs_ray.backend import CacheEntry, KeyParts, Note
    from aiecs_ray.config import Settings
    from aiecs_ray.packing import Packed


DEFAULT_BYTES = 256 * 2**20
"""Where there is no object store to take a share of."""
OVERHEAD = 2_200
"""Bytes that an entry takes beside its value: key, parts, tags and records (measured)."""
SWEEP_INTERVAL = 30.0
"""Seconds between two looks for entries whose time has passed, where nothing is stored meanwhile."""
TOO_LARGE = "larger than cache_bytes, or than its user's share"
LOST = "its maker died before it was copied"


class Cache:
    """Keeps results under their keys. May be called from several threads.

    Args:
        settings: how much is kept, and for how long.
        adopt: takes a large value's reference and returns one that outlives whoever made it, or ``Missing.MISSING``.
        fetch: returns the value of a reference that was adopted.
        keep: takes a large value and returns a reference of its own.
        clock: seconds, never going back.
        wall: seconds since the epoch.
        restarted: whether the process of this cache died before, and took its entries along.
    """

    def __init__(  # noqa: PLR0913  # what it lives on, by name
        self,
        settings: Settings,
        *,
        adopt: Callable[[Any], Any],
        fetch: Callable[[Any], Packed] = packing.as_packed,
        keep: Callable[[Packed], Any] = packing.to_payload,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        restarted: bool = False,
    ) -> None:
        self._settings = settings
        self._adopt, self._fetch, self._keep = adopt, fetch, keep
        self._clock, self._wall = clock, wall
        self._lock = threading.RLock()
        self._counts = Counts()
        self._began, self._restarted = wall(), restarted
        self._max_bytes = DEFAULT_BYTES if settings.cache_bytes is None else settings.cache_bytes
        self._store: Store[CacheEntry] = Store(
            max_entries=settings.cache_entries,
            max_bytes=self._max_bytes,
            default_ttl=settings.cache_ttl or None,
            clock=clock,
            owner_bytes=None if settings.cache_user_share == 1 else int(self._max_bytes * settings.cache_user_share),
        )
        self._probe: Store[str] = Store(1, 1_000, None, clock)
        self._shelf = (
            Shelf(settings.cache_dir, settings.cache_dir_bytes, wall)
            if settings.cache_dir is not None and settings.cache_entries
            else None
        )
        self._closed = threading.Event()
        self._sweeper: threading.Thread | None = None
        weakref.finalize(self, self._closed.set)

    # --- what coordinators ask -------------------------------------------------------------------------------

    def get_many(self, keys: Sequence[str], operations: Sequence[str] = ()) -> list[CacheEntry | None]:
        """Return the entries under ``keys``, None where there is none; ``operations`` says who asks for each."""
        with self._lock:
            names = operations or [""] * len(keys)
            return CacheEntries([self._get(key, operation) for key, operation in zip(keys, names, strict=True)])

    def _get(self, key: str, operation: str) -> CacheEntry | None:
        entry = self._store.get(key)
        found = self._take_from_shelf(key) if entry is Missing.MISSING else self._with_time(entry)
        if found is None:
            self._counts.of(operation).misses += 1
        else:
            self._counts.hit(operation, found.seconds)
        return found

    def _with_time(self, entry: CacheEntry) -> CacheEntry:
        left = self._store.left(entry.key)
        return entry if left is None or math.isinf(left) else entry._replace(left=left)

    def put_many(self, entries: Sequence[CacheEntry]) -> None:
        """Store ``entries``; one that is too large, or whose maker died before it was copied, is left out.

        One whose ttl is 0 is not stored either. In each of these cases what was there under its key is deleted.
        """
        with self._lock:
            self._store.sweep()
            for entry in entries:
                self._put(entry)

    def _put(self, entry: CacheEntry) -> None:
        if not self._settings.cache_entries:
            return
        if entry.ttl == 0:
            self.delete(entry.key)
            return
        if not self._store.fits(_real_size(entry), _owner(entry)):
            self.delete(entry.key)
            self._counts.uncacheable(entry.spec, TOO_LARGE)
            return
        payload = self._adopt(entry.payload)
        if payload is Missing.MISSING:
            self.delete(entry.key)
            self._counts.uncacheable(entry.spec, LOST)
            return
        kept = entry._replace(payload=payload)
        ttl = self._settings.cache_ttl or None if entry.ttl is None else entry.ttl
        self._hold(kept, ttl)
        if self._shelf is not None:
            expires = None if ttl is None else self._wall() + ttl
            self._shelf.put(kept, self._open(payload), _tags(entry), expires)

    def _hold(self, entry: CacheEntry, ttl: float | None) -> None:
        self._store.put(entry.key, entry, size=_real_size(entry), ttl=ttl, tags=_tags(entry), owner=_owner(entry))
        if ttl is not None:
            self._start_sweeper()

    def _open(self, payload: Any) -> Packed:
        return packing.as_packed(payload) if packing.is_small(payload) else self._fetch(payload)

    def _take_from_shelf(self, key: str) -> CacheEntry | None:
        found = None if self._shelf is None else self._shelf.get(key)
        if found is None:
            return None
        large = found.packed.size > self._settings.inline_limit
        payload = self._keep(found.packed) if large else packing.to_payload(found.packed)
        entry = found.entry._replace(payload=payload)
        left = None if found.expires is None else found.expires - self._wall()
        if left is None or left > 0:
            self._hold(entry, left)
        return entry._replace(left=left)

    def note(self, notes: Sequence[Note]) -> None:
        """Count what happened outside of the cache."""
        with self._lock:
            self._counts.note(notes)

    def explain(self, parts: KeyParts, operation: str, key: str) -> dict[str, Any]:
        """Return whether there is an entry under ``key``; if not, which parts set it apart from the nearest one."""
        with self._lock:
            entry = self._store.peek(key)
            if entry is not Missing.MISSING:
                left = self._store.left(key)
                expires_in = None if left is None or math.isinf(left) else left
                return {
                    "hit": True,
                    "expires_in": expires_in,
                    "size": entry.size,
                    "summary": entry.summary,
                    "seconds": entry.seconds,
                }
            if self._shelf is not None and key in self._shelf:
                return {"hit": True, "on_disk": True}
            others = [other.parts for other in self._store.find(operation=operation) if other.parts is not None]
        nearest = min((_difference(parts, other) for other in others), key=len, default=())
        return {"hit": False, "differs": nearest, "entries": len(others)}

    # --- what clients ask ------------------------------------------------------------------------------------

    def purge(self, tags: dict[str, str]) -> int:
        """Delete the entries that carry all of ``tags``; all, when it is empty.

        Tags are tool, operation, user_id and task_id, and "label:x" with an empty value for a label x.
        """
        with self._lock:
            on_disk = [] if self._shelf is None else self._shelf.purge(tags)
            alone = sum(self._store.left(key) is None for key in on_disk)
            if tags:
                return alone + self._store.purge(**tags)
            count = len(self._store)
            self._store.clear()
            return alone + count

    def delete(self, key: str) -> bool:
        """Drop the entry under ``key``; whether there was one."""
        with self._lock:
            on_disk = self._shelf is not None and self._shelf.delete(key)
            return self._store.delete(key) or on_disk

    def stats(self) -> dict[str, Any]:
        """Return what was counted since this cache was started, and what it holds."""
        with self._lock:
            stats = self._store.stats
            report = self._counts.report()
            return {
                **report,
                "entries": stats.entries,
                "bytes": stats.bytes,
                "max_bytes": self._max_bytes,
                "evictions": dict(stats.evictions),
                "since": self._began,
                "restarted": self._restarted,
                "disk": None if self._shelf is None else self._shelf.stats(),
            }

    def memory(self) -> dict[str, int]:
        """Return the number of entries, their bytes, those that can expire, and the most there may be (document S1)."""
        with self._lock:
            return {
                "cache_size": len(self._store),
                "cache_memory_bytes": self._store.bytes,
                "ttl_entries": self._store.timed,
                "max_cache_size": self._settings.cache_entries,
            }

    def probe(self) -> bool:
        """Write and read one value in a place of its own; whether it came back (contradiction C-39)."""
        text = secrets.token_hex(8)
        with self._lock:
            self._probe.put("probe", text, size=len(text))
            found = self._probe.get("probe")
            return found == text and (self._shelf is None or self._shelf.probe())

    # --- time ------------------------------------------------------------------------------------------------

    def sweep(self) -> int:
        """Drop every entry whose time has passed; how many."""
        with self._lock:
            if self._shelf is not None:
                self._shelf.sweep()
            return self._store.sweep()

    def close(self) -> None:
        """End the thread that sweeps; the cache itself stays usable."""
        self._closed.set()

    def _start_sweeper(self) -> None:
        if self._sweeper is None and not self._closed.is_set():
            arguments = weakref.ref(self), self._closed
            self._sweeper = threading.Thread(
                target=_sweep_regularly, args=arguments, name="aiecs-ray cache sweeper", daemon=True
            )
            self._sweeper.start()


def _sweep_regularly(cache: weakref.ref[Cache], closed: threading.Event) -> None:
    """Sweep until the cache is closed or gone; the thread must not be what keeps it alive."""
    while not closed.wait(SWEEP_INTERVAL):
        living = cache()
        if living is None:
            return
        living.sweep()
        del living


def _real_size(entry: CacheEntry) -> int:
    texts = (entry.user_id, entry.task_id, entry.summary)
    return entry.size + OVERHEAD + sum(map(sys.getsizeof, texts))


def _owner(entry: CacheEntry) -> str | None:
    """Whose share an entry belongs to: what everybody may read is nobody's."""
    scope = None if entry.parts is None else entry.parts.scope
    return None if scope == "global" or not entry.user_id else entry.user_id


def _tags(entry: CacheEntry) -> Mapping[str, str]:
    return tags_of(entry.spec, entry.user_id, entry.task_id, entry.tags)


_SHARED = {"task": 2, "user": 1, "global": 0}


def _difference(one: KeyParts, other: KeyParts) -> tuple[str, ...]:
    """Name the parts in which two keys of one operation differ."""
    differs = {
        "code": one.version != other.version,
        "config": one.config != other.config,
        "environment": one.environment != other.environment,
        "scope": one.scope != other.scope,
        "params": one.params != other.params,
        "inputs": one.inputs != other.inputs,
        "files": one.files != other.files,
    }
    shared = _SHARED[one.scope]
    for place, name in enumerate(("user", "task")):
        differs[name] = place < shared and one.owner[place] != other.owner[place]
    return tuple(name for name, differ in differs.items() if differ)
