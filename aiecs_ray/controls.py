"""Limits and circuit breakers of a cluster's tools: what is in force, and changing it while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs_ray.errors import InvalidInputError
from aiecs_ray.limits import check_limits
from aiecs_ray.messages import Limits
from aiecs_ray.operation import split_spec
from aiecs_ray.quoting import shorten

if TYPE_CHECKING:
    from aiecs_ray.client import Client


class Controls:
    """What a runtime can say of the limits that all callers of its coordinator share."""

    def set_limit(
        self: Client,
        target: str,
        *,
        rate: float | None = None,
        concurrency: int | None = None,
        burst: int = 1,
    ) -> None:
        """Limit ``"tool.op"``, or ``"tool"`` as a whole, from now on and for all callers of the cluster.

        It replaces whatever limit the name had, and holds for everything that has not been sent to a replica. None is
        no limit, also where the tool declares one. A retry counts as another start, an answer from the cache as none.

        Args:
            target: ``"tool"`` or ``"tool.op"``.
            rate: units started in any second, evenly spaced.
            concurrency: units in flight.
            burst: how many units may start at once after a pause.

        Raises:
            InvalidInputError: a number is out of its range.
            ToolNotFoundError, OperationNotFoundError: nobody offers it.
        """
        check_limits(rate, concurrency, burst)
        _check_target(self, target)
        self.request("set_limit", target, Limits("", rate, concurrency, burst))

    def reset_limit(self: Client, target: str) -> None:
        """Go back to the limit that the tool declares, or to none.

        Raises:
            ToolNotFoundError, OperationNotFoundError: nobody offers it.
        """
        _check_target(self, target)
        self.request("set_limit", target, None)

    def limits(self: Client) -> dict[str, dict[str, Any]]:
        """Return the limits in force by tool and operation: rate, burst, concurrency, in_flight, waiting, and set.

        ``set`` says whether it was set by hand, and not declared by the tool.
        """
        return dict(self.request("limits"))

    def breakers(self: Client) -> dict[str, dict[str, Any]]:
        """Return the circuit breakers by operation: state, calls, failures, retry_after, opened, rejected.

        ``state`` is "closed", "open" or "half_open"; ``calls`` and ``failures`` are those of the window.
        """
        return dict(self.request("breakers"))

    def reset_breaker(self: Client, operation: str) -> None:
        """Close the circuit breaker of ``"tool.op"`` by hand and forget what it counted.

        Raises:
            ToolNotFoundError, OperationNotFoundError: nobody offers it.
            InvalidInputError: the operation has no breaker.
        """
        if not self.request("reset_breaker", operation):
            self.catalog.find(*split_spec(operation))
            text = f"operation '{shorten(operation)}' has no circuit breaker; @operation(breaker=...) gives it one"
            raise InvalidInputError(text)


def _check_target(client: Client, target: str) -> None:
    """Raise unless somebody offers ``target``."""
    if "." in target:
        client.catalog.find(*split_spec(target))
    else:
        client.catalog.tool(target)
