"""Notices that an async tool blocks its own event loop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

PATIENCE = 1.0
"""Seconds after which a loop that does not answer is reported."""


def watch_loop(loop: asyncio.AbstractEventLoop, blocked: Callable[[], object]) -> None:
    """Call ``blocked``, from a thread of its own, each time that ``loop`` does not answer for a second."""

    def watch() -> None:
        pause = threading.Event()
        while not pause.wait(PATIENCE):
            answered = threading.Event()
            try:
                loop.call_soon_threadsafe(answered.set)
            except RuntimeError:
                return  # it was closed
            if not answered.wait(PATIENCE):
                blocked()
                answered.wait()

    threading.Thread(target=watch, name="loop watch", daemon=True).start()
