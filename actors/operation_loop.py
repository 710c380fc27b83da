"""The event loop on which the async operations of a tool run."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from aiecs_ray.actors.loop_watch import watch_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from concurrent.futures import Future

T = TypeVar("T")


class OperationLoop:
    """A loop in a thread of its own, which is watched.

    Args:
        running: names what runs on it, for the warning that something blocks it.
    """

    def __init__(self, running: Callable[[], Sequence[str]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._closed = self._over = False
        threading.Thread(target=self._run, name="operations", daemon=True).start()
        watch_loop(self._loop, running)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T] | None:
        """Begin ``work`` and return its future; None once the loop was closed."""
        with self._lock:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        return None

    def close(self) -> None:
        """Cancel what runs, and end the loop and its thread when that has ended."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._wind_up(), self._loop)

    async def _wind_up(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)
        self._over = True
        asyncio.get_running_loop().stop()

    def _run(self) -> None:
        while True:
            try:
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # asyncio throws these out of the loop, besides to who awaits the task: that one ends its step.
                continue
            if self._over:
                break
            # A body stopped it, which is not its to do: the others go on.
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
