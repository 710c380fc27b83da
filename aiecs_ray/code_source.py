"""Where the source of a function or class stands, as syntax trees without docstrings.

The source comes from ``linecache``, which knows files, zip archives and the cells of a notebook alike. It counts only
where it compiles to the code that is loaded: a file edited after its import says nothing about the class in memory.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import warnings
from types import CodeType, FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from aiecs_ray.keys import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Source(NamedTuple):
    """One file or notebook cell, parsed and compiled."""

    tree: ast.Module
    definitions: Mapping[str, list[Definition]]
    """By qualified name."""
    codes: Mapping[tuple[str, int], list[bytes]]
    """By qualified name and first line: the digests of the code."""


def read_source(filename: str, namespace: Mapping[str, Any] | None = None) -> Source | None:
    """Return the source of a file or cell, or None where there is none that parses."""
    linecache.checkcache(filename)
    lines = linecache.getlines(filename, dict(namespace) if namespace else None)
    return _parse(filename, "".join(lines)) if lines else None


def function_nodes(function: FunctionType) -> list[Definition]:
    """Return the syntax tree of a function; several where lambdas share a line, none where the source is unknown."""
    code = function.__code__
    source = _source_of(function)
    if source is None:
        return []
    nodes = source.definitions.get(code.co_qualname, [])
    return [node for node in nodes if first_line(node) == code.co_firstlineno]


def class_nodes(cls: type, filename: str | None) -> list[ast.ClassDef]:
    """Return the syntax tree of a class, or nothing where its source is unknown.

    ``filename`` is where to look for a class without methods. Where several definitions of one name cannot be told
    apart, all are returned.
    """
    methods = [function for function in own_functions(cls) if is_in_body(function, cls)]
    sources = [_source_of(function) for function in methods]
    if not sources and filename is not None:
        sources = [read_source(filename)]
    if not sources or sources[0] is None or None in sources:
        return []
    nodes = [node for node in sources[0].definitions.get(cls.__qualname__, []) if isinstance(node, ast.ClassDef)]
    lines = [function.__code__.co_firstlineno for function in methods]
    return [node for node in nodes if all(node.lineno <= line <= (node.end_lineno or 0) for line in lines)]


def is_in_body(function: FunctionType, cls: type) -> bool:
    """Whether a function was written in the body of a class, and not given to it from outside."""
    return function.__code__.co_qualname == f"{cls.__qualname__}.{function.__code__.co_name}"


def own_functions(cls: type) -> list[FunctionType]:
    """Return the functions in a class's own namespace, out of what wraps them (``property``, ``staticmethod``, …)."""
    return [function for _, value in sorted(vars(cls).items()) for function in functions_in(value)]


def functions_in(value: object) -> Iterator[FunctionType]:
    """Yield the functions that ``value`` is or wraps.

    >>> [function.__name__ for function in functions_in(staticmethod(functools.wraps(first_line)(lambda: None)))]
    ['first_line', 'first_line']
    """
    if isinstance(value, (staticmethod, classmethod)):
        yield from functions_in(value.__func__)
    elif isinstance(value, property):
        for part in (value.fget, value.fset, value.fdel):
            yield from functions_in(part)
    elif isinstance(value, (functools.cached_property, functools.partial, functools.partialmethod)):
        yield from functions_in(value.func)
    else:
        if isinstance(value, FunctionType):
            yield value
        wrapped = inspect.getattr_static(value, "__wrapped__", None)
        if wrapped is not None and wrapped is not value:
            yield from functions_in(wrapped)


def first_line(node: Definition) -> int:
    """Return the line where a definition starts, which is that of its first decorator."""
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def bindings(tree: ast.Module, name: str) -> list[ast.stmt]:
    """Return the statements of a module that give a name its value or change it, in their order."""
    return [statement for statement in _module_statements(tree.body) if _binds(statement, name)]


