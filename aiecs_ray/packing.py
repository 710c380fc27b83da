"""How a value crosses from one step to another: a pickle whose large buffers travel beside it.

A value always arrives the same way, wherever it was made: containers are private copies, large buffers are shared
and read-only. A :class:`Packed` is opaque to whoever passes it on; only its final reader unpickles it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from aiecs_ray import dynamic
from aiecs_ray.errors import ResultInvalidError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# Types are known by identity: hashing or comparing a class would run its metaclass's code.
_BARE = frozenset({id(type(None)), id(bool), id(float)})
"""Types that travel as themselves, beside int: nothing a user wrote can hide in them."""
_SCALARS = _BARE | {id(int), id(str)}
_SIZED = frozenset(map(id, (list, tuple, dict, set, frozenset, str, bytes)))
_PLAIN_PARTS = 64
_BARE_INT_BITS = 4096
_PLAIN_ROOTS = frozenset({"builtins", "numpy", "pandas", "pyarrow", "datetime", "decimal", "collections", "uuid"})
"""Where a class may come from for its instances to be trusted to unpickle without a trial."""
_COMPILED = "cython_function_or_method"
"""How pandas rebuilds its values; the module of this kind is that of Cython."""
_FILES = frozenset({"TextIOWrapper", "BufferedReader", "BufferedWriter", "BufferedRandom", "FileIO"})
_FOREIGN = {
    "ObjectRef": "an ObjectRef",
    "ObjectRefGenerator": "an ObjectRef generator",
    "ClientObjectRef": "an ObjectRef",
    "ActorHandle": "an actor handle",
    "ClientActorHandle": "an actor handle",
    "generator": "a generator",
    "async_generator": "an async generator",
    "coroutine": "a coroutine",
}


class Packed(NamedTuple):
    """A pickled value: ``header`` is the pickle, ``buffers`` the large parts it refers to."""

    header: bytes
    buffers: tuple[Any, ...] = ()

    def copy(self) -> Packed:
        """Return the same value with buffers of its own."""
        return Packed(self.header, tuple(map(_copy, self.buffers)))

    @property
    def size(self) -> int:
        """Bytes of the whole value."""
        return len(self.header) + sum(_length(buffer) for buffer in self.buffers)


class _Local(threading.local):
    inputs: Sequence[Any] = ()


_local = _Local()


class Slot:
    """Stands in packed parameters for a value that is filled in where they are unpacked.

    With ``place`` for one value of several that lie in a list together.
    """

    __slots__ = ("index", "place")

    def __init__(self, index: int, place: int | None = None) -> None:
        self.index, self.place = index, place

    def __reduce__(self) -> tuple[Any, tuple[int, ...]]:
        return _take, (self.index,) if self.place is None else (self.index, self.place)


_PARTS = _SCALARS | {id(Slot)}
"""Types of the parts of a flat container."""


def _take(index: int, place: int | None = None) -> Any:
    found = _local.inputs[index]
    return found if place is None else found[place]


class _Pickler(dynamic.Pickler):
    """Refuses what must not leave its process, and notes whether anything needs a trial."""

    def __init__(self, file: io.BytesIO, buffers: list[pickle.PickleBuffer], shared: int) -> None:
        def keep(buffer: pickle.PickleBuffer) -> bool:
            # A small buffer is cheaper inside the pickle than beside it.
            if buffer.raw().nbytes < shared:
                return True
            buffers.append(buffer)
            return False

        # No method of its own: in a circle with its pickler a large value would live until the next collection.
        super().__init__(file, protocol=5, buffer_callback=keep)
        self.exotic = False

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if (problem := _FOREIGN.get(kind.__name__)) and _is_foreign(kind):
            raise ResultInvalidError(f"{problem} cannot leave its process; send the value itself")
        if kind.__name__ in _FILES and kind.__module__ == "_io":
            # cloudpickle would silently send a copy of the file's content.
            raise ResultInvalidError("an open file cannot leave its process; pass its path or its content")
        if kind is not Slot and kind.__name__ != _COMPILED and _root(kind) not in _PLAIN_ROOTS:
            self.exotic = True
        return super().reducer_override(obj)


def is_builtin(value: object) -> bool:
    """Whether ``value`` is of one of Python's own plain types, and so nothing that could be waited for."""
    kind = id(type(value))
    return kind in _SCALARS or kind in _SIZED


def is_foreign(value: object) -> bool:
    """Whether ``value`` is one of Ray's own handles, which mean nothing elsewhere."""
    kind = type(value)
    return kind.__name__ in _FOREIGN and _root(kind) == "ray"


def _is_foreign(kind: type) -> bool:
    return _root(kind) in {"builtins", "ray"}


def _root(kind: type) -> str:
    """The package that a class says it comes from; it may say anything."""
    module = kind.__module__
    return module.partition(".")[0] if type(module) is str else ""


def _bytes_of(buffer: Any) -> memoryview:
    """The content of a buffer, one byte after the other, whatever its shape."""
    return buffer.raw() if type(buffer) is pickle.PickleBuffer else memoryview(buffer)


def _length(buffer: Any) -> int:
    return _bytes_of(buffer).nbytes


SHARED_BYTES = 16_384
"""Buffers from this size on are shared between the steps of one process and between processes of one node."""


