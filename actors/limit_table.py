"""The limits of tools and operations, by name, for every run of a coordinator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs_ray.limits import Meter
from aiecs_ray.messages import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiecs_ray.actors.gate import Gates
    from aiecs_ray.messages import ToolSpec

NO_LIMITS = Limits()


class LimitTable:
    """Knows which meters a step passes.

    A limit belongs to a name, ``"tool"`` or ``"tool.op"``, and not to a version of a tool: what it protects is the
    same. What was set by hand wins over what the tool declares; the tool that was registered last declares.

    Args:
        gates: where steps wait.
        clock: seconds of the event loop.
        recall: called with a name that is limited now and was not before: what waits for its tool has to pass.
    """

    def __init__(self, gates: Gates, clock: Callable[[], float], recall: Callable[[str], object]) -> None:
        self._gates = gates
        self._clock = clock
        self._recall = recall
        self._declared: dict[str, Limits] = {}
        self._set: dict[str, Limits] = {}
        self._meters: dict[str, Meter] = {}
        self._shared: dict[str, Meter] = {}
        self.active = False
        """Whether any tool or operation is limited."""

    def declare(self, spec: ToolSpec) -> None:
        """Take over what a tool says of its limits."""
        self._declare(spec.name, spec.options)
        for operation in spec.operations:
            self._declare(f"{spec.name}.{operation['name']}", operation.get("options", {}))

    def set(self, target: str, limits: Limits | None) -> None:
        """Set the limits of a name by hand; None goes back to what the tool declares."""
        if limits is None:
            self._set.pop(target, None)
        else:
            self._set[target] = limits
        self._apply(target)

    def meters_of(self, spec: str) -> tuple[Meter, ...]:
        """Return what a step of an operation has to pass."""
        if not self.active:
            return ()
        found = (self._meters.get(spec.partition(".")[0]), self._meters.get(spec))
        return tuple(meter for meter in found if meter is not None and meter.limits.bound)

    def meter_of_run(self, limits: Limits) -> Meter | None:
        """Return what every step of a run has to pass; runs that name their limits alike share it."""
        if not limits.bound:
            return None
        if not limits.name:
            return Meter(limits)
        for name, shared in list(self._shared.items()):
            if not shared.users and shared.is_fresh(self._clock()) and not self._gates.waiting(shared):
                del self._shared[name]
        meter = self._shared.get(limits.name)
        if meter is None:
            meter = self._shared[limits.name] = Meter(limits)
        elif meter.limits != limits:
            meter.adjust(limits)
            self._gates.readjusted(meter)
        meter.users += 1
        return meter

    def view(self) -> dict[str, dict[str, Any]]:
        """Return the limits in force, with how many steps are in flight and how many wait; those of a name once."""
        return {
            name: {
                "rate": meter.limits.rate,
                "burst": meter.limits.burst,
                "concurrency": meter.limits.concurrency,
                "set": name in self._set,
                "in_flight": meter.inside,
                "waiting": self._gates.waiting(meter),
            }
            for name, meter in sorted(self._meters.items())
            if meter.limits.bound
        }

    def _declare(self, target: str, options: Mapping[str, Any]) -> None:
        limits = Limits("", options.get("rate"), options.get("max_concurrency"), options.get("burst") or 1)
        if limits == self._declared.get(target, NO_LIMITS):
            return
        if limits.bound:
            self._declared[target] = limits
        else:
            del self._declared[target]
        self._apply(target)

    def _apply(self, target: str) -> None:
        limits = self._set.get(target) or self._declared.get(target, NO_LIMITS)
        meter = self._meters.get(target)
        was_bound = meter is not None and meter.limits.bound
        if meter is None:
            meter = self._meters[target] = Meter(limits)
        elif meter.limits != limits:
            meter.adjust(limits)
            self._gates.readjusted(meter)
        self.active = any(known.limits.bound for known in self._meters.values())
        if limits.bound and not was_bound:
            self._recall(target)
