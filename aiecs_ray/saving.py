"""``save_callback``: following a run from an event loop, and telling a caller's function of each step (S0)."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from aiecs_ray.callbacks import describe_callable, takes
from aiecs_ray.ended_steps import EndedSteps
from aiecs_ray.errors import InvalidInputError
from aiecs_ray.model import TaskStepResult
from aiecs_ray.run import POLL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiecs_ray.results import Opened
    from aiecs_ray.run import Run
    from aiecs_ray.runtime import Runtime

logger = logging.getLogger(__name__)

Save: TypeAlias = Callable[[int, TaskStepResult], Awaitable[None]]
"""Takes index and result of a step."""

_STEP_AND_RESULT = 2
_ALL_ARGUMENTS = 4


async def follow(runtime: Runtime, run: Run, specs: Sequence[str]) -> AsyncIterator[tuple[int, Opened]]:
    """Yield index and outcome of each step as it ends.

    Waiting takes no thread: a loop has few, and a run may take hours.
    """
    ended = EndedSteps(len(run))
    while True:
        events, last = await asyncio.wrap_future(runtime.request_nowait("events", run.id, ended.number, POLL))
        for asked in ended.to_ask(events, last=last):
            found = await asyncio.wrap_future(runtime.request_nowait("result_of", run.id, asked))
            steps, settled = ended.told(asked, found)
            opened = await asyncio.to_thread(runtime.open, run.id, steps, settled, specs)
            for step, one in zip(steps, opened, strict=True):
                yield step, one
        if last:
            return


def saver(callback: Callable[..., Any], user_id: str, task_id: str) -> Save:
    """Return a function that tells ``callback`` of a step; what it raises is logged and harms nothing (C-17).

    Raises:
        InvalidInputError: it takes neither four arguments nor two.
    """
    if not takes(callback, _ALL_ARGUMENTS) and not takes(callback, _STEP_AND_RESULT):
        text = "save_callback must be a function of (user_id, task_id, index, result) or of (step, result)"
        raise InvalidInputError(f"{text}, got {describe_callable(callback)}")
    full = takes(callback, _ALL_ARGUMENTS)

    async def save(index: int, result: TaskStepResult) -> None:
        try:
            answer = callback(user_id, task_id, index, result) if full else callback(result.step, result)
            if inspect.isawaitable(answer):
                await answer
        except Exception:
            logger.exception("save_callback failed for step %d (%s); its result is kept", index, result.step)

    return save
