"""``rt.map``: one operation over any number of parameters, in bounded memory."""

from __future__ import annotations

import concurrent.futures
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aiecs_ray.errors import AiecsError, InvalidInputError, InvalidParamsError
from aiecs_ray.quoting import shorten
from aiecs_ray.results import to_error, to_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiecs_ray.client import Client
    from aiecs_ray.run_options import Prepared, RunOptions

WINDOW = 8192
"""Operations under way at once, unless asked otherwise."""
LANES = 4
"""Into how many runs a window is divided: while one is read, the others run."""
FIRST = 8
"""Operations of the first runs: their values come soon, and tell how large the next may be."""
QUICK = 0.2
"""Seconds within which a run has to end for the next ones to be larger."""


class _Part(NamedTuple):
    """Some elements of the input: a run of those that could be sent, and the errors of the others by position."""

    size: int
    future: concurrent.futures.Future[Any]
    prepared: Prepared
    errors: dict[int, AiecsError]
    sent_at: float


class _Map:
    """What is under way of one ``rt.map``."""

    def __init__(self, runtime: Client, operation: str, params: Iterable[Any], options: RunOptions, most: int) -> None:
        self._runtime = runtime
        self._operation = operation
        self._source = iter(params)
        self._options = options
        self._most = most
        self._size = min(FIRST, most)
        self._failure: BaseException | None = None
        self._exhausted = False
        self.under_way: deque[_Part] = deque()
        self.first = 0
        """Position of the next part's first element."""

    def fill(self) -> None:
        """Send runs until the window is full or the input is over."""
        while len(self.under_way) < LANES and not self._exhausted:
            part, errors = self._pull()
            if part or errors:
                prepared = self._runtime.prepare(part, self._options)
                size = len(part) + len(errors)
                future = self._runtime.start_execute(prepared)
                self.under_way.append(_Part(size, future, prepared, errors, time.monotonic()))
        if not self.under_way and self._failure is not None:
            # The source failed: what came before it is there, and was yielded.
            raise self._failure

    def _pull(self) -> tuple[list[dict[str, Any]], dict[int, AiecsError]]:
        part: list[dict[str, Any]] = []
        errors: dict[int, AiecsError] = {}
        while len(part) + len(errors) < self._size:
            try:
                one = next(self._source)
            except StopIteration:
                self._exhausted = True
                break
            except Exception as error:  # noqa: BLE001  # the caller's own iterator: raised again at its place
                self._exhausted, self._failure = True, error
                break
            if type(one) is dict:
                part.append({"operation": self._operation, "params": one})
            else:
                place = len(part) + len(errors)
                text = f"params must be a dict of parameter names and values, got {shorten(one)}"
                errors[place] = InvalidParamsError(text).locate(operation=self._operation, index=self.first + place)
        self.first += len(part) + len(errors)
        return part, errors

    def next_part(self, *, ordered: bool) -> _Part:
        """Wait for the next run that has ended, and take it out."""
        if not ordered:
            futures = [part.future for part in self.under_way]
            done, _ = concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_COMPLETED)
            part = next(part for part in self.under_way if part.future in done)
        else:
            part = self.under_way[0]
            part.future.exception()
        self.under_way.remove(part)
        if time.monotonic() - part.sent_at < QUICK:
            self._size = min(self._size * 2, self._most)
        return part


def check_map(params: object, window: object, on_error: object) -> None:
    """Raise unless a map can be made of these.

    Raises:
        InvalidInputError: one of them is wrong.
    """
    if on_error not in ("raise", "return"):
        raise InvalidInputError(f"on_error must be 'raise' or 'return', got {shorten(on_error)}")
    if window is not None and (type(window) is not int or window < 1):
        raise InvalidInputError(f"window must be a whole number from 1 on, got {shorten(window)}")
    if not isinstance(params, Iterable):
        raise InvalidInputError(f"params must be an iterable of dicts, got {shorten(params)}")


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
    mapped = _Map(runtime, operation, params, options, max(1, (window or WINDOW) // LANES))
    try:
        mapped.fill()
        while mapped.under_way:
            part = mapped.next_part(ordered=ordered)
            try:
                mapped.fill()
                opened = iter(runtime.open_answer(part.future.result(), part.prepared))
            except BaseException:
                runtime.abandon(part.prepared)
                raise
            for place in range(part.size):
                error = part.errors.get(place)
                one = next(opened) if error is None else None
                if error is None and one is not None and one.error is None:
                    yield to_value(one, operation)
                    continue
                if error is None and one is not None:
                    error = to_error(one, operation)
                if on_error == "raise":
                    assert error is not None
                    raise error
                yield error
            mapped.fill()
    finally:
        for part in mapped.under_way:
            runtime.abandon(part.prepared)
