"""What holds for every test and every example in a docstring."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import hypothesis
import pytest

from aiecs_ray.registry import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterator


# How long drawing and running one example takes says more about the machine than about the code.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the garbage collector need not look through it after each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _tools_of_one_test() -> Iterator[None]:
    """A tool that a test registers is gone after it."""
    known = dict(DEFAULT._tools)  # noqa: SLF001  # the registry has no public way to forget
    yield
    DEFAULT._tools.clear()  # noqa: SLF001
    DEFAULT._tools.update(known)  # noqa: SLF001
