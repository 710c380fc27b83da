"""Who follows a run slower than it goes misses events, and is told of every step all the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import aiecs_ray
from aiecs_ray import saving
from tests.conftest import SETTINGS
from tests.contract.probes import op

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(60)

STEPS = 60


class Counter:
    def double(self, n: int) -> int:
        return 2 * n


@pytest.fixture
def forgetful() -> Iterator[aiecs_ray.Runtime]:
    """Return a runtime that keeps the last ten events of a run."""
    settings = SETTINGS["inprocess"].model_copy(update={"event_limit": 10})
    with aiecs_ray.connect("inprocess", settings=settings, registry=aiecs_ray.Registry()) as runtime:
        runtime.register(Counter)
        yield runtime


@pytest.fixture
def ended(forgetful: aiecs_ray.Runtime) -> aiecs_ray.Run:
    """Return a run that had ended before anybody followed it."""
    run = forgetful.submit([op("counter.double", n=n) for n in range(STEPS)], "batch")
    run.wait()
    return run


def test_a_stream_yields_every_step(ended: aiecs_ray.Run) -> None:
    told = list(ended.stream())

    assert sorted(step for step, _ in told) == list(range(STEPS))
    assert all(result.result == 2 * step for step, result in told)


def test_a_function_of_the_callers_hears_of_every_step(ended: aiecs_ray.Run) -> None:
    heard: list[int] = []

    ended.follow(lambda step, _: heard.append(step))

    assert sorted(heard) == list(range(STEPS))


def test_a_callback_in_an_event_loop_hears_of_every_step(forgetful: aiecs_ray.Runtime, ended: aiecs_ray.Run) -> None:
    async def follow() -> list[int]:
        return [step async for step, _ in saving.follow(forgetful, ended, ["counter.double"] * STEPS)]

    heard = asyncio.run(follow())

    assert sorted(heard) == list(range(STEPS))
