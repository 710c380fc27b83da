"""The tools of a runtime as objects with methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs_ray.errors import InvalidParamsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aiecs_ray.catalog import OperationInfo
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
    """One tool, its operations as methods that run in its replicas.

    Each method waits for its result, that of an async operation too.
    """

    def __init__(self, runtime: Client, name: str) -> None:
        _, self._operations = runtime.catalog.tool(name)
        self._runtime = runtime
        self.tool_name = name

    def __getattr__(self, name: str) -> Callable[..., Any]:
        runtime, tool = self._runtime, self.tool_name
        _, info = runtime.catalog.find(tool, name)

        def call(*values: Any, **params: Any) -> Any:
            return runtime.call(f"{tool}.{name}", {**_by_name(f"{tool}.{name}", info, values, params), **params})

        call.__name__ = name
        call.__doc__ = self._operations[name].doc
        return call

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self._operations]

    def __repr__(self) -> str:
        return f"<tool {self.tool_name}: {', '.join(self._operations)}>"


def _by_name(spec: str, info: OperationInfo, values: tuple[Any, ...], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return values given by position under the names of the operation's parameters."""
    if len(values) > len(info.parameters):
        text = f"{spec} takes {len(info.parameters)} parameters by position, got {len(values)} values"
        raise InvalidParamsError(f"{text}; it takes {', '.join(info.parameters) or 'none'}")
    found = dict(zip(info.parameters, values, strict=False))
    if twice := [name for name in found if name in params]:
        raise InvalidParamsError(f"{spec}: the parameter {twice[0]!r} is given by position and by name")
    return found
