"""Cache keys: digests of values, and of one operation with all that its result depends on.

A key is a SHA-256 over a canonical encoding, so it is the same in every process and on every node, and it tells
``1``, ``1.0``, ``True`` and ``"1"`` apart. A value without an exact encoding has no key (contradiction C-26): the
operation that takes it runs uncached.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
from typing import TYPE_CHECKING, Any, Literal

from aiecs_ray.canonical.encoder import Encoder
from aiecs_ray.canonical.parts import UnencodableError
from aiecs_ray.errors import UncacheableValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

Scope = Literal["task", "user", "global"]
"""Who shares a cache entry: one user's task, one user, or everybody."""

UNCACHEABLE = "uncacheable:"
"""How a key starts that stands for no value: it is never met again."""

_FORMAT = b"aiecs-ray/1 "
_SCOPES: dict[str, int] = {"task": 2, "user": 1, "global": 0}


def digest(
    value: object, *, ignore: Collection[str] = (), encode: Callable[[object], bytes | None] | None = None
) -> bytes:
    """Return the SHA-256 of ``value``: 32 bytes that another value does not have.

    ``ignore`` names entries of ``value`` to leave out where it is a dict; it does not reach into nested ones.
    ``encode`` is asked about each value whose type is neither a plain one of Python nor a date, number or path of
    the standard library; the bytes that it returns stand for the value, None leaves the value to this function.

    No code of the value's author runs. Raises :class:`UncacheableValueError` where an exact encoding does not exist:
    for an unknown type or a subclass of a known one, a cycle, and nesting of more than 64 levels.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    >>> digest(1) == digest(True)
    False
    >>> digest([object()])
    Traceback (most recent call last):
    ...
    aiecs_ray.errors.UncacheableValueError: A value of type builtins:object at [0] has no cache key: \
its type has no exact encoding
    """
    if ignore and type(value) is dict:
        value = {key: item for key, item in value.items() if not (type(key) is str and key in ignore)}
    try:
        return hashlib.sha256(_FORMAT + Encoder(encode).encode(value)).digest()
    except UnencodableError as error:
        raise UncacheableValueError(error.path, error.type_name, error.reason) from None


def cache_key(  # noqa: PLR0913  # all that a result depends on, by name
    *,
    tool: str,
    operation: str,
    version: str,
    scope: Scope,
    owner: tuple[str | None, str | None],
    params: bytes,
    inputs: tuple[tuple[bytes, ...], ...] = (),
    fingerprints: tuple[object, ...] = (),
    config: str = "",
    environment: str = "",
) -> str:
    """Return the key of one operation's result, as 64 hexadecimal digits (defects D-01, D-05, D-07).

    ``version`` is the tool's code version, ``owner`` the user id and the task id: scope ``"user"`` leaves the task
    out, ``"global"`` both. ``params`` is the digest of the parameters, ``inputs`` the identities of the results that
    they refer to, ``fingerprints`` what else the result depends on, such as the modification time of a file.
    ``config`` and ``environment`` are the digests of what the tool is built with and of where it runs, empty where
    nothing was said of them.

    Raises ``ValueError`` for an unknown scope, and :class:`UncacheableValueError` where a fingerprint has no digest.

    >>> common = {"tool": "stats", "operation": "mean", "version": "1", "params": digest({"x": 1})}
    >>> alice = cache_key(scope="user", owner=("alice", "t1"), **common)
    >>> alice == cache_key(scope="user", owner=("alice", "t2"), **common)
    True
    >>> alice == cache_key(scope="user", owner=("bob", "t1"), **common)
    False
    """
    if scope not in _SCOPES:
        raise ValueError(f"unknown cache scope {scope!r}; known are {', '.join(_SCOPES)}")
    setting = (config, environment) if config or environment else ()
    head = _head(tool, operation, version, scope, owner[: _SCOPES[scope]], *setting)
    try:
        encoded = Encoder().tuple_of(_HEAD + len(setting), head, (params, inputs, fingerprints))
    except UnencodableError as error:
        raise UncacheableValueError(error.path, error.type_name, error.reason) from None
    return hashlib.sha256(_FORMAT + encoded).hexdigest()


_HEAD = 5
"""Items of a key that all calls of one operation in one context have in common, beside the setting of the tool."""


@functools.lru_cache(maxsize=1024)
def _head(*items: object) -> bytes:
    return Encoder().items(items)


def generate_cache_key(  # noqa: PLR0913  # the document's signature
    func_name: str,
    user_id: str,
    task_id: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    ignore: Collection[str] = (),
    strict: bool = False,
) -> str:
    """Return the key of a function call in a context (document S1, "generate_cache_key").

    The order of ``kwargs`` does not matter; ``self`` and what ``ignore`` names are left out of them. A call without
    an exact key gets a random one that starts with :data:`UNCACHEABLE`. With ``strict`` it raises ``TypeError``
    instead, and ``ValueError`` where ``args`` is neither a tuple nor a list or ``kwargs`` is no dict (contradiction
    C-26).

    >>> key = generate_cache_key("f", "u", "t", (1,), {"a": 1, "b": 2})
    >>> key == generate_cache_key("f", "u", "t", (1,), {"b": 2, "a": 1, "self": object()})
    True
    >>> generate_cache_key("f", "u", "t", (object(),), {}).startswith(UNCACHEABLE)
    True
    """
    if strict and not (isinstance(args, (tuple, list)) and isinstance(kwargs, dict)):
        raise ValueError("args must be a tuple and kwargs a dict")
    try:
        return digest((func_name, user_id, task_id, args, digest(kwargs, ignore={"self", *ignore}))).hex()
    except UncacheableValueError as error:
        if strict:
            raise TypeError(str(error)) from error
        return UNCACHEABLE + secrets.token_hex(16)