def pack(value: object, *, trial: bool = False) -> Packed:
    """Pickle ``value``, its large buffers beside the pickle and not copied.

    With ``trial``, a value that holds instances of a user's classes is unpickled once to see that its readers can.

    Raises:
        ResultInvalidError: it cannot be pickled, or not unpickled; the message names the type.

    >>> unpack(pack({"a": [1, 2]}))
    {'a': [1, 2]}
    """
    if is_plain(value):
        return Packed(pickle.dumps(value, 5))
    file = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    pickler = _Pickler(file, buffers, SHARED_BYTES)
    try:
        pickler.dump(value)
    except ResultInvalidError:
        raise
    except Exception as error:
        raise ResultInvalidError(f"{_kind(value)} cannot be serialised: {_short(error)}") from error
    packed = Packed(file.getvalue(), tuple(buffers))
    if trial and pickler.exotic:
        try:
            unpack(packed)
        except Exception as error:
            raise ResultInvalidError(f"{_kind(value)} cannot be read again: {_short(error)}") from error
    return packed


def pack_literal(params: dict[str, Any]) -> bytes:
    """Return the header of the packed form of a flat dict of plain values, which has no buffers."""
    return pickle.dumps(params, 5)


def is_plain(value: object) -> bool:
    """Whether ``value`` is a small flat container of scalars and slots, which the C pickler alone does much faster."""
    parts: Collection[object]
    if type(value) is dict:
        parts = value.values()
        if any(type(key) is not str for key in value):
            return False
    elif type(value) is list or type(value) is tuple:
        parts = value
    else:
        return id(type(value)) in _SCALARS
    return len(parts) <= _PLAIN_PARTS and all(map(_PARTS.__contains__, map(id, map(type, parts))))


def unpack(packed: Packed, *, inputs: Sequence[Any] = ()) -> Any:
    """Return the value: private containers, shared read-only buffers; slots are filled from ``inputs``."""
    if not inputs and not packed.buffers:
        return pickle.loads(packed.header)
    before = _local.inputs
    _local.inputs = inputs
    try:
        if not packed.buffers:
            return pickle.loads(packed.header)
        views = [_bytes_of(buffer).toreadonly() for buffer in packed.buffers]
        return pickle.loads(packed.header, buffers=views)
    finally:
        _local.inputs = before


def writable(packed: Packed) -> Any:
    """Return the value with arrays of its own, which the receiver may write to."""
    file = io.BytesIO()
    copier = _Copier(file)
    copier.dump(unpack(packed))
    return unpack(Packed(file.getvalue()), inputs=copier.arrays)


class _Copier(dynamic.Pickler):
    """Copies arrays one by one: a pickle remembers of each that it was read-only."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.arrays: list[Any] = []

    def reducer_override(self, obj: Any) -> Any:
        numpy = sys.modules.get("numpy")
        if numpy is None or type(obj) is not numpy.ndarray or obj.dtype.hasobject:
            return super().reducer_override(obj)
        self.arrays.append(obj.copy(order="K"))
        return _take, (len(self.arrays) - 1,)


def inline(value: object) -> bool:
    """Whether ``value`` travels as itself, without being pickled."""
    if type(value) is int:
        return value.bit_length() < _BARE_INT_BITS
    return id(type(value)) in _BARE


def is_small(payload: object) -> bool:
    """Whether a payload is the value itself and not a reference to where it lies."""
    return type(payload) in (bytes, Packed) or inline(payload)


def to_payload(packed: Packed) -> Any:
    """Return the form in which a small value travels: bytes."""
    return packed.copy() if packed.buffers else packed.header


def _copy(buffer: Any) -> bytes:
    return bytes(_bytes_of(buffer))


def from_payload(payload: Any) -> Any:
    """Return the value of a small payload: a bare scalar, the bytes of a pickle, or a :class:`Packed`."""
    if type(payload) is bytes:
        return pickle.loads(payload)
    if type(payload) is Packed:
        return unpack(payload)
    return payload


def as_packed(payload: Any) -> Packed:
    """Return a small payload as a :class:`Packed`."""
    if type(payload) is Packed:
        return payload
    return Packed(payload if type(payload) is bytes else pickle.dumps(payload, 5))


def payload_identity(payload: Any) -> bytes:
    """Return a hash of a small payload's content: 16 bytes."""
    packed = as_packed(payload)
    hashed = hashlib.sha256(packed.header)
    for buffer in packed.buffers:
        # With its length: the same bytes may be divided otherwise.
        hashed.update(b"%d " % _length(buffer))
        hashed.update(_bytes_of(buffer))
    return hashed.digest()[:16]


def summarise(value: object) -> str:
    """Return type and shape of ``value`` as text, running none of its code.

    >>> summarise([1, 2, 3])
    'list of 3'
    """
    kind = type(value)
    name = str(type.__dict__["__name__"].__get__(kind))
    if id(kind) in _SIZED:
        return f"{name} of {len(value)}"  # type: ignore[arg-type]
    if type(kind) is type and _root(kind) in {"numpy", "pandas"}:
        with contextlib.suppress(Exception):
            shape = kind.shape.__get__(value)  # type: ignore[attr-defined]
            return f"{name} {'x'.join(map(str, shape))}".rstrip()
    return name


def _kind(value: object) -> str:
    return f"a value of type {type(value).__qualname__}"


def _short(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:500]
    except Exception:  # noqa: BLE001  # a user's __str__ may raise anything
        return type(error).__name__
