"""What identifies the present state of the files that an operation reads.

It is taken twice: before the cache is asked, and by the replica once the body has ended. A result is stored only if
both are equal, so a file that changes meanwhile never leaves its new content under the key of the old one.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiecs_ray.messages import Outcome

MOST_ENTRIES = 10_000
"""Entries of a folder, with those beneath, that are looked at."""
FILE_UNKNOWN = "the state of a file that it reads is unknown"
FILE_CHANGED = "a file that it reads changed while it ran"
FOLDER_TOO_LARGE = f"a folder that it reads has more than {MOST_ENTRIES:,} entries"
STOPPED = "it was told to end before the files that it reads were looked at again"
_CHUNK = 2**20
_READERS = ThreadPoolExecutor(4, thread_name_prefix="files")
"""Threads of their own: a file system that does not answer must not hold up what else waits for a thread."""


class _UnknownError(Exception):
    """A state cannot be told; the argument says why."""


class Looked(NamedTuple):
    """The state of each file, or why that cannot be told."""

    states: tuple[bytes, ...] = ()
    reason: str = ""


def _never() -> bool:
    return False


def look_at(files: tuple[tuple[str, str], ...], stopped: Callable[[], bool] = _never) -> Looked:
    """Return the present state of ``files``, pairs of a path and "mtime" or "content"; ``stopped`` ends it early."""
    try:
        return Looked(tuple([_state(Path(name), kind, stopped) for name, kind in files]))
    except _UnknownError as error:
        return Looked(reason=str(error))
    except (OSError, ValueError):
        return Looked(reason=FILE_UNKNOWN)


async def look_at_all(several: Iterable[tuple[tuple[str, str], ...]]) -> dict[tuple[tuple[str, str], ...], Looked]:
    """Look at several lists of files, each once and some at a time, beside the event loop."""
    loop, distinct = asyncio.get_running_loop(), list(dict.fromkeys(several))
    looked = await asyncio.gather(*[loop.run_in_executor(_READERS, look_at, files) for files in distinct])
    return dict(zip(distinct, looked, strict=True))


def with_states(outcome: Outcome, files: tuple[tuple[str, str], ...], stopped: Callable[[], bool]) -> Outcome:
    """Return the outcome of a body that completed, and with it the states of the files that it read."""
    looked = look_at(files, stopped)
    return outcome._replace(files=looked.states, uncacheable=outcome.uncacheable or looked.reason)


async def with_states_aside(
    outcome: Outcome, files: tuple[tuple[str, str], ...], stopped: Callable[[], bool]
) -> Outcome:
    """As :func:`with_states`, in a thread."""
    try:
        return await asyncio.to_thread(with_states, outcome, files, stopped)
    except asyncio.CancelledError:
        # The body has completed, so it is no more cancelled.
        return outcome._replace(uncacheable=STOPPED)


def _state(path: Path, kind: str, stopped: Callable[[], bool]) -> bytes:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        state = _of_folder(path, kind, stopped)
        return state if kind == "content" else os.fsencode(path.resolve()) + b"\0" + state
    if kind == "content":
        return _content(path, status, stopped)
    return os.fsencode(f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}")


def _of_folder(folder: Path, kind: str, stopped: Callable[[], bool]) -> bytes:
    """Return a digest of the names of all entries beneath a folder, and of the state of each."""
    hashed = hashlib.sha256()
    for name, path, status in sorted(_entries(folder), key=lambda entry: entry[0]):
        if stat.S_ISDIR(status.st_mode):
            state = b"folder"
        elif stat.S_ISLNK(status.st_mode):
            state = b"link " + os.fsencode(path.readlink())
        elif kind == "content":
            state = b"file " + _content(path, status, stopped)
        else:
            state = b"file %d %d" % (status.st_size, status.st_mtime_ns)
        hashed.update(b"%d %d " % (len(name), len(state)) + name + state)
    return hashed.digest()


def _entries(root: Path) -> list[tuple[bytes, Path, os.stat_result]]:
    found: list[tuple[bytes, Path, os.stat_result]] = []
    folders = [root]
    while folders:
        for path in folders.pop().iterdir():
            status = _status(path)
            found.append((os.fsencode(path.relative_to(root)), path, status))
            # A link to a folder above it has no end; it ends here as well.
            if len(found) > MOST_ENTRIES:
                raise _UnknownError(FOLDER_TOO_LARGE)
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
    return found


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        # A link that leads nowhere: what it says is its state.
        return path.lstat()


def _content(path: Path, status: os.stat_result, stopped: Callable[[], bool]) -> bytes:
    if not stat.S_ISREG(status.st_mode):
        # Reading a pipe would take what it holds away, or wait for ever.
        raise _UnknownError(FILE_UNKNOWN)
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if stopped():
                raise _UnknownError(STOPPED)
            hashed.update(chunk)
    return hashed.digest()
