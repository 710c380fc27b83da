"""Operations that call operations: what they inherit, and what would wait for itself."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from aiecs_ray.context import Context
from aiecs_ray.errors import InvalidInputError, ReentrancyError
from aiecs_ray.quoting import shorten
from aiecs_ray.running import current

if TYPE_CHECKING:
    from aiecs_ray.run_options import RunOptions

MAX_CALLS = 8
"""How many operations may call one another, the outermost one counted."""


def inside(options: RunOptions) -> RunOptions:
    """Return the options of a run that is asked for here: inside an operation they say so, and whose it is.

    Raises:
        InvalidInputError: the operation runs for another user than it asks for.
    """
    attempt = current()
    if attempt is None or not attempt.calls:
        return options
    asked = options.context
    if attempt.user_id and asked.user_id and asked.user_id != attempt.user_id:
        text = f"an operation of user {shorten(attempt.user_id)!r} cannot ask as user {shorten(asked.user_id)!r}"
        raise InvalidInputError(f"{text}; leave user_id out, it is inherited")
    context = Context(attempt.user_id, attempt.task_id) if asked.empty else asked
    return dataclasses.replace(options, context=context, calls=attempt.calls)


def check(calls: tuple[str, ...], spec: str) -> None:
    """Refuse an operation that would wait for one of those inside of which it is asked for.

    A replica is not given back while its operation waits, so one more call of the same tool may wait for ever: on the
    same replica, or for room for another one.

    Raises:
        ReentrancyError: its tool is among ``calls``, or there are eight of them already.

    >>> check(("a.load", "b.read"), "c.parse")
    >>> check(("a.load", "b.read"), "a.save")
    Traceback (most recent call last):
        ...
    aiecs_ray.errors.ReentrancyError: Tool 'a' is called by its own operation, which it would wait for: ...
    """
    tool = spec.partition(".")[0]
    if len(calls) >= MAX_CALLS or any(call.partition(".")[0] == tool for call in calls):
        raise ReentrancyError(spec, calls, MAX_CALLS)
