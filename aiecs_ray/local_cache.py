"""A cache in this process: the bounded store behind a lock, its values private copies, swept from time to time."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any

from aiecs_ray.errors import AiecsError
from aiecs_ray.failures import text_of
from aiecs_ray.keys import UNCACHEABLE
from aiecs_ray.packing import as_packed, pack, to_payload, writable
from aiecs_ray.store import Missing, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs_ray.store import Reason, StoreStats

logger = logging.getLogger("aiecs.execution_utils")

_PROBE_SECONDS = 1.0


class LocalCache:
    """Values under keys for the threads of one process.

    A value is stored as a copy and given out as a copy, so nobody's later change reaches another (defect D-08). The
    lock is held while the store is looked at, never while a value is copied or computed.

    ``default_ttl`` is in seconds by ``clock``, 0 is for ever. Expired entries are dropped when they are read, and
    every ``sweep_interval`` seconds by a daemon thread that starts with the first entry that can expire.
    """

    def __init__(
        self, max_entries: int, max_bytes: int, default_ttl: float, *, clock: Callable[[], float], sweep_interval: float
    ) -> None:
        self._lock = threading.Lock()
        self._default_ttl = default_ttl or None
        self._sweep_interval = sweep_interval
        self._timed: set[str] = set()
        self._store: Store[Any] = Store(max_entries, max_bytes, None, clock, self._left)
        self._probe: Store[Any] = Store(1, 1024, None, clock)
        self._uncacheable = 0
        self._closed = threading.Event()
        self._sweeper: threading.Thread | None = None
        self.max_entries = max_entries
        weakref.finalize(self, self._closed.set)

    def __len__(self) -> int:
        with self._lock:
            return len(self._store)

    @property
    def stats(self) -> StoreStats:
        """Hits, misses, entries, bytes and evictions of now."""
        with self._lock:
            return self._store.stats

    @property
    def timed(self) -> int:
        """How many entries have a time to live."""
        with self._lock:
            return len(self._timed)

    @property
    def uncacheable(self) -> int:
        """How many values were not stored because they have no exact key or cannot be copied."""
        with self._lock:
            return self._uncacheable

    def lookup(self, key: str) -> tuple[bool, Any]:
        """Return (True, a copy of the value) or (False, None)."""
        with self._lock:
            payload = self._store.get(key)
        if payload is Missing.MISSING:
            return False, None
        try:
            return True, _read(payload)
        except Exception:
            # A class that changed since, or one whose own code fails: a miss is computed again.
            logger.warning("cache: the entry under %s cannot be read any more and is dropped", key, exc_info=True)
            with self._lock:
                self._store.delete(key)
            return False, None

    def put(self, key: str, value: object, ttl: float | None = None) -> bool:
        """Store a copy of ``value`` for ``ttl`` seconds (None: the default, 0: for ever); whether it was stored."""
        if not self.max_entries:
            return False
        if not isinstance(key, str):
            return self._refuse("", "its key is no text")
        if key.startswith(UNCACHEABLE):
            return self._refuse(key, "its call has no exact key")
        try:
            payload = to_payload(pack(value, trial=True))
            return self._put(key, payload, self._default_ttl if ttl is None else ttl or None)
        except AiecsError as error:
            return self._refuse(key, text_of(error))

    def _put(self, key: str, payload: Any, ttl: float | None) -> bool:
        with self._lock:
            stored = self._store.put(key, payload, size=as_packed(payload).size, ttl=ttl)
            if stored and ttl is not None:
                self._timed.add(key)
                self._start_sweeper()
        return stored

    def delete(self, key: str) -> bool:
        """Drop the entry under ``key``; whether there was one."""
        with self._lock:
            return self._store.delete(key)

    def clear(self) -> None:
        """Drop every entry."""
        with self._lock:
            self._store.clear()

    def sweep(self) -> int:
        """Drop every entry whose time has passed; how many (document S1, "_cleanup_expired_entries")."""
        with self._lock:
            dropped = self._store.sweep()
        if dropped:
            logger.info("cache: %s expired entries dropped", dropped)
        return dropped

    def probe(self) -> bool:
        """Write and read one value in a place of its own; whether it came back (contradiction C-39)."""
        payload = to_payload(pack("ok"))
        with self._lock:
            self._probe.put("probe", payload, size=len(payload), ttl=_PROBE_SECONDS)
            found = self._probe.get("probe")
        return found is not Missing.MISSING and _read(found) == "ok"

    def close(self) -> None:
        """End the sweeping thread; the cache itself stays usable."""
        self._closed.set()
        if self._sweeper is not None:
            self._sweeper.join()

    def _refuse(self, key: str, reason: str) -> bool:
        logger.debug("cache: a result is not stored: %s", reason)
        with self._lock:
            self._store.delete(key)  # what stood there is out of date
            self._uncacheable += 1
        return False

    def _left(self, key: str, _payload: object, _reason: Reason) -> None:
        self._timed.discard(key)

    def _start_sweeper(self) -> None:
        if self._sweeper is not None or self._closed.is_set():
            return
        self._sweeper = threading.Thread(
            target=_sweep_regularly,
            args=(weakref.ref(self), self._closed, self._sweep_interval),
            name="aiecs cache sweeper",
            daemon=True,
        )
        self._sweeper.start()


def _sweep_regularly(cache: weakref.ref[LocalCache], closed: threading.Event, interval: float) -> None:
    """Sweep until the cache is closed or gone; the thread must not be what keeps it alive."""
    while not closed.wait(interval):
        living = cache()
        if living is None:
            return
        living.sweep()
        del living


def _read(payload: Any) -> Any:
    return writable(as_packed(payload))
