"""The tools of a runtime as objects with methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs_ray.errors import AiecsError, InvalidParamsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from aiecs_ray.catalog import OperationInfo
    from aiecs_ray.client import Caller


class Tools:
    """The tools that can be called, by name: ``rt.tools.stats_tool.mean(values=[1, 2])``.

    Those of this process and those that others registered with the same cluster; ``rt.tools["list"]`` takes any name.

    >>> import aiecs_ray
    >>> class Greeter:
    ...     def greet(self, name: str) -> str:
    ...         return f"Hello, {name}!"
    >>> with aiecs_ray.connect("inprocess", registry=aiecs_ray.Registry()) as rt:
    ...     _ = rt.register(Greeter)
    ...     list(rt.tools), "greeter" in rt.tools, rt.tools.greeter.greet(name="Ada")
    (['greeter'], True, 'Hello, Ada!')
    """

    def __init__(self, runtime: Caller) -> None:
        self._runtime = runtime

    def list(self) -> list[dict[str, Any]]:
        """Return every tool of this process with its operations and their parameters."""
        return self._runtime.registry.list_tools()

    def __iter__(self) -> Iterator[str]:
        return iter(self._runtime.catalog.names())

    def __contains__(self, name: object) -> bool:
        return name in self._runtime.catalog.names()

    def __len__(self) -> int:
        return len(self._runtime.catalog.names())

    def __getattr__(self, name: str) -> ToolProxy:
        if name.startswith("_"):
            raise AttributeError(name)
        return ToolProxy(self._runtime, name)

    def __getitem__(self, name: str) -> ToolProxy:
        return ToolProxy(self._runtime, name)

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *(name for name in self._known() if name.isidentifier())]

    def __repr__(self) -> str:
        return f"<tools: {', '.join(self._known()) or 'none'}>"

    def _known(self) -> tuple[str, ...]:
        """Names to show, also where the runtime is closed."""
        try:
            return self._runtime.catalog.names()
        except AiecsError:
            return self._runtime.registry.names()


class ToolProxy:
    """One tool, its operations as methods that run in its replicas.

    A method takes the operation's parameters by name and waits for its value, also where the operation is async.
    """

    def __init__(self, runtime: Caller, name: str) -> None:
        _, self._operations = runtime.catalog.tool(name)
        self._runtime = runtime
        self.tool_name = name

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            # Copying and pickling look for such names before there is anything else.
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
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
