from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from aiecs_ray.errors import InvalidTimeoutError
from aiecs_ray.store import MAX_TTL, Missing, Store

MAX_ENTRIES, MAX_BYTES, DEFAULT_TTL = 4, 100, 10.0


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Evictions:
    seen: list[tuple[str, Any, str]] = field(default_factory=list)

    def __call__(self, key: str, entry: object, reason: str) -> None:
        self.seen.append((key, entry, reason))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def evictions() -> Evictions:
    return Evictions()


@pytest.fixture
def store(clock: Clock, evictions: Evictions) -> Store[Any]:
    return Store(MAX_ENTRIES, MAX_BYTES, DEFAULT_TTL, clock, evictions)


def test_an_entry_is_there_until_its_time_has_passed(store: Store[Any], clock: Clock) -> None:
    store.put("a", 1, size=1, ttl=5.0)

    clock.now = 4.9
    before = store.get("a")
    clock.now = 5.0

    assert before == 1
    assert store.get("a") is Missing.MISSING


def test_none_is_a_value_like_any_other(store: Store[Any]) -> None:
    store.put("a", None, size=1)

    assert store.get("a") is None
    assert store.peek("a") is None
    assert store.get("b") is Missing.MISSING


def test_without_a_ttl_the_default_counts_and_none_is_for_ever(store: Store[Any], clock: Clock) -> None:
    store.put("default", 1, size=1)
    store.put("for ever", 2, size=1, ttl=None)

    clock.now = DEFAULT_TTL

    assert store.get("default") is Missing.MISSING
    assert store.get("for ever") == 2


def test_a_store_may_keep_everything_for_ever_by_default(clock: Clock) -> None:
    store: Store[int] = Store(MAX_ENTRIES, MAX_BYTES, None, clock)
    store.put("a", 1, size=1)

    clock.now = 1e12

    assert store.get("a") == 1


def test_putting_again_starts_the_time_anew(store: Store[Any], clock: Clock) -> None:
    store.put("a", 1, size=1, ttl=1.0)
    store.put("b", 1, size=1, ttl=1.0)
    store.put("a", 2, size=1, ttl=None)
    store.put("b", 2, size=1, ttl=50.0)

    clock.now = 40.0

    assert store.sweep() == 0
    assert store.get("a") == 2
    assert store.get("b") == 2


def test_putting_again_may_shorten_the_time(store: Store[Any], clock: Clock) -> None:
    store.put("a", 1, size=1, ttl=None)
    store.put("a", 2, size=1, ttl=1.0)

    clock.now = 1.0

    assert store.sweep() == 1
    assert len(store) == 0


def test_the_entry_that_was_not_read_for_longest_leaves_first(store: Store[Any], evictions: Evictions) -> None:
    for key in "abcd":
        store.put(key, key, size=1)

    store.get("a")
    store.put("e", "e", size=1)

    assert evictions.seen == [("b", "b", "size")]
    assert store.get("a") == "a"


def test_a_peek_changes_neither_the_order_nor_the_counters(store: Store[Any], clock: Clock) -> None:
    for key in "abcd":
        store.put(key, key, size=1)
    before = store.stats

    peeked = store.peek("a"), store.peek("nothing")
    after = store.stats
    store.put("e", "e", size=1)

    assert peeked == ("a", Missing.MISSING)
    assert after == before
    assert store.get("a") is Missing.MISSING
    clock.now = DEFAULT_TTL
    assert store.peek("b") is Missing.MISSING
    assert len(store) == 4


def test_entries_leave_until_the_new_one_fits(store: Store[Any], evictions: Evictions) -> None:
    for key, size in [("a", 30), ("b", 30), ("c", 40)]:
        store.put(key, key, size=size)

    store.put("d", "d", size=50)

    assert [key for key, _, _ in evictions.seen] == ["a", "b"]
    assert store.bytes == 90


def test_expired_entries_make_room_before_living_ones(store: Store[Any], clock: Clock, evictions: Evictions) -> None:
    store.put("old but alive", 1, size=50, ttl=None)
    store.put("expired", 2, size=50, ttl=1.0)

    clock.now = 2.0
    store.put("new", 3, size=50)

    assert evictions.seen == [("expired", 2, "expired")]
    assert store.get("old but alive") == 1


def test_an_entry_that_can_never_fit_is_refused_and_the_others_stay(store: Store[Any], evictions: Evictions) -> None:
    store.put("a", 1, size=60)

    assert store.put("b", 2, size=MAX_BYTES) is True
    assert store.put("c", 3, size=MAX_BYTES + 1) is False
    assert store.get("b") == 2
    assert evictions.seen == [("a", 1, "size")]


def test_a_refused_entry_still_replaces_what_stood_under_its_key(store: Store[Any], evictions: Evictions) -> None:
    store.put("a", "old", size=1)

    assert store.put("a", "new", size=MAX_BYTES + 1) is False
    assert store.get("a") is Missing.MISSING
    assert evictions.seen == [("a", "old", "replaced")]


def test_a_store_for_no_entries_takes_none(clock: Clock) -> None:
    store: Store[int] = Store(0, MAX_BYTES, None, clock)

    assert store.put("a", 1, size=0) is False
    assert store.get("a") is Missing.MISSING
    assert len(store) == 0


