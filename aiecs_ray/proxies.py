"""Parts of a runtime: its tools as objects with methods, and its cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs_ray.errors import InvalidInputError
from aiecs_ray.running import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiecs_ray.client import Client


class Tools:
    """The tools that can be called: ``rt.tools.stats_tool.mean(values=[1, 2])``."""

    def __init__(self, runtime: Client) -> None:
        self._runtime = runtime

    def list(self) -> list[dict[str, Any]]:
        """Return every tool of this process with its operations and their parameters."""
        return self._runtime.registry.list_tools()

    def __getattr__(self, name: str) -> ToolProxy:
        if name.startswith("_"):
            raise AttributeError(name)
        return ToolProxy(self._runtime, name)

    def __getitem__(self, name: str) -> ToolProxy:
        return ToolProxy(self._runtime, name)


class ToolProxy:
    """One tool, its operations as methods that run in its replicas."""

    def __init__(self, runtime: Client, name: str) -> None:
        _, self._operations = runtime.catalog.tool(name)
        self._runtime = runtime
        self.tool_name = name

    def __getattr__(self, name: str) -> Callable[..., Any]:
        runtime, tool = self._runtime, self.tool_name
        runtime.catalog.find(tool, name)

        def call(**params: Any) -> Any:
            return runtime.call(f"{tool}.{name}", params)

        call.__name__ = name
        call.__doc__ = self._operations[name].doc
        return call

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self._operations]

    def __repr__(self) -> str:
        return f"<tool {self.tool_name}: {', '.join(self._operations)}>"


class CacheView:
    """The shared cache, seen from a client."""

    def __init__(self, runtime: Client) -> None:
        self._runtime = runtime

    def stats(self) -> dict[str, Any]:
        """Return hits, misses, entries, bytes, evictions by reason and seconds saved."""
        return self._runtime.cache_request("stats")  # type: ignore[no-any-return]

    def invalidate(
        self,
        *,
        tool: str | None = None,
        operation: str | None = None,
        user_id: str | None = None,
        task_id: str | None = None,
    ) -> int:
        """Delete the entries that match everything given, and return how many there were.

        Raises:
            InvalidInputError: nothing is given; :meth:`clear` deletes all.
        """
        given = {"tool": tool, "operation": operation, "user_id": user_id, "task_id": task_id}
        tags = {name: value for name, value in given.items() if value is not None}
        if not tags:
            raise InvalidInputError("say what to invalidate: tool=, operation=, user_id= or task_id=")
        return self._runtime.cache_request("purge", {**tags, **_own()})  # type: ignore[no-any-return]

    def clear(self) -> int:
        """Delete every entry, and return how many there were; inside an operation of a user only that user's."""
        return self._runtime.cache_request("purge", _own())  # type: ignore[no-any-return]


def _own() -> dict[str, str]:
    attempt = current()
    return {} if attempt is None or not attempt.user_id else {"user_id": attempt.user_id}
