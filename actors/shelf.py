"""Cached results in files: they survive the cluster.

One file holds one entry, and its name is the SHA-256 of its content: a file that was cut off or changed does not fit
its name and is not used. Files are written beside their place and renamed, so a reader sees all of one or nothing. The
least recently used ones leave when the files take too much room.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiecs_ray.backend import CacheEntry, KeyParts
from aiecs_ray.packing import Packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

logger = logging.getLogger(__name__)

FOLDER = "aiecs-ray-cache-1"
"""Name of the folder in the directory; another format has another number."""
_MAGIC = b"aiecs-ray cached result 1\n"
_LENGTH = 8
_MOST_ABOUT = 64 * 2**20
_NAME = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{16}\.tmp")
ABANDONED = 3600.0
"""Seconds after which an unfinished file was left by a process that died."""


class Found(NamedTuple):
    """An entry that was read; its payload is None and stands in ``packed``."""

    entry: CacheEntry
    packed: Packed
    expires: float | None
    """Seconds since the epoch; None: never."""


class _Filed(NamedTuple):
    path: Path
    size: int
    expires: float | None
    tags: Mapping[str, str]


class Shelf:
    """Entries in files under ``directory``, at most ``max_bytes`` of them. One process at a time should use it.

    Args:
        directory: where; it is made if it is not there. Whoever can write to it can run code in whoever reads it.
        max_bytes: of all files together.
        clock: seconds since the epoch.
    """

    def __init__(self, directory: str | Path, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._root = Path(directory).expanduser() / FOLDER
        self._max_bytes = max_bytes
        self._clock = clock
        self._files: OrderedDict[str, _Filed] = OrderedDict()
        self._bytes = 0
        self._counts = dict.fromkeys(("hits", "corrupted", "foreign", "evicted", "failed"), 0)
        self._warned = False
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._look()
        except OSError as error:
            self._fail(error)

    def __contains__(self, key: str) -> bool:
        filed = self._files.get(key)
        return filed is not None and (filed.expires is None or self._clock() < filed.expires)

    def stats(self) -> dict[str, int]:
        """Return entries, bytes, hits, files ignored as corrupted or foreign, files evicted, and failed writes."""
        return {"entries": len(self._files), "bytes": self._bytes, **self._counts}

    def put(self, entry: CacheEntry, packed: Packed, tags: Mapping[str, str], expires: float | None) -> None:
        """Write an entry. What cannot be written is counted, and nothing else happens."""
        about = _describe(entry, packed, tags, expires, self._clock())
        parts = [_MAGIC, len(about).to_bytes(_LENGTH, "big"), about, packed.header, *packed.buffers]
        size = sum(memoryview(part).nbytes for part in parts)
        if size > self._max_bytes:
            self.delete(entry.key)
            return
        hashed = hashlib.sha256()
        for part in parts:
            hashed.update(part)
        name = hashed.hexdigest()
        path = self._root / name[:2] / name
        try:
            _write(path, parts)
        except OSError as error:
            self.delete(entry.key)
            self._fail(error)
            return
        self._file(entry.key, _Filed(path, size, expires, dict(tags)))
        while self._bytes > self._max_bytes:
            self._counts["evicted"] += 1
            self.delete(next(iter(self._files)))

    def get(self, key: str) -> Found | None:
        """Read the entry under ``key``; None when there is none, or its file is not what was written."""
        if key not in self:
            return None
        path = self._files[key].path
        try:
            content = path.read_bytes()
        except OSError:
            self._forget(key)
            return None
        found = None
        if hashlib.sha256(content).hexdigest() == path.name:
            with contextlib.suppress(ValueError, KeyError, TypeError, IndexError, AttributeError):
                found = _read(content)
        if found is None or found.entry.key != key:
            self._counts["corrupted"] += 1
            self.delete(key)
            return None
        self._counts["hits"] += 1
        self._files.move_to_end(key)
        with contextlib.suppress(OSError):
            os.utime(path)
        return found

    def delete(self, key: str) -> bool:
        """Remove the entry under ``key``; whether there was one."""
        filed = self._forget(key)
        if filed is None:
            return False
        with contextlib.suppress(OSError):
            filed.path.unlink()
        return True

    def purge(self, tags: Mapping[str, str]) -> list[str]:
        """Remove the entries that have all of ``tags``; return their keys."""
        chosen = [key for key, filed in self._files.items() if tags.items() <= filed.tags.items()]
        for key in chosen:
            self.delete(key)
        return chosen

    def sweep(self) -> int:
        """Remove what has expired; how many."""
        return sum(self.delete(key) for key in [key for key in self._files if key not in self])

    def probe(self) -> bool:
        """Write and read a file of no entry; whether it came back."""
        path = self._root / f".{'0' * 64}.{secrets.token_hex(8)}.tmp"
        try:
            path.write_bytes(_MAGIC)
            try:
                return path.read_bytes() == _MAGIC
            finally:
                path.unlink()
        except OSError as error:
            self._fail(error)
            return False

    def _look(self) -> None:
        """Find what is there from before, the least recently used first."""
        found = []
        for path in self._paths():
            try:
                status = path.stat(follow_symlinks=False)
                with path.open("rb") as file:
                    about = _read_about(file.read(len(_MAGIC) + _LENGTH), file.read)
            except OSError:
                continue
            if about is None:
                self._counts["corrupted"] += 1
                path.unlink(missing_ok=True)
                continue
            filed = _Filed(path, status.st_size, about["expires"], about["tags"])
            found.append((status.st_mtime_ns, about["made"], about["key"], filed))
        for _, _, key, filed in sorted(found, key=lambda one: one[:2]):
            self._file(key, filed)
        self.sweep()
        while self._bytes > self._max_bytes:
            self._counts["evicted"] += 1
            self.delete(next(iter(self._files)))

    def _paths(self) -> Iterator[Path]:
        for folder in self._root.iterdir():
            if not folder.is_dir() or folder.is_symlink():
                self._counts["foreign"] += 1
                continue
            for path in folder.iterdir():
                if _UNFINISHED.fullmatch(path.name):
                    self._remove_abandoned(path)
                elif _NAME.fullmatch(path.name) and path.name[:2] == folder.name and not path.is_symlink():
                    yield path
                else:
                    self._counts["foreign"] += 1

    def _remove_abandoned(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            if path.stat().st_mtime + ABANDONED < self._clock():
                path.unlink()

    def _file(self, key: str, filed: _Filed) -> None:
        before = self._files.get(key)
        if before is not None and before.path == filed.path:
            self._forget(key)
        else:
            self.delete(key)
        self._files[key] = filed
        self._bytes += filed.size

    def _forget(self, key: str) -> _Filed | None:
        filed = self._files.pop(key, None)
        if filed is not None:
            self._bytes -= filed.size
        return filed

    def _fail(self, error: OSError) -> None:
        self._counts["failed"] += 1
        if not self._warned:
            self._warned = True
            logger.warning("the cache cannot use its directory %s: %s", self._root, error)


def _write(path: Path, parts: list[Any]) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123  # its mode
            file.writelines(parts)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _describe(entry: CacheEntry, packed: Packed, tags: Mapping[str, str], expires: float | None, made: float) -> bytes:
    plain = entry._replace(payload=None, parts=None, generation=b"")._asdict()
    parts = entry.parts
    about = {
        **plain,
        "generation": entry.generation.hex(),
        "parts": None
        if parts is None
        else {
            **parts._asdict(),
            "params": parts.params.hex(),
            "inputs": [[part.hex() for part in one] for one in parts.inputs],
            "files": [state.hex() for state in parts.files],
        },
        "tags_of_entry": dict(tags),
        "expires": expires,
        "made": made,
        "lengths": [memoryview(part).nbytes for part in (packed.header, *packed.buffers)],
    }
    return json.dumps(about).encode("ascii")


def _read_about(head: bytes, more: Callable[[int], bytes]) -> dict[str, Any] | None:
    """Return what stands at the beginning of a file; None when it is not one of ours, or cut off."""
    length = int.from_bytes(head[len(_MAGIC) :], "big")
    if not head.startswith(_MAGIC) or len(head) != len(_MAGIC) + _LENGTH or length > _MOST_ABOUT:
        return None
    try:
        about = json.loads(more(length))
        about["tags"], about["labels"] = about.pop("tags_of_entry"), about.pop("tags")
        about["expires"] = None if about["expires"] is None else float(about["expires"])
        about["made"], about["key"] = float(about["made"]), str(about["key"])
        return dict(about) if isinstance(about["tags"], dict) else None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _read(content: bytes) -> Found | None:
    start = len(_MAGIC) + _LENGTH
    length = int.from_bytes(content[len(_MAGIC) : start], "big")
    about = _read_about(content[:start], lambda length: content[start : start + length])
    if about is None:
        return None
    view = memoryview(content)[start + length :]
    pieces = []
    for size in about["lengths"]:
        pieces.append(view[:size])
        view = view[size:]
    entry = CacheEntry(
        key=about["key"],
        payload=None,
        size=about["size"],
        generation=bytes.fromhex(about["generation"]),
        summary=about["summary"],
        tool=about["tool"],
        operation=about["operation"],
        user_id=about["user_id"],
        task_id=about["task_id"],
        seconds=about["seconds"],
        ttl=about["ttl"],
        tags=tuple(about["labels"]),
        parts=_parts(about["parts"]),
    )
    return Found(entry, Packed(bytes(pieces[0]), tuple(pieces[1:])), about["expires"])


def _parts(about: dict[str, Any] | None) -> KeyParts | None:
    if about is None:
        return None
    return KeyParts(
        version=about["version"],
        scope=about["scope"],
        owner=tuple(about["owner"]),
        params=bytes.fromhex(about["params"]),
        inputs=tuple(tuple(bytes.fromhex(part) for part in one) for one in about["inputs"]),
        files=tuple(bytes.fromhex(state) for state in about["files"]),
        config=about.get("config", ""),
        environment=about.get("environment", ""),
    )
