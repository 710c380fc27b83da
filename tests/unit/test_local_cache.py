"""The cache of one process: copies in, copies out, bounded, swept, and never locked while a value is copied."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aiecs_ray.keys import UNCACHEABLE
from aiecs_ray.local_cache import LocalCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Probing:
    """Asks the cache while it is being copied, as a value's own code may."""

    cache: LocalCache | None = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        assert self.cache is not None
        self.cache.lookup("other")
        return Probing, ()


class Fickle:
    """Can be read when it is stored, and not any more later."""

    readable = True

    def __reduce__(self) -> tuple[Callable[[], Fickle], tuple[()]]:
        return _make_fickle, ()


def _make_fickle() -> Fickle:
    if not Fickle.readable:
        raise ValueError("not any more")
    return Fickle()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Iterator[Callable[..., LocalCache]]:
    made: list[LocalCache] = []

    def build(size: int = 10, max_bytes: int = 10_000, ttl: float = 60.0, interval: float = 1e6) -> LocalCache:
        made.append(LocalCache(size, max_bytes, ttl, clock=clock, sweep_interval=interval))
        return made[-1]

    yield build
    for cache in made:
        cache.close()


class Waiting(logging.Handler):
    """Lets a test wait for a line of the log."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.seen = text, threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.text in record.getMessage():
            self.seen.set()


@pytest.fixture
def sweeping() -> Iterator[Waiting]:
    handler = Waiting("expired entries dropped")
    logger = logging.getLogger("aiecs.execution_utils")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": (1, 2.5)}, b"x" * 100, {1, 2}])
def test_a_value_comes_back_equal_and_of_its_type(make: Any, value: object) -> None:
    cache = make()

    stored = cache.put("key", value)

    hit, found = cache.lookup("key")
    assert stored
    assert (hit, found) == (True, value)
    assert type(found) is type(value)


def test_what_is_not_there_is_a_miss(make: Any) -> None:
    assert make().lookup("key") == (False, None)


def test_neither_the_writer_nor_a_reader_can_change_what_others_read(make: Any) -> None:
    cache = make()
    value = {"rows": [1, 2, 3]}
    cache.put("key", value)
    value["rows"].append("by the writer")

    cache.lookup("key")[1]["rows"].append("by a reader")

    assert cache.lookup("key")[1] == {"rows": [1, 2, 3]}


def test_a_large_array_is_isolated_too_and_arrives_writable(make: Any) -> None:
    cache = make(max_bytes=10**7)
    array = np.zeros(100_000)
    cache.put("key", array)
    array[0] = 1

    first = cache.lookup("key")[1]
    first[1] = 2

    assert cache.lookup("key")[1].sum() == 0


def test_an_entry_is_gone_when_its_time_has_passed(make: Any, clock: Clock) -> None:
    cache = make(ttl=60.0)
    cache.put("default", 1)
    cache.put("short", 2, ttl=10)
    cache.put("for ever", 3, ttl=0)

    clock.now += 10.0
    after_10 = [cache.lookup(key)[0] for key in ("default", "short", "for ever")]
    clock.now += 50.0
    after_60 = [cache.lookup(key)[0] for key in ("default", "short", "for ever")]

    assert after_10 == [True, False, True]
    assert after_60 == [False, False, True]
    assert len(cache) == 1


def test_a_default_of_zero_is_for_ever(make: Any, clock: Clock) -> None:
    cache = make(ttl=0)
    cache.put("key", 1)

    clock.now += 1e9

    assert cache.lookup("key") == (True, 1)
    assert cache.timed == 0


def test_writing_again_starts_the_time_anew(make: Any, clock: Clock) -> None:
    cache = make()
    cache.put("key", 1, ttl=1)
    cache.put("key", 2, ttl=0)

    clock.now += 1.1

    assert cache.lookup("key") == (True, 2)


def test_the_least_recently_used_entry_makes_room(make: Any) -> None:
    cache = make(size=2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.lookup("a")

    cache.put("c", 3)

    assert [cache.lookup(key)[0] for key in "abc"] == [True, False, True]


def test_entries_that_made_room_leave_no_time_record(make: Any) -> None:
    cache = make(size=10)

    for i in range(1000):
        cache.put(str(i), i)

    assert (len(cache), cache.timed) == (10, 10)


def test_bytes_are_bounded_and_counted_as_stored(make: Any) -> None:
    cache = make(size=100, max_bytes=10_000)

    for i in range(20):
        cache.put(str(i), b"x" * 1000)

    assert 9000 < cache.stats.bytes <= 10_000
    assert cache.stats.entries == 9


def test_a_cache_of_size_zero_keeps_nothing_and_copies_nothing(make: Any) -> None:
    cache = make(size=0)

    stored = cache.put("key", threading.Lock())

    assert not stored
    assert cache.lookup("key") == (False, None)
    assert cache.uncacheable == 0


@pytest.mark.parametrize(("key", "value", "ttl"), [("key", threading.Lock(), None), ("key", 1, -1.0)])
def test_what_cannot_be_stored_is_counted_and_replaces_what_was_there(
    make: Any, key: str, value: object, ttl: float | None
) -> None:
    cache = make()
    cache.put("key", "old")

    stored = cache.put(key, value, ttl)

    assert not stored
    assert cache.lookup("key") == (False, None)
    assert cache.uncacheable == 1


def test_a_key_that_matches_nothing_stores_nothing(make: Any) -> None:
    cache = make()

    cache.put(UNCACHEABLE + "1", 1)

    assert len(cache) == 0
    assert cache.uncacheable == 1


def test_an_entry_that_cannot_be_read_any_more_is_a_miss(
    make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = make()
    cache.put("key", Fickle())
    monkeypatch.setattr(Fickle, "readable", False)

    assert cache.lookup("key") == (False, None)
    assert len(cache) == 0
    assert "cache: the entry under key cannot be read any more and is dropped" in caplog.messages


def test_a_value_that_could_not_be_read_again_is_not_stored(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make()
    monkeypatch.setattr(Fickle, "readable", False)

    assert not cache.put("key", Fickle())
    assert len(cache) == 0


def test_the_lock_is_free_while_a_value_is_copied(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make()
    monkeypatch.setattr(Probing, "cache", cache)
    done = threading.Event()

    def write() -> None:
        cache.put("key", Probing())
        done.set()

    threading.Thread(target=write, daemon=True).start()

    assert done.wait(10)
    assert cache.lookup("key")[0]


def test_many_threads_see_whole_values_and_the_bounds_hold(make: Any) -> None:
    cache = make(size=5)
    wrong: list[object] = []

    def work(own: int) -> None:
        for i in range(200):
            cache.put(str(i % 7), [own] * 50)
            hit, found = cache.lookup(str(i % 7))
            if (hit and len(set(found)) != 1) or len(cache) > 5:
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert cache.stats.hits + cache.stats.misses == 800


def test_sweeping_drops_what_has_expired_and_nothing_else(make: Any, clock: Clock) -> None:
    cache = make()
    cache.put("short", 1, ttl=1)
    cache.put("long", 2, ttl=100)
    cache.put("for ever", 3, ttl=0)

    clock.now += 2.0

    assert cache.sweep() == 1
    assert (len(cache), cache.timed) == (2, 1)


def test_expired_entries_are_dropped_without_a_read_and_without_a_loop(
    make: Any, clock: Clock, sweeping: Waiting
) -> None:
    cache = make(interval=0.005)
    cache.put("key", 1, ttl=1)

    clock.now += 2.0

    assert sweeping.seen.wait(10)
    assert len(cache) == 0


def test_no_thread_runs_before_anything_can_expire(make: Any) -> None:
    cache = make()

    cache.put("for ever", 1, ttl=0)

    assert cache._sweeper is None


def test_one_daemon_thread_serves_all_entries(make: Any) -> None:
    cache = make(interval=1e6)
    cache.put("a", 1)
    thread = cache._sweeper

    cache.put("b", 2)

    assert cache._sweeper is thread
    assert thread.daemon


def test_closing_ends_the_thread_and_the_cache_goes_on(make: Any) -> None:
    cache = make(interval=1e6)
    cache.put("key", 1)
    thread = cache._sweeper
    assert thread.is_alive()

    cache.close()
    cache.put("other", 2)

    assert not thread.is_alive()
    assert cache._sweeper is thread
    assert cache.lookup("other") == (True, 2)


def test_the_thread_does_not_keep_a_forgotten_cache_alive(clock: Clock) -> None:
    cache = LocalCache(10, 1000, 60.0, clock=clock, sweep_interval=1e6)
    cache.put("key", 1)
    thread, reference = cache._sweeper, weakref.ref(cache)
    assert thread is not None

    del cache
    gc.collect()
    thread.join(10)

    assert reference() is None
    assert not thread.is_alive()


def test_a_probe_leaves_the_entries_alone(make: Any) -> None:
    cache = make(size=1)
    cache.put("key", 1)
    before = cache.stats

    assert cache.probe()
    assert cache.stats == before
    assert cache.lookup("key") == (True, 1)


def test_clearing_and_deleting(make: Any) -> None:
    cache = make()
    cache.put("a", 1)
    cache.put("b", 2)

    deleted = [cache.delete("a"), cache.delete("a")]
    cache.clear()

    assert deleted == [True, False]
    assert (len(cache), cache.timed) == (0, 0)
