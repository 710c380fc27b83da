"""In which order ``rt.map`` takes its runs."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from aiecs_ray.streaming import _Map, _Part


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
    runtime: Any = None
    options: Any = None
    mapped = _Map(runtime, "t.op", [], options, 8)
    mapped.under_way.extend(_Part(1, future, options, {}, 0.0) for future in (Late(), early))

    part = mapped.next_part(ordered=ordered)

    assert part.future.result() == first
    assert len(mapped.under_way) == 1
