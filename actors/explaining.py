"""Says what the key of a call is made of, and what the cache has to do with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiecs_ray.actors.file_states import FILE_UNKNOWN, look_at
from aiecs_ray.actors.lookups import Lookups

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs_ray.actors.outbox import Outbox
    from aiecs_ray.messages import RunRequest


async def explain(request: RunRequest, outbox: Outbox, token: Callable[[int], bytes]) -> dict[str, Any]:
    """Return key, parts and what the cache found for the only step of a request; or the reason why it has no key."""
    step = request.steps[0]
    looked = await asyncio.to_thread(look_at, step.files)
    lookups = Lookups(request, outbox, {}, token, clock=float, lifetime=None)
    made = None if looked.reason else lookups.make_key(0, looked.states)
    if made is None:
        return {"reason": looked.reason or FILE_UNKNOWN}
    key, parts = made
    readable = {
        "code": parts.version,
        "config": parts.config,
        "environment": parts.environment,
        "scope": parts.scope,
        "user": parts.owner[0],
        "task": parts.owner[1],
        "params": parts.params.hex(),
        "inputs": [identity.hex() for identity, *_ in parts.inputs],
        "files": [path for path, _ in step.files],
    }
    found = await outbox.explain(parts, request.policies[0].spec, key)
    return {"key": key, "parts": readable, "found": found}
