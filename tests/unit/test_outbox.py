"""What runs tell the cache goes in few messages, and before they ask."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.actors.outbox import Outbox
from aiecs_ray.backend import CacheEntry, KeyParts, Note

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Link:
    """A cache that notes what arrives."""

    def __init__(self) -> None:
        self.arrived: list[Any] = []

    async def get_many(self, keys: Sequence[str], operations: Sequence[str]) -> list[CacheEntry | None]:
        self.arrived.append(("get", *zip(keys, operations, strict=True)))
        return [None] * len(keys)

    def put_many(self, entries: Sequence[CacheEntry]) -> None:
        self.arrived.append(("put", *(entry.key for entry in entries)))

    def note(self, notes: Sequence[Note]) -> None:
        self.arrived.append(("note", *notes))

    async def explain(self, parts: KeyParts, operation: str, key: str) -> dict[str, Any]:
        self.arrived.append(("explain", parts.version, operation, key))
        return {}

    async def purge(self, tags: dict[str, str]) -> int:
        self.arrived.append(("purge", tags))
        return 0


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def soon() -> deque[Callable[[], object]]:
    return deque()


@pytest.fixture
def outbox(link: Link, soon: deque[Callable[[], object]]) -> Outbox:
    return Outbox(link, soon.append)


def entry(key: str) -> CacheEntry:
    return CacheEntry(key, None, 0, b"")


def test_a_thousand_results_of_one_round_are_one_message(
    outbox: Outbox, link: Link, soon: deque[Callable[[], object]]
) -> None:
    for n in range(1_000):
        outbox.put(entry(str(n)))
        outbox.note_uncacheable("t.o", "why")

    while soon:
        soon.popleft()()

    assert [message[0] for message in link.arrived] == ["put", "note"]
    assert len(link.arrived[0]) == 1_001
    assert link.arrived[1][1] == Note("uncacheable", "t.o", "why", 1_000)


async def test_what_is_stored_arrives_before_what_is_asked_later(outbox: Outbox, link: Link) -> None:
    outbox.put(entry("a"))

    await outbox.get_many(["a"], ["t.o"])

    assert link.arrived == [("put", "a"), ("get", ("a", "t.o"))]


async def test_an_explanation_knows_of_everything_that_is_stored(outbox: Outbox, link: Link) -> None:
    outbox.put(entry("a"))

    await outbox.explain(KeyParts("1", "task", ("", ""), b""), "t.o", "a")

    assert link.arrived == [("put", "a"), ("explain", "1", "t.o", "a")]


def test_what_was_saved_is_added_up(outbox: Outbox, link: Link, soon: deque[Callable[[], object]]) -> None:
    for _ in range(3):
        outbox.note_joined("t.o", 0.5)

    soon.popleft()()

    assert link.arrived == [("note", Note("joined", "t.o", "", 3, 1.5))]
    assert not soon


def test_nothing_is_sent_twice(outbox: Outbox, link: Link, soon: deque[Callable[[], object]]) -> None:
    outbox.put(entry("a"))

    soon.popleft()()
    outbox.put(entry("b"))
    soon.popleft()()

    assert link.arrived == [("put", "a"), ("put", "b")]
