"""One run and the cache: the keys of its steps, what is found under them, and what is stored."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiecs_ray import keys, packing
from aiecs_ray.backend import CacheEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiecs_ray.backend import CacheLink
    from aiecs_ray.messages import Input, Policy, RunRequest

REMEMBERED = 10_000
"""Small entries that a run keeps at hand."""


class Lookups:
    """Asks the cache for the results of a run's steps, and stores new ones.

    Args:
        request: the run.
        cache: the way to the cache.
        payload_of: the result of a step that has completed.
        token: random bytes, for values that have no content hash.
    """

    def __init__(
        self,
        request: RunRequest,
        cache: CacheLink,
        payload_of: Callable[[int], Any],
        token: Callable[[int], bytes],
    ) -> None:
        self._request = request
        self._cache = cache
        self._payload_of = payload_of
        self._token = token
        self._identities: dict[int, bytes] = {}
        self._keys: dict[int, str] = {}
        self._early: dict[int, CacheEntry | None] = {}
        self._met: dict[str, CacheEntry] = {}
        """Small entries that this run found or stored: the same step again need not ask."""
        self._entries: list[CacheEntry] = []

    def possible(self, step: int) -> bool:
        """Whether the result of a step may be in the cache, or go there."""
        return self._policy(step).cache != "off" and self._request.steps[step].digest is not None

    async def ask_early(self) -> None:
        """Ask at once for all steps whose keys wait for nothing, so that a sequence need not ask at each step.

        Of steps with one key only the first is asked for: the others are answered by what it leaves in the cache.
        """
        asked: dict[str, int] = {}
        for step, spec in enumerate(self._request.steps):
            fixed = not spec.files and all(source.kind == "object" for source in spec.inputs)
            if fixed and self.possible(step) and self._policy(step).cache != "refresh":
                key = self._make_key(step, ())
                if key is not None and key not in asked:
                    asked[key] = step
        if asked:
            self._early = dict(zip(asked.values(), await self._cache.get_many(list(asked)), strict=True))

    def key(self, step: int) -> str | None:
        """Return the key under which a step was asked for or stored."""
        return self._keys.get(step)

    def is_missing(self, step: int) -> bool:
        """Whether the cache was asked for a step, and had nothing."""
        return step in self._early and self._early[step] is None

    async def find(self, steps: Sequence[int]) -> dict[int, CacheEntry]:
        """Return the entries of those steps that are in the cache."""
        asked = []
        hits: dict[int, CacheEntry] = {}
        for step in steps:
            if (early := self._early.get(step)) is not None:
                hits[step] = early
                continue
            files = self._request.steps[step].files
            states = await asyncio.to_thread(_file_states, files) if files else ()
            key = None if states is None else self._make_key(step, states)
            if key is not None:
                self._keys[step] = key
                if self._policy(step).cache == "refresh":
                    continue
                if key in self._met:
                    hits[step] = self._met[key]
                else:
                    asked.append(step)
        found = await self._cache.get_many([self._keys[step] for step in asked]) if asked else []
        hits.update((step, entry) for step, entry in zip(asked, found, strict=True) if entry is not None)
        for step, entry in hits.items():
            self._identities[step] = entry.generation
            self._remember(entry)
        return hits

    def _remember(self, entry: CacheEntry) -> None:
        if _is_small(entry.payload) and len(self._met) < REMEMBERED:
            self._met[entry.key] = entry

    def store(self, step: int, payload: Any, size: int, summary: str, seconds: float) -> None:
        """Store the result of a step that was computed, if it has a key."""
        policy = self._policy(step)
        if policy.cache == "off" or policy.ttl == 0:
            return
        key = self._keys.get(step)
        if key is None and not self._request.steps[step].files:
            # A step inside a chain was not looked up: its key needs results that were made in the same call.
            key = self._make_key(step, ())
        if key is None:
            return
        self._keys[step] = key
        self._identities[step] = self._identify(payload)
        tool, _, operation = policy.spec.partition(".")
        entry = CacheEntry(
            key,
            payload,
            size,
            self._identities[step],
            summary,
            tool,
            operation,
            self._request.user_id,
            self._request.task_id,
            seconds,
            policy.ttl,
        )
        if not self._entries:
            # One message for everything that is reported in this round of the event loop.
            asyncio.get_running_loop().call_soon(self._flush)
        self._entries.append(entry)
        self._remember(entry)

    def _flush(self) -> None:
        entries, self._entries = self._entries, []
        self._cache.put_many(entries)

    def _policy(self, step: int) -> Policy:
        return self._request.policies[self._request.steps[step].policy]

    def _make_key(self, step: int, files: tuple[bytes, ...]) -> str | None:
        spec, policy = self._request.steps[step], self._policy(step)
        if spec.digest is None:
            return None
        inputs = []
        for source in spec.inputs:
            identity = self._identity(source)
            if identity is None:
                return None
            inputs.append((identity, *(_path_part(part) for part in source.path)))
        return keys.cache_key(
            tool=policy.spec.partition(".")[0],
            operation=policy.operation,
            version=policy.version,
            scope=policy.scope,
            owner=(self._request.user_id, self._request.task_id),
            params=spec.digest,
            inputs=tuple(inputs),
            fingerprints=files,
        )

    def _identity(self, source: Input) -> bytes | None:
        """What stands for an input in a key: its content where that is small, else the computation that made it."""
        if source.kind == "object":
            return self._request.object_ids[source.place]
        if source.place not in self._identities:
            self._identities[source.place] = self._identify(self._payload_of(source.place))
        return self._identities[source.place]

    def _identify(self, payload: Any) -> bytes:
        return packing.payload_identity(payload) if _is_small(payload) else self._token(16)


def _is_small(payload: Any) -> bool:
    return type(payload) in (bytes, packing.Packed) or packing.inline(payload)


def _path_part(part: str | int) -> bytes:
    return b"i%d" % part if isinstance(part, int) else b"s" + part.encode("utf-8", "surrogatepass")


def _file_states(files: tuple[tuple[str, str], ...]) -> tuple[bytes, ...] | None:
    """Return what identifies the present state of each file; None when one cannot be read, so nothing is cached."""
    states = []
    for name, kind in files:
        path = Path(name)
        try:
            if kind == "content":
                with path.open("rb") as file:
                    states.append(hashlib.file_digest(file, "sha256").digest())
                continue
            status = path.stat()
            state = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
        except (OSError, ValueError):
            return None
        states.append(state.encode("utf-8", "surrogateescape"))
    return tuple(states)
