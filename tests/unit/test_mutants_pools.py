"""How many replicas a tool may have, and how long the shared cache keeps what an operation limits."""

from __future__ import annotations

import pytest

from aiecs_ray.actors.cache import Cache
from aiecs_ray.actors.pool import Pool
from aiecs_ray.backend import CacheEntry
from aiecs_ray.config import Settings
from aiecs_ray.messages import ToolSpec

SETTINGS = Settings()


@pytest.mark.parametrize(
    ("options", "most"),
    [({"stateful": True, "max_replicas": 4}, 1), ({"max_replicas": 4}, 4), ({}, 8)],
    ids=["stateful", "limited", "as many as there are CPUs"],
)
def test_a_tool_has_as_many_replicas_as_it_may(options: dict[str, object], most: int) -> None:
    pool = Pool(ToolSpec("t@1", "t", "tools:Tool", "1", options), SETTINGS)

    view = pool.view(8)

    assert view.most == most


@pytest.mark.parametrize(("ttl", "kept"), [(5.0, False), (50.0, True), (None, True)], ids=str)
def test_a_cached_value_lives_as_long_as_its_operation_says(ttl: float | None, kept: bool) -> None:  # noqa: FBT001  # a parameter
    now = 0.0
    cache = Cache(SETTINGS, adopt=lambda payload: payload, clock=lambda: now)
    cache.put_many([CacheEntry("key", b"value", 5, b"", ttl=ttl)])

    now = 10.0

    assert (cache.get_many(["key"])[0] is not None) == kept
