"""The code version of a tool class: the same for the same source, another one when what it does may have changed.

It covers the class, its bases, and by name all that they use of their own modules and of other modules of the user's
(functions, classes, constants), and so on from there. The standard library, installed packages and this package end
the way. Comments, docstrings, formatting and line numbers do not count. Not seen: what is imported inside a function
body, reached by ``getattr`` on a computed name, or given to the tool as configuration.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections import deque
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from importlib.util import resolve_name
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aiecs_ray.code_source import (
    bindings,
    class_nodes,
    code_digest,
    function_nodes,
    functions_in,
    import_origin,
    is_in_body,
    own_functions,
    read_source,
)
from aiecs_ray.errors import UncacheableValueError
from aiecs_ray.keys import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_DIGITS = 16
_PYTHON = f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"
_OWN_PACKAGE = __name__.partition(".")[0]
_LIBRARIES = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_IMMUTABLE = frozenset(
    {type(None), bool, int, float, complex, str, bytes, date, datetime, time, timedelta, Decimal, Fraction, UUID}
)
_BOOKKEEPING = frozenset(
    {"__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__"}
    | {"__abstractmethods__", "_abc_impl", "__orig_bases__", "__parameters__", "__wrapped__"}
)
_MODULE_FACTS = frozenset({"__name__", "__file__", "__path__", "__package__", "__spec__", "__doc__", "__builtins__"})
"""What a module knows of itself: where it was installed is no part of what it does."""


def code_version(cls: type) -> str:
    """Return the code version of a tool class: 16 hexadecimal digits.

    It is the same in every process that has the same source. Without source (a class typed into a bare interpreter)
    it is made from the compiled code and the Python version. It reads module constants as they are now, so ask once,
    where the class is registered.

    >>> def make(factor: int) -> type:
    ...     class Tool:
    ...         def scale(self, x: int) -> int:
    ...             return factor * x
    ...     return Tool
    >>> code_version(make(2)) == code_version(make(2))
    True
    >>> code_version(make(2)) == code_version(make(3))
    False
    """
    facts = _Walk(cls).facts()
    return hashlib.sha256("\0".join([cls.__qualname__, *sorted(map(repr, facts))]).encode()).hexdigest()[:_DIGITS]


class _Scope(NamedTuple):
    """Where code looks up a name: the closure first, then the module; and the file or cell that the code is from."""

    closure: Mapping[str, Any]
    module: Mapping[str, Any]
    filename: str | None


class _Walk:
    """Follows a class to all that it uses. Each thing is visited once and leaves facts, which are plain texts."""

    def __init__(self, cls: type) -> None:
        self._root_module = cls.__module__
        self._facts: set[tuple[str, ...]] = set()
        self._seen: dict[tuple[int, str], object] = {}
        self._pending: deque[type | FunctionType] = deque([cls])

    def facts(self) -> set[tuple[str, ...]]:
        """Return what there is to say of the class and all that it uses."""
        while self._pending:
            thing = self._pending.popleft()
            if isinstance(thing, FunctionType):
                self._visit_function(thing)
            else:
                self._visit_class(thing)
        return self._facts

    def _visit_class(self, cls: type) -> None:
        name = cls.__qualname__
        for base in (*cls.__mro__[1:], type(cls)):
            self._link(f"{name} is", base)
        functions = own_functions(cls)
        scope = _class_scope(cls, functions)
        nodes = class_nodes(cls, scope.filename)
        self._facts.update(("class", name, ast.dump(node)) for node in nodes)
        for node in nodes:
            self._follow(_chains(node), scope)
        if not nodes:
            self._facts.add(("class without source", _PYTHON, name, *(base.__qualname__ for base in cls.__mro__)))
        by_value = not nodes or "<locals>" in name  # then the source does not tell what its names stood for
        for function in functions:
            if by_value or not is_in_body(function, cls):
                self._link(name, function)
        if by_value:
            self._add_values(f"{name}.", vars(cls))

    def _visit_function(self, function: FunctionType) -> None:
        name = function.__code__.co_qualname
        nodes = function_nodes(function)
        self._facts.update(("function", name, ast.dump(node)) for node in nodes)
        chains = {chain for node in nodes for chain in _chains(node)}
        if not nodes:
            self._facts.add(("code", _PYTHON, name, code_digest(function.__code__, function.__doc__).hex()))
            names = set(_names(function.__code__))
            chains = {(first, second) for first in names for second in names}
        self._follow(sorted(chains), _function_scope(function))
        if not nodes or "<locals>" in name:
            defaults = {f"default {index}": value for index, value in enumerate(function.__defaults__ or ())}
            self._add_values(f"{name} ", {**defaults, **(function.__kwdefaults__ or {}), **vars(function)})

    def _follow(self, chains: Iterable[tuple[str, ...]], scope: _Scope) -> None:
        """Note what dotted names stand for, as far as modules of the user's lead."""
        for first, *steps in chains:
            space = scope.closure if first in scope.closure else scope.module
            if first not in space or first in _MODULE_FACTS:
                continue
            self._add_value(first, space[first], space, scope.filename)
            inner = space[first]
            for step in steps:
                if not (isinstance(inner, ModuleType) and _is_users_module(inner) and step in vars(inner)):
                    break
                self._add_value(step, vars(inner)[step], vars(inner), None)
                inner = vars(inner)[step]

    def _add_values(self, prefix: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if name not in _BOOKKEEPING:
                self._facts.add(("attribute", prefix + name, _label(type(value))))
                self._add_value(prefix + name, value, values, None)

    def _add_value(self, name: str, value: object, space: Mapping[str, Any], filename: str | None) -> None:
        """Note what ``name`` of ``space`` stands for, and follow it; statements about it may stand in ``filename``."""
        if not self._is_new(space, name):
            return
        if isinstance(value, ModuleType):
            self._facts.add(("module", name, "" if _is_users_module(value) else value.__name__))
            return
        things = [value] if isinstance(value, type) else list(functions_in(value))
        for thing in things:
            self._link(name, thing)
        if not isinstance(value, (type, FunctionType)):
            self._link(name, type(value))
            self._add_constant(name, value, space, filename)

    def _add_constant(self, name: str, value: object, space: Mapping[str, Any], filename: str | None) -> None:
        """Note a constant by its value; what can change in place, by the statements that make it, where known."""
        if not _is_immutable(value):
            statements = _statements(name, space, filename)
            self._facts.update(("statement", name, ast.dump(statement)) for statement in statements)
            for statement in statements:
                self._follow(_chains(statement), _Scope({}, space, filename))
            if statements:
                return
            origin = _origin(name, space, filename)
            if origin is not None:
                self._add_value(origin[1], value, vars(origin[0]), getattr(origin[0], "__file__", None))
        try:
            self._facts.add(("value", name, digest(value).hex()))
        except UncacheableValueError:
            kind = type(value)  # a function made in C has a name, and neither source nor content
            own_name = "" if self._is_followed(kind) else str(getattr(value, "__qualname__", ""))
            self._facts.add(("object", name, _label(kind), own_name))

    def _link(self, name: str, thing: type | FunctionType) -> None:
        """Note which class or function ``name`` stands for, and visit it unless it is a library's."""
        self._facts.add(("name", name, thing.__qualname__ if self._is_followed(thing) else _label(thing)))
        if self._is_followed(thing) and self._is_new(thing, ""):
            self._pending.append(thing)

    def _is_followed(self, thing: type | FunctionType) -> bool:
        filename: str | None
        if isinstance(thing, FunctionType):
            module, filename = str(thing.__globals__.get("__name__")), thing.__code__.co_filename
        else:
            module, filename = thing.__module__, getattr(sys.modules.get(thing.__module__), "__file__", None)
        return module == self._root_module or _is_users(module, filename)

    def _is_new(self, holder: object, name: str) -> bool:
        """Whether this is the first visit. The holder is kept: its id must not come to mean something else."""
        if (id(holder), name) in self._seen:
            return False
        self._seen[id(holder), name] = holder
        return True


def _class_scope(cls: type, functions: list[FunctionType]) -> _Scope:
    module = sys.modules.get(cls.__module__)
    closure: dict[str, Any] = {}
    namespace: Mapping[str, Any] = vars(module) if module is not None else {}
    filename: str | None = getattr(module, "__file__", None)
    for function in functions:
        if is_in_body(function, cls):
            scope = _function_scope(function)
            closure.update(scope.closure)
            namespace, filename = scope.module, scope.filename
    return _Scope(closure, namespace, filename)


def _function_scope(function: FunctionType) -> _Scope:
    closure = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            closure[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    closure.pop("__class__", None)
    return _Scope(closure, function.__globals__, function.__code__.co_filename)


def _chains(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """Yield the names in a syntax tree, with the attributes that are taken of them: ``("np", "linalg", "norm")``."""
    for child in ast.walk(node):
        steps: list[str] = []
        while isinstance(child, ast.Attribute):
            steps.append(child.attr)
            child = child.value  # noqa: PLW2901  # one step in
        if isinstance(child, ast.Name):
            yield (child.id, *reversed(steps))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _statements(name: str, space: Mapping[str, Any], filename: str | None) -> list[ast.stmt]:
    for place in (filename, space.get("__file__")):
        source = read_source(place, space) if isinstance(place, str) else None
        found = bindings(source.tree, name) if source is not None else []
        if found:
            return found
    return []


def _origin(name: str, space: Mapping[str, Any], filename: str | None) -> tuple[ModuleType, str] | None:
    """Return the user's module that ``name`` was imported from, and its name there."""
    for place in (filename, space.get("__file__")):
        source = read_source(place, space) if isinstance(place, str) else None
        found = import_origin(source.tree, name) if source is not None else None
        if found is not None:
            try:
                module = sys.modules.get(resolve_name(found[0], space.get("__package__") or ""))
            except ImportError:
                return None
            return (module, found[1]) if module is not None and _is_users_module(module) else None
    return None


def _is_immutable(value: object) -> bool:
    if type(value) in (tuple, frozenset):
        return all(map(_is_immutable, value))  # type: ignore[call-overload]
    return type(value) in _IMMUTABLE


def _is_users_module(module: ModuleType) -> bool:
    return _is_users(module.__name__, getattr(module, "__file__", None))


def _is_users(module: str, filename: str | None) -> bool:
    """Whether code is the user's: neither the standard library's, nor an installed package's, nor ours."""
    top = module.partition(".")[0]
    if top == _OWN_PACKAGE:
        return False
    if filename is None or filename.startswith("<"):
        return top not in sys.stdlib_module_names
    path = Path(filename)
    return _INSTALLED.isdisjoint(path.parts) and not any(path.is_relative_to(library) for library in _LIBRARIES)


def _label(thing: type | FunctionType) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"
