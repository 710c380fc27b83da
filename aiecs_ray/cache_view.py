"""The shared cache, seen from a client: what it holds, why something is in it or not, and how to fill and empty it."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from aiecs_ray.context import Context
from aiecs_ray.errors import AiecsError, InvalidInputError
from aiecs_ray.messages import ErrorInfo
from aiecs_ray.model import ErrorCode
from aiecs_ray.run_options import RunOptions
from aiecs_ray.running import current
from aiecs_ray.version import __version__
from aiecs_ray.warm_up import WarmUpReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiecs_ray.client import Client
    from aiecs_ray.messages import RunRequest
    from aiecs_ray.run_options import Prepared

HEALTH_TIMEOUT = 5.0
"""Seconds within which a healthy cache answers."""
_TEXTS = {
    "code": "the tool's code has changed",
    "config": "the tool's config is another",
    "environment": "the tool's runtime_env is another",
    "scope": "the operation's scope has changed",
    "params": "the parameters are others",
    "inputs": "a value that it reads is another",
    "files": "a file has changed",
    "user": "it belongs to another user",
    "task": "it belongs to another task",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """Whether a call would be answered from the cache, and why not."""

    operation: str
    cacheable: bool
    """Whether it has a key and is cached at all."""
    hit: bool
    reason: str
    """One sentence for people."""
    key: str | None = None
    parts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What the key is made of: code, config, environment, scope, user, task, params (a digest), inputs, files."""
    differs: tuple[str, ...] = ()
    """The parts that set it apart from the nearest entry of the same operation."""
    entry: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Of the entry, where there is one: size in bytes, summary, seconds it took, expires_in seconds (None: never)."""

    def __str__(self) -> str:
        return f"{self.operation}: {self.reason}"


class CacheView:
    """The shared cache, seen from a client."""

    def __init__(self, runtime: Client) -> None:
        self._runtime = runtime

    def stats(self) -> dict[str, Any]:
        """Return what was counted since the cache's process began, and what it holds.

        That is hits, misses, hit_rate, joined (calls answered by an identical one that was under way), seconds_saved,
        entries, bytes, evictions by reason, uncacheable by reason, and hits, misses and the like of each of the
        ``operations``; ``since`` (seconds since the epoch) and whether the process was ``restarted``, which loses its
        entries; and what is on ``disk`` (None without ``cache_dir``).
        """
        return self._runtime.cache_request("stats")  # type: ignore[no-any-return]

    def explain(
        self,
        operation: str,
        params: dict[str, Any] | None = None,
        *,
        user_id: str | None = None,
        task_id: str | None = None,
        cache: bool | None = None,
    ) -> Explanation:
        """Say whether this call would be answered from the cache; nothing runs, and nothing is counted as used.

        Args:
            operation: ``"tool.op"``.
            params: its parameters by name.
            user_id: with ``task_id`` the context.
            task_id: see ``user_id``.
            cache: as in a call.

        Raises:
            InvalidInputError, ToolNotFoundError, OperationNotFoundError: the call is wrong.
        """
        request = {"operation": operation, "params": {} if params is None else params}
        options = RunOptions(context=Context(user_id, task_id), cache=cache)
        prepared = self._runtime.prepare([request], options)
        if reason := self._why_not(prepared, operation):
            return Explanation(operation, cacheable=False, hit=False, reason=reason)
        answer: dict[str, Any] = self._runtime.request("explain", prepared.request)
        if "reason" in answer:
            return Explanation(operation, cacheable=False, hit=False, reason=f"not cached: {answer['reason']}")
        return _explained(operation, answer)

    def invalidate(
        self,
        *,
        tool: str | None = None,
        operation: str | None = None,
        user_id: str | None = None,
        task_id: str | None = None,
        tag: str | None = None,
    ) -> int:
        """Delete the entries that match everything given, and return how many there were.

        ``user_id`` and ``task_id`` are those of the call that made the entry; ``tag`` is one of the operation's.

        Raises:
            InvalidInputError: nothing is given; :meth:`clear` deletes all.
        """
        given = {"tool": tool, "operation": operation, "user_id": user_id, "task_id": task_id}
        tags = {name: value for name, value in given.items() if value is not None}
        if tag is not None:
            tags[f"label:{tag}"] = ""
        if not tags:
            raise InvalidInputError("say what to invalidate: tool=, operation=, user_id=, task_id= or tag=")
        return self._runtime.request("purge", {**tags, **_own()})  # type: ignore[no-any-return]

    def clear(self) -> int:
        """Delete every entry, and return how many there were; inside an operation of a user only that user's."""
        return self._runtime.request("purge", _own())  # type: ignore[no-any-return]

    def warm(self, operations: Any, *, user_id: str | None = None, task_id: str | None = None) -> WarmUpReport:
        """Run those operations whose results are not in the cache, all at once, and report.

        They are given as in :meth:`~aiecs_ray.runtime.Runtime.run` and run in parallel, as their references allow. One
        that fails, or cannot be cached, is a line of the report and harms no other; what cannot be cached is not run.

        Raises:
            InvalidOperationsError: ``operations`` is no list of operations.
        """
        options = RunOptions(
            mode="parallel", context=Context(user_id, task_id), keep=(), cache=True, tolerate=(AiecsError,)
        )
        prepared = self._runtime.prepare(operations, options)
        refused = prepared._replace(request=_without_uncacheable(prepared.request, prepared.specs))
        opened = self._runtime.execute(refused)
        failed = tuple(
            (spec, one.error.message) for spec, one in zip(prepared.specs, opened, strict=True) if one.error is not None
        )
        cached = sum(one.settled.from_cache for one in opened)
        return WarmUpReport(len(opened) - cached - len(failed), cached, failed)

    def health_check(self) -> dict[str, Any]:
        """Write and read one value beside the users' entries, and say how it went (document S1, 7.4).

        A cache that is switched off is healthy, and says ``"cache": "disabled"`` (contradiction C-39).
        """
        try:
            if not self._runtime.cache_request("probe", timeout=HEALTH_TIMEOUT):
                return {"status": "unhealthy", "error": "Cache test failed"}
            memory = self._runtime.cache_request("memory", timeout=HEALTH_TIMEOUT)
        except Exception as error:  # noqa: BLE001  # whatever is wrong, a health check answers
            return {"status": "unhealthy", "error": str(error) or type(error).__name__}
        report = {
            "status": "healthy",
            "timestamp": time.time(),
            "cache_size": memory["cache_size"],
            "version": __version__,
        }
        return report if memory["max_cache_size"] else {**report, "cache": "disabled"}

    def get_memory_stats(self) -> dict[str, int]:
        """Return the number of entries, their real bytes, those that can expire, and the most there may be (S1)."""
        return self._runtime.cache_request("memory")  # type: ignore[no-any-return]

    def _why_not(self, prepared: Prepared, operation: str) -> str:
        """Say why a call is never looked up; empty when it is."""
        step, policy = prepared.request.steps[0], prepared.request.policies[0]
        if policy.cache != "off":
            return f"not cached: {step.uncacheable}" if step.digest is None else ""
        declared = self._runtime.catalog.find(*operation.split("."))[1].options
        if not declared["idempotent"]:
            return "never cached: the operation is not idempotent"
        if declared["cache"] is False:
            return "never cached: the operation says cache=False"
        if policy.stateful:
            return "not cached: the tool is stateful, so only cache=True caches it"
        return "not cached: there is no user_id or task_id, and the operation does not say cache=True"


