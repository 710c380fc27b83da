"""What tools and libraries print in this process: apart from what the command prints."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

from aiecs_ray.output import Allowance, Limited
from aiecs_ray.running import current

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f]")
"""Escape sequences of terminals, and characters that move the cursor."""


def _allowance() -> Allowance | None:
    attempt = current()
    return None if attempt is None else attempt.output


class _Apart:
    """What others find as standard output: it leads to standard error, from operations so much of it, as plain text.

    The command itself writes to the stream that :class:`~aiecs_ray.cli.output.Output` took before.
    """

    def __init__(self, stream: TextIO, aside: Limited) -> None:
        self._stream, self._aside = stream, aside

    def write(self, text: str) -> int:
        self._aside.write(_CONTROL.sub("", text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def kept_apart() -> Iterator[None]:
    """Keep standard output for the command."""
    apart: Any = _Apart(sys.stdout, Limited(sys.stderr, _allowance))
    with contextlib.redirect_stdout(apart):
        yield
