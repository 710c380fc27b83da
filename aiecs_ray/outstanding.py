"""Questions to a coordinator that wait for an answer; when the connection ends, so does the waiting."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any

from aiecs_ray.errors import RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSED = "the runtime was closed before the answer came"


class Outstanding:
    """Keeps the futures that somebody may be waiting for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[concurrent.futures.Future[Any]] = set()
        self._ended: BaseException | None = None

    def answer_to(
        self,
        asked: concurrent.futures.Future[Any],
        translate: Callable[[BaseException], BaseException] = lambda error: error,
    ) -> concurrent.futures.Future[Any]:
        """Return a future of the answer to ``asked``, its error translated; it fails when the connection ends."""
        answer: concurrent.futures.Future[Any] = concurrent.futures.Future()
        with self._lock:
            ended = self._ended
            if ended is None:
                self._open.add(answer)
        if ended is not None:
            answer.set_exception(ended)
            return answer

        def arrived(done: concurrent.futures.Future[Any]) -> None:
            if not self._take(answer):
                return
            if done.cancelled():
                # Whoever was to answer has ended; a future that is taken cannot be cancelled any more.
                answer.set_exception(self._ended or RuntimeUnavailableError(CLOSED))
            elif (error := done.exception()) is not None:
                answer.set_exception(translate(error))
            else:
                answer.set_result(done.result())

        asked.add_done_callback(arrived)
        return answer

    def refused(self) -> concurrent.futures.Future[Any] | None:
        """Return the future of a question that cannot be asked any more; None while it can."""
        if self._ended is None:
            return None
        answer: concurrent.futures.Future[Any] = concurrent.futures.Future()
        answer.set_exception(self._ended)
        return answer

    def end(self, error: BaseException) -> None:
        """Fail everything that waits, and everything that will be asked."""
        with self._lock:
            self._ended = self._ended or error
            waiting = list(self._open)
        for answer in waiting:
            if self._take(answer):
                answer.set_exception(error)

    def _take(self, answer: concurrent.futures.Future[Any]) -> bool:
        """Whether the caller is the one who settles ``answer``."""
        with self._lock:
            if answer not in self._open:
                return False
            self._open.discard(answer)
        return answer.set_running_or_notify_cancel()
