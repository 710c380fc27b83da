"""In which order ``rt.map`` takes its runs."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import Any

import pytest

from aiecs_ray.streaming import _next


class Late(Future[str]):
    """Is done only when somebody waits for it."""

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if not self.done():
            self.set_result("late")
        return super().exception(timeout)


@pytest.mark.parametrize(("ordered", "first"), [(True, "late"), (False, "early")])
def test_runs_are_taken_in_input_order_or_as_they_are_done(ordered: bool, first: str) -> None:  # noqa: FBT001  # a parameter
    early: Future[str] = Future()
    early.set_result("early")
    under_way: deque[tuple[Any, Any]] = deque([(Late(), None), (early, None)])

    future, _ = _next(under_way, ordered=ordered)

    assert future.result() == first
    assert len(under_way) == 1