def test_a_sweep_drops_what_has_expired_without_a_read(store: Store[Any], clock: Clock, evictions: Evictions) -> None:
    store.put("a", 1, size=10, ttl=1.0)
    store.put("b", 2, size=20, ttl=3.0)
    store.put("c", 3, size=30, ttl=None)

    clock.now = 2.0
    swept = store.sweep()

    assert swept == 1
    assert store.sweep(3.0) == 1
    assert (len(store), store.bytes) == (1, 30)
    assert evictions.seen == [("a", 1, "expired"), ("b", 2, "expired")]
    assert store.stats.misses == 0


def test_purging_by_tags_needs_all_of_them(store: Store[Any], evictions: Evictions) -> None:
    store.put("a", 1, size=1, tags={"tool": "stats", "user": "alice"})
    store.put("b", 2, size=1, tags={"tool": "stats", "user": "bob"})
    store.put("c", 3, size=1, tags={"tool": "pandas", "user": "alice"})
    store.put("d", 4, size=1)

    purged = store.purge(tool="stats", user="alice")

    assert purged == 1
    assert evictions.seen == [("a", 1, "purged")]
    assert store.purge(tool="stats") == 1
    assert len(store) == 2


def test_purging_by_a_predicate_sees_key_and_tags(store: Store[Any]) -> None:
    store.put("a1", 1, size=1, tags={"tool": "stats"})
    store.put("a2", 2, size=1, tags={"tool": "pandas"})
    store.put("b1", 3, size=1, tags={"tool": "stats"})

    assert store.purge(lambda key, tags: key.startswith("a") and tags["tool"] == "stats") == 1
    assert store.purge(lambda key, _: key.startswith("a"), tool="stats") == 0
    assert store.peek("a2") == 2


def test_purging_without_a_condition_is_refused(store: Store[Any]) -> None:
    store.put("a", 1, size=1)

    with pytest.raises(ValueError, match="clear"):
        store.purge()

    assert len(store) == 1


def test_tags_changed_later_by_the_caller_do_not_reach_the_store(store: Store[Any]) -> None:
    tags = {"user": "alice"}
    store.put("a", 1, size=1, tags=tags)

    tags["user"] = "bob"

    assert store.purge(user="bob") == 0
    assert store.purge(user="alice") == 1


def test_every_way_to_leave_is_counted_and_told(store: Store[Any], clock: Clock, evictions: Evictions) -> None:
    for key in "abcde":
        store.put(key, key, size=1)
    store.put("b", "new", size=1)
    store.delete("c")
    clock.now = DEFAULT_TTL
    store.get("d")
    store.clear()

    assert store.stats.evictions == {"size": 1, "quota": 0, "replaced": 1, "purged": 3, "expired": 1}
    assert Counter(reason for _, _, reason in evictions.seen) == Counter(store.stats.evictions)
    assert (len(store), store.bytes) == (0, 0)


def test_deleting_tells_whether_there_was_an_entry(store: Store[Any]) -> None:
    store.put("a", 1, size=1)

    assert store.delete("a") is True
    assert store.delete("a") is False


def test_the_hit_rate_is_the_share_of_reads_that_found_something(store: Store[Any]) -> None:
    store.put("a", 1, size=1)
    before = store.stats.hit_rate

    store.get("a")
    store.get("a")
    store.get("a")
    store.get("b")

    assert before == 0.0
    assert store.stats.hit_rate == 0.75
    assert (store.stats.hits, store.stats.misses) == (3, 1)


@pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf, "60", 1e18, MAX_TTL * 1.001, 10**400, True])
def test_a_ttl_that_is_no_time_is_refused(store: Store[Any], clock: Clock, ttl: Any) -> None:
    store.put("a", "old", size=1)

    with pytest.raises(InvalidTimeoutError):
        store.put("a", 1, size=1, ttl=ttl)
    with pytest.raises(InvalidTimeoutError):
        Store(1, 1, ttl, clock)

    assert store.get("a") == "old"


def test_limits_and_sizes_are_not_negative(store: Store[Any], clock: Clock) -> None:
    for limits in [(-1, 1), (1, -1)]:
        with pytest.raises(ValueError, match="negative"):
            Store(*limits, None, clock)

    with pytest.raises(ValueError, match="negative"):
        store.put("a", 1, size=-1)


def test_an_evicted_entry_has_left_when_it_is_told(clock: Clock) -> None:
    found = []
    store: Store[int] = Store(1, 10, None, clock, lambda key, _entry, _reason: found.append(store.peek(key)))
    store.put("a", 1, size=1)

    store.put("b", 2, size=1)
    store.put("b", 3, size=1)

    assert found == [Missing.MISSING, Missing.MISSING]


def test_the_deadlines_of_replaced_entries_are_forgotten(store: Store[Any]) -> None:
    def deep_size() -> int:
        return sum(map(sys.getsizeof, vars(store).values()))

    store.put("a", 0, size=1)
    before = deep_size()

    for value in range(10_000):
        store.put("a", value, size=1)

    assert deep_size() < before + 5_000
