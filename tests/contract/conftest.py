"""What the rows of bad inputs work with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.bad_inputs import Subject, World

if TYPE_CHECKING:
    from pathlib import Path

    from aiecs_ray import Runtime
    from tests.contract.probes import Gate, Ledger


@pytest.fixture
def world(  # noqa: PLR0913, PLR0917  # what it is made of
    rt: Runtime, backend: str, ledger: Ledger, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> World:
    """Return a runtime of either backend with a tool on it."""
    made = World(rt, backend, ledger, gate, tmp_path, monkeypatch)
    made.register(Subject)
    return made


@pytest.fixture
def ray_world(ray_rt: Runtime, ledger: Ledger, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a runtime on Ray with a tool on it."""
    made = World(ray_rt, "ray", ledger, gate, tmp_path, monkeypatch)
    made.register(Subject)
    return made
