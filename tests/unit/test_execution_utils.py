"""The documents' ExecutionUtils: its keys, its cache and its health, as a user of the documents sees them."""

from __future__ import annotations

import inspect
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.config import ExecutionUtilsConfig
from aiecs_ray.errors import InvalidConfigError, InvalidInputError
from aiecs_ray.execution_utils import ExecutionUtils
from aiecs_ray.interfaces import ICacheProvider
from aiecs_ray.keys import UNCACHEABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CALL = {"func_name": "f", "user_id": "u", "task_id": "t", "args": (1,), "kwargs": {"a": 1}}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Iterator[Callable[..., ExecutionUtils]]:
    made: list[ExecutionUtils] = []

    def build(**options: Any) -> ExecutionUtils:
        made.append(ExecutionUtils(clock=clock, **options))
        return made[-1]

    yield build
    for utils in made:
        utils.close()


@pytest.fixture
def utils(make: Any) -> ExecutionUtils:
    return make()


# --- construction ---------------------------------------------------------------------------------------


def test_the_documents_defaults_are_exact() -> None:
    parameters = list(inspect.signature(ExecutionUtils).parameters.values())[:4]

    assert [(p.name, p.default) for p in parameters] == [
        ("cache_size", 100),
        ("cache_ttl", 3600),
        ("retry_attempts", 3),
        ("retry_backoff", 1.0),
    ]


def test_the_documents_first_example_works() -> None:
    utils = ExecutionUtils(cache_size=1000, cache_ttl=3600, retry_attempts=3, retry_backoff=1.0)

    assert (utils.cache_size, utils.cache_ttl, utils.retry_attempts, utils.retry_backoff) == (1000, 3600, 3, 1.0)
    assert isinstance(utils, ICacheProvider)


@pytest.mark.parametrize(
    "options",
    [
        {"cache_size": -1},
        {"cache_size": "x"},
        {"cache_ttl": -1},
        {"cache_ttl": float("nan")},
        {"retry_attempts": 0},
        {"retry_attempts": 101},
        {"retry_backoff": -1},
        {"default_timeout": 0},
        {"max_concurrent_operations": 0},
        {"cache_cleanup_interval": 0},
    ],
)
def test_a_bad_value_is_refused_when_it_is_made(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfigError):
        ExecutionUtils(**options)


def test_it_is_made_from_the_configuration_class_or_one_like_it() -> None:
    class Own(ExecutionUtilsConfig):
        CACHE_SIZE = 7
        DEFAULT_TIMEOUT = 5

    documented, own = ExecutionUtils.from_config(), ExecutionUtils.from_config(Own)
    value = ExecutionUtils.from_config(ExecutionUtilsConfig(RETRY_ATTEMPTS=9))

    assert (documented.cache_size, documented.default_timeout, documented.max_concurrent_operations) == (1000, 30, 100)
    assert (own.cache_size, own.default_timeout, own.cache_ttl) == (7, 5, 3600)
    assert value.retry_attempts == 9


def test_it_is_made_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXECUTION_CACHE_SIZE", "11")
    monkeypatch.setenv("TOOL_EXECUTOR_CACHE_TTL", "12")

    utils = ExecutionUtils.from_env(RETRY_ATTEMPTS=4)

    assert (utils.cache_size, utils.cache_ttl, utils.retry_attempts) == (11, 12, 4)
    assert ExecutionUtils().cache_size == 100


# --- keys -----------------------------------------------------------------------------------------------


def test_equal_calls_have_equal_keys_whatever_the_order_of_keywords(utils: ExecutionUtils) -> None:
    first = utils.generate_cache_key("f", "u", "t", (1,), {"a": 1, "b": {"c": [1, 2]}})
    second = utils.generate_cache_key("f", "u", "t", (1,), {"b": {"c": [1, 2]}, "a": 1})

    assert isinstance(first, str)
    assert first == second


@pytest.mark.parametrize(
    "change",
    [
        {"func_name": "g"},
        {"user_id": "other"},
        {"task_id": "other"},
        {"args": (2,)},
        {"args": (True,)},
        {"kwargs": {"a": 2}},
        {"kwargs": {"a": "1"}},
        {"kwargs": {"a": 1, "b": 1}},
    ],
)
def test_every_part_of_a_call_and_its_context_counts(utils: ExecutionUtils, change: dict[str, Any]) -> None:
    assert utils.generate_cache_key(**CALL) != utils.generate_cache_key(**{**CALL, **change})


def test_self_does_not_count(utils: ExecutionUtils) -> None:
    with_self = {**CALL, "kwargs": {"a": 1, "self": object()}}

    assert utils.generate_cache_key(**with_self) == utils.generate_cache_key(**CALL)


def test_both_documents_keywords_are_taken(utils: ExecutionUtils) -> None:
    rest = {name: value for name, value in CALL.items() if name != "func_name"}

    key = utils.generate_cache_key(operation_type="f", **rest)
    utils.add_to_cache(cache_key=key, value=5)

    assert key == utils.generate_cache_key(**CALL)
    assert utils.get_from_cache(cache_key=key) == 5


def test_a_call_without_a_name_has_no_key(utils: ExecutionUtils) -> None:
    with pytest.raises(InvalidInputError, match="func_name"):
        utils.generate_cache_key(user_id="u")


def test_arguments_without_an_exact_key_match_and_store_nothing(utils: ExecutionUtils) -> None:
    call = {**CALL, "args": (object(),)}
    keys = [utils.generate_cache_key(**call) for _ in range(2)]

    utils.add_to_cache(keys[0], "value")

    assert keys[0] != keys[1]
    assert keys[0].startswith(UNCACHEABLE)
    assert utils.lookup(keys[0]) == (False, None)
    assert utils.statistics()["uncacheable"] == 1


