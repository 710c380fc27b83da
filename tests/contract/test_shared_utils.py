"""``ExecutionUtils`` on the cache of a cluster: what one client stores, another one finds."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import ExecutionUtils, Runtime
from tests.contract.probes import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(40)


@pytest.fixture
def utils(rt: Runtime) -> ExecutionUtils:
    return ExecutionUtils(runtime=rt)


@pytest.fixture
def key(utils: ExecutionUtils) -> str:
    return utils.generate_cache_key("load", secrets.token_hex(8), "t", ("a.csv",), {})


@pytest.mark.parametrize("value", [None, {"rows": [1, 2]}, b"x" * 200_000], ids=["nothing", "small", "large"])
def test_another_object_finds_what_was_stored(rt: Runtime, utils: ExecutionUtils, key: str, value: Any) -> None:
    utils.add_to_cache(key, value)

    other = ExecutionUtils(runtime=rt)

    assert other.lookup(key) == (True, value)
    assert (other.statistics()["hits"], other.statistics()["misses"]) == (1, 0)


def test_another_client_finds_what_was_stored(
    connect: Callable[[], Runtime], backend: str, utils: ExecutionUtils, key: str
) -> None:
    utils.add_to_cache(key, b"x" * 200_000)

    other = ExecutionUtils(runtime=connect())

    # In one process every runtime has a cache of its own.
    assert other.lookup(key)[0] is (backend == "ray")


def test_a_bare_one_keeps_its_own(utils: ExecutionUtils, key: str) -> None:
    utils.add_to_cache(key, 1)

    assert ExecutionUtils().lookup(key) == (False, None)


def test_what_is_given_out_is_a_copy(utils: ExecutionUtils, key: str) -> None:
    utils.add_to_cache(key, [1])

    utils.get_from_cache(key).append(2)  # type: ignore[union-attr]

    assert utils.get_from_cache(key) == [1]


def test_an_entry_has_its_time(utils: ExecutionUtils, key: str) -> None:
    utils.add_to_cache(key, 1, ttl=0.05)

    eventually(lambda: utils.lookup(key) == (False, None))


def test_a_key_of_an_operation_is_another_key(rt: Runtime, utils: ExecutionUtils) -> None:
    class Greeter:
        def greet(self) -> str:
            return "hello"

    user = secrets.token_hex(8)
    rt.register(Greeter)
    rt.call("greeter.greet", user_id=user)
    explained = rt.cache.explain("greeter.greet", user_id=user)
    assert explained.key is not None

    assert utils.lookup(explained.key) == (False, None)


def test_what_cannot_be_stored_is_counted(utils: ExecutionUtils, key: str) -> None:
    utils.add_to_cache(key, (n for n in range(3)))
    utils.add_to_cache(utils.generate_cache_key("f", "u", "t", (object(),), {}), 1)

    assert utils.statistics()["uncacheable"] == 2
    assert utils.lookup(key) == (False, None)


def test_what_cannot_be_stored_takes_what_stood_there_away(utils: ExecutionUtils, key: str) -> None:
    utils.add_to_cache(key, "old")

    utils.add_to_cache(key, (n for n in range(3)))

    assert utils.lookup(key) == (False, None)


def test_no_entries_means_no_cache(rt: Runtime, key: str) -> None:
    off = ExecutionUtils(cache_size=0, runtime=rt)

    off.add_to_cache(key, 1)

    assert off.lookup(key) == (False, None)


async def test_it_is_healthy_and_knows_its_memory(utils: ExecutionUtils, key: str) -> None:
    utils.add_to_cache(key, 1)

    assert (await utils.health_check())["status"] == "healthy"
    assert utils.get_memory_stats()["cache_size"] >= 1
    assert utils.get_memory_stats()["ttl_entries"] >= 1
    assert utils.cleanup_expired_entries() >= 0


async def test_warming_up_fills_the_shared_cache(rt: Runtime, utils: ExecutionUtils) -> None:
    user = secrets.token_hex(8)
    operations = [{"func": len, "args": ("abc",), "user_id": user}]

    reports = [await utils.warm_up_cache(operations), await ExecutionUtils(runtime=rt).warm_up_cache(operations)]

    assert [(report.warmed, report.cached) for report in reports] == [(1, 0), (0, 1)]


async def test_a_cluster_that_is_gone_is_a_miss(rt: Runtime, utils: ExecutionUtils, key: str) -> None:
    utils.add_to_cache(key, 1)
    rt.close()

    utils.add_to_cache(key, 2)

    assert utils.lookup(key) == (False, None)
    assert (await utils.health_check())["status"] == "unhealthy"
