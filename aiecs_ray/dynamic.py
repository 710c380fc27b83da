"""Classes that no other process can import: pickled by value, and recognised when their instances come home.

cloudpickle sends the definition of such a class along with its instances and gives it an id, so that an instance that
comes back is one of the class it left. Two things are added here. What arrives never changes a class that is already
complete: cloudpickle would replace its methods by copies that see a frozen copy of their globals. And a class that was
defined again in the meantime, by the same code under the same name, takes the place of the one before, so that
``isinstance`` holds after a notebook cell ran twice.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import inspect
import sys
import types
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_REDUCED_WITH_SETTER = 6
_SCALARS = (type(None), bool, int, float, complex, str, bytes)

_complete: WeakSet[type] = WeakSet()
_digests: WeakKeyDictionary[type, bytes] = WeakKeyDictionary()


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle ships no types
    """cloudpickle's, for values that may hold instances of classes pickled by value."""

    def reducer_override(self, obj: Any) -> Any:
        """Send a class by value in a form that leaves a complete class at its destination alone."""
        if obj is dataclasses.MISSING:
            # Its like is told by identity; cloudpickle would make another one in a dataclass sent by value.
            return "MISSING"
        reduced = super().reducer_override(obj)
        if not isinstance(obj, type) or not has_state(reduced):
            return reduced
        make, arguments, state, _, _, setter = reduced
        _complete.add(obj)
        identity = (obj.__module__, obj.__qualname__, digest(obj))
        return _arrive, (identity, make, arguments), (setter, state), None, None, _settle


def has_state(reduced: Any) -> bool:
    """Whether a class or function is pickled by value: what goes by reference or as a call sets no state."""
    return isinstance(reduced, tuple) and len(reduced) == _REDUCED_WITH_SETTER


def digest(cls: type) -> bytes:
    """Return a hash of what a class does: its methods' code, annotations, plain attributes and bases.

    Lines, comments and docstrings do not count.
    """
    found = _digests.get(cls)
    if found is None:
        hashed = hashlib.sha256()
        for part in _class_parts(cls):
            hashed.update(part.encode(errors="surrogatepass") + b"\0")
        found = _digests[cls] = hashed.digest()[:16]
    return found


def _arrive(identity: tuple[str, str, bytes], make: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    module, qualname, sent = identity
    here = _defined_here(module, qualname)
    if here is not None and digest(here) == sent:
        _complete.add(here)
        return here
    cls = make(*arguments)
    # The digest of the process that has the source; line-free code hashes differ between Python versions.
    _digests.setdefault(cls, sent)
    return cls


def _settle(cls: type, state: tuple[Callable[[type, Any], Any], Any]) -> None:
    if cls in _complete:
        return
    setter, content = state
    setter(cls, content)
    _complete.add(cls)


def _defined_here(module: str, qualname: str) -> type | None:
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found if isinstance(found, type) and found.__qualname__ == qualname else None


def _class_parts(cls: type) -> Iterator[str]:
    for base in cls.__bases__:
        yield f"{base.__module__}.{base.__qualname__}"
    for name, hint in inspect.get_annotations(cls).items():
        yield f"{name}: {hint if isinstance(hint, str) else getattr(hint, '__qualname__', type(hint).__name__)}"
    if issubclass(cls, enum.Enum):
        for name, member in cls.__members__.items():
            yield f"{name} = {_constant(member.value)}"
    for name, value in sorted(cls.__dict__.items()):
        if isinstance(value, _SCALARS) and not (name.startswith("__") and name.endswith("__")):
            yield f"{name} = {_constant(value)}"
        for function in _functions(value):
            yield name
            yield from _code_parts(function.__code__, function.__doc__)
            yield _constant(function.__defaults__)


def _functions(value: Any) -> Iterator[types.FunctionType]:
    if isinstance(value, types.FunctionType):
        yield value
    elif isinstance(value, (staticmethod, classmethod)):
        yield from _functions(value.__func__)
    elif isinstance(value, property):
        yield from _functions(value.fget)
        yield from _functions(value.fset)
    elif isinstance(value, functools.cached_property):
        yield from _functions(value.func)


def _code_parts(code: types.CodeType, doc: str | None = None) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr((code.co_names, code.co_varnames, code.co_freevars, code.co_flags, code.co_argcount))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code_parts(constant)
        elif constant is not doc:
            yield _constant(constant)


def _constant(value: Any) -> str:
    """Return a constant as text; of anything else only the type, because a user's ``__repr__`` must not run."""
    if type(value) in _SCALARS:
        return repr(value)
    if type(value) in (tuple, frozenset):
        parts = [_constant(part) for part in value]
        return f"{type(value).__name__}{sorted(parts) if type(value) is frozenset else parts}"
    return type(value).__qualname__
