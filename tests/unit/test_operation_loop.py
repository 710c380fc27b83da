"""The loop of a tool's async operations ends with its tool, and takes along what runs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading

import pytest

from aiecs_ray.actors.operation_loop import OperationLoop
from tests.contract.probes import eventually

pytestmark = pytest.mark.timeout(20)


def make() -> OperationLoop:
    return OperationLoop(list)


async def thread() -> threading.Thread:
    return threading.current_thread()


def run(loop: OperationLoop) -> threading.Thread:
    future = loop.submit(thread())
    assert future is not None
    return future.result()


def test_all_that_is_submitted_runs_in_one_thread_of_its_own() -> None:
    loop = make()

    threads = {run(loop), run(loop)}

    assert len(threads) == 1
    assert threads != {threading.current_thread()}
    loop.close()


def test_the_thread_ends_with_the_loop() -> None:
    loop = make()
    thread = run(loop)

    loop.close()
    loop.close()

    thread.join(10)
    assert not thread.is_alive()


def test_closing_cancels_what_runs_and_lets_it_clean_up() -> None:
    loop, began, cleaned = make(), threading.Event(), threading.Event()

    async def body() -> None:
        try:
            began.set()
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    future = loop.submit(body())
    assert future is not None
    began.wait()

    loop.close()

    with pytest.raises(concurrent.futures.CancelledError):
        future.result(10)
    assert cleaned.is_set()


def test_a_closed_loop_begins_nothing() -> None:
    loop = make()
    loop.close()

    assert loop.submit(thread()) is None


def test_a_body_that_exits_ends_itself_alone() -> None:
    loop = make()

    async def leave() -> None:
        sys.exit(3)

    left = loop.submit(leave())
    assert left is not None
    with pytest.raises(SystemExit):
        left.result(10)

    assert run(loop).is_alive()
    loop.close()


def test_a_body_that_stops_the_loop_stops_nobody_else() -> None:
    loop = make()

    async def stop() -> None:
        asyncio.get_running_loop().stop()

    stopped = loop.submit(stop())
    assert stopped is not None
    stopped.result(10)

    assert run(loop).is_alive()
    loop.close()


def test_nothing_of_a_closed_loop_stays() -> None:
    before = set(threading.enumerate())
    loop = make()
    run(loop)

    loop.close()

    eventually(lambda: set(threading.enumerate()) <= before)
