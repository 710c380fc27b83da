"""The attempt ledger: what a replica had begun, readable after its process died.

One record of sixteen bytes per attempt in a memory-mapped file on the replica's node. What is written there survives
SIGKILL, and the page cache needs no message and no system call for it: a mark costs half a microsecond.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

from aiecs_ray.backend import Remains
from aiecs_ray.messages import Mark

SLOTS = 16_384
"""Attempts that the file holds; more than any replica has in flight, so none that is in doubt is overwritten."""
STALE = 3600.0
"""Seconds after which the ledger of a process that is gone is of use to nobody."""
POLL = 0.005
"""Seconds between two looks whether a process has ended."""
_START_TIME = 19
"""Which field of ``/proc/PID/stat`` after the name is the time of the start."""
_RECORD = struct.Struct("<QII")
_STATE = struct.Struct("<I")
_STATE_AT = 12


_PREPARING, _STARTED, _DONE = map(int, Mark)
_pack, _pack_state = _RECORD.pack_into, _STATE.pack_into


class Ledger:
    """Where one replica marks its attempts. Any of its threads may.

    Args:
        path: a file to make; None keeps the marks in memory, where the process cannot die alone.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._records: mmap.mmap | bytearray
        if path is None:
            self._records = bytearray(SLOTS * _RECORD.size)
        else:
            with path.open("xb+") as file:
                # Written, not only sized: a full disk has to show here, not as SIGBUS at a mark.
                file.write(bytes(SLOTS * _RECORD.size))
                file.flush()
                self._records = mmap.mmap(file.fileno(), 0)
        self._free = deque(range(0, SLOTS * _RECORD.size, _RECORD.size))

    def prepare(self, work: int, step: int) -> int:
        """Mark that an attempt begins; return the place of its record."""
        place = self._free.popleft()
        _pack(self._records, place, work, step, _PREPARING)
        return place

    def start(self, place: int) -> None:
        """Mark that the tool's own code is called now."""
        _pack_state(self._records, place + _STATE_AT, _STARTED)

    def end(self, place: int) -> None:
        """Mark that the attempt is over; its place will be used again when all others were."""
        _pack_state(self._records, place + _STATE_AT, _DONE)
        self._free.append(place)

    def marks(self) -> dict[tuple[int, int], Mark]:
        """Return the state of each attempt by (work, step)."""
        return parse(bytes(self._records))


def parse(records: bytes) -> dict[tuple[int, int], Mark]:
    """Return what a ledger's bytes say, by (work, step).

    >>> ledger = Ledger()
    >>> ledger.start(ledger.prepare(7, 2))
    >>> ledger.marks()
    {(7, 2): <Mark.STARTED: 2>}
    """
    whole = len(records) // _RECORD.size * _RECORD.size
    return {(work, step): Mark(state) for work, step, state in _RECORD.iter_unpack(records[:whole]) if state}


class Whereabouts(NamedTuple):
    """Where a replica runs, and where its ledger is."""

    node: str
    pid: int
    since: str
    """When the process was started, as the kernel counts; a later process with the same number has another."""
    path: str
    """Empty when no file could be made."""


def open_ledger(node: str) -> tuple[Ledger, Whereabouts]:
    """Make the ledger of this process; in memory, and of no use after a death, where no file can be written."""
    pid = os.getpid()
    since = _since(pid) or ""
    try:
        folder = _folder()
        _sweep(folder)
        path = folder / f"{pid}-{time.time_ns()}"
        return Ledger(path), Whereabouts(node, pid, since, str(path))
    except OSError:
        return Ledger(), Whereabouts(node, pid, since, "")


def crash_path(path: str) -> str:
    """Return where the interpreter of a ledger's process writes what it crashed of."""
    return f"{path}.crash"


def end_process(where: Whereabouts) -> None:
    """Kill a process of this node, and those that it started, at once: also one that is stopped or holds a lock."""
    if not has_ended(where):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(where.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(where.pid, signal.SIGKILL)


def take_remains(where: Whereabouts, seconds: float) -> Remains:
    """Wait up to ``seconds`` until a process of this node has ended; return what it left, and remove it."""
    deadline = time.monotonic() + seconds
    while not has_ended(where):
        if time.monotonic() > deadline:
            return Remains()
        time.sleep(POLL)
    _end_group(where.pid)
    try:
        marks = parse(Path(where.path).read_bytes())
    except OSError:
        return Remains()
    crash = Path(crash_path(where.path))
    last_words = crash.read_text(encoding="utf-8", errors="replace")[:4000] if crash.exists() else ""
    for path in (where.path, crash):
        Path(path).unlink(missing_ok=True)
    return Remains(marks, summarise_crash(last_words))


def summarise_crash(text: str) -> str:
    r"""Return one line of what ``faulthandler`` wrote: the signal, and the innermost places in Python code.

    >>> summarise_crash('Fatal Python error: Aborted\n\nCurrent thread 0x1:\n  File "t.py", line 3 in run\n')
    'Aborted in "t.py", line 3 in run'
    """
    lines = text.splitlines()
    fatal = next((line.partition(": ")[2] for line in lines if line.startswith("Fatal Python error: ")), "")
    if not fatal:
        return ""
    current = next((place for place, line in enumerate(lines) if line.startswith("Current thread")), 0)
    places = [line.removeprefix("  File ") for line in lines[current:] if line.startswith("  File ")]
    return ", called at ".join([f"{fatal} in {places[0]}", *places[1:2]]) if places else fatal


def has_ended(where: Whereabouts) -> bool:
    """Return whether no code of a process of this node can run any more."""
    return _since(where.pid) != where.since


def _since(pid: int) -> str | None:
    """Return when a process was started, None when it has ended; a process that nobody buried yet has ended, too."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self").exists() else _since_by_signal(pid)
    return None if fields[0] in ("Z", "X") else fields[_START_TIME]


def _since_by_signal(pid: int) -> str | None:
    """The same where there is no ``/proc``: only whether the number is in use."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return ""
    return ""


def lead_group() -> None:
    """Make this process the leader of a group, to which every process belongs that it starts."""
    with contextlib.suppress(PermissionError):
        os.setpgid(0, 0)


def _end_group(pid: int) -> None:
    """Kill what a process that led a group has started and left behind."""
    if _since(pid) is not None:
        return  # its number is in use again, which the kernel allows only once the group is empty
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"aiecs-ray-{os.getuid()}" / "attempts"
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    if folder.parent.is_symlink() or folder.parent.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder.parent} belongs to somebody else")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _sweep(folder: Path) -> None:
    """Remove what replicas left that nobody asked about."""
    oldest = time.time() - STALE
    for path in folder.iterdir():
        pid = path.name.partition("-")[0]
        with contextlib.suppress(OSError):
            if pid.isdecimal() and path.stat().st_mtime < oldest and _since(int(pid)) is None:
                path.unlink()
