"""A runtime for tests of tools and plans: no Ray, no environment, no tools but those given."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aiecs_ray.config import Settings
from aiecs_ray.connecting import connect
from aiecs_ray.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiecs_ray.runtime import Runtime

GRACE = 0.2
"""Seconds between asking an operation to end and letting go of it; tests need not wait for the usual two."""


@contextmanager
def runtime(*tools: type, settings: Settings | None = None, **changes: Any) -> Iterator[Runtime]:
    """Give a runtime in this process that offers ``tools`` and nothing else, and close it at the end.

    It is the twin of a cluster: the same coordinator, the same rules for values, retries, time limits and the cache;
    tools run in threads. What other tests registered is not there, and ``AIECS_RAY_*`` variables are not read. The
    grace period is 0.2 s; other settings are their defaults, ``settings``, or by keyword.

    Raises:
        InvalidToolError: one of ``tools`` cannot be a tool.
        InvalidConfigError: a setting is wrong.

    >>> class Adder:
    ...     def add(self, a: int, b: int) -> int:
    ...         return a + b
    >>> with runtime(Adder) as rt:
    ...     rt.call("adder.add", {"a": 1, "b": 2})
    3
    """
    if settings is None:
        settings = Settings(**{"grace": GRACE, **changes})
    elif changes:
        settings = Settings(**{**settings.model_dump(), **changes})
    with connect("inprocess", settings=settings, registry=Registry()) as rt:
        for tool in tools:
            rt.register(tool)
        yield rt
