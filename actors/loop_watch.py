"""Notices that an async tool blocks its own event loop."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

_log = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds after which a loop that does not answer is reported."""


def watch_loop(loop: asyncio.AbstractEventLoop, running: Callable[[], Sequence[str]]) -> None:
    """Warn, from a thread of its own, each time that ``loop`` does not answer for a second, and of what it runs."""

    def watch() -> None:
        pause = threading.Event()
        while not pause.wait(PATIENCE):
            answered = threading.Event()
            try:
                loop.call_soon_threadsafe(answered.set)
            except RuntimeError:
                return  # it was closed
            if not answered.wait(PATIENCE):
                # Where nothing runs the machine is too busy, and no tool is to blame.
                if blamed := ", ".join(sorted(set(running()))):
                    _log.warning(
                        "An event loop is blocked (running: %s): an async operation works or waits without await; "
                        "make it a plain method, or use asyncio.to_thread",
                        blamed,
                    )
                while not answered.wait(PATIENCE):
                    if loop.is_closed():
                        return

    threading.Thread(target=watch, name="loop watch", daemon=True).start()
