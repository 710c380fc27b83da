"""The documents' samples run on the shipped tools and on those of ``tools_of_cases``, in this process or on Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import aiecs_ray
from aiecs_ray import ExecutionUtils, OperationExecutor, Registry, ToolExecutor, tool_executor
from aiecs_ray.tools import TOOLS
from tests.conftest import SETTINGS
from tests.documents.tools_of_cases import Desk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Make = Callable[..., OperationExecutor]

FAST = {"rate_limit_requests_per_second": None}


@pytest.fixture
def local() -> Iterator[aiecs_ray.Runtime]:
    """Return a runtime in this process that knows a desk."""
    with aiecs_ray.connect("inprocess", settings=SETTINGS["inprocess"], registry=Registry()) as runtime:
        runtime.register(Desk)
        yield runtime


@pytest.fixture
def make(local: aiecs_ray.Runtime) -> Make:
    """Make executors on the runtime in this process, without a rate limit unless one is given."""

    def make(utils: ExecutionUtils | None = None, **config: Any) -> OperationExecutor:
        return OperationExecutor(ToolExecutor(runtime=local), utils or ExecutionUtils(), {**FAST, **config})

    return make


@pytest.fixture
def executor(make: Make) -> OperationExecutor:
    return make()


@pytest.fixture
def shipped() -> Registry:
    """Return a registry of the tools that ship, as an import of them makes the default one."""
    registry = Registry()
    for cls in TOOLS:
        registry.register(cls)
    return registry


@pytest.fixture
def documents(shipped: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Let ``ToolExecutor()`` connect in this process, in a folder with the samples' files; return the folder."""
    made: list[aiecs_ray.Runtime] = []

    def connect(**options: Any) -> aiecs_ray.Runtime:
        made.append(aiecs_ray.connect("inprocess", registry=shipped, **options))
        return made[-1]

    monkeypatch.setattr(tool_executor, "connect", connect)
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("data.csv", "data1.csv", "data2.csv")):
        (tmp_path / name).write_text(f"product,amount\npen,{number + 1}.5\nink,{number + 3}.5\n", encoding="utf-8")
    yield tmp_path
    for runtime in made:
        runtime.close()


@pytest.fixture
def on_ray(ray_rt: aiecs_ray.Runtime) -> OperationExecutor:
    """Return an executor on Ray whose runtime knows a desk."""
    ray_rt.register(Desk)
    return OperationExecutor(ToolExecutor(runtime=ray_rt), ExecutionUtils(), FAST)
