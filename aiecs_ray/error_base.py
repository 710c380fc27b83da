"""The root of the tree of errors, which :mod:`aiecs_ray.errors` shows whole."""

from __future__ import annotations


class AiecsError(Exception):
    """The root of the tree.

    ``error_code`` is the documents' code. ``operation`` and ``index`` name the operation and its place in
    the list where they are known (contradiction C-15).
    """

    error_code = "E003"
    operation: str | None = None
    index: int | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def locate(self, *, operation: str | None = None, index: int | None = None) -> AiecsError:
        """Record which operation of a list failed, and return the error itself."""
        if operation is not None:
            self.operation = operation
        if index is not None:
            self.index = index
        return self
