"""How a class gets to its replicas: by its import path where they can import it, otherwise by value."""

from __future__ import annotations

import dis
import functools
import importlib
import importlib.machinery
import io
import logging
import pickle
import sys
import threading
from contextlib import contextmanager, suppress
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import cloudpickle

from aiecs_ray.definition import describe, find_member, label
from aiecs_ray.dynamic import Pickler, has_state
from aiecs_ray.errors import InvalidToolError
from aiecs_ray.hints import resolve
from aiecs_ray.installed import driver_only_modules, importable, importable_name
from aiecs_ray.quoting import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST_BYTES = 95 * 2**20
"""A class that is larger by value is refused: Ray would refuse it later, and less clearly."""
MANY_BYTES = 2**20
"""From here on a warning names the largest global."""
REMEDY = 'pass runtime_env={"working_dir": "."} to send the project\'s files along'

_EXTENSIONS = tuple(importlib.machinery.EXTENSION_SUFFIXES)
_log = logging.getLogger(__name__)
_by_value_lock = threading.RLock()


def ship(cls: type, *, runtime_env: Mapping[str, Any] | None = None) -> str | bytes:
    """Return what makes ``cls`` in another process: ``"module:Class"``, or the class itself as bytes.

    By value go classes that a worker cannot import: those of a notebook or a script, those defined inside a function,
    and those of modules that are neither installed nor part of ``runtime_env`` (its ``working_dir``, ``py_modules``).
    Modules of that kind which the class uses go along.

    Raises:
        InvalidToolError: it cannot go by value; the message names the variable, and what to do.

    >>> import json
    >>> ship(json.JSONDecoder)
    'json.decoder:JSONDecoder'
    """
    module = sys.modules.get(cls.__module__)
    if module is not None and _is_attribute(cls, module) and importable(module, runtime_env):
        return f"{cls.__module__}:{cls.__qualname__}"
    return _by_value(cls, runtime_env)


def load(source: str | bytes) -> type:
    """Return the class that :func:`ship` sent.

    Raises:
        ImportError: it, or something it uses, cannot be imported here.
        AttributeError: the module has no such class.
    """
    if isinstance(source, str):
        module, _, qualname = source.partition(":")
        found: Any = importlib.import_module(module)
        for name in qualname.split("."):
            found = getattr(found, name)
        cls: type = found
        return cls
    cls, hints = pickle.loads(source)  # noqa: S301  # registering a tool means trusting its code
    for name, resolved in hints.items():
        member, _ = find_member(cls, name)
        getattr(member, "__func__", member).__annotations__.update(resolved)
    return cls


