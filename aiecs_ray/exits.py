"""How a program ends that Ctrl-C ended: as interrupted, which Ray's own end would make an ordinary failure of."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


def keep_interrupts() -> None:
    """Let a program that an interrupt ended exit as Python would have it: by the signal, which a shell shows as 130.

    Code that runs at the end of a program makes Python forget why it ends, and Ray has such code. To be called before
    Ray is imported, so that this comes after it; where Ray is there already, and on Windows, nothing is done.
    """
    if os.name != "posix" or "ray" in sys.modules:
        return
    before, interrupts = sys.excepthook, []

    def note(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        # At a prompt it ends a statement, and not the program.
        if issubclass(kind, KeyboardInterrupt) and not hasattr(sys, "ps1"):
            interrupts.append(error)
        before(kind, error, traceback)

    def end() -> None:
        if interrupts:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)

    sys.excepthook = note
    atexit.register(end)
