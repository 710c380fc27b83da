"""The exact encoding of a value, from which cache keys are made.

Equal values of equal types give equal bytes, in every process; all others give different bytes. Each encoding is
one tag, the length or count of what follows, and the content, so none is a prefix of another. An encoding longer
than ``FOLD_ABOVE`` is replaced by its SHA-256, which keeps the work linear where a value is shared many times.

No code of a value's author runs: a type is looked up by its identity, its parts are read by the built-in type's own
functions, and what is not known has no encoding. There is no weaker second way (defect D-06).
"""

from __future__ import annotations

import hashlib
import struct
import sys
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aiecs_ray.canonical.frames import frame_parts
from aiecs_ray.canonical.parts import Raw, UnencodableError, class_name
from aiecs_ray.canonical.records import record_parts
from aiecs_ray.quoting import shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    Hook = Callable[[object], bytes | None]

MAX_DEPTH = 64
"""How many containers may stand in one another. A cycle is deeper than any number."""

FOLD_ABOVE = 1024
"""Encodings of more bytes than this are replaced by their SHA-256."""


class Encoder:
    """Encodes one value.

    ``hook`` is asked first about each value whose type is none of the plain ones; it returns a token that stands
    for the value, or None.
    """

    __slots__ = ("_hook", "_known")

    def __init__(self, hook: Hook | None = None) -> None:
        self._hook = hook
        self._known: dict[int, tuple[object, int, bytes]] = {}

    def encode(self, value: object, depth: int = 0) -> bytes:
        """Return the encoding of ``value``, or raise :class:`UnencodableError`."""
        kind = id(type(value))
        scalar = _SCALARS.get(kind)
        if scalar is not None:
            return scalar(value)
        if depth >= MAX_DEPTH:
            raise UnencodableError(value, f"it is deeper than {MAX_DEPTH} levels, or contains itself")
        known = self._known.get(id(value))
        if known is not None and depth <= known[1]:
            return known[2]
        container = _CONTAINERS.get(kind)
        encoded = self._other(value, depth) if container is None else container(self, value, depth)
        if len(encoded) <= FOLD_ABOVE:
            return encoded
        encoded = _fold(encoded)
        self._known[id(value)] = (value, depth, encoded)  # holding the value keeps its id from being used again
        return encoded

    def items(self, values: tuple[Any, ...]) -> bytes:
        """Return the encodings of the first items of a tuple, for :meth:`tuple_of`."""
        return b"".join([self.encode(value, 1) for value in values])

    def tuple_of(self, count: int, items: bytes, others: tuple[Any, ...]) -> bytes:
        """Return the encoding of a tuple whose first ``count`` items were encoded before."""
        parts = [b"t", (count + len(others)).to_bytes(8, "big"), items, *[self.encode(value, 1) for value in others]]
        encoded = b"".join(parts)
        return encoded if len(encoded) <= FOLD_ABOVE else _fold(encoded)

    def _sequence(self, tag: bytes, items: list[Any] | tuple[Any, ...], depth: int) -> bytes:
        parts = [tag, len(items).to_bytes(8, "big")]
        find, encode = _SCALARS.get, self.encode
        depth += 1
        try:
            for item in items:
                scalar = find(id(type(item)))
                parts.append(encode(item, depth) if scalar is None else scalar(item))
        except UnencodableError as error:
            error.steps.append(f"[{len(parts) - 2}]")
            raise
        return b"".join(parts)

    def _list(self, value: list[Any], depth: int) -> bytes:
        return self._sequence(b"l", value, depth)

    def _tuple(self, value: tuple[Any, ...], depth: int) -> bytes:
        return self._sequence(b"t", value, depth)

    def _dict(self, value: dict[Any, Any], depth: int) -> bytes:
        pairs = []
        find, encode = _SCALARS.get, self.encode
        depth += 1
        key: object = None
        try:
            for key, item in list(value.items()):
                name, scalar = find(id(type(key))), find(id(type(item)))
                head = encode(key, depth) if name is None else name(key)
                pairs.append(head + (encode(item, depth) if scalar is None else scalar(item)))
        except UnencodableError as error:
            error.steps.append(_step(key))
            raise
        # No key's encoding is the start of another's, so this is the order of the keys alone.
        pairs.sort()
        return b"d" + len(pairs).to_bytes(8, "big") + b"".join(pairs)

    def _set(self, value: set[Any] | frozenset[Any], depth: int) -> bytes:
        members = sorted(self.encode(item, depth + 1) for item in list(value))
        tag = b"S" if type(value) is set else b"Z"
        return tag + len(members).to_bytes(8, "big") + b"".join(members)

    def _other(self, value: object, depth: int) -> bytes:
        token = None if self._hook is None else self._hook(value)
        if token is not None:
            return _sized(b"h", token)
        if issubclass(type(value), tzinfo):
            return _timezone(value)
        parts = record_parts(value, type(value)) or frame_parts(value, type(value))
        if parts is None:
            raise UnencodableError(value, "its type has no exact encoding")
        encoded = [b"o", _str(parts.kind), len(parts.items).to_bytes(8, "big")]
        for step, part in parts.items:
            try:
                encoded.append(self.encode(part, depth + 1))
            except UnencodableError as error:
                error.steps.append(step)
                raise
        return b"".join(encoded)


