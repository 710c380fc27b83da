"""A hit equals a fresh result: whatever a result depends on makes another key, or nothing is stored."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs_ray import Runtime

pytestmark = pytest.mark.timeout(60)


class Scale:
    def __init__(self, factor: int = 1) -> None:
        self.factor = factor

    @operation(cache=True)
    def weigh(self, x: int, name: str) -> tuple[int, str]:
        return self.factor * x, name


@pytest.fixture
def user() -> str:
    return f"user-{secrets.token_hex(4)}"


# --- config and environment ------------------------------------------------------------------------------------------


def test_a_tool_with_another_config_does_not_get_the_results_of_the_old_one(rt: Runtime, user: str) -> None:
    params = {"x": 10, "name": user}
    rt.register(Scale, config={"factor": 2})
    first = rt.call("scale.weigh", params)

    rt.register(Scale, config={"factor": 3})
    explained = rt.cache.explain("scale.weigh", params)
    second = rt.call("scale.weigh", params)

    assert (first[0], second[0]) == (20, 30)
    assert explained.differs == ("config",)
    assert "config is another" in explained.reason
    assert explained.parts["config"]


def test_the_same_config_is_the_same_key_for_every_client(connect: Callable[[], Runtime], user: str) -> None:
    first, second = connect(), connect()
    keys = []
    for rt, config in ((first, {"factor": 2}), (second, {"factor": 2}), (second, {}), (first, {"factor": 2.0})):
        rt.register(Scale, config=config)
        keys.append(rt.cache.explain("scale.weigh", {"x": 1, "name": user}).key)

    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_another_environment_is_another_key(rt: Runtime, user: str) -> None:
    def key(environment: dict[str, Any] | None) -> str | None:
        rt.register(Scale, runtime_env=environment)
        return rt.cache.explain("scale.weigh", {"x": 1, "name": user}).key

    plain = key(None)
    german = key({"env_vars": {"LANG": "de"}})
    patient = key({"env_vars": {"LANG": "de"}, "config": {"setup_timeout_seconds": 60}})

    assert len({plain, german, key({"env_vars": {"LANG": "fr"}})}) == 3
    assert patient == german
