"""One Ray cluster for the whole session, and runtimes on it or without it."""

from __future__ import annotations

import gc
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import aiecs_ray
from aiecs_ray.config import Settings
from tests.contract.probes import Gate, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SETTINGS = {"inprocess": Settings(grace=0.1, init_pause=0), "ray": Settings(grace=0.3, init_pause=0)}
BACKENDS = ("inprocess", pytest.param("ray", marks=pytest.mark.ray))


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the history out of the home folder of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


SLOW = ("cli", "packaging", "testing")
"""Folders whose tests start programs or simulate for long: they run apart from the quick ones."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(folder) and item.path.relative_to(folder).parts[0] in SLOW:
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """Thousands of collected tests stay for good: without them each garbage collection is much shorter."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def ray_cluster(own_state: Path) -> Iterator[str]:  # noqa: ARG001  # Ray's processes inherit it
    """Start Ray and return its address."""
    importlib.import_module("aiecs_ray.ray_cluster")  # it says how Ray's workers start, before Ray is imported
    ray: Any = importlib.import_module("ray")
    ray.init(
        "local",
        num_cpus=2,
        object_store_memory=200 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        configure_logging=False,
    )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Name the backend that a test runs on; a test that takes it runs on both."""
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return str(request.param)


@pytest.fixture
def connect(backend: str) -> Iterator[Callable[[], aiecs_ray.Runtime]]:
    """Make runtimes that know no tools yet; those of Ray share one coordinator."""
    runtimes: list[aiecs_ray.Runtime] = []

    def connect() -> aiecs_ray.Runtime:
        address = "inprocess" if backend == "inprocess" else None
        runtimes.append(aiecs_ray.connect(address, settings=SETTINGS[backend], registry=aiecs_ray.Registry()))
        return runtimes[-1]

    yield connect
    for runtime in runtimes:
        runtime.close()


@pytest.fixture
def rt(connect: Callable[[], aiecs_ray.Runtime]) -> aiecs_ray.Runtime:
    """Return a runtime that knows no tools yet."""
    return connect()


@pytest.fixture
def ray_rt(ray_cluster: str) -> Iterator[aiecs_ray.Runtime]:  # noqa: ARG001  # it must run
    """Return a runtime on Ray that knows no tools yet."""
    with aiecs_ray.connect(settings=SETTINGS["ray"], registry=aiecs_ray.Registry()) as runtime:
        yield runtime


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Return a file in which tools count what they do."""
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Return a gate; it opens for good when the test ends."""
    with Gate() as gate:
        yield gate
