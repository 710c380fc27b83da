"""What holds for every test and every example in a docstring."""

from __future__ import annotations

import gc
import logging
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


@pytest.fixture(autouse=True)
def _logs_of_one_test() -> Iterator[None]:
    """What a test says of logs, by itself or by a command that it runs, holds until its end."""
    loggers = [logging.getLogger(name) for name in ("aiecs_ray", "aiecs")]
    before = [(one.level, one.propagate, list(one.handlers)) for one in loggers]
    yield
    for one, (level, propagate, handlers) in zip(loggers, before, strict=True):
        for handler in [handler for handler in one.handlers if handler not in handlers]:
            one.removeHandler(handler)
            handler.close()
        one.setLevel(level)
        one.propagate = propagate
