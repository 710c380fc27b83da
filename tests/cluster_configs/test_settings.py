"""``local.yaml`` holds settings that aiecs-ray has, and values it takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from aiecs_ray.config import PREFIX, Settings

LOCAL = Path(__file__).parents[2] / "cluster-configs" / "local.yaml"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def test_the_settings_load_and_are_the_ones_in_the_file() -> None:
    settings = Settings.load(LOCAL, env_file=None)

    written = yaml.safe_load(LOCAL.read_text(encoding="utf-8"))

    assert {name: getattr(settings, name) for name in written} == written


def test_the_settings_take_less_than_the_defaults() -> None:
    local, default = Settings.load(LOCAL, env_file=None), Settings()

    assert local.cache_bytes == 64 * 2**20
    assert default.cache_bytes is None
    assert local.result_fraction < default.result_fraction
    assert local.idle_timeout < default.idle_timeout
