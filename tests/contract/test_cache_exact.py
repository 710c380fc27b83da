"""A hit equals a fresh result: whatever a result depends on makes another key, or nothing is stored."""

from __future__ import annotations

import gc
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import aiecs_ray
from aiecs_ray import Runtime, inprocess, local_replica, operation
from tests.contract.probes import Gate, Ledger, eventually, note, op, visit, visit_async

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(60)


class Scale:
    def __init__(self, factor: int = 1) -> None:
        self.factor = factor

    @operation(cache=True)
    def weigh(self, x: int, name: str) -> tuple[int, str]:
        return self.factor * x, name

    @operation(cache=True)
    def length(self, text: str) -> int:
        return len(text)


@pytest.fixture
def user() -> str:
    return f"user-{secrets.token_hex(4)}"


# --- config and environment ------------------------------------------------------------------------------------------


def test_a_tool_with_another_config_does_not_get_the_results_of_the_old_one(rt: Runtime, user: str) -> None:
    params = {"x": 10, "name": user}
    rt.register(Scale, config={"factor": 2})
    first = rt.call("scale.weigh", params)

    rt.register(Scale, config={"factor": 3})
    explained = rt.cache.explain("scale.weigh", params)
    second = rt.call("scale.weigh", params)

    assert (first[0], second[0]) == (20, 30)
    assert explained.differs == ("config",)
    assert "config is another" in explained.reason
    assert explained.parts["config"]


def test_the_same_config_is_the_same_key_for_every_client(connect: Callable[[], Runtime], user: str) -> None:
    first, second = connect(), connect()
    keys = []
    for rt, config in ((first, {"factor": 2}), (second, {"factor": 2}), (second, {}), (first, {"factor": 2.0})):
        rt.register(Scale, config=config)
        keys.append(rt.cache.explain("scale.weigh", {"x": 1, "name": user}).key)

    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_another_environment_is_another_key(rt: Runtime, user: str) -> None:
    def key(environment: dict[str, Any] | None) -> str | None:
        rt.register(Scale, runtime_env=environment)
        return rt.cache.explain("scale.weigh", {"x": 1, "name": user}).key

    plain = key(None)
    german = key({"env_vars": {"LANG": "de"}})
    patient = key({"env_vars": {"LANG": "de"}, "config": {"setup_timeout_seconds": 60}})

    assert len({plain, german, key({"env_vars": {"LANG": "fr"}})}) == 3
    assert patient == german


# --- references ------------------------------------------------------------------------------------------------------


class Stock:
    @operation(cache=False)
    def take(self, value: int) -> list[int]:
        return [value]


class Press:
    @operation(cache=True, ignore=("label",))
    def put(self, ledger: str, value: int, label: Any = None) -> tuple[int, int, Any]:
        return value, note(ledger), label


@pytest.mark.parametrize("size", [1, 100_000])
def test_what_an_ignored_parameter_refers_to_or_holds_is_no_part_of_the_key(
    rt: Runtime, ledger: Ledger, size: int
) -> None:
    rt.register(Stock)
    rt.register(Press)

    def run(made: int, label: Any) -> Any:
        put = op("press.put", ledger=ledger.path, value="$result[0][0]", label=label)
        return rt.run([op("stock.take", value=7), op("stock.take", value=made), put])[2].result

    first, second, third = run(1, "$result[1][0]"), run(2, "$result[1]"), run(3, "x" * size)

    assert [result[:2] for result in (first, second, third)] == [(7, 1)] * 3


def test_what_another_parameter_refers_to_is(rt: Runtime, ledger: Ledger) -> None:
    rt.register(Stock)
    rt.register(Press)
    put = op("press.put", ledger=ledger.path, value="$result[0][0]")

    values = [rt.run([op("stock.take", value=made), put])[1].result[0] for made in (1, 2)]

    assert values == [1, 2]


# --- files -----------------------------------------------------------------------------------------------------------


