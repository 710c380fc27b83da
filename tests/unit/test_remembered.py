"""What a run keeps at hand of the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiecs_ray.actors import remembered
from aiecs_ray.actors.remembered import Remembered
from aiecs_ray.backend import CacheEntry

if TYPE_CHECKING:
    import pytest


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def entry(key: str, size: int = 1) -> CacheEntry:
    return CacheEntry(key, b"x" * size, size, b"")


def test_an_entry_is_at_hand_until_its_time_has_passed() -> None:
    clock = Clock()
    met = Remembered(clock)
    met.add(entry("short"), clock.now - 1.0, 3.0)
    met.add(entry("long"), clock.now, None)

    clock.now += 1.9
    early = met.get("short")
    clock.now += 0.1
    late = met.get("short")

    assert early == entry("short")
    assert (late, met.get("short")) == (None, None)
    assert met.get("long") == entry("long")


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST_BYTES", 100)
    met = Remembered(Clock())

    for key in ("a", "b", "a"):
        met.add(entry(key, 60), 0.0, None)
    met.forget("a")
    met.add(entry("c", 100), 0.0, None)

    assert [met.get(key) is not None for key in "abc"] == [False, False, True]


def test_large_values_and_too_many_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST", 1)
    met = Remembered(Clock())

    met.add(CacheEntry("large", object(), 10**6, b""), 0.0, None)
    met.add(entry("a"), 0.0, None)
    met.add(entry("b"), 0.0, None)

    assert [met.get(key) is not None for key in ("large", "a", "b")] == [False, True, False]
    met.clear()
    assert met.get("a") is None
