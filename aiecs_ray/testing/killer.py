"""Kills the processes of tools while work runs, to see what becomes of the work."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from aiecs_ray.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from aiecs_ray.runtime import Runtime

_PROC = Path("/proc")


class Kill(NamedTuple):
    """One process that was killed."""

    tool: str
    pid: int
    time: float
    """Seconds since the epoch."""


class ReplicaKiller:
    """Ends random replicas of some tools with SIGKILL, on this machine and in one cluster only.

    As a context manager it kills one every ``interval`` seconds (drawn between two bounds) until its block ends, at
    most ``most`` of them. :meth:`kill` kills one now. Which replica and when are drawn from ``seed``.

    Args:
        rt: a runtime on Ray; only processes of its cluster are touched.
        tools: names of tools; None for every tool.
        interval: shortest and longest pause in seconds.
        most: how many are killed at most; None for no bound.
        seed: of the choices.

    Raises:
        InvalidInputError: the runtime has no processes, because it is ``connect("inprocess")``.
    """

    def __init__(
        self,
        rt: Runtime,
        tools: Sequence[str] | None = None,
        *,
        interval: tuple[float, float] = (1.0, 2.0),
        most: int | None = None,
        seed: int = 0,
    ) -> None:
        if rt.address == "inprocess":
            raise InvalidInputError("tools of connect('inprocess') are threads of this process and cannot be killed")
        self._address = rt.address
        self._tools = None if tools is None else frozenset(tools)
        self._interval, self._most = interval, most
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.kills: list[Kill] = []
        """What was killed so far, oldest first."""

    @property
    def count(self) -> int:
        """How many replicas were killed."""
        return len(self.kills)

    def replicas(self) -> dict[int, str]:
        """Return the replicas that run now: the tool's name by process id."""
        return dict(sorted(_replicas(self._address, self._tools)))

    def kill(self) -> Kill | None:
        """Kill one replica now; None when there is none."""
        alive = list(self.replicas().items())
        if not alive:
            return None
        pid, tool = self._random.choice(alive)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return None
        self.kills.append(Kill(tool, pid, time.time()))
        return self.kills[-1]

    def __enter__(self) -> Self:
        self._over.clear()
        self._thread = threading.Thread(target=self._run, name="replica killer", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while self._most is None or self.count < self._most:
            if self._over.wait(self._random.uniform(*self._interval)):
                return
            self.kill()


def _replicas(address: str, tools: frozenset[str] | None) -> Iterator[tuple[int, str]]:
    """Yield process id and tool of the replicas of one cluster on this machine.

    Ray names a process after its actor's class, and starts it from the raylet of its node, which names its cluster.
    """
    processes = _from_proc() if _PROC.is_dir() else _from_ps()
    raylets = {pid for pid, (_, command) in processes.items() if f"--gcs-address={address}" in command.split()}
    for pid, (parent, command) in processes.items():
        title = command.partition(" ")[0].partition("::")
        name = title[2].partition(".")[0]
        if title[0] != "ray" or not name.startswith(PREFIX) or parent not in raylets:
            continue
        tool = name.removeprefix(PREFIX)
        if tools is None or tool in tools:
            yield pid, tool


PREFIX = "Replica_"
"""What the name of an actor class of a replica starts with; the name of its tool follows."""


def _from_proc() -> dict[int, tuple[int, str]]:
    """Return parent and command of every process."""
    found = {}
    for folder in _PROC.glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            # The name in parentheses may hold anything; what follows the last one is state and parent.
            parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
        except OSError:
            continue  # it ended meanwhile
        found[int(folder.name)] = (int(parent), command)
    return found


def _from_ps() -> dict[int, tuple[int, str]]:
    command = ["/bin/ps", "-axwwo", "pid=,ppid=,command="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603  # a fixed command
    rows = (line.split(None, 2) for line in listed.splitlines())
    return {int(row[0]): (int(row[1]), row[2]) for row in rows if len(row) == 3}  # noqa: PLR2004  # three columns