class Reader:
    @operation(cache=True, fingerprint={"path": "content"}, ignore=("gate",))
    def read(self, ledger: str, path: str, gate: int = 0) -> str:
        note(ledger)
        if gate:
            visit(gate)
        return Path(path).read_text(encoding="utf-8")

    @operation(cache=True, fingerprint={"path": "mtime"}, ignore=("gate",))
    async def read_async(self, ledger: str, path: str, gate: int = 0) -> str:
        note(ledger)
        if gate:
            await visit_async(gate)
        return Path(path).read_text(encoding="utf-8")  # noqa: ASYNC240  # a small file

    @operation(cache=True, fingerprint={"path": "mtime"})
    def names(self, ledger: str, path: str) -> list[str]:
        note(ledger)
        return sorted(str(one) for one in Path(path).rglob("*"))


@pytest.mark.parametrize("name", ["read", "read_async"])
def test_a_file_that_changes_while_it_is_read_leaves_nothing_in_the_cache(
    rt: Runtime, ledger: Ledger, gate: Gate, tmp_path: Path, name: str
) -> None:
    rt.register(Reader)
    path = tmp_path / "data.txt"
    path.write_text("one")
    os.utime(path, (1, 1))
    params = {"ledger": ledger.path, "path": str(path)}

    run = rt.submit([op(f"reader.{name}", **params, gate=gate.port)])
    visitor = gate.arrival()
    path.write_text("two")
    visitor.let_go()
    during = run.result()[0].result
    path.write_text("one")
    os.utime(path, (1, 1))

    assert during == "two"
    ended = next(event for event in run.events() if event.kind == "step_completed")
    assert ended.data["uncacheable"] == "a file that it reads changed while it ran"
    assert rt.call(f"reader.{name}", params) == "one"
    assert len(ledger) == 2


def test_a_file_that_does_not_change_is_read_once(rt: Runtime, ledger: Ledger, tmp_path: Path) -> None:
    rt.register(Reader)
    (tmp_path / "data.txt").write_text("one")
    params = {"ledger": ledger.path, "path": str(tmp_path / "data.txt")}

    read = [rt.call(f"reader.{name}", params) for name in ("read", "read", "read_async", "read_async")]

    assert read == ["one"] * 4
    assert len(ledger) == 2


def test_a_change_anywhere_beneath_a_folder_is_seen(rt: Runtime, ledger: Ledger, tmp_path: Path) -> None:
    rt.register(Reader)
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a").write_text("old")
    params = {"ledger": f"{ledger.path}", "path": str(folder)}
    rt.call("reader.names", params)

    (folder / "deep" / "a").write_text("newer")
    rt.call("reader.names", params)
    rt.call("reader.names", params)

    assert len(ledger) == 2


# --- time ------------------------------------------------------------------------------------------------------------


class Clock:
    @operation(cache=True, ttl=0.3)
    def now(self, ledger: str) -> int:
        return note(ledger)

    @operation
    def rest(self, seconds: float) -> None:
        time.sleep(seconds)


def test_a_run_uses_what_it_found_or_stored_only_within_its_time(rt: Runtime, ledger: Ledger) -> None:
    rt.register(Clock)
    now, rest = op("clock.now", ledger=ledger.path), op("clock.rest", seconds=0.5)

    stored = [step.result for step in rt.run([now, rest, now])]
    found = [step.result for step in rt.run([rest, now])]

    assert stored == [1, None, 2]
    assert found == [None, 3]


# --- refresh ---------------------------------------------------------------------------------------------------------


class Draft:
    @operation(cache=True, ttl=lambda runs: 100 if runs == 1 else 0)
    def write(self, ledger: str) -> int:
        return note(ledger)

    @operation(cache=True, ttl=lambda runs: 100 if runs == 1 else "never")
    def fail(self, ledger: str) -> int:
        return note(ledger)