def _without_uncacheable(request: RunRequest, specs: list[str]) -> RunRequest:
    """Let the steps fail that cannot be cached: running them would warm nothing."""
    steps = []
    for step, spec in zip(request.steps, specs, strict=True):
        reason = step.uncacheable or "it is never cached"
        if step.refusal is None and step.digest is None:
            text = f"{spec} cannot be cached: {reason}"
            names = ("UncacheableValueError", "InvalidInputError")
            refusal = ErrorInfo(ErrorCode.VALIDATION_ERROR.value, text, names[0], names)
            steps.append(step._replace(refusal=refusal))
        else:
            steps.append(step)
    return dataclasses.replace(request, steps=tuple(steps))


def _own() -> dict[str, str]:
    attempt = current()
    return {} if attempt is None or not attempt.user_id else {"user_id": attempt.user_id}


def _explained(operation: str, answer: Mapping[str, Any]) -> Explanation:
    """Put into words what the cache said of a call that has a key."""
    found = dict(answer["found"])
    differs: tuple[str, ...] = tuple(found.get("differs", ()))
    hit = found.pop("hit")
    if hit:
        text = "in the cache"
    elif differs:
        others = " and ".join(_TEXTS[part] for part in differs)
        text = f"not in the cache: {found['entries']} of this operation are, and of the nearest one {others}"
    else:
        text = "not in the cache: nothing of this operation is"
    return Explanation(
        operation,
        cacheable=True,
        hit=hit,
        reason=text,
        key=answer["key"],
        parts=answer["parts"],
        differs=differs,
        entry=found if hit else {},
    )
