"""Secrets in what is shown to people: which values are secret, and how they are masked."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from pydantic import SecretBytes, SecretStr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from aiecs_ray.messages import ErrorInfo

MASK = "********"
"""What stands in the place of a secret, everywhere."""
_NAME = re.compile(r"passw|secret|token|api_?key|credential|private_?key|authorization|cookie", re.IGNORECASE)
SHORTEST = 4
"""Characters from which on the value of a secret is looked for in other texts: shorter ones stand in every word."""
_DEPTH = 8


def names_secret(name: object) -> bool:
    """Whether a value of this name is a secret.

    >>> names_secret("db_password"), names_secret("path")
    (True, False)
    """
    return type(name) is str and _matches(name)


@functools.lru_cache(maxsize=10_000)
def _matches(name: str) -> bool:
    return _NAME.search(name) is not None


def secrets_in(params: object) -> tuple[str, ...]:
    """Return the texts in ``params`` that must not be shown, the longest first.

    These are values under a name that looks secret, at any depth, and those of pydantic's ``SecretStr``.

    >>> secrets_in({"path": "a.csv", "auth": {"api_key": "k-12345"}})
    ('k-12345',)
    """
    return tuple(sorted(dict.fromkeys(_secrets(params, _DEPTH, secret=False)), key=len, reverse=True))


def _secrets(value: Any, depth: int, *, secret: bool) -> Iterator[str]:
    kind = type(value)
    if kind is SecretStr or kind is SecretBytes:
        value, secret = value.get_secret_value(), True
        kind = type(value)
    if secret and kind is bytes:
        value, kind = value.decode("utf-8", "replace"), str
    if kind is str:
        if secret and len(value) >= SHORTEST:
            yield value
    elif depth and kind is dict:
        for name, part in value.items():
            yield from _secrets(part, depth - 1, secret=secret or (type(name) is str and names_secret(name)))
    elif depth and (kind is list or kind is tuple):
        for part in value:
            yield from _secrets(part, depth - 1, secret=secret)


def mask(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` with every one of ``secrets`` replaced.

    >>> mask("no user with hunter2", {"hunter2"})
    'no user with ********'
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def masked(info: ErrorInfo, secrets: Sequence[str]) -> ErrorInfo:
    """Return ``info`` without ``secrets`` in its texts; an exception that may hold one stays behind.

    >>> from aiecs_ray.messages import ErrorInfo
    >>> masked(ErrorInfo("E003", "k-12345 is refused"), ["k-12345"]).message
    '******** is refused'
    """
    if not secrets:
        return info
    message, trace, exception = mask(info.message, secrets), mask(info.traceback, secrets), info.exception
    for secret in secrets:
        # Text inside a pickle is UTF-8; what is escaped there was masked in the message, or is not text.
        if exception is not None and (secret.encode("utf-8", "surrogatepass") in exception or message != info.message):
            exception = None
    return info._replace(message=message, traceback=trace, exception=exception)
