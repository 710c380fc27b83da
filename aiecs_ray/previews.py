"""Short texts that show what a packed value holds, with secrets masked; no code of a user's class runs.

Who makes a preview trusts nobody: classes are not imported, and what they would have made is named by its class.
"""

from __future__ import annotations

import functools
import io
import pickle
import reprlib
from typing import TYPE_CHECKING, Any, NamedTuple

from aiecs_ray import packing
from aiecs_ray.masking import MASK, SHORTEST, mask, names_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

LIMIT = 1000
"""Characters of one preview."""
_SCALARS = frozenset({bool, float, int, type(None)})
_FEW = 10
_NO_SECRETS: frozenset[str] = frozenset()
_PLAIN = {
    ("builtins", "complex"),
    ("builtins", "frozenset"),
    ("builtins", "set"),
    ("collections", "OrderedDict"),
    ("datetime", "date"),
    ("datetime", "datetime"),
    ("datetime", "time"),
    ("datetime", "timedelta"),
    ("datetime", "timezone"),
    ("decimal", "Decimal"),
    ("uuid", "UUID"),
}
"""Classes that are made as themselves."""
_SLOT = ("aiecs_ray.packing", "_take")


class Preview(NamedTuple):
    """What a value looks like."""

    text: str
    masked: bool
    """Something in it is secret, so the value itself must not be kept."""
    secrets: frozenset[str]
    """The secret texts in it, to be looked for elsewhere."""


def preview(payload: Any, *, slots: Sequence[str] = (), known: Collection[str] = ()) -> Preview:
    """Return what a packed value looks like, in at most ``LIMIT`` characters.

    Args:
        payload: a value as it travels: a bare scalar, the bytes of a pickle, or a ``Packed``.
        slots: what stands in the places that are filled in where it is unpacked.
        known: secrets that must not show, whatever their place.

    >>> preview(packing.to_payload(packing.pack({"user": "ann", "password": "hunter2"}))).text
    "{'user': 'ann', 'password': '********'}"
    """
    try:
        return _preview(payload, slots, known)
    except Exception as error:  # noqa: BLE001  # a pickle may do anything wrong; this is for people to look at
        return Preview(f"<cannot be shown: {type(error).__name__}>", masked=True, secrets=_NO_SECRETS)


def _preview(payload: Any, slots: Sequence[str], known: Collection[str]) -> Preview:
    value = _read(payload, slots)
    if not known and _is_flat(value):
        return Preview(repr(value), masked=False, secrets=_NO_SECRETS)
    found: set[str] = set()
    masked = _look_through(value, found)
    hidden = found | set(known)
    text = _Shown(hidden).repr(value)
    if len(text) > LIMIT:
        text = text[: LIMIT - 3] + "..."
    return Preview(text, masked=masked or _holds(payload, hidden), secrets=frozenset(found))


def _is_flat(value: Any) -> bool:
    """Whether there is nothing to shorten and nothing to mask."""
    if type(value) is dict:
        flat = len(value) <= _FEW and all(type(part) in _SCALARS for part in value.values())
        return flat and not any(map(names_secret, value))
    return type(value) in _SCALARS


def _read(payload: Any, slots: Sequence[str]) -> Any:
    if type(payload) is not bytes and type(payload) is not packing.Packed:
        return payload
    packed = packing.as_packed(payload)
    return _Reader(io.BytesIO(packed.header), slots, [memoryview(buffer) for buffer in packed.buffers]).load()


def _holds(payload: Any, secrets: Collection[str]) -> bool:
    if not secrets or (type(payload) is not bytes and type(payload) is not packing.Packed):
        return False
    header = packing.as_packed(payload).header
    return any(secret.encode("utf-8", "surrogatepass") in header for secret in secrets)


