"""A tool that keeps a ledger of its own: what began and what ended, whatever anybody else says.

Each line is written by one ``write`` to a file opened with ``O_APPEND``, so lines of many processes do not mix, and
what was written survives the process that wrote it.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aiecs_ray.running import cancelled
from aiecs_ray.tool import operation

PAUSE = 0.01
"""Seconds between two looks at whether an operation should end."""

Fate = Literal["return", "raise", "die", "hang"]


class LedgerTool:
    """Operations that note in a file when they begin and when they end.

    ``run`` may run again when its replica is lost, ``run_once`` must not. Both return their ``id``. Register it under
    the name that a test needs, with the path of its ledger as the configuration:
    ``rt.register(LedgerTool, "worker", config={"path": "/shared/ledger"})``. Every replica must reach the path.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    @operation
    def run(self, id: str, seconds: float = 0.0, fate: Fate = "return") -> str:  # noqa: A002  # what the lines call it
        """Note the start, take ``seconds``, do what ``fate`` says, note the end, and return ``id``.

        "die" kills its own process at once, "hang" ignores every request to end, "raise" raises a ``ValueError``.
        """
        return self._run(id, seconds, fate)

    @operation(idempotent=False)
    def run_once(self, id: str, seconds: float = 0.0, fate: Fate = "return") -> str:  # noqa: A002
        """Do what ``run`` does; a second start would be a broken promise."""
        return self._run(id, seconds, fate)

    def _run(self, name: str, seconds: float, fate: Fate) -> str:
        self._note("s", name)
        if fate == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        end = time.monotonic() + seconds
        while fate == "hang" or time.monotonic() < end:
            time.sleep(PAUSE if fate == "hang" else min(PAUSE, max(0.0, end - time.monotonic())))
            if fate != "hang" and cancelled():
                raise InterruptedError(f"{name} was asked to end")
        if fate == "raise":
            raise ValueError(f"{name} was told to fail")
        self._note("e", name)
        return name

    def _note(self, kind: str, name: str) -> None:
        if not name or "\n" in name:
            raise ValueError(f"an id is one line of text, got {name!r}")
        line = f"{kind} {os.getpid()} {time.time():.6f} {name}\n".encode()
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)


@dataclass(frozen=True)
class Line:
    """One line of a ledger."""

    kind: Literal["s", "e"]
    """"s" for the start of a body, "e" for its end."""
    pid: int
    time: float
    """Seconds since the epoch."""
    id: str


class Ledger:
    """What the tools of a test wrote down.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ledger = Ledger(Path(folder) / "ledger")
    ...     tool = LedgerTool(**ledger.config)
    ...     _ = tool.run("a"), tool.run("a"), tool.run("b")
    ...     sorted(ledger.started()), ledger.started_twice(), ledger.lost(["a", "b", "c"])
    (['a', 'b'], {'a'}, {'c'})
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of a :class:`LedgerTool` that writes to this ledger."""
        return {"path": str(self.path)}

    def lines(self) -> list[Line]:
        """Return what was written so far, oldest first; nothing when no tool has written yet."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        # A line without its end is still being written.
        whole, _, _ = text.rpartition("\n")
        return [_line(line) for line in whole.splitlines()]

    def started(self) -> set[str]:
        """Return the ids whose body began at least once."""
        return {line.id for line in self.lines() if line.kind == "s"}

    def started_twice(self) -> set[str]:
        """Return the ids whose body began more than once."""
        counts = Counter(line.id for line in self.lines() if line.kind == "s")
        return {name for name, count in counts.items() if count > 1}

    def finished(self) -> set[str]:
        """Return the ids whose body came to its end at least once."""
        return {line.id for line in self.lines() if line.kind == "e"}

    def lost(self, submitted: Any) -> set[str]:
        """Return those of the ids that were submitted whose body never came to its end."""
        return set(submitted) - self.finished()

    def pids(self) -> set[int]:
        """Return the processes that wrote."""
        return {line.pid for line in self.lines()}


def _line(text: str) -> Line:
    kind, pid, when, name = text.split(" ", 3)
    assert kind in ("s", "e")
    return Line("s" if kind == "s" else "e", int(pid), float(when), name)
