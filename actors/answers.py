"""Answers the steps of one run without running them: from the cache, or with the result of an identical operation."""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING

from aiecs_ray.actors.joins import Turn
from aiecs_ray.messages import ErrorInfo
from aiecs_ray.plan_values import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiecs_ray.actors.joins import Joins, Place
    from aiecs_ray.actors.lookups import Lookups
    from aiecs_ray.actors.run import Run
    from aiecs_ray.backend import CacheEntry
    from aiecs_ray.messages import Outcome, RunRequest


_AT_REPLICA = (State.HANDED, State.RUNNING)


class Answers:
    """What stands between the steps of a run that are ready and the replicas.

    Args:
        run: whose steps they are.
        lookups: the way to the cache.
        joins: what is under way in all runs.
    """

    def __init__(self, run: Run, lookups: Lookups, joins: Joins) -> None:
        # Not in a circle with its run: the results of a run are let go when the last one lets go of it.
        self._ref = weakref.ref(run)
        self._lookups = lookups
        self._joins = joins
        self._shared: set[int] = set()
        self._missed: set[int] = set()

    @property
    def _run(self) -> Run:
        """The run, which is there as long as one of its steps is open."""
        run = self._ref()
        assert run is not None
        return run

    def possible(self, step: int) -> bool:
        """Whether a step may be answered, or its result stored."""
        return self._lookups.possible(step)

    def expected(self, step: int) -> bool:
        """Whether a step may yet be answered: by the cache, if that was not asked yet, or by others that run it."""
        if not self._lookups.possible(step) or not self._lookups.is_missing(step):
            return self._lookups.possible(step)
        key = self._lookups.joinable_key(step)
        return key is not None and self._joins.is_led_by_other(key, self, step)

    def key(self, step: int) -> str | None:
        """Return the key under which a step was asked for or stored."""
        return self._lookups.key(step)

    def was_joined(self, step: int) -> bool:
        """Whether a step got the result of an identical one that was under way."""
        return step in self._shared

    def uncacheable(self, step: int) -> str:
        """Why the result of a step was not stored; empty when it was, or need not be."""
        return self._lookups.uncacheable.get(step, "")

    async def ask_early(self) -> None:
        """Ask the cache for all steps whose keys wait for nothing."""
        await self._lookups.ask_early()

    async def look_up(self, steps: Sequence[int]) -> None:
        """Answer what can be answered, let wait what is under way elsewhere, and queue the rest."""
        run = self._run
        await self._lookups.make_keys(steps)
        # Before the cache is asked: between its answer and this question another step may have completed.
        steps = [step for step in steps if self._leads(step)]
        # What comes back without having begun is queued again, and not asked for again.
        hits = await self._lookups.find([step for step in steps if step not in self._missed])
        misses = []
        for step in steps:
            if run.settled[step] is not None:
                continue
            if (entry := hits.get(step)) is not None:
                run.hit(step, entry)
            elif run.policy(step).cache == "only":
                text = f"{run.policy(step).spec} is not in the cache, and cache='only' forbids running it"
                run.refused(step, ErrorInfo("E003", text, "ExecutionError", ("ExecutionError",)))
            else:
                misses.append(step)
        self._missed.update(misses)
        run.proceed(misses)
        for step in misses:
            for answers, other in self._joins.queued(self, step):
                answers.hurry(other)

    def _leads(self, step: int) -> bool:
        """Whether a step goes on by itself; if not, it waits for an identical one that is under way."""
        if self._run.settled[step] is not None:
            return False
        key = self._lookups.joinable_key(step)
        wait = self._run.policy(step).cache != "refresh"
        if key is None or self._joins.enter(key, self, step, turn=self._turn(step), wait=wait):
            return True
        self._run.waits_elsewhere(step)
        if self._joins.may_overtake(self, step):
            self.hurry(step)
        return False

    def _turn(self, step: int) -> Turn:
        policy = self._run.policy(step)
        return Turn(math.inf if policy.timeout is None else policy.timeout, self._run.owner, policy.priority)

    def started(self, step: int) -> None:
        """A step has started: others may wait for it from now on, also if it was not looked up itself.

        Not from when it was sent along in a segment: they would wait for everything before it there.
        """
        self._lookups.complete_key(step)
        if (key := self._lookups.joinable_key(step)) is not None:
            self._joins.enter(key, self, step, turn=self._turn(step), wait=False)
            self._joins.claim(self, step)

    def claim(self, step: int) -> bool:
        """A step has a replica: return whether it is to be run, or waits because an identical one was faster."""
        return self._joins.claim(self, step)

    def store(self, outcome: Outcome) -> CacheEntry | None:
        """Store the result of a step, if it has a key; return its entry."""
        return self._lookups.store(outcome)

    def over(self, request: RunRequest) -> None:
        """The run has ended, and this is left of its request."""
        self._lookups.let_go(request)

    def invalidated(self, tags: Mapping[str, str]) -> None:
        """Entries that carry all of ``tags`` are deleted: what is being made of what was before answers nobody else."""
        run = self._run
        matching = [step for step in self._lookups.matching(tags) if run.settled[step] is None]
        self._lookups.invalidated([step for step in matching if run.plan.state(step) in _AT_REPLICA])
        for step in matching:
            self._joins.part(self, step)

    def completed(self, step: int) -> Sequence[Place]:
        """Return the steps that wait for the result of this one."""
        return self._joins.completed(self, step)

    def left(self, step: int, *, failed: bool = False) -> None:
        """A step has ended, or waits for others again; ``failed`` when it ran and did not complete."""
        self._joins.left(self, step, failed=failed)

    # --- what others say that wait for the same --------------------------------------------------------------

    def joined(self, step: int, entry: CacheEntry) -> None:
        """Complete a step with the result of an identical one."""
        if self._run.settled[step] is None:
            self._shared.add(step)
            self._lookups.joined(step, entry)
            self._run.hit(step, entry)

    def hurry(self, step: int) -> None:
        """Let a step queue although it waits: its turn may come before that of the one it waits for."""
        run = self._run
        if run.settled[step] is None and not run.is_limited(step):
            run.queue([step])

    def take_over(self, step: int) -> None:
        """Go on with a step that waited for an identical one, which did not complete."""
        if self._run.settled[step] is None:
            self._missed.discard(step)
            self._run.let_in([step])