class _Foreign:
    """Stands for a value whose class is not made."""

    def __new__(cls, *args: Any, **_: Any) -> Any:
        made = super().__new__(cls)
        # How numpy, pandas and copyreg rebuild a value: a function whose first argument is the class.
        first = args[0] if args else None
        made.shown = first.__name__ if isinstance(first, type) else cls.__name__
        made.parts = [args]
        return made

    def __setstate__(self, state: Any) -> None:
        self.parts.append(state)

    def append(self, part: Any) -> None:
        self.parts.append(part)

    def extend(self, parts: Any) -> None:
        self.parts.extend(parts)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.parts.append({key: value} if type(key) is str else value)

    def __hash__(self) -> int:
        return id(self)

    shown: str
    parts: list[Any]


class _Text(str):
    """What stands in the place of a slot; shown without quotes."""

    __slots__ = ()


@functools.lru_cache(maxsize=1000)
def _foreign(name: str) -> type[_Foreign]:
    return type(name.rpartition(".")[2], (_Foreign,), {})


_CLASSES: dict[tuple[str, str], Callable[..., type[_Foreign]]] = {
    ("aiecs_ray.dynamic", "_arrive"): lambda identity, *_: _foreign(identity[1]),
    ("cloudpickle.cloudpickle", "_builtin_type"): _foreign,
    ("cloudpickle.cloudpickle", "_make_skeleton_class"): lambda _kind, name, *_: _foreign(name),
}
"""How a class begins that travels with its value."""


class _Reader(pickle.Unpickler):
    """Reads plain containers and scalars; everything else becomes a stand-in."""

    def __init__(self, file: io.BytesIO, slots: Sequence[str], buffers: list[memoryview]) -> None:
        super().__init__(file, buffers=buffers)
        self._slots = slots

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return super().find_class(module, name)
        if (module, name) == _SLOT:
            return self._slot
        return _CLASSES.get((module, name)) or _foreign(name)

    def _slot(self, index: int, place: int | None = None) -> _Text:  # noqa: ARG002  # as it was pickled
        return _Text(self._slots[index] if index < len(self._slots) else "<given elsewhere>")


def _look_through(value: Any, found: set[str]) -> bool:
    """Whether any name in ``value`` looks secret; what such names hold goes to ``found``."""
    masked = False
    seen: set[int] = set()
    open_: list[tuple[Any, bool]] = [(value, False)]
    while open_:
        part, secret = open_.pop()
        if type(part) is str and secret:
            masked = True
            if len(part) >= SHORTEST:
                found.add(part)
            continue
        if secret and part is not None and type(part) is not bool:
            masked = True
        parts = _parts(part)
        if parts is None or id(part) in seen:
            continue
        seen.add(id(part))
        inherits = secret or (isinstance(part, _Foreign) and part.shown.startswith("Secret"))
        open_.extend((inner, inherits or names_secret(name)) for name, inner in parts)
    return masked


def _parts(value: Any) -> Iterable[tuple[Any, Any]] | None:
    if isinstance(value, dict):
        return value.items()
    if isinstance(value, (list, tuple, set, frozenset)):
        return ((None, part) for part in value)
    return ((None, part) for part in value.parts) if isinstance(value, _Foreign) else None


class _Shown(reprlib.Repr):
    """Shortens, and masks what is secret."""

    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist, self.maxtuple, self.maxset = 4, 20, 10, 10, 10
        self.maxstring, self.maxlong, self.maxother = 120, 40, 120
        self._secrets = secrets

    def repr1(self, x: Any, level: int) -> str:
        if type(x) is _Text:
            return str(x)
        if isinstance(x, _Foreign):
            return f"<{x.shown}>"
        if type(x) is bytes:
            return f"<{len(x)} bytes>"
        return super().repr1(x, level)

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(mask(x, self._secrets), level)

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if level <= 0 and x:
            return "{...}"
        shown = list(x.items())[: self.maxdict]
        parts = [
            f"{self.repr1(name, level - 1)}: {repr(MASK) if self._hides(name, part) else self.repr1(part, level - 1)}"
            for name, part in shown
        ]
        return "{" + ", ".join([*parts, "..."] if len(x) > len(shown) else parts) + "}"

    def _hides(self, name: object, part: object) -> bool:
        return names_secret(name) and part is not None and type(part) is not bool and type(part) is not _Text
