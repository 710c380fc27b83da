"""The circuit breakers of a coordinator's operations, by name, and who is told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs_ray.breaker import Admitted, Breaker, Circuit, counts_as_failure
from aiecs_ray.errors import CircuitOpenError
from aiecs_ray.messages import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs_ray.actors.events import EventLog
    from aiecs_ray.messages import ErrorInfo, Policy, ToolSpec

_EVENTS = {
    Circuit.OPEN: EventKind.BREAKER_OPENED,
    Circuit.HALF_OPEN: EventKind.BREAKER_HALF_OPEN,
    Circuit.CLOSED: EventKind.BREAKER_CLOSED,
}


class Breakers:
    """Lets calls through or rejects them, and hears how they ended.

    A breaker belongs to the name of an operation, for all runs, clients and versions of its tool; the version that was
    registered last says with which options.

    Args:
        clock: seconds of the event loop.
        opened: called with the name of an operation whose breaker has opened: what waits has to ask again.
    """

    def __init__(self, clock: Callable[[], float], opened: Callable[[str], object]) -> None:
        self._clock = clock
        self._opened = opened
        self._breakers: dict[str, Breaker] = {}
        self._logs: dict[str, dict[int, EventLog]] = {}

    @property
    def active(self) -> bool:
        """Whether any operation has a breaker."""
        return bool(self._breakers)

    def declare(self, spec: ToolSpec) -> None:
        """Take over what a tool says of its breakers: each operation's own, else the tool's for each."""
        for operation in spec.operations:
            name = f"{spec.name}.{operation['name']}"
            options = operation.get("options", {}).get("breaker") or spec.options.get("breaker")
            if options is None:
                self._breakers.pop(name, None)
            elif name in self._breakers:
                self._breakers[name].adjust(options)
            else:
                self._breakers[name] = Breaker(options)

    def guards(self, spec: str) -> bool:
        """Return whether an operation has a breaker."""
        return spec in self._breakers

    def admit(self, spec: str, log: EventLog) -> Admitted | CircuitOpenError | None:
        """Let a call through (None: the operation has no breaker), or return why not; ``log`` hears of changes."""
        breaker = self._breakers.get(spec)
        if breaker is None:
            return None
        logs = self._logs.setdefault(spec, {})
        logs[id(log)] = log
        before, now = breaker.circuit, self._clock()
        answer = breaker.admit(now)
        if before is not breaker.circuit:
            self._tell(spec, breaker)
        if isinstance(answer, Admitted):
            return answer
        calls, failed = breaker.totals(now)
        text = f"The circuit of {spec} is open: {failed} of {calls} calls failed within {breaker.options.window:g} s"
        if breaker.circuit is Circuit.HALF_OPEN:
            text += ", and whether it works again is being tried"
        return CircuitOpenError(text, answer.retry_after)

    def ended(self, policy: Policy, call: Admitted, error: ErrorInfo | None) -> None:
        """A call that was let through has ended, well when there is no error."""
        breaker = self._breakers.get(policy.spec)
        if breaker is None:
            return
        failed = False if error is None else counts_as_failure(error, breaker.options, policy.retry)
        before = breaker.circuit
        if failed is None:
            breaker.abandoned(call)
        elif failed:
            breaker.failed(call, self._clock())
        else:
            breaker.succeeded(call, self._clock())
        if before is not breaker.circuit:
            self._tell(policy.spec, breaker)
            if breaker.circuit is Circuit.OPEN:
                self._opened(policy.spec)

    def abandoned(self, spec: str, call: Admitted) -> None:
        """A call that was let through has not begun and will not, or was cancelled."""
        if (breaker := self._breakers.get(spec)) is not None:
            breaker.abandoned(call)

    def reset(self, spec: str) -> bool:
        """Close a breaker by hand; return whether there is one."""
        breaker = self._breakers.get(spec)
        if breaker is None:
            return False
        before = breaker.circuit
        breaker.reset()
        if before is not Circuit.CLOSED:
            self._tell(spec, breaker)
        return True

    def view(self) -> dict[str, dict[str, Any]]:
        """Return where each breaker stands."""
        now = self._clock()
        return {spec: self._view(breaker, now) for spec, breaker in sorted(self._breakers.items())}

    def _view(self, breaker: Breaker, now: float) -> dict[str, Any]:
        calls, failed = breaker.totals(now)
        return {
            "state": breaker.circuit.value,
            "calls": calls,
            "failures": failed,
            "retry_after": breaker.retry_after(now),
            "opened": breaker.opened,
            "rejected": breaker.rejected,
        }

    def _tell(self, spec: str, breaker: Breaker) -> None:
        logs = self._logs[spec] = {key: log for key, log in self._logs.get(spec, {}).items() if not log.closed}
        data: dict[str, Any] = {"spec": spec}
        if breaker.circuit is Circuit.OPEN:
            calls, failed = breaker.totals(self._clock())
            data.update(calls=calls, failures=failed, seconds=breaker.options.open_seconds)
        for log in logs.values():
            log.add(_EVENTS[breaker.circuit], data=data)

    def forget(self) -> None:
        """Let go of the runs that have ended."""
        for spec, logs in list(self._logs.items()):
            self._logs[spec] = {key: log for key, log in logs.items() if not log.closed}
