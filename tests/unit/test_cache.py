"""The shared cache as an object: its limits by real bytes, its users' shares, its time, and what it counts."""

from __future__ import annotations

import threading
import tracemalloc
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aiecs_ray import keys
from aiecs_ray.actors import cache as module
from aiecs_ray.actors.cache import LOST, OVERHEAD, TOO_LARGE, Cache
from aiecs_ray.actors.counts import MOST, OTHERS, Counts
from aiecs_ray.backend import CacheEntry, KeyParts, Note
from aiecs_ray.config import Settings
from aiecs_ray.store import Missing
from tests.contract.probes import eventually

if TYPE_CHECKING:
    from aiecs_ray.messages import Scope

KB = 1_000


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(clock: Clock, **options: Any) -> Cache:
    given = {"cache_bytes": 100 * KB, "cache_entries": 50, "cache_ttl": 60.0, **options}
    return Cache(Settings(**given), adopt=lambda payload: payload, clock=clock)


def entry(key: str, size: int = 10, user: str = "ann", **options: Any) -> CacheEntry:
    parts = KeyParts("1", options.pop("scope", "task"), (user, "t"), b"params")
    given = {"tool": "mill", "operation": "grind", "user_id": user, "task_id": "t", "parts": parts, **options}
    return CacheEntry(key, b"x" * min(size, 100), size, b"", **given)


def held(cache: Cache, *keys: str) -> list[str]:
    return [key for key, found in zip(keys, cache.get_many(keys), strict=True) if found is not None]


# --- limits ----------------------------------------------------------------------------------------------------------


def test_an_entry_counts_with_its_records(clock: Clock) -> None:
    cache = make(clock)

    cache.put_many([entry("a", 0)])
    small = cache.stats()["bytes"]
    cache.put_many([entry("b", 0, task_id="t" * 10 * KB)])

    assert OVERHEAD <= small < OVERHEAD + KB
    assert 10 * KB < cache.stats()["bytes"] - 2 * small + OVERHEAD < 10 * KB + 2 * OVERHEAD


def test_bytes_are_those_that_python_takes(clock: Clock) -> None:
    cache = make(clock, cache_bytes=10**9, cache_entries=10_000)
    numbers = count()

    def put() -> None:
        for _ in range(500):
            size = next(numbers) % 3_000
            parts = KeyParts("1", "task", ("ann", "t"), bytes(32), ((bytes(16), b"srows"),), (bytes(32),))
            key = keys.digest(next(numbers)).hex()
            cache.put_many(
                [CacheEntry(key, b"v" * size, size, bytes(16), "bytes", "mill", "grind", "ann", parts=parts)]
            )

    put()
    before = cache.stats()["bytes"]
    tracemalloc.start()
    try:
        put()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # An entry that came in a message of its own takes some hundred bytes more than one that was made here.
    assert 0.5 < taken / (cache.stats()["bytes"] - before) < 1.0


def test_what_is_too_large_is_neither_copied_nor_stored(clock: Clock) -> None:
    adopted: list[Any] = []
    options = Settings(cache_bytes=100 * KB)
    cache = Cache(options, adopt=lambda payload: adopted.append(payload) or payload, clock=clock)
    cache.put_many([entry("a")])

    cache.put_many([entry("a", 101 * KB), entry("b", 100 * KB)])

    assert held(cache, "a", "b") == []
    assert len(adopted) == 1
    assert cache.stats()["uncacheable"] == {TOO_LARGE: 2}


def test_what_was_lost_before_it_was_copied_is_counted(clock: Clock) -> None:
    cache = Cache(Settings(), adopt=lambda _: Missing.MISSING, clock=clock)

    cache.put_many([entry("a")])

    assert held(cache, "a") == []
    assert cache.stats()["uncacheable"] == {LOST: 1}
    assert cache.stats()["operations"]["mill.grind"]["uncacheable"] == 1


