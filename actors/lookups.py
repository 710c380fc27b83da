"""One run and the cache: the keys of its steps, what is found under them, and what is stored."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any

from aiecs_ray import keys, packing
from aiecs_ray.actors.file_states import FILE_CHANGED, FILE_UNKNOWN, Looked, look_at_all
from aiecs_ray.actors.remembered import Remembered
from aiecs_ray.backend import CacheEntry, KeyParts, tags_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from aiecs_ray.actors.outbox import Outbox
    from aiecs_ray.messages import Input, Outcome, Policy, RunRequest

logger = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds that the cache may take to answer; a run that waited for so long goes on without it."""
INVALIDATED = "it was invalidated while it ran"


class Lookups:
    """Asks the cache for the results of a run's steps, and stores new ones.

    Args:
        request: the run.
        cache: the way to the cache.
        payloads: the results of steps that have completed, as long as somebody may need them.
        token: random bytes, for values that have no content hash.
        clock: seconds.
        lifetime: seconds that the cache keeps what says nothing of its own; None: for ever.
    """

    def __init__(  # noqa: PLR0913  # what it lives on
        self,
        request: RunRequest,
        cache: Outbox,
        payloads: Mapping[int, Any],
        token: Callable[[int], bytes],
        *,
        clock: Callable[[], float],
        lifetime: float | None,
    ) -> None:
        self._request = request
        self._policies = [request.policies[step.policy] for step in request.steps]
        self._cache = cache
        self._payloads = payloads
        self._token = token
        self._clock = clock
        self._lifetime = lifetime
        self._identities: dict[int, bytes] = {}
        self._keys: dict[int, tuple[str, KeyParts]] = {}
        self._early: dict[int, CacheEntry | None] = {}
        self._early_since = 0.0
        self._met = Remembered(clock)
        """Entries that this run found or stored: the same step again need not ask."""
        self._unknown: dict[int, str] = {}
        """Why the state of files that a step reads is not known, so that nothing is asked or stored."""
        self._outdated: set[int] = set()
        """Steps that began before what they make was invalidated."""
        self._purges = 0
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
        refreshed: set[str] = set()
        for step, spec in enumerate(self._request.steps):
            fixed = not spec.files and all(source.kind == "object" for source in spec.inputs)
            if not fixed or not self.possible(step) or (made := self.make_key(step)) is None:
                continue
            if self._policy(step).cache == "refresh":
                # What it finds now is replaced before the steps after it are reached.
                refreshed.add(made[0])
            elif made[0] not in asked and made[0] not in refreshed:
                asked[made[0]] = step
                self._keys[step] = made
        if asked:
            since, purges = self._clock(), self._purges
            found = await self._ask(list(asked.values()))
            if purges == self._purges:
                self._early, self._early_since = dict(zip(asked.values(), found, strict=True)), since

    def key(self, step: int) -> str | None:
        """Return the key under which a step was asked for or stored."""
        made = self._keys.get(step)
        return None if made is None else made[0]

    def is_missing(self, step: int) -> bool:
        """Whether the cache was asked for a step, and had nothing."""
        return step in self._early and self._early[step] is None

    async def make_keys(self, steps: Sequence[int]) -> None:
        """Make the keys of steps that wait for nothing any more; files are looked at now, each once."""
        named = [files for step in steps if (files := self._request.steps[step].files)]
        seen = await look_at_all(named) if named else {}
        for step in steps:
            files = self._request.steps[step].files
            if step in self._keys and not files:
                continue
            looked = seen[files] if files else Looked()
            if looked.reason:
                self._unknown[step] = looked.reason
                continue
            self._unknown.pop(step, None)
            made = self.make_key(step, looked.states)
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
            if (entry := self._take_early(step) or self._take_met(step)) is not None:
                hits[step] = entry
            elif self._is_asked(step):
                asked.append(step)
        since, purges = self._clock(), self._purges
        found = await self._ask(asked) if asked else []
        for step, entry in zip(asked, found, strict=True):
            if entry is not None:
                hits[step] = entry
                if purges == self._purges:
                    self._met.add(entry, since, entry.left)
        self._identities.update((step, entry.generation) for step, entry in hits.items())
        return hits

    def _is_asked(self, step: int) -> bool:
        return step in self._keys and step not in self._unknown and self._policy(step).cache != "refresh"

    def _take_early(self, step: int) -> CacheEntry | None:
        """Return what was found for a step at the beginning, if its time has not passed; it is needed once."""
        entry = self._early.get(step)
        if entry is None:
            return None
        del self._early[step]
        if entry.left is not None and self._clock() >= self._early_since + entry.left:
            return None
        self._met.add(entry, self._early_since, entry.left)
        return entry

    def _take_met(self, step: int) -> CacheEntry | None:
        return self._met.get(self._keys[step][0]) if self._is_asked(step) else None

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
        # It is not kept at hand: it may be one that must not be stored.
        self._identities[step] = entry.generation
        self._cache.note_joined(entry.spec, entry.seconds)

    def matching(self, tags: Mapping[str, str]) -> set[int]:
        """Return the steps whose entries would carry all of ``tags``."""
        user, task = self._request.user_id, self._request.task_id
        policies = {
            number
            for number, policy in enumerate(self._request.policies)
            if tags.items() <= tags_of(policy.spec, user, task, policy.tags).items()
        }
        return {step for step, spec in enumerate(self._request.steps) if spec.policy in policies}

    def invalidated(self, running: Iterable[int]) -> None:
        """Entries were deleted: nothing that was found before is used again, and what these steps make not stored."""
        self._purges += 1
        self._met.clear()
        self._early = {step: None for step, entry in self._early.items() if entry is None}
        self._outdated.update(running)

    def let_go(self, request: RunRequest) -> None:
        """The run is over: keep no more than its reduced request and the keys of its steps."""
        self._request = request
        self._met.clear()
        self._early.clear()
        self._identities.clear()

    def store(self, outcome: Outcome) -> CacheEntry | None:
        """Store the result of a step that was computed, if it has a key; return its entry."""
        step = outcome.step
        policy = self._policy(step)
        if policy.cache == "off" or policy.ttl == 0:
            return None
        self.complete_key(step)
        if step not in self._keys:
            reason = self._unknown.get(step) or self._request.steps[step].uncacheable
            self._refuse(step, reason or FILE_UNKNOWN)
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
            parts=parts,
        )
        self._put(step, entry, self._why_not(step, outcome))
        return entry

    def _why_not(self, step: int, outcome: Outcome) -> str:
        """Say why a result must not be stored under the key of its step; empty when it may."""
        if reason := outcome.uncacheable or self._unknown.get(step, ""):
            return reason
        if step in self._outdated:
            return INVALIDATED
        return FILE_CHANGED if outcome.files != self._keys[step][1].files else ""

    def _put(self, step: int, entry: CacheEntry, why_not: str) -> None:
        if why_not:
            self._refuse(step, why_not)
        if not why_not and entry.ttl != 0:
            self._cache.put(entry)
            self._met.add(entry, self._clock(), self._lifetime if entry.ttl is None else entry.ttl)
            return
        self._met.forget(entry.key)
        if self._policy(step).cache == "refresh":
            # What it should have replaced must not be found either.
            self._cache.put(entry._replace(payload=None, size=0, ttl=0))

    def _refuse(self, step: int, reason: str) -> None:
        self.uncacheable[step] = reason
        # Everybody reads the counters: what a caller named the keys of a dict has no place there.
        self._cache.note_uncacheable(self._policy(step).spec, _PLACE.sub(" has no cache key", reason))

    def _policy(self, step: int) -> Policy:
        return self._policies[step]

    def make_key(self, step: int, files: tuple[bytes, ...] = ()) -> tuple[str, KeyParts] | None:
        """Return the key of a step and what it is made of; None when it has no exact one."""
        spec, policy = self._request.steps[step], self._policy(step)
        if spec.digest is None:
            return None
        inputs = []
        for source in spec.inputs[: spec.keyed]:
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
            config=policy.config,
            environment=policy.environment,
        )
        return key, KeyParts(
            policy.version,
            policy.scope,
            owner,
            spec.digest,
            tuple(inputs),
            files,
            policy.config,
            policy.environment,
        )

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


_PLACE = re.compile(r" at \[.*\] has no cache key", re.DOTALL)


def _path_part(part: str | int) -> bytes:
    return b"i%d" % part if isinstance(part, int) else b"s" + part.encode("utf-8", "surrogatepass")
