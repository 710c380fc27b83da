"""How messages quote values, and what they offer instead of a name that is none."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TEXT_LIMIT = 80
"""How many characters of a bad value an error message quotes."""


def shorten(value: object, limit: int = TEXT_LIMIT) -> str:
    """Return ``value`` as text of at most ``limit`` characters.

    Only strings and numbers are shown; anything else is named by its type, because a user's ``__repr__``
    must not run while an error is being reported.

    >>> shorten("a" * 100, 10)
    'aaaaaaa...'
    >>> shorten([1, 2])
    'a value of type list'
    """
    if isinstance(value, str):
        text = value
    elif value is None or type(value) in (bool, float):
        text = repr(value)
    elif type(value) is int:
        # An int of thousands of digits cannot be turned into text at all (sys.set_int_max_str_digits).
        text = repr(value) if value.bit_length() < limit * 3 else f"an int of {value.bit_length()} bits"
    elif isinstance(value, bytes):
        text = repr(value[:limit])
    else:
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def did_you_mean(names: Sequence[str]) -> str:
    """Return the part of a message that offers ``names``; empty when there are none.

    >>> did_you_mean(["upper", "lower"])
    " (did you mean 'upper' or 'lower'?)"
    """
    return f" (did you mean {' or '.join(map(repr, names))}?)" if names else ""


def nearest(name: object, known: Iterable[str], most: int = 3) -> tuple[str, ...]:
    """Return up to ``most`` known names that are close to ``name``, whatever their case, the closest first.

    >>> nearest("Pandas_Tool", ["pandas_tool", "stats_tool"])
    ('pandas_tool',)
    """
    spelled = {one.lower(): one for one in known}
    return tuple(spelled[one] for one in get_close_matches(shorten(name).lower(), spelled, n=most, cutoff=0.7))


def alternatives(name: object, known: Iterable[str]) -> str:
    """Return the part of a message that offers the name close to ``name``, or else names all of them.

    >>> alternatives("attemps", ["attempts", "on"]), alternatives("x", ["attempts", "on"])
    (" (did you mean 'attempts'?)", ' (there are attempts, on)')
    """
    names = list(known)
    return did_you_mean(nearest(name, names, 1)) or f" (there are {', '.join(names)})"
