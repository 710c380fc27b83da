"""The work that is measured, as tools of aiecs-ray and as actors written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import ray


class NoopTool:
    """Does nothing, so that only orchestration is measured."""

    def echo(self, n: int) -> int:
        """Return ``n``."""
        return n

    def make(self, n: int) -> dict[str, Any]:
        """Return an array of ``n`` float64 numbers."""
        return {"data": np.zeros(n)}


class SinkTool:
    """Takes values from another tool."""

    def size(self, x: Any) -> int:
        """Return the bytes of an array."""
        return int(x.nbytes)


@ray.remote(num_cpus=0)
class RawActor:
    """What one writes without aiecs-ray."""

    def echo(self, n: int) -> int:
        """Return ``n``."""
        return n

    def echo_many(self, numbers: list[int]) -> list[int]:
        """Return each of ``numbers``, one call for each."""
        return [self.echo_one(n) for n in numbers]

    def echo_one(self, n: int) -> int:
        """Return ``n``."""
        return n

    def make(self, n: int) -> Any:
        """Return an array of ``n`` float64 numbers."""
        return np.zeros(n)

    def size(self, x: Any) -> int:
        """Return the bytes of an array."""
        return int(x.nbytes)
