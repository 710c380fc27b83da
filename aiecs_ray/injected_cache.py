"""An injected cache, asked so that whatever it does harms no operation."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from aiecs_ray.execution_utils import ExecutionUtils

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiecs_ray.interfaces import ICacheProvider
    from aiecs_ray.options import OperationOptions

logger = logging.getLogger(__name__)


class InjectedCache:
    """A caller's cache and how often it had the answer. What it raises is logged, and counts as a miss."""

    def __init__(self, provider: ICacheProvider) -> None:
        self._provider = provider
        self._hits = self._misses = 0

    def key(
        self, spec: str, owner: tuple[str, str], params: Mapping[str, Any], options: OperationOptions
    ) -> str | None:
        """Return the key of a call for its owner, a user and a task; None when there is none."""
        user_id = "" if options.scope == "global" else owner[0]
        task_id = owner[1] if options.scope == "task" else ""
        keyed = {name: value for name, value in params.items() if name not in options.ignore}
        for name, how in options.fingerprint.items():
            if (path := params.get(name)) is None:
                continue
            if (state := file_state(path, how)) is None:
                return None
            keyed[f"state of {name}"] = state
        try:
            return self._provider.generate_cache_key(spec, user_id, task_id, (), keyed)
        except Exception:
            logger.warning("the injected cache makes no key for %s, which runs uncached", spec, exc_info=True)
            return None

    def lookup(self, key: str) -> tuple[bool, Any]:
        """Return (True, value) or (False, None); a cache of our own can tell a cached None from a miss (C-25)."""
        try:
            if isinstance(self._provider, ExecutionUtils):
                hit, found = self._provider.lookup(key)
            else:
                found = self._provider.get_from_cache(key)
                hit = found is not None
        except Exception:
            logger.warning("the injected cache cannot be read, so the operation is run", exc_info=True)
            hit, found = False, None
        self._hits += hit
        self._misses += not hit
        return hit, found

    def add(self, key: str, value: Any, options: OperationOptions) -> None:
        """Keep a result for as long as its operation says, otherwise for the provider's own time."""
        try:
            ttl = options.ttl(value) if callable(options.ttl) else options.ttl
            if ttl is None:
                self._provider.add_to_cache(key, value)
            elif ttl > 0:
                self._provider.add_to_cache(key, value, ttl)
        except Exception:
            logger.warning("the injected cache did not take a result, which is returned all the same", exc_info=True)

    def stats(self) -> dict[str, Any]:
        """Return ``hits``, ``misses`` and ``hit_rate`` of what was asked through here."""
        asked = self._hits + self._misses
        return {"hits": self._hits, "misses": self._misses, "hit_rate": self._hits / asked if asked else 0.0}


def file_state(path: Any, how: str) -> str | None:
    """Return a text that changes with the file, or None for what is no path or no file that can be read."""
    if not isinstance(path, (str, PurePath)):
        return None
    try:
        if how == "content":
            with Path(path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return f"{Path(path).resolve()} {status.st_size} {status.st_mtime_ns}"