@contextmanager
def pickled_by_value(runtime_env: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Inside the block cloudpickle sends what belongs to modules that a worker cannot import by value.

    Whoever pickles values for a worker needs it too: an instance of a class of such a module must be one of the class
    that the tool has. Entering costs 0.05 ms. Other threads that pickle at the same time do so by value as well,
    which is right there too.
    """
    with _by_value_lock:
        known = cloudpickle.list_registry_pickle_by_value()
        env = runtime_env or {}
        names = _driver_only(frozenset(sys.modules), env.get("working_dir"), tuple(env.get("py_modules") or ()))
        mine = [sys.modules[name] for name in names if name not in known and name in sys.modules]
        for module in mine:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in mine:
                cloudpickle.unregister_pickle_by_value(module)


@functools.lru_cache(maxsize=8)
def _driver_only(_loaded: frozenset[str], working_dir: Any, py_modules: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the names of the driver's own modules; they are looked for again when modules came or went."""
    found = driver_only_modules({"working_dir": working_dir, "py_modules": py_modules})
    return tuple(module.__name__ for module in found)


def _is_attribute(cls: type, module: ModuleType) -> bool:
    found: Any = module
    for name in cls.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found is cls


def _by_value(cls: type, runtime_env: Mapping[str, Any] | None) -> bytes:
    with pickled_by_value(runtime_env):
        pickler = _ClassPickler(runtime_env)
        try:
            content = pickler.dumps((cls, _text_hints(cls)))
        except Exception as error:
            raise _unpicklable(cls, error, runtime_env) from error
        _check_imports(cls, pickler, runtime_env)
        if len(content) > MANY_BYTES:
            _check_size(cls, pickler, len(content), runtime_env)
    return content


def _text_hints(cls: type) -> dict[str, dict[str, Any]]:
    """Return what annotations in text form mean: cloudpickle does not send the names that only they use."""
    found = {}
    for operation in describe(cls, "any").operations.values():
        annotations = getattr(operation.function, "__annotations__", {})
        texts = {name for name, annotation in annotations.items() if isinstance(annotation, str)}
        if texts:
            hints = resolve(operation.function, operation.owner)
            found[operation.name] = {name: hint for name, hint in hints.items() if name in texts}
    return found


class _ClassPickler(Pickler):
    """Notes what goes by value, and refuses what would arrive as something else."""

    def __init__(self, runtime_env: Mapping[str, Any] | None) -> None:
        self._file = io.BytesIO()
        super().__init__(self._file, protocol=5)
        self._runtime_env = runtime_env
        self.sent: list[Any] = []
        """The functions, classes and modules that go by value."""

    def dumps(self, value: object) -> bytes:
        self.dump(value)
        return self._file.getvalue()

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is io.TextIOWrapper and obj not in (sys.stdout, sys.stderr):
            raise pickle.PicklingError("an open file stays in the process that opened it")
        if isinstance(obj, (type, ModuleType, BuiltinFunctionType)):
            self._refuse_extension(obj)
        reduced = super().reducer_override(obj)
        if isinstance(obj, ModuleType):
            by_value = not importable(obj, self._runtime_env)
        else:
            by_value = isinstance(obj, (type, FunctionType)) and has_state(reduced)
        if by_value:
            self.sent.append(obj)
        return reduced

    def _refuse_extension(self, obj: Any) -> None:
        name = obj.__name__ if isinstance(obj, ModuleType) else getattr(obj, "__module__", None)
        module = sys.modules.get(name) if isinstance(name, str) else None
        file = getattr(module, "__file__", None) or ""
        if module is not None and file.endswith(_EXTENSIONS) and not importable(module, self._runtime_env):
            raise pickle.PicklingError(
                f"the compiled module {name} can only be imported, and is on this process's path alone; {REMEDY}"
            )


def _check_imports(cls: type, pickler: _ClassPickler, runtime_env: Mapping[str, Any] | None) -> None:
    """Raise for an import inside a function that goes by value: nothing of it can be seen from outside."""
    for function in pickler.sent:
        if not isinstance(function, FunctionType):
            continue
        for name in _imports(function.__code__, function.__globals__.get("__package__") or ""):
            if not importable_name(name, runtime_env):
                raise InvalidToolError(
                    f"{label(cls)} cannot be sent to its replicas: {label(function)} imports {name}, which only this "
                    f"process can find; import it at the top of the module, or {REMEDY}"
                )


def _imports(code: CodeType, package: str) -> Iterator[str]:
    """Yield the modules that code imports when it runs."""
    instructions = list(dis.get_instructions(code))
    for index, instruction in enumerate(instructions):
        if instruction.opname == "IMPORT_NAME":
            # Two constants come first: how many levels up it is relative to, and the names it takes.
            level = instructions[index - 2].argval
            yield f"{package}.{instruction.argval}" if level else instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imports(constant, package)


def _unpicklable(cls: type, error: Exception, runtime_env: Mapping[str, Any] | None) -> InvalidToolError:
    found = _culprit(cls, runtime_env, set())
    if found is None:
        return InvalidToolError(f"{label(cls)} cannot be sent to its replicas: {_text(error)}")
    name, value, problem = found
    return InvalidToolError(
        f"{label(cls)} cannot be sent to its replicas: {name} is a value of type {type(value).__name__}: "
        f"{_text(problem)}; make it in the constructor, where each replica makes its own"
    )


def _culprit(thing: Any, runtime_env: Mapping[str, Any] | None, seen: set[int]) -> tuple[str, Any, Exception] | None:
    """Return the innermost named part that cannot be pickled, and why."""
    seen.add(id(thing))
    for name, value in _parts(thing):
        problem = _problem(value, runtime_env)
        if problem is None or id(value) in seen:
            continue
        if not isinstance(value, (type, FunctionType, ModuleType)):
            return name, value, problem
        found = _culprit(value, runtime_env, seen)
        if found is not None:
            return found
        if isinstance(value, ModuleType):
            return name, value, problem
    return None


def _problem(value: Any, runtime_env: Mapping[str, Any] | None) -> Exception | None:
    try:
        _ClassPickler(runtime_env).dumps(value)
    except Exception as error:  # noqa: BLE001  # a user's __reduce__ may raise anything; it becomes part of the message
        return error
    return None


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a function, class or module that goes by value takes along, with a name for people."""
    if isinstance(thing, FunctionType):
        yield from _function_parts(thing)
    elif isinstance(thing, type):
        for base in thing.__bases__:
            yield f"base {base.__qualname__!r} of {thing.__qualname__}", base
        for name, value in vars(thing).items():
            if name not in ("__dict__", "__weakref__"):
                yield f"attribute {name!r} of {thing.__qualname__}", _unwrapped(value)
    elif isinstance(thing, ModuleType):
        for name, value in vars(thing).items():
            if name != "__builtins__":
                yield f"global {name!r} of {thing.__name__}", value


def _function_parts(function: FunctionType) -> Iterator[tuple[str, Any]]:
    names = _names(function.__code__)
    for name, value in function.__globals__.items():
        if name in names:
            yield f"global {name!r} of {function.__module__} (used by {function.__qualname__})", value
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # a cell that is still empty
            yield f"variable {name!r} (used by {function.__qualname__})", cell.cell_contents
    for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield f"a default of {function.__qualname__}", value


def _unwrapped(value: Any) -> Any:
    return value.fget if isinstance(value, property) else getattr(value, "__func__", value)


def _names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def _check_size(cls: type, pickler: _ClassPickler, size: int, runtime_env: Mapping[str, Any] | None) -> None:
    text = f"{label(cls)} goes to its replicas by value and takes {size / 2**20:.1f} MiB"
    sizes = [(_size(value, runtime_env), name) for thing in pickler.sent for name, value in _parts(thing)]
    if sizes:
        largest, name = max(sizes)
        text += f", most of it {name} ({largest / 2**20:.1f} MiB)"
    remedy = "load it in the constructor, or pass it as a parameter"
    if size > MOST_BYTES:
        raise InvalidToolError(f"{text}; at most {MOST_BYTES // 2**20} MiB can be sent: {remedy}")
    _log.warning("%s; better %s", text, remedy)


def _size(value: Any, runtime_env: Mapping[str, Any] | None) -> int:
    """Return how many bytes a value takes; 0 for what is looked into by itself."""
    if isinstance(value, (type, FunctionType, ModuleType)):
        return 0
    try:
        return len(_ClassPickler(runtime_env).dumps(value))
    except Exception:  # noqa: BLE001  # a part that cannot be pickled alone is not what is large
        return 0


def _text(error: Exception) -> str:
    return shorten(f"{type(error).__name__}: {error}", 300)
