"""The history on Ray is an actor of its own: it may die, and runs go on."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

import aiecs_ray
from aiecs_ray.config import Settings
from aiecs_ray.messages import PROTOCOL
from tests.contract.probes import eventually, op

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ray = pytest.importorskip("ray")

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]
NAMESPACE = "history_actor"


class Scribe:
    def give(self, value: Any = None) -> Any:
        return value


@pytest.fixture
def rt(ray_cluster: str, tmp_path: Path) -> Iterator[aiecs_ray.Runtime]:  # noqa: ARG001  # it must run
    settings = Settings(namespace=NAMESPACE, history_url=f"sqlite:///{tmp_path}/history.sqlite3")
    with aiecs_ray.connect(settings=settings, registry=aiecs_ray.Registry()) as rt:
        rt.register(Scribe, num_cpus=0)
        yield rt
    for kind in ("coordinator", "cache", "history"):
        ray.kill(ray.get_actor(f"aiecs_ray_{kind}_v{PROTOCOL}", NAMESPACE))


def pid_of_history() -> int:
    """Return the process of the actor, once it is there."""
    actor = ray.get_actor(f"aiecs_ray_history_v{PROTOCOL}", NAMESPACE)
    found: list[int] = []

    def answers() -> bool:
        with contextlib.suppress(ray.exceptions.RayActorError):
            found.append(ray.get(actor.__ray_call__.remote(lambda _: os.getpid())))
        return bool(found)

    eventually(answers, 60)
    return found[0]


def test_runs_go_on_when_the_history_is_killed_and_nothing_is_lost(rt: aiecs_ray.Runtime, tmp_path: Path) -> None:
    rt.run([op("scribe.give", value=0)])
    first = pid_of_history()

    runs = []
    for number in range(5):
        os.kill(pid_of_history(), signal.SIGKILL)
        results = rt.run([op("scribe.give", value=number), op("scribe.give", value="$result[0]")])
        runs.append([one.result for one in results])

    assert runs == [[number, number] for number in range(5)]
    eventually(lambda: rt.request("write_history"), 60)
    recorded = [rt.history.run(run.id) for run in rt.history.runs()]
    assert [len(record.steps) for record in recorded] == [2, 2, 2, 2, 2, 1]
    assert all(record.run.status == "completed" for record in recorded)
    for record in recorded:
        numbers = [event.number for event in record.events()]
        assert numbers == list(range(len(numbers)))
    assert rt.stats()["history"]["lost"] == 0
    assert pid_of_history() != first
    assert sqlite3.connect(tmp_path / "history.sqlite3").execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_a_private_cluster_recorded_is_there_for_the_next(rt: aiecs_ray.Runtime) -> None:
    rt.run([op("scribe.give", value=1)] * 3, user_id="next")
    rt.close()

    settings = Settings(namespace=NAMESPACE)
    with aiecs_ray.connect(settings=settings, registry=aiecs_ray.Registry()) as again:
        assert [run.steps for run in again.history.runs(user="next")] == [3]
