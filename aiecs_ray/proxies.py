"""The tools of a runtime as objects with methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
