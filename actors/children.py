"""What a tool's process leaves behind when it is killed: its children, which nobody else would end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

_CHILDREN = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"})
"""Events that Python announces before it makes a process."""
_WATCHER = """
import os, signal, sys, time
parent, group = map(int, sys.argv[1:])
while os.getppid() == parent:
    time.sleep(0.2)
try:
    os.killpg(group, signal.SIGKILL)
except OSError:
    pass
"""


def end_with_this_process() -> None:
    """See to it that the children of this process end when it does, whatever it dies of.

    The coordinator ends the group of a replica whose death it sees; this holds also when the coordinator dies first, or
    the whole cluster ends. The first child that Python makes is announced; before it, a watcher is started: a process
    of its own that waits for the end of this one and kills what is left of its process group. A process without
    children has no watcher.
    Children that leave the group (``start_new_session=True``), or that compiled code forks, are not caught.
    """
    if os.name != "posix":
        return
    started = threading.Event()
    watchers: list[subprocess.Popen[bytes] | None] = []

    def announced(event: str, _: object) -> None:
        if event in _CHILDREN and not started.is_set():
            started.set()
            watchers.append(_start_watcher())

    sys.addaudithook(announced)


def _start_watcher() -> subprocess.Popen[bytes] | None:
    if os.getpgid(0) != os.getpid():
        return None  # the group is somebody else's, too
    return subprocess.Popen(  # noqa: S603  # this Python, on the text above
        [sys.executable, "-I", "-S", "-c", _WATCHER, str(os.getpid()), str(os.getpgid(0))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
