"""Who watches an event loop blames a tool only where one runs."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

import pytest

from aiecs_ray.actors import loop_watch

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.timeout(20)


def blocked_while_asked(running: Sequence[str], caplog: pytest.LogCaptureFixture) -> list[str]:
    """Block a loop until its watcher has asked what runs; return what was logged by the time it answers again."""
    loop = asyncio.new_event_loop()
    asked = threading.Event()

    def names() -> Sequence[str]:
        asked.set()
        return running

    def block() -> None:
        asked.wait()
        loop.stop()

    with caplog.at_level(logging.WARNING):
        loop.call_soon(block)
        loop_watch.watch_loop(loop, names)
        loop.run_forever()
    loop.close()
    return [record.getMessage() for record in caplog.records]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_watch, "PATIENCE", 0.02)


def test_nobody_is_blamed_where_nothing_runs(caplog: pytest.LogCaptureFixture) -> None:
    assert blocked_while_asked([], caplog) == []
