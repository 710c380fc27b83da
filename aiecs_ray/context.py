"""Whose work an operation is: the user and the task that scope its cache entries and its history."""

from __future__ import annotations

from dataclasses import dataclass

from aiecs_ray.errors import InvalidInputError
from aiecs_ray.quoting import shorten


@dataclass(frozen=True, slots=True, init=False)
class Context:
    """The user and the task on whose behalf operations run.

    ``None`` means the empty string, "nobody in particular". Raises ``InvalidInputError`` for anything else
    that is not text, a number among them: ``7`` and ``"7"`` would be two users to one part of a system and
    one user to another.

    >>> Context("ann", None)
    Context(user_id='ann', task_id='')
    >>> Context().empty
    True
    """

    user_id: str = ""
    task_id: str = ""

    def __init__(self, user_id: str | None = "", task_id: str | None = "") -> None:
        """Check both texts and keep them as plain strings."""
        object.__setattr__(self, "user_id", _text("user_id", user_id))
        object.__setattr__(self, "task_id", _text("task_id", task_id))

    @property
    def empty(self) -> bool:
        """Whether neither a user nor a task is named, so that nothing is cached by default."""
        return not (self.user_id or self.task_id)


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be a string or None, not {shorten(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{name} holds a character that cannot be encoded as UTF-8") from error
    # A subclass of str may print, compare or pickle in its own way; the plain text does not.
    return str.__str__(value)
