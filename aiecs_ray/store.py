"""A bounded store: least recently used entries leave first, each entry has its own time to live.

Pure: time comes in as ``clock``, and nothing happens but in a call. Not safe for several threads by itself: the cache
actor calls it from one at a time, and whoever shares one between threads holds a lock around each call.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from cachetools import Cache, LRUCache

from aiecs_ray.errors import InvalidTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")

Reason = Literal["size", "quota", "expired", "purged", "replaced"]
"""Why an entry left: no room, no room in its owner's share, its time passed, it was deleted, or put again."""

MAX_TTL = 100 * 365.25 * 86_400.0
"""The longest time to live, in seconds: a century. What should live longer lives for ever, None."""

_HEAP_SLACK = 64


class Missing(Enum):
    """Stands for an entry that is not there. None is a value like any other (defects D-02, D-03)."""

    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a store did since it was made, and what it holds. ``bytes`` is the sum of the entries' sizes."""

    hits: int
    misses: int
    entries: int
    bytes: int
    evictions: Mapping[Reason, int]

    @property
    def hit_rate(self) -> float:
        """The share of reads that found their entry, 0.0 to 1.0; 0.0 before the first read."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else 0.0


@dataclass(frozen=True, slots=True)
class _Record(Generic[T]):
    entry: T
    size: int
    expires: float
    serial: int
    tags: Mapping[str, str]
    owner: str | None


class _Share:
    """The entries of one owner, the one that was not read for longest first."""

    __slots__ = ("_keys", "bytes")

    def __init__(self) -> None:
        self._keys: OrderedDict[str, None] = OrderedDict()
        self.bytes = 0

    @property
    def oldest(self) -> str:
        return next(iter(self._keys))

    def add(self, key: str, size: int) -> None:
        self._keys[key] = None
        self.bytes += size

    def touch(self, key: str) -> None:
        self._keys.move_to_end(key)

    def discard(self, key: str, size: int) -> int:
        """Take an entry out; return how many are left."""
        del self._keys[key]
        self.bytes -= size
        return len(self._keys)


class Store(Generic[T]):
    """Entries under keys, at most ``max_entries`` of them and ``max_bytes`` in all, ``owner_bytes`` for one owner.

    ``default_ttl`` is in seconds by ``clock``, None is for ever. ``max_entries=0`` stores nothing (document S1,
    "cache_size"). ``on_evict(key, entry, reason)`` is told each entry that left, once the store no longer holds it.
    It must not call the store, and what it raises passes through.

    >>> store = Store(max_entries=2, max_bytes=100, default_ttl=60.0, clock=lambda: 0.0)
    >>> store.put("a", "value of a", size=10)
    True
    >>> store.get("a")
    'value of a'
    >>> store.get("b")
    <Missing.MISSING: 'missing'>
    """

    def __init__(  # noqa: PLR0913  # its limits, by name
        self,
        max_entries: int,
        max_bytes: int,
        default_ttl: float | None,
        clock: Callable[[], float],
        on_evict: Callable[[str, T, Reason], None] | None = None,
        *,
        owner_bytes: int | None = None,
    ) -> None:
        if max_entries < 0 or max_bytes < 0:
            raise ValueError(f"limits must not be negative: max_entries={max_entries}, max_bytes={max_bytes}")
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._default_ttl, self._clock, self._on_evict = _checked(default_ttl), clock, on_evict
        self._records: LRUCache[str, _Record[T]] = LRUCache(max_bytes, getsizeof=lambda record: record.size)
        self._deadlines: list[tuple[float, int, str]] = []
        self._serial = itertools.count()
        self._owner_bytes = max_bytes if owner_bytes is None else min(owner_bytes, max_bytes)
        self._shared_out = owner_bytes is not None
        self._shares: dict[str, _Share] = {}
        self._hits = self._misses = 0
        self._evictions: Counter[Reason] = Counter()

    def __len__(self) -> int:
        """How many entries are held, those included whose time passed since the last call that looked at them."""
        return len(self._records)

    @property
    def bytes(self) -> int:
        """The sum of the sizes of the entries held; never above ``max_bytes``."""
        return int(self._records.currsize)

    @property
    def timed(self) -> int:
        """How many of the entries held have a time to live; looks at every entry."""
        return sum(self._look(key).expires < math.inf for key in self._records)  # type: ignore[union-attr]  # it is there

    @property
    def stats(self) -> StoreStats:
        """The counters of now, as a value."""
        evictions: dict[Reason, int] = {"size": 0, "quota": 0, "expired": 0, "purged": 0, "replaced": 0}
        return StoreStats(self._hits, self._misses, len(self), self.bytes, evictions | self._evictions)

    def put(  # noqa: PLR0913  # what belongs to an entry, by name
        self,
        key: str,
        entry: T,
        *,
        size: int,
        ttl: float | Literal[Missing.MISSING] | None = Missing.MISSING,
        tags: Mapping[str, str] | None = None,
        owner: str | None = None,
    ) -> bool:
        """Hold ``entry`` under ``key`` and return True; or return False where it can never fit.

        ``size`` is in bytes, ``ttl`` in seconds: left out it is the store's default, None is for ever. What stood
        under ``key`` leaves in both cases, with its time and tags (defect D-04). Entries whose time passed make
        room first, then those that were not read for longest: of ``owner``, if it is its share that is full.

        Raises :class:`InvalidTimeoutError` for a ttl that is not above 0 and at most :data:`MAX_TTL`,
        ``ValueError`` for a negative size.
        """
        lifetime = self._default_ttl if ttl is Missing.MISSING else _checked(ttl)
        if size < 0:
            raise ValueError(f"size must not be negative: {size}")
        if not self._shared_out:
            owner = None
        self._drop(key, "replaced")
        if not self.fits(size, owner):
            return False
        now = self._clock()
        self._make_room(size, now, owner)
        expires = math.inf if lifetime is None else now + lifetime
        serial = next(self._serial)
        self._records[key] = _Record(entry, size, expires, serial, dict(tags or {}), owner)
        if owner is not None:
            self._shares.setdefault(owner, _Share()).add(key, size)
        if lifetime is not None:
            heapq.heappush(self._deadlines, (expires, serial, key))
            self._trim_deadlines()
        return True

    def fits(self, size: int, owner: str | None = None) -> bool:
        """Whether an entry of ``size`` bytes can be held at all, if everything else has to make room for it."""
        most = self._max_bytes if owner is None else self._owner_bytes
        return size <= most and self._max_entries > 0

    def get(self, key: str) -> T | Literal[Missing.MISSING]:
        """Return the entry under ``key``, which then counts as just used, or ``Missing.MISSING``.

        An entry whose time has passed is dropped and counts as missing.
        """
        record = self._records.get(key)
        if record is not None and self._clock() < record.expires:
            self._hits += 1
            if record.owner is not None:
                self._shares[record.owner].touch(key)
            return record.entry
        self._misses += 1
        self._drop(key, "expired")
        return Missing.MISSING

    def peek(self, key: str) -> T | Literal[Missing.MISSING]:
        """Return the entry under ``key`` or ``Missing.MISSING``, and change nothing: neither order nor counters."""
        record = self._look(key)
        return Missing.MISSING if record is None or self._clock() >= record.expires else record.entry

    def delete(self, key: str) -> bool:
        """Drop the entry under ``key``; whether there was one."""
        return self._drop(key, "purged")

    def purge(self, predicate: Callable[[str, Mapping[str, str]], bool] | None = None, /, **tags: str) -> int:
        """Drop each entry that has all of ``tags`` and for which ``predicate(key, its tags)`` is true; how many.

        Looks at every entry. Raises ``ValueError`` without a condition: :meth:`clear` drops everything.
        """
        if predicate is None and not tags:
            raise ValueError("purge needs a predicate or a tag; clear() drops everything")
        chosen = [
            key
            for key in self._records
            if tags.items() <= self._tags(key).items() and (predicate is None or predicate(key, self._tags(key)))
        ]
        return sum(self._drop(key, "purged") for key in chosen)

    def find(self, **tags: str) -> Iterator[T]:
        """Yield the entries that have all of ``tags``, the one that was not read for longest first; change nothing."""
        now = self._clock()
        for key in list(self._records):
            record = self._look(key)
            if record is not None and record.expires > now and tags.items() <= record.tags.items():
                yield record.entry

    def left(self, key: str) -> float | None:
        """Return the seconds that an entry has left: infinite for one that stays, None for one that is not there."""
        record = self._look(key)
        now = self._clock()
        return None if record is None or record.expires <= now else record.expires - now

    def sweep(self, now: float | None = None) -> int:
        """Drop every entry whose time has passed at ``now`` (default: the clock); how many.

        The cost is that of the dropped entries, however many there are.
        """
        now = self._clock() if now is None else now
        dropped = 0
        while self._deadlines and self._deadlines[0][0] <= now:
            _, serial, key = heapq.heappop(self._deadlines)
            if self._is_current(key, serial):
                dropped += self._drop(key, "expired")
        return dropped

    def clear(self) -> None:
        """Drop everything; the counters stay."""
        for key in list(self._records):
            self._drop(key, "purged")
        self._deadlines.clear()

    def _look(self, key: str) -> _Record[T] | None:
        """Return the record without touching the order, as ``LRUCache`` itself does when it evicts."""
        return Cache.__getitem__(self._records, key) if key in self._records else None

    def _tags(self, key: str) -> Mapping[str, str]:
        record = self._look(key)
        return {} if record is None else record.tags

    def _drop(self, key: str, reason: Reason) -> bool:
        record = self._look(key)
        if record is None:
            return False
        del self._records[key]
        self._left(key, record, reason)
        return True

    def _left(self, key: str, record: _Record[T], reason: Reason) -> None:
        self._evictions[reason] += 1
        if record.owner is not None and not self._shares[record.owner].discard(key, record.size):
            del self._shares[record.owner]
        if self._on_evict is not None:
            self._on_evict(key, record.entry, reason)

    def _make_room(self, size: int, now: float, owner: str | None) -> None:
        if self._has_room(size) and self._has_share(size, owner):
            return
        self.sweep(now)
        while not self._has_share(size, owner):
            assert owner is not None
            self._drop(self._shares[owner].oldest, "quota")
        while not self._has_room(size):
            key, record = self._records.popitem()
            self._left(key, record, "size")

    def _has_share(self, size: int, owner: str | None) -> bool:
        share = None if owner is None else self._shares.get(owner)
        return share is None or share.bytes + size <= self._owner_bytes

    def _has_room(self, size: int) -> bool:
        return len(self._records) < self._max_entries and self.bytes + size <= self._max_bytes

    def _trim_deadlines(self) -> None:
        """Forget the deadlines of entries that left before them, once they are the greater part of the heap."""
        if len(self._deadlines) > 2 * len(self._records) + _HEAP_SLACK:
            self._deadlines = [deadline for deadline in self._deadlines if self._is_current(deadline[2], deadline[1])]
            heapq.heapify(self._deadlines)

    def _is_current(self, key: str, serial: int) -> bool:
        """Whether the entry that was put as number ``serial`` is still there."""
        record = self._look(key)
        return record is not None and record.serial == serial


def _checked(ttl: float | None) -> float | None:
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 < ttl <= MAX_TTL:
        raise InvalidTimeoutError(f"ttl must be a number of seconds above 0 and up to {MAX_TTL:g}, or None for ever")
    return ttl
