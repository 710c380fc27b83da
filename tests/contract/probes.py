"""What a tool's body and a test say to each other: lines in a file, and a door that the test opens.

The bodies' half is plain functions, which travel with the tool that calls them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from aiecs_ray import cancelled

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

DEADLINE = 15.0
"""Seconds after which something that should have happened has not."""


def note(ledger: str, text: str = "ran") -> int:
    """Write a line that survives whatever happens to this process; return how many there are now."""
    with open(ledger, "a", encoding="utf-8") as file:  # noqa: PTH123  # one write, whole or not at all
        file.write(f"{text}\n")
    return len(Path(ledger).read_text(encoding="utf-8").splitlines())


def visit(gate: int, text: str = "") -> str:
    """Stand at a gate until the test opens it; return what it says."""
    with socket.create_connection(("127.0.0.1", gate)) as line:
        line.sendall(f"{os.getpid()} {text}\n".encode())
        return line.recv(1000).decode()


def visit_until_asked(gate: int, text: str = "") -> bool:
    """Stand at a gate until it opens, or until the runtime asks to end; return whether it asked."""
    with socket.create_connection(("127.0.0.1", gate)) as line:
        line.sendall(f"{os.getpid()} {text}\n".encode())
        while not cancelled():
            if select.select([line], [], [], 0.01)[0]:
                return False
        return True


async def visit_async(gate: int, text: str = "") -> str:
    """Do as :func:`visit` does, on an event loop."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gate)
    try:
        writer.write(f"{os.getpid()} {text}\n".encode())
        return (await reader.read(1000)).decode()
    finally:
        writer.close()


class Ledger:
    """The lines that tools have written."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def lines(self) -> list[str]:
        path = Path(self.path)
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def __len__(self) -> int:
        return len(self.lines())


class Visitor:
    """A body that stands at a gate."""

    def __init__(self, line: socket.socket) -> None:
        line.settimeout(DEADLINE)
        self._line = line
        text = b""
        while not text.endswith(b"\n"):
            text += line.recv(1000)
        pid, _, self.text = text.decode().rstrip("\n").partition(" ")
        self.pid = int(pid)

    def let_go(self, answer: str = "go") -> None:
        with contextlib.suppress(OSError):  # it may be gone
            self._line.sendall(answer.encode())
        self._line.close()

    def wait_until_gone(self, seconds: float = DEADLINE) -> None:
        """Wait until the body has left without being let go, as it does when its process ends."""
        self._line.settimeout(seconds)
        with contextlib.suppress(ConnectionResetError):
            assert self._line.recv(1) == b""

    def close(self) -> None:
        self._line.close()


class Gate:
    """Where bodies wait for the test."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self._server.getsockname()[1]
        self._visitors: list[Visitor] = []

    def arrival(self, seconds: float = DEADLINE) -> Visitor:
        """Wait for the next body."""
        self._server.settimeout(seconds)
        visitor = Visitor(self._server.accept()[0])
        self._visitors.append(visitor)
        return visitor

    def arrivals(self, count: int) -> list[Visitor]:
        return [self.arrival() for _ in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Whoever still stands here goes on."""
        for visitor in self._visitors:
            visitor.close()
        self._server.close()


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._since


def op(spec: str, **params: Any) -> dict[str, Any]:
    """Return an operation of a list."""
    return {"operation": spec, "params": params}


def eventually(happened: Callable[[], bool], seconds: float = DEADLINE) -> None:
    """Wait for what nothing announces, such as the end of a process that is no child of ours."""
    watch = Stopwatch()
    while not happened():
        assert watch.seconds < seconds, "it has not happened in time"
        select.select([], [], [], 0.02)
