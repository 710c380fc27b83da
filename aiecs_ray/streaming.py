"""``rt.map``: one operation over any number of parameters, in bounded memory."""

from __future__ import annotations

import concurrent.futures
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from aiecs_ray.results import to_error, to_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aiecs_ray.client import Client
    from aiecs_ray.run_options import Prepared, RunOptions

WINDOW = 8192
"""Operations under way at once, unless asked otherwise."""
LANES = 4
"""Into how many runs a window is divided: while one is read, the others run."""


def stream_map(  # noqa: PLR0913  # what rt.map was asked
    runtime: Client,
    operation: str,
    params: Iterable[dict[str, Any]],
    options: RunOptions,
    *,
    ordered: bool,
    window: int | None,
    on_error: Literal["raise", "return"],
) -> Iterator[Any]:
    """Yield one value per dict of parameters; each part of the window is a run of its own."""
    source = iter(params)
    size = max(1, (window or WINDOW) // LANES)
    under_way: deque[tuple[concurrent.futures.Future[Any], Prepared]] = deque()
    try:
        while True:
            while len(under_way) < LANES:
                part = [{"operation": operation, "params": one} for one in islice(source, size)]
                if not part:
                    break
                prepared = runtime.prepare(part, options)
                under_way.append((runtime.start_execute(prepared), prepared))
            if not under_way:
                return
            future, prepared = _next(under_way, ordered=ordered)
            for opened in runtime.open_answer(future.result(), prepared):
                if opened.error is not None and on_error == "return":
                    yield to_error(opened, operation)
                else:
                    yield to_value(opened, operation)
    finally:
        for _, prepared in under_way:
            runtime.cancel(prepared)


def _next(
    under_way: deque[tuple[concurrent.futures.Future[Any], Prepared]], *, ordered: bool
) -> tuple[concurrent.futures.Future[Any], Prepared]:
    if ordered:
        under_way[0][0].exception()
        return under_way.popleft()
    done, _ = concurrent.futures.wait(
        [future for future, _ in under_way], return_when=concurrent.futures.FIRST_COMPLETED
    )
    first = next(pair for pair in under_way if pair[0] in done)
    under_way.remove(first)
    return first