def test_a_cache_for_no_entries_stores_nothing(clock: Clock) -> None:
    cache = make(clock, cache_entries=0)

    cache.put_many([entry("a")])

    assert held(cache, "a") == []
    assert cache.stats()["uncacheable"] == {}
    assert cache.probe()


def test_a_user_fills_only_its_share_and_loses_what_it_used_longest_ago(clock: Clock) -> None:
    cache = make(clock, cache_user_share=0.5)
    cache.put_many([entry("bob", 10 * KB, "bob")])
    cache.put_many([entry(f"ann{n}", 15 * KB) for n in range(2)])
    cache.get_many(["ann0"])

    cache.put_many([entry("ann2", 15 * KB)])

    assert held(cache, "bob", "ann0", "ann1", "ann2") == ["bob", "ann0", "ann2"]
    assert cache.stats()["evictions"]["quota"] == 1


def test_without_shares_nobody_runs_out_of_one(clock: Clock) -> None:
    cache = make(clock)

    cache.put_many([entry(str(n), 30 * KB) for n in range(4)])

    assert (cache.stats()["evictions"]["size"], cache.stats()["evictions"]["quota"]) == (1, 0)


def test_what_everybody_may_read_is_in_nobodys_share(clock: Clock) -> None:
    cache = make(clock, cache_user_share=0.2)

    cache.put_many([entry(str(n), 15 * KB, scope="global") for n in range(4)])
    cache.put_many([entry("mine", 25 * KB)])

    assert held(cache, "0", "1", "2", "3", "mine") == ["0", "1", "2", "3"]


# --- time ------------------------------------------------------------------------------------------------------------


