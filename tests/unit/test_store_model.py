from __future__ import annotations

import math
from collections import Counter, OrderedDict
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aiecs_ray.store import Missing, Store

MAX_ENTRIES, MAX_BYTES, DEFAULT_TTL, OWNER_BYTES = 4, 100, 10.0, 60


class StoreMachine(RuleBasedStateMachine):
    """The store against an ordered dict that looks at every entry each time."""

    keys = st.sampled_from("abcdef")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.told: list[tuple[str, int, str]] = []
        self.store: Store[int] = Store(
            MAX_ENTRIES, MAX_BYTES, DEFAULT_TTL, lambda: self.now, self.tell, owner_bytes=OWNER_BYTES
        )
        self.model: OrderedDict[str, tuple[int, int, float, str, str | None]] = OrderedDict()
        self.left: list[tuple[str, int, str]] = []
        self.counted: Counter[str] = Counter()
        self.hits = self.misses = self.serial = 0

    def tell(self, key: str, entry: int, reason: str) -> None:
        self.told.append((key, entry, reason))

    def drop(self, key: str, reason: str) -> None:
        self.left.append((key, self.model.pop(key)[0], reason))

    def drop_expired(self) -> int:
        expired = sorted((item[2], key) for key, item in self.model.items() if item[2] <= self.now)
        for _, key in expired:
            self.drop(key, "expired")
        return len(expired)

    def held_by(self, owner: str) -> int:
        return sum(item[1] for item in self.model.values() if item[4] == owner)

    def held(self) -> int:
        return sum(item[1] for item in self.model.values())

    @rule(
        key=keys,
        size=st.integers(0, MAX_BYTES + 5),
        ttl=st.sampled_from([None, Missing.MISSING, 1.0, 5.0, 30.0]),
        tag=st.sampled_from("xy"),
        owner=st.sampled_from([None, "ann", "bob"]),
    )
    def put(self, key: str, size: int, ttl: Any, tag: str, owner: str | None) -> None:
        self.serial += 1
        if key in self.model:
            self.drop(key, "replaced")
        fits = size <= (MAX_BYTES if owner is None else OWNER_BYTES)
        if fits:
            over = owner is not None and self.held_by(owner) + size > OWNER_BYTES
            if over or len(self.model) >= MAX_ENTRIES or self.held() + size > MAX_BYTES:
                self.drop_expired()
            while owner is not None and self.held_by(owner) + size > OWNER_BYTES:
                self.drop(next(one for one, item in self.model.items() if item[4] == owner), "quota")
            while len(self.model) >= MAX_ENTRIES or self.held() + size > MAX_BYTES:
                self.drop(next(iter(self.model)), "size")
            seconds = {None: math.inf, Missing.MISSING: DEFAULT_TTL}.get(ttl, ttl)
            self.model[key] = (self.serial, size, self.now + seconds, tag, owner)

        assert self.store.put(key, self.serial, size=size, ttl=ttl, tags={"tag": tag}, owner=owner) is fits

    @rule(key=keys)
    def get(self, key: str) -> None:
        expected: Any = Missing.MISSING
        if key in self.model and self.model[key][2] > self.now:
            self.hits += 1
            expected = self.model[key][0]
            self.model.move_to_end(key)
        else:
            self.misses += 1
            if key in self.model:
                self.drop(key, "expired")

        assert self.store.get(key) == expected

    @rule(key=keys)
    def peek(self, key: str) -> None:
        alive = key in self.model and self.model[key][2] > self.now

        assert self.store.peek(key) == (self.model[key][0] if alive else Missing.MISSING)

    @rule(key=keys)
    def delete(self, key: str) -> None:
        known = key in self.model
        if known:
            self.drop(key, "purged")

        assert self.store.delete(key) is known

    @rule(tag=st.sampled_from("xyz"))
    def purge(self, tag: str) -> None:
        chosen = {key for key, item in self.model.items() if item[3] == tag}
        before = len(self.told)

        assert self.store.purge(tag=tag) == len(chosen)

        told = self.told[before:]
        assert {key for key, _, _ in told} == chosen
        for key, _, reason in told:
            self.drop(key, reason)

    @rule()
    def sweep(self) -> None:
        assert self.store.sweep() == self.drop_expired()

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_store_agrees_with_the_model(self) -> None:
        stats = self.store.stats
        assert (stats.entries, stats.bytes) == (len(self.model), self.held())
        assert stats.bytes <= MAX_BYTES
        assert all(self.held_by(owner) <= OWNER_BYTES for owner in ("ann", "bob"))
        assert {owner: share.bytes for owner, share in self.store._shares.items()} == {
            owner: self.held_by(owner) for owner in {item[4] for item in self.model.values()} if owner is not None
        }
        assert (stats.hits, stats.misses) == (self.hits, self.misses)
        assert sorted(self.told) == sorted(self.left)
        self.counted += Counter(reason for _, _, reason in self.left)
        assert {reason: n for reason, n in stats.evictions.items() if n} == self.counted
        self.told.clear()
        self.left.clear()


def walk(steps: int, seed: int) -> None:
    """Take ``steps`` at random; Hypothesis finds the short ways to an error, this one the long ones."""
    random = Random(seed)  # noqa: S311  # a test
    machine = StoreMachine()
    for step in range(steps):
        key = random.choice("abcdef")
        match random.randrange(20):
            case 0 | 1 | 2 | 3 | 4 | 5 | 6:
                ttl = random.choice([None, Missing.MISSING, 1.0, 5.0, 30.0])
                owner = random.choice([None, "ann", "bob"])
                machine.put(
                    key=key, size=random.randrange(MAX_BYTES + 6), ttl=ttl, tag=random.choice("xy"), owner=owner
                )
            case 7 | 8 | 9 | 10 | 11:
                machine.get(key=key)
            case 12 | 13:
                machine.peek(key=key)
            case 14:
                machine.delete(key=key)
            case 15:
                machine.purge(tag=random.choice("xyz"))
            case 16:
                machine.sweep()
            case _:
                machine.wait(seconds=random.choice([0.5, 1.0, 4.0, 20.0]))
        if step % 100 == 0 or step == steps - 1:
            machine.the_store_agrees_with_the_model()


@pytest.mark.parametrize("seed", range(2))
def test_a_long_walk_finds_no_difference(seed: int) -> None:
    walk(5_000, seed)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
