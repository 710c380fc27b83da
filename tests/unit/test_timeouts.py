"""A time limit really stops what waits, at every level of nesting, and says so in the documents' words."""

from __future__ import annotations

import asyncio
import functools
import gc
import time
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.errors import AiecsError, InvalidInputError, InvalidTimeoutError, OperationTimeoutError
from aiecs_ray.timeouts import timeout_context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LONG = 60
SHORT = 0.02


async def inside_with(seconds: float, body: Callable[[], Awaitable[object]]) -> object:
    with timeout_context(seconds):
        return await body()


async def inside_async_with(seconds: float, body: Callable[[], Awaitable[object]]) -> object:
    async with timeout_context(seconds):
        return await body()


both = pytest.mark.parametrize("inside", [inside_with, inside_async_with])
sleep_long = functools.partial(asyncio.sleep, LONG)


@both
async def test_a_body_past_its_limit_is_cancelled_where_it_waits(inside: Any) -> None:
    reached = []

    async def body() -> None:
        try:
            await asyncio.sleep(LONG)
            reached.append("the end")
        except asyncio.CancelledError:
            reached.append("cancelled")
            raise

    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"^Operation timed out after 0\.02s$"):
        await inside(SHORT, body)

    assert reached == ["cancelled"]
    assert time.monotonic() - began < LONG / 10


@both
async def test_a_body_within_its_limit_gives_its_value(inside: Any) -> None:
    assert await inside(LONG, functools.partial(asyncio.sleep, 0, "done")) == "done"


@both
async def test_an_error_of_the_body_passes_unchanged(inside: Any) -> None:
    own = TimeoutError("the body's own")

    async def body() -> None:
        raise own

    with pytest.raises(TimeoutError) as caught:
        await inside(LONG, body)

    assert caught.value is own


async def test_the_error_has_the_documents_code_and_is_of_the_tree() -> None:
    with pytest.raises(OperationTimeoutError) as caught:
        await inside_with(SHORT, sleep_long)

    assert caught.value.error_code == "E002"
    assert isinstance(caught.value, AiecsError)


async def test_the_task_can_go_on_after_a_time_out() -> None:
    with pytest.raises(TimeoutError):
        await inside_with(SHORT, sleep_long)

    assert await asyncio.sleep(0, "still here") == "still here"
    assert asyncio.current_task().cancelling() == 0


async def test_an_inner_limit_ends_only_the_inner_block() -> None:
    async with timeout_context(LONG):
        with pytest.raises(TimeoutError, match=r"after 0\.02s"):
            await inside_with(SHORT, sleep_long)
        after = await asyncio.sleep(0, "outer goes on")

    assert after == "outer goes on"


async def test_an_outer_limit_ends_the_inner_block_too() -> None:
    inner = timeout_context(LONG)

    with pytest.raises(TimeoutError, match=r"after 0\.02s"), timeout_context(SHORT), inner:
        await asyncio.sleep(LONG)


async def test_both_limits_of_nested_blocks_hold_one_after_the_other() -> None:
    texts = []
    outer = timeout_context(LONG)

    try:
        with outer:
            try:
                with timeout_context(SHORT):
                    await asyncio.sleep(LONG)
            except TimeoutError as late:
                texts.append(str(late))
            outer._scope.reschedule(0)
            await asyncio.sleep(LONG)
    except TimeoutError as late:
        texts.append(str(late))

    assert texts == ["Operation timed out after 0.02s", "Operation timed out after 60s"]


@both
async def test_a_cancellation_from_outside_stays_a_cancellation(inside: Any) -> None:
    task = asyncio.create_task(inside(LONG, sleep_long))
    await asyncio.sleep(0)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_block_gives_a_future_that_fails_at_the_limit() -> None:
    kept: list[asyncio.Future[None]] = []

    async def body() -> None:
        with timeout_context(SHORT) as future:
            kept.append(future)
            assert not future.done()
            await asyncio.sleep(LONG)

    with pytest.raises(TimeoutError):
        await body()

    assert isinstance(kept[0], asyncio.Future)
    assert str(kept[0].exception()) == "Operation timed out after 0.02s"


async def test_a_future_that_nobody_looks_at_is_no_complaint() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))

    with pytest.raises(TimeoutError):
        await inside_with(SHORT, sleep_long)
    gc.collect()

    assert complaints == []


async def test_a_body_in_time_leaves_no_timer_behind() -> None:
    limit = timeout_context(LONG)

    with limit:
        await asyncio.sleep(0)

    assert limit._handle.cancelled()


async def test_the_future_of_a_body_in_time_is_cancelled_so_that_nobody_waits_for_it() -> None:
    with timeout_context(LONG) as future:
        await asyncio.sleep(0)

    assert future.cancelled()


async def test_a_body_that_swallows_the_cancellation_and_ends_has_ended() -> None:
    with timeout_context(SHORT) as future:
        try:  # noqa: SIM105  # the point is to swallow it
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            pass

    assert isinstance(future.exception(), TimeoutError)


def test_blocking_code_without_a_loop_is_told_that_no_limit_would_hold() -> None:
    with pytest.raises(InvalidInputError, match="in a coroutine only"), timeout_context(1):
        pytest.fail("the body ran without its limit")


async def test_a_callback_without_a_task_is_told_the_same() -> None:
    caught: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def callback() -> None:
        try:
            timeout_context(1).__enter__()
        except InvalidInputError as error:
            caught.set_result(error)

    asyncio.get_running_loop().call_soon(callback)

    assert "in a coroutine only" in str(await caught)


async def test_one_object_is_for_one_block() -> None:
    limit = timeout_context(LONG)
    with limit:
        await asyncio.sleep(0)

    with pytest.raises(InvalidInputError, match="for one block"):
        limit.__enter__()


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "5", 1e300, True, None, [1]])
def test_a_limit_that_is_no_positive_number_is_refused(seconds: Any) -> None:
    with pytest.raises(InvalidTimeoutError, match="expected seconds above 0"):
        timeout_context(seconds)


async def test_the_text_shows_the_limit_as_it_was_given() -> None:
    limit = timeout_context(30)
    kept: list[asyncio.Future[None]] = []

    async def body() -> None:
        async with limit as future:
            kept.append(future)
            limit._scope.reschedule(0)
            await asyncio.sleep(LONG)

    with pytest.raises(TimeoutError, match=r"^Operation timed out after 30s$"):
        await body()
    assert str(kept[0].exception()) == "Operation timed out after 30s"
