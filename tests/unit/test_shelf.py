"""Cached results in files: what survives, what is not believed, and how much room they take."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiecs_ray.actors.cache import Cache
from aiecs_ray.actors.shelf import _LENGTH, _MAGIC, ABANDONED, FOLDER, Shelf
from aiecs_ray.backend import CacheEntry, KeyParts
from aiecs_ray.config import Settings
from aiecs_ray.packing import Packed, is_small, pack, to_payload, unpack

if TYPE_CHECKING:
    from pathlib import Path

MB = 2**20
PARTS = KeyParts("1", "task", ("ann", "t"), b"params", ((b"identity", b"srows"),), (b"state",))


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shelf(tmp_path: Path, clock: Clock) -> Shelf:
    return Shelf(tmp_path, 10 * MB, clock)


def entry(key: str, **options: Any) -> CacheEntry:
    given = {"tool": "mill", "operation": "grind", "user_id": "ann", "task_id": "t", "parts": PARTS, **options}
    return CacheEntry(key, None, 10, b"generation", "summary", **given)


def put(shelf: Shelf, key: str, value: object = "value", *, expires: float | None = None, **tags: str) -> None:
    shelf.put(entry(key), pack(value), tags, expires)


def value_of(shelf: Shelf, key: str) -> object:
    found = shelf.get(key)
    return None if found is None else unpack(found.packed)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def again(tmp_path: Path, clock: Clock, most: int = 10 * MB) -> Shelf:
    return Shelf(tmp_path, most, clock)


def test_what_was_written_is_there_for_the_next_one(shelf: Shelf, tmp_path: Path, clock: Clock) -> None:
    put(shelf, "a", {"rows": [1, 2]}, expires=clock.now + 5)
    put(shelf, "b", bytearray(b"x" * 100_000))

    other = again(tmp_path, clock)

    found = other.get("a")
    assert found is not None
    assert found.entry == entry("a")
    assert (unpack(found.packed), found.expires) == ({"rows": [1, 2]}, clock.now + 5)
    assert value_of(other, "b") == b"x" * 100_000
    assert value_of(other, "c") is None
    assert other.stats()["hits"] == 2


def test_a_file_has_the_digest_of_its_content_as_its_name_and_is_nobody_elses(shelf: Shelf, tmp_path: Path) -> None:
    put(shelf, "a")

    (path,) = files(tmp_path)
    assert path.parent.parent.name == FOLDER
    assert (len(path.name), path.stat().st_mode & 0o077) == (64, 0)


def test_a_key_that_is_written_again_has_one_file(shelf: Shelf, tmp_path: Path, clock: Clock) -> None:
    for value in ("old", "new", "new"):
        put(shelf, "a", value)

    assert len(files(tmp_path)) == 1
    assert value_of(again(tmp_path, clock), "a") == "new"
    assert shelf.stats()["entries"] == 1
    assert shelf.stats()["bytes"] == files(tmp_path)[0].stat().st_size


def test_what_expired_is_gone(shelf: Shelf, tmp_path: Path, clock: Clock) -> None:
    put(shelf, "a", expires=clock.now + 5)
    put(shelf, "b", expires=clock.now + 50)

    clock.now += 5

    assert ("a" in shelf, "b" in shelf) == (False, True)
    assert value_of(shelf, "a") is None
    assert shelf.sweep() == 1
    assert len(files(tmp_path)) == 1


def test_what_expired_meanwhile_is_removed_at_the_start(shelf: Shelf, tmp_path: Path, clock: Clock) -> None:
    put(shelf, "a", expires=clock.now + 5)

    clock.now += 6

    assert again(tmp_path, clock).stats()["entries"] == 0
    assert files(tmp_path) == []


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "longer"])
def test_a_damaged_file_is_ignored_and_counted(shelf: Shelf, tmp_path: Path, clock: Clock, damage: str) -> None:
    put(shelf, "a", "x" * 1000)
    put(shelf, "b")
    path = next(path for path in files(tmp_path) if path.stat().st_size > 1000)
    content = path.read_bytes()
    damaged = {"cut": content[:-10], "changed": content[:-10] + b"y" * 10, "empty": b"", "longer": content + b"z"}

    path.write_bytes(damaged[damage])
    other = again(tmp_path, clock)

    assert (value_of(other, "a"), value_of(other, "b")) == (None, "value")
    assert other.stats()["corrupted"] == 1
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    "about",
    [
        b"[" * 100_000,
        b'{"tags_of_entry":{},"tags":[],"expires":1' + b"0" * 400 + b',"made":1,"key":"k"}',
        b"9" * 6000,
    ],
    ids=["nested without end", "a time without end", "a number without end"],
)
def test_a_file_that_was_made_to_harm_is_ignored_and_counted(
    shelf: Shelf, tmp_path: Path, clock: Clock, about: bytes
) -> None:
    put(shelf, "b")
    content = _MAGIC + len(about).to_bytes(_LENGTH, "big") + about
    name = hashlib.sha256(content).hexdigest()
    path = tmp_path / FOLDER / name[:2] / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)

    other = again(tmp_path, clock)

    assert value_of(other, "b") == "value"
    assert other.stats()["corrupted"] == 1


def test_a_file_that_vanishes_is_a_miss(shelf: Shelf, tmp_path: Path) -> None:
    put(shelf, "a")

    files(tmp_path)[0].unlink()

    assert value_of(shelf, "a") is None
    assert (shelf.stats()["entries"], shelf.stats()["bytes"]) == (0, 0)


def test_files_of_others_are_counted_and_stay(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / FOLDER
    (folder / "ab").mkdir(parents=True)
    for path in (folder / "note.txt", folder / "ab" / "note.txt", folder / "ab" / ("0" * 64)):
        path.write_text("mine")
    (folder / "ab" / ("ab" + "0" * 62)).symlink_to(folder / "note.txt")

    shelf = again(tmp_path, clock)

    assert (shelf.stats()["foreign"], shelf.stats()["entries"]) == (4, 0)
    assert len(files(tmp_path)) == 4


def test_a_file_of_another_key_is_not_believed(shelf: Shelf, tmp_path: Path, clock: Clock) -> None:
    put(shelf, "a", "of a")
    (path,) = files(tmp_path)
    content = path.read_bytes().replace(b'"key": "a"', b'"key": "b"')
    path.write_bytes(content)

    other = again(tmp_path, clock)

    assert (value_of(other, "a"), value_of(other, "b")) == (None, None)


@given(st.binary(max_size=200), st.integers(0, 2000))
@settings(max_examples=100, deadline=None)
def test_no_content_whatever_breaks_the_start(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, place: int
) -> None:
    directory = tmp_path_factory.mktemp("shelf")
    shelf = Shelf(directory, MB)
    put(shelf, "a")
    (path,) = files(directory)
    sound = path.read_bytes()
    path.write_bytes(sound[:place] + content + sound[place + len(content) :])

    other = Shelf(directory, MB)

    assert value_of(other, "a") in ("value", None)


def test_unfinished_files_are_removed_once_nobody_writes_them(shelf: Shelf, tmp_path: Path, clock: Clock) -> None:
    put(shelf, "a")
    folder = files(tmp_path)[0].parent
    for number, age in enumerate((ABANDONED + 1, ABANDONED - 1)):
        path = folder / f".{'a' * 64}.{number:016x}.tmp"
        path.write_bytes(b"half")
        os.utime(path, (clock.now - age, clock.now - age))

    other = again(tmp_path, clock)

    assert other.stats()["foreign"] == 0
    assert [path.name[-5] for path in files(tmp_path) if path.suffix == ".tmp"] == ["1"]


def test_the_least_recently_used_leave_when_there_is_no_room(tmp_path: Path, clock: Clock) -> None:
    shelf = Shelf(tmp_path, 3500, clock)
    for key in "abc":
        put(shelf, key, key * 400)
    shelf.get("a")

    put(shelf, "d", "d" * 400)

    assert [key for key in "abcd" if key in shelf] == ["a", "c", "d"]
    assert sum(path.stat().st_size for path in files(tmp_path)) == shelf.stats()["bytes"] <= 3500
    assert shelf.stats()["evicted"] == 1


def test_the_order_of_use_survives(tmp_path: Path, clock: Clock) -> None:
    shelf = Shelf(tmp_path, MB, clock)
    for number, key in enumerate("abc"):
        put(shelf, key, key * 400)
        os.utime(shelf._files[key].path, (number, number))
    shelf.get("a")

    smaller = Shelf(tmp_path, 2500, clock)

    assert [key for key in "abc" if key in smaller] == ["a", "c"]


def test_what_is_larger_than_everything_is_not_written(tmp_path: Path, clock: Clock) -> None:
    shelf = Shelf(tmp_path, 3000, clock)
    put(shelf, "a")
    put(shelf, "b")

    put(shelf, "a", "x" * 4000)

    assert [key for key in "ab" if key in shelf] == ["b"]


def test_a_directory_that_cannot_be_used_is_counted_and_nothing_else(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("in the way")
    shelf = Shelf(tmp_path / "file", MB, clock)

    put(shelf, "a")

    assert value_of(shelf, "a") is None
    assert shelf.stats()["failed"] == 2
    assert not shelf.probe()


def test_a_probe_leaves_nothing(shelf: Shelf, tmp_path: Path) -> None:
    assert shelf.probe()
    assert files(tmp_path) == []


def test_purging_by_tags_needs_all_of_them(shelf: Shelf, tmp_path: Path) -> None:
    put(shelf, "a", user="ann", task="1")
    put(shelf, "b", user="ann", task="2")

    assert shelf.purge({"user": "ann", "task": "3"}) == []
    assert shelf.purge({"user": "ann", "task": "2"}) == ["b"]
    assert shelf.purge({}) == ["a"]
    assert files(tmp_path) == []


@given(st.text(max_size=20), st.text(max_size=20), st.lists(st.binary(max_size=40), max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_text_and_any_buffers_come_back(
    tmp_path_factory: pytest.TempPathFactory, user: str, label: str, buffers: list[bytes]
) -> None:
    directory = tmp_path_factory.mktemp("shelf")
    written = entry("a", user_id=user, tags=(label,), ttl=5.0)

    Shelf(directory, MB).put(written, Packed(b"header", tuple(buffers)), {"user": user}, None)
    found = Shelf(directory, MB).get("a")

    assert found is not None
    assert found.entry == written
    assert [bytes(part) for part in found.packed.buffers] == buffers


def test_the_beginning_of_a_file_is_plain_text(shelf: Shelf, tmp_path: Path) -> None:
    put(shelf, "a")

    content = files(tmp_path)[0].read_bytes()

    first, _, rest = content.partition(b"\n")
    assert first == b"aiecs-ray cached result 1"
    assert json.JSONDecoder().raw_decode(rest[8:].decode("ascii", "replace"))[0]["key"] == "a"


# --- as the second place of a cache ----------------------------------------------------------------------------------


class Reference:
    def __init__(self, packed: Packed) -> None:
        self.packed = packed


def cache(tmp_path: Path, clock: Clock, **options: Any) -> Cache:
    given = {"cache_dir": str(tmp_path), "cache_bytes": 10 * MB, **options}
    return Cache(
        Settings(**given),
        adopt=lambda payload: payload,
        fetch=lambda reference: reference.packed,
        keep=Reference,
        clock=clock,
        wall=clock,
    )


def stored(key: str, value: object, *, large: bool = False, **options: Any) -> CacheEntry:
    packed = pack(value)
    return entry(key, **options)._replace(payload=Reference(packed) if large else to_payload(packed), size=packed.size)


def read(cache: Cache, key: str) -> object:
    (found,) = cache.get_many([key], ["mill.grind"])
    if found is None:
        return None
    return unpack(pack(0)) if found.payload is None else _open(found.payload)


def _open(payload: Any) -> object:
    return unpack(payload.packed) if not is_small(payload) else unpack(Packed(payload))


@pytest.mark.parametrize("large", [False, True])
def test_a_new_cache_has_what_the_old_one_had(tmp_path: Path, clock: Clock, *, large: bool) -> None:
    value = b"x" * 200_000 if large else {"rows": [1, None]}
    cache(tmp_path, clock).put_many([stored("a", value, large=large)])

    fresh = cache(tmp_path, clock)

    assert [read(fresh, "a") for _ in range(2)] == [value] * 2
    assert (fresh.stats()["hits"], fresh.stats()["misses"], fresh.stats()["disk"]["hits"]) == (2, 0, 1)
    assert fresh.explain(PARTS, "mill.grind", "a")["hit"]


def test_what_had_to_leave_the_memory_is_still_in_its_file(tmp_path: Path, clock: Clock) -> None:
    small = cache(tmp_path, clock, cache_entries=1)

    small.put_many([stored(key, key) for key in "ab"])

    assert small.stats()["entries"] == 1
    assert [read(small, key) for key in "aba"] == ["a", "b", "a"]


def test_an_entry_keeps_its_time(tmp_path: Path, clock: Clock) -> None:
    cache(tmp_path, clock).put_many([stored("a", 1, ttl=60.0)])
    clock.now += 50
    fresh = cache(tmp_path, clock)

    assert read(fresh, "a") == 1
    clock.now += 10
    assert read(fresh, "a") is None


def test_what_is_purged_is_gone_for_good(tmp_path: Path, clock: Clock) -> None:
    first = cache(tmp_path, clock, cache_entries=1)
    first.put_many([stored("a", 1), stored("b", 2), stored("c", 3, user_id="bob")])

    assert first.purge({"user_id": "ann"}) == 2
    assert [read(cache(tmp_path, clock), key) for key in "abc"] == [None, None, 3]
    assert first.purge({}) == 1
    assert files(tmp_path) == []


def test_what_became_too_large_for_the_memory_leaves_no_old_value(tmp_path: Path, clock: Clock) -> None:
    first = cache(tmp_path, clock)
    first.put_many([stored("a", "old")])

    first.put_many([stored("a", "new")._replace(size=11 * MB)])

    assert read(cache(tmp_path, clock), "a") is None


def test_without_a_directory_nothing_is_written(tmp_path: Path, clock: Clock) -> None:
    plain = cache(tmp_path, clock, cache_dir=None)

    plain.put_many([stored("a", 1)])

    assert files(tmp_path) == []
    assert plain.stats()["disk"] is None


def test_a_cache_that_is_switched_off_reads_no_files(tmp_path: Path, clock: Clock) -> None:
    cache(tmp_path, clock).put_many([stored("a", 1)])

    assert read(cache(tmp_path, clock, cache_entries=0), "a") is None
