"""What is said of the names of parameters, wherever they are checked: one wording."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiecs_ray.quoting import did_you_mean, nearest, shorten

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

SHOWN = 16
"""Names of one list that a message has room for."""


def missing(spec: str, names: Collection[str], sent: Iterable[str], declared: Collection[str]) -> str:
    """Say that parameters are missing: what the caller sent, what of it is unknown, and what was probably meant.

    >>> missing("text_tool.count", ["text"], ["txt"], ["text"])
    "text_tool.count needs the parameter 'text'; given: txt (unknown; did you mean 'text'?); it takes text"
    """
    word = "parameter" if len(names) == 1 else "parameters"
    given = _listed([shorten(name) if name in declared else _stranger(name, declared) for name in sent])
    return f"{spec} needs the {word} {', '.join(map(repr, names))}; given: {given}; it takes {_listed(declared)}"


def unknown(spec: str, names: Collection[str], declared: Collection[str]) -> str:
    """Say that parameters are unknown, where that is an error.

    >>> unknown("text_tool.count", ["txt"], ["text"])
    "text_tool.count has no parameter 'txt' (did you mean 'text'?); it takes text"
    """
    shown = ", ".join(repr(shorten(name)) + did_you_mean(nearest(name, declared, 1)) for name in names)
    return f"{spec} has no parameter {shown}; it takes {_listed(declared)}"


def left_out(spec: str, name: str, declared: Collection[str]) -> str:
    """Say that a parameter is unknown, where the operation runs without it.

    >>> left_out("text_tool.count", "colour", ["text"])
    "text_tool.count has no parameter 'colour': it is left out"
    """
    return f"{spec} has no parameter {shorten(name)!r}: it is left out{did_you_mean(nearest(name, declared, 1))}"


def _stranger(name: str, declared: Collection[str]) -> str:
    near = nearest(name, declared, 1)
    return f"{shorten(name)} (unknown{f'; did you mean {near[0]!r}?' if near else ''})"


def _listed(names: Collection[str]) -> str:
    shown = list(names)
    rest = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + rest or "none"
