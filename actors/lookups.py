"""One run and the cache: the keys of its steps, what is found under them, and what is stored."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiecs_ray import keys, packing
from aiecs_ray.backend import CacheEntry, KeyParts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aiecs_ray.actors.outbox import Outbox
    from aiecs_ray.messages import Input, Outcome, Policy, RunRequest

logger = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds that the cache may take to answer; a run that waited for so long goes on without it."""
REMEMBERED = 10_000
"""Small entries that a run keeps at hand."""
FILE_UNKNOWN = "the state of a file that it reads is unknown"


class Lookups:
    """Asks the cache for the results of a run's steps, and stores new ones.

    Args:
        request: the run.
        cache: the way to the cache.
        payloads: the results of steps that have completed, as long as somebody may need them.
        token: random bytes, for values that have no content hash.
    """

    def __init__(
        self,
        request: RunRequest,
        cache: Outbox,
        payloads: Mapping[int, Any],
        token: Callable[[int], bytes],
    ) -> None:
        self._request = request
        self._policies = [request.policies[step.policy] for step in request.steps]
        self._cache = cache
        self._payloads = payloads
        self._token = token
        self._identities: dict[int, bytes] = {}
        self._keys: dict[int, tuple[str, KeyParts]] = {}
        self._early: dict[int, CacheEntry | None] = {}
        self._met: dict[str, CacheEntry] = {}
        """Small entries that this run found or stored: the same step again need not ask."""
        self._silent = False
        """The cache did not answer; it is not asked again, or a long run would wait for it at every step."""
        self.uncacheable: dict[int, str] = {}
        """Why results of steps were not stored, where that was not known before they ran."""

    def possible(self, step: int) -> bool:
        """Whether the result of a step may be in the cache, or go there."""
        return self._request.steps[step].digest is not None and self._policies[step].cache != "off"

    async def ask_early(self) -> None:
        """Ask at once for all steps whose keys wait for nothing, so that a sequence need not ask at each step.

        Of steps with one key only the first is asked for: the others are answered by what it leaves in the cache.
        """
        asked: dict[str, int] = {}
        for step, spec in enumerate(self._request.steps):
            fixed = not spec.files and all(source.kind == "object" for source in spec.inputs)
            if fixed and self.possible(step) and self._policy(step).cache != "refresh":
                made = self.make_key(step)
                if made is not None and made[0] not in asked:
                    asked[made[0]] = step
                    self._keys[step] = made
        if asked:
            self._early = dict(zip(asked.values(), await self._ask(list(asked.values())), strict=True))

    def key(self, step: int) -> str | None:
        """Return the key under which a step was asked for or stored."""
        made = self._keys.get(step)
        return None if made is None else made[0]

    def is_missing(self, step: int) -> bool:
        """Whether the cache was asked for a step, and had nothing."""
        return step in self._early and self._early[step] is None

    async def make_keys(self, steps: Sequence[int]) -> None:
        """Make the keys of steps that wait for nothing any more; files are looked at now."""
        for step in steps:
            files = self._request.steps[step].files
            if step in self._keys and not files:
                continue
            states = await asyncio.to_thread(file_states, files) if files else ()
            made = None if states is None else self.make_key(step, states)
            if made is not None:
                self._keys[step] = made

    def complete_key(self, step: int) -> None:
        """Make the key of a step that was not looked up, because it needs results of its own segment."""
        if step not in self._keys and self.possible(step) and not self._request.steps[step].files:
            made = self.make_key(step)
            if made is not None:
                self._keys[step] = made

    def joinable_key(self, step: int) -> str | None:
        """Return the key by which identical steps are known, None for a step that shares with nobody."""
        policy = self._policy(step)
        # What is not to be kept for later is not shared either, and "only" never runs anything.
        if policy.ttl == 0 or policy.cache in ("off", "only") or step not in self._keys:
            return None
        return self._keys[step][0]

    async def find(self, steps: Sequence[int]) -> dict[int, CacheEntry]:
        """Return the entries of those steps that are in the cache; their keys were made before."""
        asked = []
        hits: dict[int, CacheEntry] = {}
        for step in steps:
            if (early := self._early.get(step)) is not None:
                hits[step] = early
            elif step in self._keys and self._policy(step).cache != "refresh":
                if (key := self._keys[step][0]) in self._met:
                    hits[step] = self._met[key]
                else:
                    asked.append(step)
        found = await self._ask(asked) if asked else []
        hits.update((step, entry) for step, entry in zip(asked, found, strict=True) if entry is not None)
        for step, entry in hits.items():
            self._take(step, entry)
        return hits

    async def _ask(self, steps: Sequence[int]) -> list[CacheEntry | None]:
        keys, specs = [self._keys[step][0] for step in steps], [self._policy(step).spec for step in steps]
        if not self._silent:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await self._cache.get_many(keys, specs)
            except TimeoutError:
                self._silent = True
                logger.warning("the cache has not answered for %g s; this run goes on without it", PATIENCE)
        return [None] * len(steps)

    def joined(self, step: int, entry: CacheEntry) -> None:
        """A step has the result of an identical one."""
        self._take(step, entry)
        self._cache.note_joined(entry.spec, entry.seconds)

    def _take(self, step: int, entry: CacheEntry) -> None:
        self._identities[step] = entry.generation
        self._remember(entry)

    def _remember(self, entry: CacheEntry) -> None:
        if packing.is_small(entry.payload) and entry.ttl != 0 and len(self._met) < REMEMBERED:
            self._met[entry.key] = entry

    def store(self, outcome: Outcome) -> CacheEntry | None:
        """Store the result of a step that was computed, if it has a key; return its entry."""
        step = outcome.step
        policy = self._policy(step)
        if policy.cache == "off" or policy.ttl == 0:
            return None
        self.complete_key(step)
        if step not in self._keys:
            self._refuse(step, self._request.steps[step].uncacheable or FILE_UNKNOWN)
            return None
        key, parts = self._keys[step]
        self._identities[step] = self._identify(outcome.payload)
        tool, _, operation = policy.spec.partition(".")
        entry = CacheEntry(
            key,
            outcome.payload,
            outcome.size,
            self._identities[step],
            outcome.summary,
            tool,
            operation,
            self._request.user_id,
            self._request.task_id,
            outcome.seconds,
            policy.ttl if outcome.ttl is None else outcome.ttl,
            policy.tags,
            parts,
        )
        if outcome.uncacheable:
            self._refuse(step, outcome.uncacheable)
        elif entry.ttl != 0:
            self._cache.put(entry)
        self._remember(entry)
        return entry

    def _refuse(self, step: int, reason: str) -> None:
        self.uncacheable[step] = reason
        self._cache.note_uncacheable(self._policy(step).spec, reason)

    def _policy(self, step: int) -> Policy:
        return self._policies[step]

    def make_key(self, step: int, files: tuple[bytes, ...] = ()) -> tuple[str, KeyParts] | None:
        """Return the key of a step and what it is made of; None when it has no exact one."""
        spec, policy = self._request.steps[step], self._policy(step)
        if spec.digest is None:
            return None
        inputs = []
        for source in spec.inputs:
            identity = self._identity(source)
            if identity is None:
                return None
            inputs.append((identity, *(_path_part(part) for part in source.path)))
        owner = (self._request.user_id, self._request.task_id)
        key = keys.cache_key(
            tool=policy.spec.partition(".")[0],
            operation=policy.operation,
            version=policy.version,
            scope=policy.scope,
            owner=owner,
            params=spec.digest,
            inputs=tuple(inputs),
            fingerprints=files,
        )
        return key, KeyParts(policy.version, policy.scope, owner, spec.digest, tuple(inputs), files)

    def _identity(self, source: Input) -> bytes | None:
        """What stands for an input in a key: its content where that is small, else the computation that made it."""
        if source.kind == "object":
            return self._request.object_ids[source.place]
        if source.place not in self._identities:
            if source.place not in self._payloads:
                # The run ended while the cache was asked.
                return None
            self._identities[source.place] = self._identify(self._payloads[source.place])
        return self._identities[source.place]

    def _identify(self, payload: Any) -> bytes:
        return packing.payload_identity(payload) if packing.is_small(payload) else self._token(16)


def _path_part(part: str | int) -> bytes:
    return b"i%d" % part if isinstance(part, int) else b"s" + part.encode("utf-8", "surrogatepass")


def file_states(files: tuple[tuple[str, str], ...]) -> tuple[bytes, ...] | None:
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
