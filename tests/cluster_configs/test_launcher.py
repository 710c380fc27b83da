"""``ray-cluster.yaml`` is what ``ray up`` accepts, and the cluster it starts asks for a token."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The schema that ``ray up`` checks with; found without importing Ray."""
    found = importlib.util.find_spec("ray")
    assert found is not None
    assert found.origin is not None
    text = (Path(found.origin).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def test_the_configuration_follows_rays_schema(launcher: dict[str, Any], schema: dict[str, Any]) -> None:
    errors = [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(launcher)]

    assert errors == []


def test_the_head_is_one_of_the_node_types_and_the_workers_fit(launcher: dict[str, Any]) -> None:
    types = launcher["available_node_types"]
    workers = [node for name, node in types.items() if name != launcher["head_node_type"]]

    assert launcher["head_node_type"] in types
    assert all(0 <= node["min_workers"] <= node["max_workers"] for node in workers)
    assert sum(node["min_workers"] for node in workers) <= launcher["max_workers"]


def test_tools_run_on_workers_only(launcher: dict[str, Any]) -> None:
    head = launcher["available_node_types"][launcher["head_node_type"]]

    assert head["resources"] == {"CPU": 0}


def test_every_node_gets_the_token_and_asks_for_it(launcher: dict[str, Any]) -> None:
    assert "--env RAY_AUTH_MODE=token" in launcher["docker"]["run_options"]
    assert ("/home/ray/.ray/auth_token", "~/.ray/auth_token") in launcher["file_mounts"].items()


def test_no_port_of_the_dashboard_is_open_to_others(launcher: dict[str, Any]) -> None:
    start = launcher["head_start_ray_commands"][-1]

    assert re.findall(r"--dashboard-host=(\S+)", start) == ["127.0.0.1"]


def test_workers_join_the_port_the_head_listens_on(launcher: dict[str, Any]) -> None:
    port = re.search(r"--port=(\d+)", launcher["head_start_ray_commands"][-1])
    assert port is not None

    assert f"--address=$RAY_HEAD_IP:{port[1]} " in launcher["worker_start_ray_commands"][-1]
