"""Files that are replaced as a whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from pydantic import WithJsonSchema

PathLike = Annotated[Any, WithJsonSchema({"type": "string", "description": "The path of a file"})]
"""What an operation takes as a path: text, bytes or an ``os.PathLike``."""


def as_path(value: PathLike) -> Path:
    """Return ``value`` as a path; raise TypeError if it is not one, FileNotFoundError if it is empty.

    >>> as_path(123)
    Traceback (most recent call last):
    ...
    TypeError: expected str, bytes or os.PathLike object, not int
    """
    text = os.fsdecode(os.fspath(value))
    if not text:
        # To pathlib it is the working directory.
        raise FileNotFoundError(errno.ENOENT, "the path is empty", text)
    return Path(text)


def write_atomically(target: Path, content: bytes) -> int:
    """Write a file so that a reader sees the old one or the new one; return its size in bytes.

    Raises FileNotFoundError if its directory does not exist; then, as after any other error, nothing is left behind.
    """
    part = target.with_name(f".{target.name}.{uuid4().hex}.part")
    try:
        part.write_bytes(content)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return len(content)
