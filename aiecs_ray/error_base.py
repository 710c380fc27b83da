"""The root of the tree of errors, which :mod:`aiecs_ray.errors` shows whole."""

from __future__ import annotations

from aiecs_ray.quoting import shorten

_PLACE = "at operation "


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
        """Record which operation of a list failed, and return the error itself.

        A traceback shows the place as a note; ``str()`` stays what it is.
        """
        if operation is not None:
            self.operation = operation
        if index is not None:
            self.index = index
            name = f" ({shorten(self.operation)})" if self.operation else ""
            notes = getattr(self, "__notes__", [])
            self.__notes__ = [note for note in notes if not note.startswith(_PLACE)]
            self.add_note(f"{_PLACE}{index}{name}")
        return self
