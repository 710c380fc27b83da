"""The tools that are known, by name."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aiecs_ray.definition import TOOL_ATTRIBUTE, OperationDef, ParameterDef, ToolDef, describe, label
from aiecs_ray.errors import (
    InvalidToolError,
    OperationNotFoundError,
    ToolConflictError,
    ToolImportError,
    ToolNotFoundError,
)
from aiecs_ray.operation import split_spec
from aiecs_ray.quoting import nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "aiecs_ray.tools"
"""The group in which installed packages announce their tools."""

_log = logging.getLogger(__name__)


class Registry:
    """Tools by name. It may be used from several threads.

    With ``entry_points`` the installed packages' tools of that group are known too; they are imported when a name is
    asked for that is not registered, and when all tools are listed.

    >>> class Greeter:
    ...     def greet(self, name: str) -> str:
    ...         return f"Hello, {name}!"
    >>> registry = Registry()
    >>> registry.register(Greeter).name
    'greeter'
    >>> registry.find_operation("greeter.greet")[1].required
    ('name',)
    """

    def __init__(self, *, entry_points: str | None = None) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._tools: dict[str, ToolDef] = {}
        self._group = entry_points
        # Never held together with _lock: an import may take as long as it likes, and registers what it defines.
        self._importing = threading.RLock()
        self._loaded: set[str] = set()
        self._broken: dict[str, tuple[str, BaseException]] = {}

    def __repr__(self) -> str:
        with self._lock:
            return f"<registry: {', '.join(sorted(self._tools)) or 'no tools'}>"

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.has(name)

    def register(self, cls: type, name: str | None = None, *, replace: bool = False, **overrides: Any) -> ToolDef:
        """Make a class known and return its description.

        The same class again (a notebook cell that ran again, a reloaded module) replaces itself.

        Args:
            cls: a class, decorated with ``@tool`` or plain.
            name: the tool's name; otherwise the decorated one, otherwise the class name in snake_case.
            replace: another class may be replaced.
            overrides: options of ``@tool``.

        Raises:
            InvalidToolError: the class cannot be a tool.
            ToolConflictError: another class has the name.

        """
        definition = describe(cls, name, **overrides)
        with self._lock:
            old = self._tools.get(definition.name)
            if old is not None and not replace and not _same(old.cls, cls):
                raise ToolConflictError(definition.name, label(old.cls), label(cls))
            self._tools[definition.name] = definition
        return definition

    def unregister(self, name: str) -> ToolDef:
        """Forget a tool and return its description.

        Raises:
            ToolNotFoundError: there is none of that name.

        """
        with self._lock:
            definition = self._tools.pop(name, None)
        if definition is None:
            raise self._not_found(name)
        return definition

    def get(self, name: str) -> ToolDef:
        """Return the tool of a name.

        Raises:
            ToolNotFoundError: there is none; it says which names are near.
            ToolImportError: an installed package announces it, but cannot be imported; the cause says why.

        """
        definition = self._find(name)
        if definition is None:
            raise self._not_found(name)
        return definition

    def has(self, name: str) -> bool:
        """Whether a tool of that name can be used."""
        return self._find(name) is not None

    def names(self) -> tuple[str, ...]:
        """Return the names of all tools, sorted."""
        self._load_announced()
        with self._lock:
            return tuple(sorted(self._tools))

    def find_operation(self, spec: str) -> tuple[ToolDef, OperationDef]:
        """Return the tool and the operation of a spec ``"tool.operation"``.

        Raises:
            InvalidSpecError: it is no such spec.
            ToolNotFoundError, OperationNotFoundError: there is none; both say which names are near.

        """
        tool_name, operation_name = split_spec(spec)
        definition = self.get(tool_name)
        operation = definition.operations.get(operation_name)
        if operation is None:
            raise OperationNotFoundError(operation_name, tool_name, nearest(operation_name, definition.operations))
        return definition, operation

    def list_tools(self) -> list[dict[str, Any]]:
        """Return every tool with its operations and their parameters, as plain values (document S0).

        A parameter has name, type (as written), schema (JSON Schema), required and default: the value itself where JSON
        has it, else its text, and None where there is none.

        >>> class Greeter:
        ...     def greet(self, name: str, polite: bool = True) -> str: ...
        >>> registry = Registry()
        >>> definition = registry.register(Greeter)
        >>> parameter = registry.list_tools()[0]["operations"][0]["parameters"][1]
        >>> parameter["name"], parameter["required"], parameter["default"], parameter["schema"]["type"]
        ('polite', False, True, 'boolean')
        """
        self._load_announced()
        with self._lock:
            definitions = sorted(self._tools.values(), key=lambda definition: definition.name)
        return [_listed(definition) for definition in definitions]

    def discover(self, target: str) -> tuple[ToolDef, ...]:
        """Import ``"package.module"`` or ``"package.module:Class"`` and register its tools.

        Of a module these are the classes decorated with ``@tool``; a class named by itself may be plain.

        Raises:
            InvalidToolError: the target has another form, or holds no tools.
            ImportError: the module cannot be imported.
            ToolConflictError: a name is taken by another class.

        """
        module_name, _, qualname = target.partition(":")
        if not all(part.isidentifier() for part in module_name.split(".")):
            raise InvalidToolError(f"{target!r} is no import path, expected 'package.module' or 'package.module:Class'")
        found: Any = importlib.import_module(module_name)
        for part in filter(None, qualname.split(".")):
            if part not in vars(found):
                raise InvalidToolError(f"module {module_name} has no class {qualname}")
            found = vars(found)[part]
        return self._register_all(found, target)

    def discover_entry_points(self, group: str = ENTRY_POINTS) -> tuple[str, ...]:
        """Import what installed packages announce in a group and return the names of the entry points that failed.

        Each group is imported once. What fails is kept: asking for a tool of that name raises with the reason.
        """
        with self._importing:
            if group not in self._loaded:
                self._loaded.add(group)
                for point in entry_points(group=group):
                    self._load_one(point)
            return tuple(sorted(self._broken))

    def _find(self, name: str) -> ToolDef | None:
        with self._lock:
            definition = self._tools.get(name)
        if definition is None and self._group is not None and self._group not in self._loaded:
            self.discover_entry_points(self._group)
            with self._lock:
                definition = self._tools.get(name)
        return definition

    def _load_announced(self) -> None:
        if self._group is None:
            return
        for name in self.discover_entry_points(self._group):
            source, error = self._broken[name]
            _log.warning("Tool %r cannot be imported from %s: %s: %s", name, source, type(error).__name__, error)

    def _load_one(self, point: EntryPoint) -> None:
        try:
            loaded = point.load()
            if isinstance(loaded, type):
                self.register(loaded, None if TOOL_ATTRIBUTE in vars(loaded) else point.name)
            else:
                self._register_all(loaded, point.value)
        except Exception as error:  # noqa: BLE001  # importing runs a stranger's code; it is reported by name
            self._broken[point.name] = (point.value, error)

    def _register_all(self, found: object, target: str) -> tuple[ToolDef, ...]:
        if isinstance(found, type):
            return (self._register_once(found),)
        if not isinstance(found, ModuleType):
            raise InvalidToolError(f"{target!r} is neither a class nor a module")
        classes = [thing for thing in vars(found).values() if isinstance(thing, type) and TOOL_ATTRIBUTE in vars(thing)]
        if not classes:
            raise InvalidToolError(
                f"module {target!r} has no class decorated with @tool; name one: '{target}:ClassName'"
            )
        return tuple(self._register_once(cls) for cls in dict.fromkeys(classes))

    def _register_once(self, cls: type) -> ToolDef:
        """A decorated class registered itself while it was imported, or was registered with options of its own."""
        with self._lock:
            known = [definition for definition in self._tools.values() if definition.cls is cls]
        return known[0] if known else self.register(cls)

    def _not_found(self, name: str) -> ToolNotFoundError:
        if name in self._broken:
            source, error = self._broken[name]
            problem = ToolImportError(name, source, f"{type(error).__name__}: {error}")
            problem.__cause__ = error
            return problem
        with self._lock:
            return ToolNotFoundError(name, "", nearest(name, self._tools))


DEFAULT = Registry(entry_points=ENTRY_POINTS)
"""Where ``@tool`` registers."""


def _same(old: type, new: type) -> bool:
    """Whether two classes are one, defined again; a script's ``__main__`` is also importable by its own name."""
    if old is new:
        return True
    if old.__qualname__ != new.__qualname__:
        return False
    return old.__module__ == new.__module__ or _file(old) == _file(new) is not None


def _file(cls: type) -> str | None:
    return getattr(sys.modules.get(cls.__module__), "__file__", None)


def _listed(definition: ToolDef) -> dict[str, Any]:
    return {
        "name": definition.name,
        "doc": definition.doc,
        "operations": [_listed_operation(operation) for operation in definition.operations.values()],
    }


def _listed_operation(operation: OperationDef) -> dict[str, Any]:
    schemas = operation.schema["properties"]
    return {
        "name": operation.name,
        "doc": operation.doc,
        "async": operation.is_async,
        "parameters": [_listed_parameter(one, schemas.get(one.name, {})) for one in operation.parameters],
    }


def _listed_parameter(parameter: ParameterDef, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "type": parameter.annotation,
        "schema": dict(schema),
        "required": parameter.required,
        "default": schema.get("default", parameter.default),
    }