def test_strict_keys_raise_as_the_document_says(utils: ExecutionUtils) -> None:
    with pytest.raises(TypeError):
        utils.generate_cache_key(**{**CALL, "args": (object(),)}, strict=True)
    with pytest.raises(ValueError, match="args must be a tuple"):
        utils.generate_cache_key(**{**CALL, "args": 5}, strict=True)


def test_an_optimal_key_leaves_out_what_changes_with_every_call(utils: ExecutionUtils) -> None:
    stamps = [{"a": 1, "timestamp": stamp, "request_id": f"r{stamp}"} for stamp in (1, 2)]

    keys = [utils.generate_optimal_cache_key("f", "u", "t", (1,), kwargs) for kwargs in stamps]
    own = [utils.generate_optimal_cache_key("f", "u", "t", (1,), kwargs, ignore=["a"]) for kwargs in stamps]

    assert keys[0] == keys[1] == utils.generate_cache_key(**CALL)
    assert own[0] != own[1]


def test_two_users_with_the_same_arguments_never_share_an_entry(utils: ExecutionUtils) -> None:
    keys = [
        utils.generate_cache_key("get_user_data", user, "task", args=("profile",), kwargs={}) for user in ("a", "b")
    ]
    utils.add_to_cache(keys[0], "data of a", ttl=3600)

    assert utils.get_from_cache(keys[0]) == "data of a"
    assert utils.get_from_cache(keys[1]) is None


# --- cache ----------------------------------------------------------------------------------------------


def test_a_value_is_found_until_its_time_has_passed(utils: ExecutionUtils, clock: Clock) -> None:
    utils.add_to_cache("default", 1)
    utils.add_to_cache("custom", 2, ttl=1800)

    clock.now += 1800
    found = [utils.get_from_cache(key) for key in ("default", "custom", "absent")]
    clock.now += 1800

    assert found == [1, None, None]
    assert utils.get_from_cache("default") is None


def test_a_cached_none_is_a_hit_for_lookup(utils: ExecutionUtils) -> None:
    utils.add_to_cache("key", None)

    assert utils.lookup("key") == (True, None)
    assert utils.lookup("absent") == (False, None)
    assert utils.get_from_cache("key") is None


def test_cache_size_zero_switches_the_cache_off(make: Any) -> None:
    utils = make(cache_size=0)

    utils.add_to_cache("key", 1)

    assert utils.lookup("key") == (False, None)


def test_cache_ttl_zero_never_expires(make: Any, clock: Clock) -> None:
    utils = make(cache_ttl=0)
    utils.add_to_cache("key", 1)

    clock.now += 1e8

    assert utils.get_from_cache("key") == 1


def test_adding_never_raises(utils: ExecutionUtils) -> None:
    utils.add_to_cache("lock", threading.Lock())
    utils.add_to_cache("ttl", 1, ttl=-5)
    utils.add_to_cache("nothing")

    assert [utils.lookup(key)[0] for key in ("lock", "ttl", "nothing")] == [False, False, False]


def test_memory_is_told_as_it_is(make: Any) -> None:
    utils = make(cache_size=10)
    for i in range(10_000):
        utils.add_to_cache(str(i), i)
    utils.add_to_cache("large", b"x" * 5000, ttl=0)

    stats = utils.get_memory_stats()

    assert (stats["cache_size"], stats["ttl_entries"], stats["max_cache_size"]) == (10, 9, 10)
    assert 5000 < stats["cache_memory_bytes"] < 6000


def test_expired_entries_are_cleaned_up_on_demand(utils: ExecutionUtils, clock: Clock) -> None:
    utils.add_to_cache("short", 1, ttl=1)
    utils.add_to_cache("long", 2)

    clock.now += 2

    assert utils.cleanup_expired_entries() == 1
    assert utils.get_memory_stats()["cache_size"] == 1


def test_closing_ends_the_thread_that_cleans_up(utils: ExecutionUtils) -> None:
    utils.add_to_cache("key", 1)
    thread = utils._cache._sweeper

    utils.close()

    assert not thread.is_alive()
    assert utils.get_from_cache("key") == 1


def test_hits_and_misses_are_counted(utils: ExecutionUtils) -> None:
    utils.add_to_cache("key", 1)

    for key in ("key", "key", "key", "absent"):
        utils.lookup(key)

    counted = utils.statistics()
    assert (counted["hits"], counted["misses"], counted["hit_rate"]) == (3, 1, 0.75)


# --- health ---------------------------------------------------------------------------------------------


async def test_a_healthy_cache_says_so_and_keeps_its_entries(make: Any) -> None:
    utils = make(cache_size=1)
    utils.add_to_cache("key", 1)

    report = await utils.health_check()

    assert report["status"] == "healthy"
    assert report["cache_size"] == 1
    assert report["timestamp"] == pytest.approx(time.time(), abs=60)
    assert isinstance(report["version"], str)
    assert set(report) == {"status", "timestamp", "cache_size", "version"}
    assert utils.get_from_cache("key") == 1


async def test_a_cache_that_is_off_is_healthy(make: Any) -> None:
    report = await make(cache_size=0).health_check()

    assert (report["status"], report["cache"], report["cache_size"]) == ("healthy", "disabled", 0)


async def test_a_cache_that_loses_what_it_is_given_is_unhealthy(
    utils: ExecutionUtils, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(utils._cache._probe, "put", lambda *_args, **_options: False)

    assert await utils.health_check() == {"status": "unhealthy", "error": "Cache test failed"}


async def test_a_cache_that_raises_is_unhealthy_with_its_error(
    utils: ExecutionUtils, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_options: object) -> None:
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(utils._cache._probe, "put", broken)

    assert await utils.health_check() == {"status": "unhealthy", "error": "disk on fire"}
