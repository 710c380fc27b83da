from __future__ import annotations

import asyncio
import itertools

from aiecs_ray.actors.events import EventLog
from aiecs_ray.messages import Event, EventKind

KIND = EventKind.PROGRESS


def log_of(count: int = 0, *, limit: int = 100) -> EventLog:
    log = EventLog("run-1", limit=limit, clock=itertools.count(1000.0).__next__)
    for step in range(count):
        log.add(KIND, step)
    return log


def numbers(events: list[Event]) -> list[int]:
    return [event.number for event in events]


def test_an_event_is_numbered_timed_and_kept() -> None:
    log = log_of()

    log.add(EventKind.RUN_STARTED, data={"steps": 2})
    log.add(EventKind.STEP_STARTED, 1)

    assert log.since(0, 10) == [
        Event(0, EventKind.RUN_STARTED, "run-1", 1000.0, None, {"steps": 2}),
        Event(1, EventKind.STEP_STARTED, "run-1", 1001.0, 1, {}),
    ]
    assert len(log) == 2


def test_events_are_read_from_any_number_in_pages() -> None:
    log = log_of(10)

    assert numbers(log.since(0, 4)) == [0, 1, 2, 3]
    assert numbers(log.since(4, 4)) == [4, 5, 6, 7]
    assert numbers(log.since(8, 4)) == [8, 9]
    assert numbers(log.since(-5, 3)) == [0, 1, 2]
    assert log.since(10, 4) == log.since(99, 4) == []


def test_only_the_last_events_are_kept_and_their_numbers_tell() -> None:
    log = log_of(10, limit=3)

    assert len(log) == 3
    assert numbers(log.since(0, 100)) == [7, 8, 9]
    assert numbers(log.since(0, 2)) == [7, 8]
    assert numbers(log.since(8, 100)) == [8, 9]


def test_a_log_that_keeps_nothing_counts_all_the_same() -> None:
    log = log_of(3, limit=0)

    assert log.since(0, 10) == []


async def test_what_is_there_is_had_without_waiting() -> None:
    log = log_of(3)

    assert numbers(await log.follow(1, 10, 60.0)) == [1, 2]
    assert numbers(await log.follow(1, 1, 60.0)) == [1]
    assert numbers(await log.follow(1, 10, 0.0)) == [1, 2]


async def test_a_follower_waits_for_the_next_event() -> None:
    log = log_of(3)
    following = asyncio.ensure_future(log.follow(3, 10, 60.0))
    await asyncio.sleep(0)

    waited = not following.done()
    log.add(KIND)

    assert waited
    assert numbers(await following) == [3]


async def test_every_follower_gets_the_event() -> None:
    log = log_of()
    followers = [asyncio.ensure_future(log.follow(0, 10, 60.0)) for _ in range(5)]
    await asyncio.sleep(0)

    log.add(KIND)
    log.add(KIND)

    assert [numbers(events) for events in await asyncio.gather(*followers)] == [[0, 1]] * 5


async def test_a_follower_of_a_later_event_waits_for_that_one() -> None:
    log = log_of()
    following = asyncio.ensure_future(log.follow(2, 10, 60.0))

    for _ in range(2):
        log.add(KIND)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not following.done()
    log.add(KIND)

    assert numbers(await following) == [2]


async def test_a_follower_stops_waiting_when_its_time_is_over() -> None:
    log = log_of(1)

    assert await log.follow(1, 10, 0.001) == []
    assert await log.follow(1, 10, 0.0) == []
    log.add(KIND)
    assert numbers(await log.follow(1, 10, 0.001)) == [1]


async def test_closing_a_log_ends_its_followers() -> None:
    log = log_of(2)
    following = asyncio.ensure_future(log.follow(2, 10, 60.0))
    await asyncio.sleep(0)

    before = log.closed
    log.close()

    assert (before, log.closed) == (False, True)
    assert await following == []
    assert await log.follow(2, 10, 60.0) == []
    assert numbers(await log.follow(0, 10, 60.0)) == [0, 1]


async def test_a_follower_that_gave_up_leaves_the_others_waiting() -> None:
    log = log_of()
    first = asyncio.ensure_future(log.follow(0, 10, 60.0))
    second = asyncio.ensure_future(log.follow(0, 10, 60.0))
    await asyncio.sleep(0)

    first.cancel()
    log.add(KIND)

    assert numbers(await second) == [0]