def import_origin(tree: ast.Module, name: str) -> tuple[str, str] | None:
    """Return the module (with a dot for each level, where relative) and the name there that ``name`` was imported from.

    >>> import_origin(ast.parse("from ..tables import RATES as rates"), "rates")
    ('..tables', 'RATES')
    """
    for statement in _module_statements(tree.body):
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return "." * statement.level + (statement.module or ""), alias.name
    return None


def code_digest(code: CodeType, doc: str | None = None) -> bytes:
    """Return the digest of compiled code: what it does, not where it stands. ``doc`` is the docstring to leave out."""
    constants = list(code.co_consts)
    if doc is not None and constants and constants[0] == doc:
        constants[0] = None
    return digest(
        (
            code.co_code,
            tuple(constants),
            (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars),
            (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
            code.co_exceptiontable,
        ),
        encode=_constant_token,
    )


def _constant_token(value: object) -> bytes | None:
    if isinstance(value, CodeType):
        return code_digest(value)
    if isinstance(value, slice):
        return digest(("slice", value.start, value.stop, value.step), encode=_constant_token)
    return b"..." if value is Ellipsis else None


def _source_of(function: FunctionType) -> Source | None:
    """Return the source that a function was loaded from, or None where it is gone or has changed since."""
    code = function.__code__
    source = read_source(code.co_filename, function.__globals__)
    if source is None or code_digest(code) not in source.codes.get((code.co_qualname, code.co_firstlineno), []):
        return None
    return source


@functools.lru_cache(maxsize=64)
def _parse(filename: str, text: str) -> Source | None:
    try:
        tree = ast.parse(text, filename)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A cell of a notebook may await outside any function.
            code = compile(text, filename, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    definitions: dict[str, list[Definition]] = {}
    _collect_definitions(tree, "", definitions)
    codes: dict[tuple[str, int], list[bytes]] = {}
    _collect_codes(code, codes)
    return Source(tree, MappingProxyType(definitions), MappingProxyType(codes))


def _collect_definitions(node: ast.AST, prefix: str, found: dict[str, list[Definition]]) -> None:
    """Note each definition below ``node`` under its qualified name, and take its docstring out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Lambda):
            found.setdefault(f"{prefix}<lambda>", []).append(child)
            _collect_definitions(child, f"{prefix}<lambda>.<locals>.", found)
        elif isinstance(child, _DEFINITIONS):
            if ast.get_docstring(child, clean=False) is not None:
                del child.body[0]
            found.setdefault(f"{prefix}{child.name}", []).append(child)
            inner = "." if isinstance(child, ast.ClassDef) else ".<locals>."
            _collect_definitions(child, f"{prefix}{child.name}{inner}", found)
        else:
            _collect_definitions(child, prefix, found)


def _collect_codes(code: CodeType, found: dict[tuple[str, int], list[bytes]]) -> None:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            key = (constant.co_qualname, constant.co_firstlineno)
            found.setdefault(key, []).append(code_digest(constant))
            _collect_codes(constant, found)


def _module_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        if isinstance(statement, _DEFINITIONS):
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from _module_statements(getattr(statement, field, []))
        for handler in getattr(statement, "handlers", []):
            yield from _module_statements(handler.body)


def _binds(statement: ast.stmt, name: str) -> bool:
    match statement:
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            return any(_root_names(target, name) for target in targets)
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target) | ast.For(target=target):
            return _root_names(target, name)
        case ast.Expr(value=ast.Call(func=ast.Attribute() as method)):
            return _root_names(method, name)
        case ast.With(items=items):
            return any(item.optional_vars is not None and _root_names(item.optional_vars, name) for item in items)
        case _:
            return False


def _root_names(target: ast.expr, name: str) -> bool:
    """Whether an assignment to ``target`` gives ``name`` a value, or changes what it holds."""
    match target:
        case ast.Name(id=found):
            return found == name
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return any(_root_names(part, name) for part in parts)
        case ast.Attribute(value=inner) | ast.Subscript(value=inner) | ast.Starred(value=inner):
            return _root_names(inner, name)
        case _:
            return False