def _step(key: object) -> str:
    return f"[{shorten(key)!r}]" if type(key) in (str, int) else f"[a key of type {class_name(type(key))}]"


def _fold(encoded: bytes) -> bytes:
    return b"#" + hashlib.sha256(encoded).digest()


def _sized(tag: bytes, content: bytes | bytearray) -> bytes:
    head = tag + len(content).to_bytes(8, "big")
    if len(content) <= FOLD_ABOVE:
        return head + content
    hasher = hashlib.sha256(head)
    hasher.update(content)
    return b"#" + hasher.digest()


def _raw(value: Raw) -> bytes:
    head = b"R" + sum(map(len, value.buffers)).to_bytes(8, "big")
    hasher = hashlib.sha256(head)
    for buffer in value.buffers:
        hasher.update(buffer)
    return b"r" + hasher.digest()


def _none(_: None) -> bytes:
    return b"N"


def _bool(value: bool) -> bytes:  # noqa: FBT001  # the table calls it by position
    return b"T" if value else b"F"


def _int(value: int) -> bytes:
    return _sized(b"i", value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True))


def _float(value: float) -> bytes:
    return struct.pack(">cd", b"f", value)


def _complex(value: complex) -> bytes:
    return struct.pack(">cdd", b"c", value.real, value.imag)


def _str(value: str) -> bytes:
    return _sized(b"s", value.encode("utf-8", "surrogatepass"))


def _bytes(value: bytes) -> bytes:
    return _sized(b"b", value)


def _bytearray(value: bytearray) -> bytes:
    return _sized(b"a", value)


def _date(value: date) -> bytes:
    return struct.pack(">cHBB", b"D", value.year, value.month, value.day)


def _clock(value: datetime | time) -> bytes:
    clock = struct.pack(">BBBIB", value.hour, value.minute, value.second, value.microsecond, value.fold)
    return clock + _timezone(value.tzinfo)


def _datetime(value: datetime) -> bytes:
    return b"M" + _date(value) + _clock(value)


def _time(value: time) -> bytes:
    return b"m" + _clock(value)


def _timedelta(value: timedelta) -> bytes:
    return struct.pack(">ciii", b"x", value.days, value.seconds, value.microseconds)


def _timezone(value: Any) -> bytes:
    if value is None:
        return b"N"
    if type(value) is timezone:
        offset, name = value.utcoffset(None), value.tzname(None)
        if type(name) is str:
            return b"z" + _timedelta(offset) + _str(name)
    zoneinfo: Any = sys.modules.get("zoneinfo")  # without it there are no zones; importing it costs 6 ms
    if zoneinfo is not None and type(value) is zoneinfo.ZoneInfo and type(value.key) is str:
        return b"y" + _str(value.key)
    raise UnencodableError(value, "only datetime.timezone and zoneinfo.ZoneInfo with a key are known time zones")


def _decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    return _sized(b".", f"{sign} {''.join(map(str, digits))} {exponent}".encode())


def _fraction(value: Fraction) -> bytes:
    return b"/" + _int(value.numerator) + _int(value.denominator)


def _uuid(value: UUID) -> bytes:
    return b"u" + value.bytes


def _path(value: PurePath) -> bytes:
    return b"p" + _str(type(value).__name__) + _str(str(value))


_PATHS = (PosixPath, PurePosixPath, PureWindowsPath, WindowsPath)

# Types are known by identity: hashing a class would run its metaclass's ``__hash__``.
_SCALARS: dict[int, Callable[[Any], bytes]] = {
    id(type(None)): _none,
    id(bool): _bool,
    id(int): _int,
    id(float): _float,
    id(complex): _complex,
    id(str): _str,
    id(bytes): _bytes,
    id(bytearray): _bytearray,
    id(date): _date,
    id(datetime): _datetime,
    id(time): _time,
    id(timedelta): _timedelta,
    id(timezone): _timezone,
    id(Decimal): _decimal,
    id(Fraction): _fraction,
    id(UUID): _uuid,
    id(Raw): _raw,
    **{id(kind): _path for kind in _PATHS},
}

_CONTAINERS: dict[int, Callable[[Encoder, Any, int], bytes]] = {
    id(list): Encoder._list,  # noqa: SLF001
    id(tuple): Encoder._tuple,  # noqa: SLF001
    id(dict): Encoder._dict,  # noqa: SLF001
    id(set): Encoder._set,  # noqa: SLF001
    id(frozenset): Encoder._set,  # noqa: SLF001
}
