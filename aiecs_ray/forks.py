"""Processes that were forked from the one that connected: they have its objects, and none of its connections."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from aiecs_ray.errors import RuntimeUnavailableError

if TYPE_CHECKING:
    from aiecs_ray.backend import Link


def refuse_forked(process: int) -> None:
    """Raise unless this is ``process``.

    Raises:
        RuntimeUnavailableError: it was forked from that one.
    """
    if process != os.getpid():
        text = "this process was forked from the one that made the runtime, and has no connection of its own"
        raise RuntimeUnavailableError(f"{text}; connect in it with aiecs_ray.connect()")


def close_own(link: Link, process: int) -> None:
    """Close ``link`` in the process that made it; a forked one inherits the finalizer, but not what is behind."""
    if process == os.getpid():
        link.close()
