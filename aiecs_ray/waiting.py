"""Waiting in an event loop for a run, which ends before the wait does when that is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from aiecs_ray.errors import AiecsError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from aiecs_ray.actors.pages import Answer
    from aiecs_ray.run_options import Prepared
    from aiecs_ray.runtime import Runtime


async def wait_for(runtime: Runtime, prepared: Prepared) -> Answer:
    """Start a run and return its answer; cancelled, it cancels the run and goes on once nothing of it can happen."""
    starting = asyncio.ensure_future(asyncio.to_thread(runtime.start_execute, prepared))
    try:
        return await asyncio.wrap_future(await asyncio.shield(starting))
    except asyncio.CancelledError:
        await asyncio.shield(_end(runtime, prepared, starting))
        raise


async def _end(runtime: Runtime, prepared: Prepared, starting: Awaitable[Any]) -> None:
    # What did not start, or has ended and is forgotten, needs no end.
    with contextlib.suppress(AiecsError):
        await starting
        await asyncio.wrap_future(runtime.cancel(prepared))
