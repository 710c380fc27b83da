"""``ExecutionUtils`` leaves an operation type alone that keeps failing (document S1, 8.2.2; checklist S1-79)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiecs_ray import ExecutionUtils
from aiecs_ray.errors import CircuitOpenError, InvalidParamsError, RetryExhaustedError

OPTIONS = {"minimum_calls": 4, "open_seconds": 30.0}


class World:
    """A clock that waits cost nothing of, and a service that fails as long as it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls = 0
        self.error: BaseException | None = ConnectionError("down")

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def serve(self) -> str:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return "served"

    async def serve_async(self) -> str:
        return self.serve()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def utils(world: World) -> ExecutionUtils:
    async def sleep(seconds: float) -> None:
        world.sleep(seconds)

    utils = ExecutionUtils(retry_attempts=2, clock=world, sleep=world.sleep, async_sleep=sleep)
    utils.set_operation_breaker("api_call", OPTIONS)
    return utils


def opened(utils: ExecutionUtils, world: World) -> Any:
    call = utils.create_retry_strategy("api_call")(world.serve)
    for _ in range(2):
        with pytest.raises(RetryExhaustedError):
            call()
    assert world.calls == 4
    return call


def test_after_so_many_failed_attempts_calls_are_rejected_at_once(utils: ExecutionUtils, world: World) -> None:
    call = opened(utils, world)

    with pytest.raises(CircuitOpenError, match="api_call is open: 4 of 4 calls failed") as caught:
        call()

    assert (world.calls, utils.circuit_breakers) == (4, {"api_call": "open"})
    assert caught.value.retry_after == 30.0


def test_it_is_shared_by_all_strategies_of_the_type(utils: ExecutionUtils, world: World) -> None:
    opened(utils, world)

    with pytest.raises(CircuitOpenError):
        asyncio.run(utils.call(world.serve_async, operation_type="api_call"))
    with pytest.raises(RetryExhaustedError):
        utils.create_retry_strategy("database_query")(world.serve)()


def test_a_probe_that_goes_well_closes_it(utils: ExecutionUtils, world: World) -> None:
    call = opened(utils, world)
    world.now += 30.0
    world.error = None

    answers = [call(), call()]

    assert (answers, utils.circuit_breakers) == (["served", "served"], {"api_call": "closed"})


def test_a_probe_that_fails_opens_it_again_and_is_not_tried_again(utils: ExecutionUtils, world: World) -> None:
    call = opened(utils, world)
    world.now += 30.0

    with pytest.raises(CircuitOpenError):
        call()

    assert (world.calls, utils.circuit_breakers) == (5, {"api_call": "open"})


async def test_async_functions_are_watched_too(utils: ExecutionUtils, world: World) -> None:
    call = utils.create_retry_strategy("api_call")(world.serve_async)
    for _ in range(2):
        with pytest.raises(RetryExhaustedError):
            await call()

    with pytest.raises(CircuitOpenError):
        await call()


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()], ids=repr)
def test_what_is_no_failure_opens_nothing(utils: ExecutionUtils, world: World, error: BaseException) -> None:
    world.error = error
    call = utils.create_retry_strategy("api_call")(world.serve)

    for _ in range(10):
        with pytest.raises(type(error)):
            call()

    assert utils.circuit_breakers == {"api_call": "closed"}


def test_it_can_be_reset_and_taken_away(utils: ExecutionUtils, world: World) -> None:
    call = opened(utils, world)
    world.error = None

    utils.reset_operation_breaker("api_call")
    answer = call()
    utils.set_operation_breaker("api_call", False)  # noqa: FBT003  # as a user writes it

    assert (answer, utils.circuit_breakers) == ("served", {})
    with pytest.raises(InvalidParamsError, match="'api_call' has no circuit breaker"):
        utils.reset_operation_breaker("api_call")


def test_wrong_options_are_refused(utils: ExecutionUtils) -> None:
    with pytest.raises(InvalidParamsError, match="minimum_calls is 0"):
        utils.set_operation_breaker("api_call", {"minimum_calls": 0})
