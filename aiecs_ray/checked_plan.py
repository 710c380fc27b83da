"""A plan in the hands of its user: operations that were checked, to be looked at and to be run."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from aiecs_ray.outlines import outline_of
from aiecs_ray.pictures.card import plan_card
from aiecs_ray.pictures.dag import dag, mermaid
from aiecs_ray.watching import run_prepared

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs_ray.client import Client
    from aiecs_ray.displays import Progress
    from aiecs_ray.model import TaskStepResult
    from aiecs_ray.run import Run
    from aiecs_ray.run_options import RunOptions


class CheckedPlan:
    """Operations that were checked: made by ``rt.plan``, shown as a graph, run as often as wanted.

    It holds the operations as they were given and nothing in the cluster. Each run checks them again, so a tool that
    was changed meanwhile takes effect.

    >>> import aiecs_ray
    >>> class Sums:
    ...     def double(self, n: int) -> int:
    ...         return 2 * n
    >>> with aiecs_ray.connect("inprocess") as rt:
    ...     _ = rt.register(Sums)
    ...     plan = rt.plan(
    ...         [
    ...             {"operation": "sums.double", "params": {"n": 4}},
    ...             {"operation": "sums.double", "params": {"n": "$result[0]"}},
    ...         ]
    ...     )
    ...     plan, plan.run()[-1].result
    (<plan: 2 operations, sequence>, 16)
    """

    def __init__(self, client: Client, operations: Any, options: RunOptions) -> None:
        self._client, self._operations, self._options = client, operations, options
        self.outline = outline_of(client.prepare(operations, options).request)
        """Its steps, and what each waits for."""

    def __len__(self) -> int:
        return len(self.outline.vertices)

    def __repr__(self) -> str:
        return f"<plan: {len(self)} operations, {self._options.mode}>"

    def _repr_html_(self) -> str:
        return plan_card(self.outline, self._options.mode)

    def svg(self) -> str:
        """Return its graph as a picture."""
        return dag(self.outline)

    def mermaid(self) -> str:
        """Return its graph as the text of a Mermaid flowchart."""
        return mermaid(self.outline)

    def run(
        self, *, progress: Progress = "auto", on_step: Callable[[int, TaskStepResult], object] | None = None
    ) -> list[TaskStepResult]:
        """Run it, wait for its end and return one result per operation; see :meth:`aiecs_ray.Runtime.run`."""
        return run_prepared(self._client, self._client.prepare(self._operations, self._options), progress, on_step)

    def submit(self, *, detach: bool = False) -> Run:
        """Start a run and return at once; see :meth:`aiecs_ray.Runtime.submit`."""
        options = dataclasses.replace(self._options, detach=detach)
        return self._client.start(self._client.prepare(self._operations, options))
