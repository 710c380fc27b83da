"""What a run uses of the coordinator that holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiecs_ray.actors.admission import Guards
    from aiecs_ray.actors.joins import Joins
    from aiecs_ray.actors.outbox import Outbox
    from aiecs_ray.actors.run import Run
    from aiecs_ray.config import Settings
    from aiecs_ray.messages import ErrorInfo, RunRequest
    from aiecs_ray.queueing import Backlog


class Ticket(NamedTuple):
    """A step that waits for a replica of its tool."""

    run: Run
    step: int


class Replicas(Protocol):
    """Who runs steps."""

    def expect(self, run: Run) -> None:
        """A run begins: keep the tools that it was prepared for until it is forgotten."""

    def enqueue(self, tool: str, tickets: Sequence[Ticket]) -> None:
        """Run these steps of one run as soon as a replica has room."""

    def stop(self, run: Run, steps: Sequence[int], *, verdict: ErrorInfo | None) -> None:
        """Stop the work that holds these steps; without answer within the grace period its replica is killed."""

    def withdraw(self, run: Run) -> None:
        """Forget the waiting tickets of a run."""

    def forget(self, run: Run) -> None:
        """A run is over: tell it nothing more."""


class Services(NamedTuple):
    """What a run uses of its coordinator."""

    settings: Settings
    replicas: Replicas
    cache: Outbox
    joins: Joins
    random: Callable[[], float]
    token: Callable[[int], bytes]
    clock: Callable[[], float]
    """Seconds since the epoch."""
    guards: Guards
    backlog: Backlog
    begin: Callable[[str, RunRequest], Run]
    """Starts another run beside it, which nobody but its maker knows."""