def test_what_expired_leaves_without_being_read(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP_INTERVAL", 0.01)
    cache = make(clock)
    cache.put_many([entry("a"), entry("b", ttl=600.0)])

    clock.now = 60.0

    eventually(lambda: cache.memory()["cache_size"] == 1)
    assert cache.stats()["evictions"]["expired"] == 1
    cache.close()


def test_the_thread_that_sweeps_does_not_keep_a_cache_alive(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP_INTERVAL", 0.01)
    cache = make(clock)
    cache.put_many([entry("a")])
    sweeper = cache._sweeper
    assert sweeper is not None

    del cache

    eventually(lambda: not sweeper.is_alive())


# --- what is counted and told ----------------------------------------------------------------------------------------


def test_a_probe_evicts_nobody_and_counts_nothing(clock: Clock) -> None:
    cache = make(clock, cache_entries=1)
    cache.put_many([entry("a")])
    before = cache.stats()

    assert cache.probe()

    assert cache.stats() == before
    assert held(cache, "a") == ["a"]


def test_a_cache_says_whether_it_lost_what_it_had(clock: Clock) -> None:
    fresh = make(clock)
    again = Cache(Settings(), adopt=lambda payload: payload, restarted=True, wall=lambda: 7.0)

    assert fresh.stats()["restarted"] is False
    assert (again.stats()["restarted"], again.stats()["since"], again.stats()["entries"]) == (True, 7.0, 0)


def test_notes_are_added_up() -> None:
    counts = Counts()

    counts.note([Note("joined", "a.b", times=3, seconds=1.5), Note("uncacheable", "a.b", "why", 2)])

    report = counts.report()
    assert (report["joined"], report["seconds_saved"], report["uncacheable"]) == (3, 1.5, {"why": 2})
    assert report["operations"]["a.b"]["uncacheable"] == 2


def test_names_without_end_are_counted_together() -> None:
    counts = Counts()

    for n in range(MOST + 10):
        counts.uncacheable(f"tool.op{n}", f"reason {n}")

    report = counts.report()
    assert len(report["operations"]) == len(report["uncacheable"]) == MOST + 1
    assert report["uncacheable"][OTHERS] == report["operations"][OTHERS]["uncacheable"] == 10


def test_several_threads_may_use_it(clock: Clock) -> None:
    cache = make(clock, cache_entries=20)

    def work(number: int) -> None:
        for n in range(200):
            cache.put_many([entry(str((number * 7 + n) % 60), user=f"u{n % 3}")])
            cache.get_many([str(n % 60), "none"], ["a.b", "a.b"])
            cache.sweep()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stats = cache.stats()
    assert stats["hits"] + stats["misses"] == 4 * 200 * 2
    assert stats["entries"] == 20


# --- isolation -------------------------------------------------------------------------------------------------------

NASTY = [
    "",
    " ",
    "a",
    "a:b",
    "a\0b",
    "a/b",
    "../a",
    "('a', 'b')",
    "None",
    "null",
    "global",
    "á",
    "a\u0301",
    "\u202ea",
    "x" * 10**6,
]
ids = st.sampled_from(NASTY) | st.text(max_size=5) | st.text(alphabet="a:,'\0", max_size=4)
scopes = st.sampled_from(["task", "user"])


@given(st.lists(st.tuples(ids, ids, scopes), min_size=2, max_size=8))
@settings(max_examples=150, deadline=None)
def test_nobody_gets_what_belongs_to_another(owners: list[tuple[str, str, Scope]]) -> None:
    cache = Cache(Settings(), adopt=lambda payload: payload)

    def key_of(user: str, task: str, scope: Scope) -> str:
        return keys.cache_key(
            tool="t", operation="o", version="1", scope=scope, owner=(user, task), params=keys.digest({})
        )

    def fill() -> None:
        cache.put_many([CacheEntry(key_of(*one), b"", 0, b"", user_id=one[0], task_id=one[1]) for one in owners])

    fill()
    for user, task, scope in owners:
        (found,) = cache.get_many([key_of(user, task, scope)])
        assert found is not None
        assert found.user_id == user
        assert scope == "user" or found.task_id == task
    for user in {user for user, _, _ in owners}:
        others = {key_of(*owner) for owner in owners if owner[0] != user}
        fill()
        cache.purge({"user_id": user})
        assert {key for key in others if cache.get_many([key])[0] is not None} == others
        assert all(cache.get_many([key_of(*owner)]) == [None] for owner in owners if owner[0] == user)


# --- against a dictionary --------------------------------------------------------------------------------------------


class CacheMachine(RuleBasedStateMachine):
    """The cache against a dictionary, within limits that are never reached."""

    names = st.sampled_from("abcdefgh")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.cache = make(self.clock)
        self.model: dict[str, tuple[bytes, float, str]] = {}
        self.serial = 0

    @rule(
        names=st.lists(names, min_size=1, max_size=4),
        ttl=st.sampled_from([None, 5.0, 90.0]),
        user=st.sampled_from("xy"),
    )
    def put(self, names: list[str], ttl: float | None, user: str) -> None:
        entries = []
        for name in names:
            self.serial += 1
            payload = b"%d" % self.serial
            entries.append(entry(name, user=user, ttl=ttl)._replace(payload=payload))
            self.model[name] = (payload, self.clock.now + (60.0 if ttl is None else ttl), user)
        self.cache.put_many(entries)

    @rule(names=st.lists(names, max_size=5))
    def get(self, names: list[str]) -> None:
        expected = [
            self.model[name][0] if name in self.model and self.model[name][1] > self.clock.now else None
            for name in names
        ]

        found = self.cache.get_many(names, ["mill.grind"] * len(names))

        assert [None if one is None else one.payload for one in found] == expected

    @rule(user=st.sampled_from("xyz"))
    def purge(self, user: str) -> None:
        self.cache.sweep()
        self.model = {name: item for name, item in self.model.items() if item[1] > self.clock.now}
        gone = [name for name, item in self.model.items() if item[2] == user]

        assert self.cache.purge({"user_id": user}) == len(gone)

        for name in gone:
            del self.model[name]

    @rule(seconds=st.sampled_from([1.0, 4.0, 50.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def nothing_is_forgotten(self) -> None:
        alive = {name for name, item in self.model.items() if item[1] > self.clock.now}
        assert alive <= {one.key for one in self.cache._store.find()}


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
