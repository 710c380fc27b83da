"""The shipped tools, each writing the name of every operation whose body runs to a ledger file."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiecs_ray.definition import describe
from aiecs_ray.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable


def recorded(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return ``function`` so that each call first appends a line to the file that ``LEDGER`` names.

    What an operation calls of its own tool is part of it, and no line of its own.
    """

    @functools.wraps(function)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "_inside", False):
            return function(self, *args, **kwargs)
        with Path(os.environ["LEDGER"]).open("a") as ledger:
            ledger.write(f"{name}\n")
        self._inside = True
        try:
            return function(self, *args, **kwargs)
        finally:
            self._inside = False

    return run


def with_ledger(cls: type) -> type:
    """Return a tool of the same name whose operations are recorded."""
    definition = describe(cls)
    wrapped = {name: recorded(one.function, one.spec) for name, one in definition.operations.items()}
    return type(cls.__name__, (cls,), {**wrapped, "__module__": __name__})


NAMED = {describe(cls).name: with_ledger(cls) for cls in TOOLS}
