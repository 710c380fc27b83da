"""The measured work as tools of aiecs-ray."""

from __future__ import annotations

from typing import Any

from benchmarks import work


class NoopTool:
    """Operations that cost nothing themselves."""

    def echo(self, n: Any) -> Any:
        """Return ``n``."""
        return work.echo(n)

    def count(self, n: int) -> int:
        """Return the number after ``n``."""
        return work.count(n)


class OtherTool(NoopTool):
    """The same in another process."""


class SpinTool:
    """Operations that keep a processor busy."""

    def spin(self, seconds: float) -> int:
        """Spin for so long."""
        return work.spin(seconds)

    def trace(self, seconds: float) -> tuple[int, float, float]:
        """Spin for so long, and say where and when."""
        return work.trace(seconds)


class ArrayTool:
    """Operations on large arrays."""

    def make(self, floats: int) -> dict[str, Any]:
        """Return an array under ``data``."""
        return {"data": work.make(floats)}

    def same(self, array: Any) -> Any:
        """Return the array itself."""
        return array

    def grow(self, array: Any) -> Any:
        """Return a new array."""
        return work.grow(array)

    def look(self, array: Any, place: int) -> float:
        """Read one number."""
        return work.look(array, place)

    def total(self, values: list[float]) -> float:
        """Add numbers up."""
        return sum(values)


class SinkTool:
    """Takes arrays from another tool."""

    def size(self, array: Any) -> int:
        """Return the bytes of an array."""
        return work.size(array)
