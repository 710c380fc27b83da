"""What ``connect`` is given is checked before Ray is imported, and nothing is silently ignored."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import aiecs_ray
from aiecs_ray.config import Settings
from aiecs_ray.errors import InvalidInputError, RuntimeUnavailableError


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where Ray's side would be imported."""

    def refuse(name: str) -> Any:
        raise AssertionError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("inproces", r"'inproces' is neither .* \(did you mean 'inprocess'\?\)"),
        ("Local", r"did you mean 'local'"),
        ("somewhere", r"'somewhere' is neither 'local', 'auto', 'inprocess' nor 'host:port'$"),
        ("host:port", "is neither"),
        ("ray://host", "is neither"),
        (":6379", "is neither"),
        ("", "must be"),
        (5, "must be"),
    ],
)
def test_an_address_of_no_known_form_is_refused_at_once(address: Any, text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        aiecs_ray.connect(address)


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"address": "inprocess", "num_cpus": 2}, "num_cpus sizes a private cluster"),
        ({"address": "h:1", "object_store_memory": 10**9}, "object_store_memory sizes a private cluster"),
        ({"num_cpus": -3}, "num_cpus must be a whole number from 1 on, got -3"),
        ({"object_store_memory": 1.5}, "object_store_memory must be a whole number"),
        ({"settings": {"window": 3}}, r"settings must be aiecs_ray.config.Settings\(...\), got a value of type dict"),
        ({"runtime_env": "pip"}, "runtime_env must be a dict, got pip"),
    ],
)
def test_an_argument_that_is_wrong_or_means_nothing_is_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        aiecs_ray.connect(**arguments)


@pytest.mark.ray
def test_ray_that_does_not_start_is_an_error_of_ours_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster: Any = importlib.import_module("aiecs_ray.ray_cluster")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(cluster._joined, "auth_mode", None)
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)

    def init(**_: Any) -> None:
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        raise Exception("The current node timed out during startup.")  # noqa: TRY002  # as Ray does

    monkeypatch.setattr(cluster.ray, "init", init)

    with pytest.raises(RuntimeUnavailableError, match="cannot start Ray on this machine: The current node timed out"):
        cluster.join("local", Settings(), num_cpus=1, object_store_memory=None)

    assert cluster.os.environ["RAY_AUTH_MODE"] == "disabled"
