"""What operations print: so much of each, and not more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOST_PRINTED = 2**20
"""Characters that one attempt of an operation may print; what comes after them is dropped."""
_NOTE = f"\n[aiecs-ray: the operation printed more than {MOST_PRINTED} characters; the rest is dropped]\n"


class Allowance:
    """What one attempt may still print."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MOST_PRINTED


class Limited:
    """A text stream that takes so much of each operation; what prints outside of one goes through.

    Args:
        stream: where the text goes.
        allowance: returns what the operation of this context may still print, None outside of one.
    """

    def __init__(self, stream: TextIO, allowance: Callable[[], Allowance | None]) -> None:
        self._stream = stream
        self._allowance = allowance

    def write(self, text: str) -> int:
        """Write ``text``, or what is left of the allowance; return the length of ``text``."""
        allowance = self._allowance()
        if allowance is None:
            return self._stream.write(text)
        if allowance.left > 0:
            self._stream.write(text[: allowance.left])
            if len(text) > allowance.left:
                self._stream.write(_NOTE)
            allowance.left -= min(len(text), allowance.left)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of ``lines``."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
