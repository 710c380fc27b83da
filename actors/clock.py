"""The time of day, as a process that runs for weeks needs it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def steady_time() -> Callable[[], float]:
    """Return a clock of seconds since the epoch that goes on evenly when the machine's own is set.

    What lives for an hour lives for an hour then, and what happened later has the later time.
    """
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset
