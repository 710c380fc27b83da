"""The cluster's cache behind the documents' ``ExecutionUtils``: what one process stores, all others find."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from typing import TYPE_CHECKING, Any

from aiecs_ray.backend import CacheEntry
from aiecs_ray.errors import AiecsError
from aiecs_ray.failures import text_of
from aiecs_ray.keys import UNCACHEABLE
from aiecs_ray.packing import as_packed, is_small, pack, summarise, writable
from aiecs_ray.store import MAX_TTL, StoreStats

if TYPE_CHECKING:
    from aiecs_ray.client import Client

logger = logging.getLogger("aiecs.execution_utils")

TOOL, OPERATION = "execution_utils", "add_to_cache"
"""Under which names the entries are counted and purged."""


class SharedCache:
    """Values under keys in the cache that all clients of a runtime's cluster share.

    Each call asks the cluster, which takes about a millisecond. A cache that does not answer is a miss, and stores
    nothing. ``default_ttl`` is in seconds, 0 is for ever.
    """

    def __init__(self, runtime: Client, max_entries: int, default_ttl: float) -> None:
        self._runtime = runtime
        self._default_ttl = default_ttl
        self._lock = threading.Lock()
        self._hits = self._misses = self._uncacheable = 0
        self.max_entries = max_entries

    def __len__(self) -> int:
        return int(self._runtime.cache_request("memory")["cache_size"])

    @property
    def stats(self) -> StoreStats:
        """The hits and misses of this process; entries, bytes and evictions of the cluster."""
        of_all = self._runtime.cache_request("stats")
        with self._lock:
            return StoreStats(self._hits, self._misses, of_all["entries"], of_all["bytes"], of_all["evictions"])

    @property
    def timed(self) -> int:
        """How many entries of the cluster have a time to live."""
        return int(self._runtime.cache_request("memory")["ttl_entries"])

    @property
    def uncacheable(self) -> int:
        """How many values of this process were not stored because they have no exact key or cannot be copied."""
        with self._lock:
            return self._uncacheable

    def lookup(self, key: str) -> tuple[bool, Any]:
        """Return (True, a copy of the value) or (False, None)."""
        hit, value = self._read(key) if self.max_entries else (False, None)
        with self._lock:
            self._hits += hit
            self._misses += not hit
        return hit, value

    def _read(self, key: str) -> tuple[bool, Any]:
        try:
            (entry,) = self._runtime.cache_request("get_many", [_own(key)], [f"{TOOL}.{OPERATION}"])
            if entry is None:
                return False, None
            payload = entry.payload
            return True, writable(as_packed(payload) if is_small(payload) else self._runtime.fetch(payload))
        except Exception:
            # The cluster is gone, or the value's class has changed: a miss is computed again.
            logger.warning("cache: the entry under %s cannot be read", key, exc_info=True)
            return False, None

    def put(self, key: str, value: object, ttl: float | None = None) -> bool:
        """Store a copy of ``value`` for ``ttl`` seconds (None: the default, 0: for ever); whether it was sent."""
        if not self.max_entries:
            return False
        if not isinstance(key, str):
            return self._refuse("its key is no text")
        if key.startswith(UNCACHEABLE):
            return self._refuse("its call has no exact key")
        seconds = (self._default_ttl if ttl is None else ttl) or MAX_TTL
        try:
            packed = pack(value, trial=True)
            entry = CacheEntry(
                _own(key),
                self._runtime.share(packed),
                packed.size,
                secrets.token_bytes(16),
                summarise(value),
                TOOL,
                OPERATION,
                ttl=seconds,
            )
            # Waits: what is large must have been copied before this process may end.
            self._runtime.cache_request("put_many", [entry])
        except AiecsError as error:
            with contextlib.suppress(AiecsError):
                # What stood there is out of date.
                self.delete(key)
            return self._refuse(text_of(error))
        return True

    def delete(self, key: str) -> bool:
        """Drop the entry under ``key``; whether there was one."""
        return bool(self._runtime.cache_request("delete", _own(key)))

    def sweep(self) -> int:
        """Drop every entry of the cluster whose time has passed; how many."""
        return int(self._runtime.cache_request("sweep"))

    def probe(self) -> bool:
        """Write and read one value in a place of its own; whether it came back (contradiction C-39)."""
        return bool(self._runtime.cache_request("probe"))

    def close(self) -> None:
        """Do nothing: the cache belongs to the cluster."""

    def _refuse(self, reason: str) -> bool:
        logger.debug("cache: a result is not stored: %s", reason)
        with self._lock:
            self._uncacheable += 1
        return False


def _own(key: str) -> str:
    """Keep callers' keys apart from those of operations: any text may come here."""
    return f"{TOOL}:{key}"