@pytest.mark.parametrize("name", ["write", "fail"])
def test_a_refresh_that_stores_nothing_takes_the_old_entry_away(rt: Runtime, ledger: Ledger, name: str) -> None:
    rt.register(Draft)
    params = {"ledger": ledger.path}

    ran = [rt.call(f"draft.{name}", params, cache=cache) for cache in (None, None, "refresh", None)]

    assert ran == [1, 1, 2, 3]


def test_a_step_after_a_refresh_reads_what_the_refresh_made(rt: Runtime, ledger: Ledger, user: str) -> None:
    rt.register(Survey)
    read = op("survey.measure", ledger=ledger.path, gate=0)
    before = rt.run([read], user_id=user)

    results = rt.run([read | {"cache": "refresh"}, read, read], user_id=user)

    assert [result.result for result in [*before, *results]] == [1, 2, 2, 2]


# --- invalidating what is under way ----------------------------------------------------------------------------------


class Survey:
    @operation(cache=True, tags=("land",), ignore=("gate",))
    def measure(self, ledger: str, gate: int) -> int:
        runs = note(ledger)
        if gate:
            visit(gate)
        return runs


class Waiter:
    @operation
    def wait(self, gate: int) -> None:
        visit(gate)


def test_what_was_begun_before_an_invalidation_is_neither_stored_nor_joined_after_it(
    rt: Runtime, ledger: Ledger, gate: Gate
) -> None:
    rt.register(Survey, max_replicas=2)
    measure = [op("survey.measure", ledger=ledger.path, gate=gate.port)]
    before = rt.submit(measure)
    visitor = gate.arrival()
    joined = rt.submit(measure)
    eventually(lambda: rt.stats()["joining"] == 1)

    rt.cache.invalidate(tag="land")
    after = rt.submit(measure)
    gate.arrival().let_go()
    after.wait()
    visitor.let_go()

    assert [run.result()[0].result for run in (before, joined, after)] == [1, 1, 2]
    assert rt.call("survey.measure", {"ledger": ledger.path, "gate": 0}) == 2


def test_an_invalidation_of_something_else_changes_nothing(rt: Runtime, ledger: Ledger, gate: Gate) -> None:
    rt.register(Survey, max_replicas=2)
    measure = [op("survey.measure", ledger=ledger.path, gate=gate.port)]
    before = rt.submit(measure)
    visitor = gate.arrival()

    rt.cache.invalidate(tag="sea")
    joined = rt.submit(measure)
    eventually(lambda: rt.stats()["joining"] == 1)
    visitor.let_go()

    assert [run.result()[0].result for run in (before, joined)] == [1, 1]
    assert rt.call("survey.measure", {"ledger": ledger.path, "gate": 0}) == 1


def test_a_run_does_not_answer_from_what_was_invalidated_while_it_ran(rt: Runtime, ledger: Ledger, gate: Gate) -> None:
    rt.register(Survey)
    rt.register(Waiter)
    measure = op("survey.measure", ledger=ledger.path, gate=0)

    run = rt.submit([measure, op("waiter.wait", gate=gate.port), measure])
    visitor = gate.arrival()
    rt.cache.invalidate(tool="survey")
    visitor.let_go()

    assert [step.result for step in run.result()][::2] == [1, 2]


# --- memory ----------------------------------------------------------------------------------------------------------


class Watched(local_replica.LocalRef):
    """A reference of which the test sees whether anybody holds it."""


def test_a_run_that_has_ended_holds_nothing_that_only_its_steps_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inprocess, "LocalRef", Watched)
    with aiecs_ray.connect("inprocess", registry=aiecs_ray.Registry()) as rt:
        rt.register(Scale)
        run = rt.submit([op("scale.length", text="x" * 200_000), op("scale.length", text="y")])
        run.wait()

        # The thread that ran the last step may yet be on its way back.
        eventually(lambda: not [one for one in gc.get_objects() if type(one) is Watched])
        assert run.status() == "completed"
