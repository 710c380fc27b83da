"""What can be said of a caller's function before it is called."""

from __future__ import annotations

import inspect

from aiecs_ray.quoting import shorten


def takes(function: object, arguments: int) -> bool:
    """Return whether it can be called with so many arguments by position; yes, where its signature cannot be read.

    >>> takes(lambda index, result: None, 2), takes(lambda result: None, 2), takes(5, 2)
    (True, False, False)
    """
    if not callable(function):
        return False
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(arguments))
    except TypeError:
        return False
    return True


def describe_callable(function: object) -> str:
    """Return what it is, for an error message.

    >>> describe_callable(lambda result: None), describe_callable(5)
    ('<lambda>(result)', '5')
    """
    if not callable(function):
        return shorten(function)
    name = getattr(function, "__name__", type(function).__name__)
    try:
        names = ", ".join(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = "..."
    return f"{shorten(name)}({names})"
