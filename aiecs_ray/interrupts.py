"""Ctrl-C while a run is waited for: the first cancels it and waits for its end, the second leaves it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import concurrent.futures

PATIENCE = 30.0
"""Seconds that the first Ctrl-C waits for the end of what was cancelled."""


def wind_up(cancelling: concurrent.futures.Future[object], run_id: str) -> None:
    """Wait for the end of a run that was cancelled; on a second interrupt say how to find it, and go on."""
    try:
        cancelling.exception(timeout=PATIENCE)
    except (KeyboardInterrupt, TimeoutError):
        text = f"Run {run_id} is still being cancelled; rt.attach({run_id!r}) finds it as long as its cluster lives."
        sys.stderr.write(f"{text}\n")
