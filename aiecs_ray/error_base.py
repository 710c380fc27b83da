"""The root of the tree of errors, which :mod:`aiecs_ray.errors` shows whole."""

from __future__ import annotations

from aiecs_ray.quoting import shorten


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

    def place(self, operation: str | None, index: int, total: int) -> AiecsError:
        """Record which operation of a list is wrong, and return the error itself.

        A traceback shows the place as a note, where there are several; ``str()`` stays what it is.
        """
        self.locate(operation=operation, index=index)
        name = f" ({shorten(operation)})" if operation else ""
        note = f"at operation {index}{name}"
        if total > 1 and note not in getattr(self, "__notes__", ()):
            self.add_note(note)
        return self
