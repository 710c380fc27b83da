"""What rt.cache tells of the shared cache, and what it does to it."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any

import pytest

import aiecs_ray
from aiecs_ray import Runtime, inprocess, operation
from aiecs_ray.actors.cache import Cache
from aiecs_ray.errors import AiecsError, InvalidInputError
from tests.contract.probes import Ledger, note, op

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(40)


class Opaque:
    """A value without an exact cache key."""


class Library:
    @operation(tags=("nightly", "slow"))
    def read(self, ledger: str, what: Any = None) -> Any:
        note(ledger)
        return what

    @operation(fingerprint={"path": "mtime"})
    def load(self, ledger: str, path: str) -> str:
        note(ledger)
        with open(path, encoding="utf-8") as file:  # noqa: PTH123  # a plain tool
            return file.read()

    @operation(ttl=lambda result: result["keep"])
    def choose(self, ledger: str, keep: Any) -> dict[str, Any]:
        note(ledger)
        return {"keep": keep}

    @operation(cache=False)
    def never(self) -> int:
        return 1

    @operation(idempotent=False)
    def send(self) -> int:
        return 1

    @operation
    def fail(self) -> int:
        raise ValueError("no")


@pytest.fixture
def library(rt: Runtime) -> Runtime:
    rt.register(Library)
    return rt


@pytest.fixture
def user() -> str:
    return secrets.token_hex(8)


# --- stats ---------------------------------------------------------------------------------------------------------


def of(library: Runtime, name: str) -> dict[str, Any]:
    return dict(library.cache.stats()["operations"].get(name, dict.fromkeys(("hits", "misses", "uncacheable"), 0)))


def test_hits_and_misses_are_counted_by_operation(library: Runtime, ledger: Ledger, user: str) -> None:
    before = {name: of(library, name) for name in ("library.read", "library.choose")}

    for _ in range(3):
        library.call("library.read", {"ledger": ledger.path}, user_id=user)
    library.call("library.choose", {"ledger": ledger.path, "keep": None}, user_id=user)

    after = {name: of(library, name) for name in before}
    counts = {name: tuple(after[name][kind] - before[name][kind] for kind in ("hits", "misses")) for name in before}
    assert counts == {"library.read": (2, 1), "library.choose": (0, 1)}


def test_what_is_uncacheable_is_counted_by_reason(library: Runtime, ledger: Ledger, user: str) -> None:
    before = of(library, "library.read")["uncacheable"]

    library.call("library.read", {"ledger": ledger.path, "what": Opaque()}, user_id=user)

    stats = library.cache.stats()
    assert of(library, "library.read")["uncacheable"] - before == 1
    assert any("Opaque" in reason for reason in stats["uncacheable"])


def test_hits_save_the_seconds_that_the_work_took(library: Runtime, ledger: Ledger, user: str) -> None:
    library.call("library.read", {"ledger": ledger.path}, user_id=user)
    before = library.cache.stats()["seconds_saved"]

    library.call("library.read", {"ledger": ledger.path}, user_id=user)

    assert library.cache.stats()["seconds_saved"] > before


# --- the time to live as a function ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "runs"), [(0, 2), (60, 1), (None, 1), ("no time", 2)])
def test_a_result_may_say_for_how_long_it_holds(
    library: Runtime, ledger: Ledger, user: str, keep: Any, runs: int
) -> None:
    params = {"ledger": ledger.path, "keep": keep}

    for _ in range(2):
        library.call("library.choose", params, user_id=user)

    assert len(ledger) == runs


def test_the_time_that_a_result_says_is_that_of_its_entry(library: Runtime, ledger: Ledger, user: str) -> None:
    params = {"ledger": ledger.path, "keep": 60}
    library.call("library.choose", params, user_id=user)

    explained = library.cache.explain("library.choose", params, user_id=user)

    assert 50 < explained.entry["expires_in"] <= 60


def test_the_counters_quote_no_result_and_no_key_of_a_parameter(library: Runtime, ledger: Ledger, user: str) -> None:
    library.call("library.choose", {"ledger": ledger.path, "keep": "a secret of hers"}, user_id=user)
    library.call("library.read", {"ledger": ledger.path, "what": {"ann@example.com": Opaque()}}, user_id=user)

    told = str(library.cache.stats()["uncacheable"])

    assert "Opaque" in told
    assert "a secret of hers" not in told
    assert "ann@example.com" not in told


def test_a_ttl_function_that_fails_is_told(library: Runtime, ledger: Ledger, user: str) -> None:
    run = library.submit([op("library.choose", ledger=ledger.path, keep="no time")], user_id=user)

    completed = next(event.data for event in run.events() if event.kind == "step_completed")

    assert "ttl function returned no number of seconds, but a value of type str" in completed["uncacheable"]


# --- explain ---------------------------------------------------------------------------------------------------------


def test_a_hit_is_explained_with_its_entry(library: Runtime, ledger: Ledger, user: str) -> None:
    params = {"ledger": ledger.path, "what": [1, 2]}
    library.call("library.read", params, user_id=user, task_id="t")

    explained = library.cache.explain("library.read", params, user_id=user, task_id="t")

    assert (explained.cacheable, explained.hit, explained.differs) == (True, True, ())
    assert explained.entry["summary"] == "list of 2"
    assert (explained.parts["user"], explained.parts["task"], explained.parts["scope"]) == (user, "t", "task")
    assert len(ledger) == 1


def test_explaining_changes_nothing(library: Runtime, ledger: Ledger, user: str) -> None:
    library.call("library.read", {"ledger": ledger.path}, user_id=user)
    before = library.cache.stats()

    for who in (user, f"{user}2"):
        library.cache.explain("library.read", {"ledger": ledger.path}, user_id=who)

    assert library.cache.stats() == before
    assert len(ledger) == 1


def test_nothing_in_the_cache_is_explained(library: Runtime, ledger: Ledger, user: str) -> None:
    library.cache.invalidate(operation="library.read")

    explained = library.cache.explain("library.read", {"ledger": ledger.path}, user_id=user)

    assert (explained.cacheable, explained.hit, explained.differs) == (True, False, ())
    assert "nothing of this operation" in str(explained)


def test_a_miss_names_the_parts_that_differ_from_the_nearest_entry(library: Runtime, ledger: Ledger, user: str) -> None:
    params = {"ledger": ledger.path, "what": 1}
    library.cache.clear()
    library.call("library.read", {"ledger": f"{ledger.path}-2", "what": 2}, user_id=f"{user}3")
    library.call("library.read", params, user_id=user, task_id="t")

    differs = [
        library.cache.explain("library.read", params, user_id=f"{user}2", task_id="t").differs,
        library.cache.explain("library.read", params, user_id=user, task_id="u").differs,
        library.cache.explain("library.read", {**params, "what": 2}, user_id=user, task_id="t").differs,
        library.cache.explain("library.read", {**params, "what": 1.0}, user_id=user, task_id="u").differs,
    ]

    assert differs == [("user",), ("task",), ("params",), ("params", "task")]


def test_a_file_that_changed_is_named(library: Runtime, ledger: Ledger, user: str, tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text("one")
    params = {"ledger": ledger.path, "path": str(path)}
    library.cache.clear()
    library.call("library.load", params, user_id=user)

    os.utime(path, ns=(0, 10**9))
    explained = library.cache.explain("library.load", params, user_id=user)

    assert explained.differs == ("files",)
    assert explained.parts["files"] == [str(path)]
    assert "a file has changed" in explained.reason
    path.unlink()
    assert not library.cache.explain("library.load", params, user_id=user).cacheable


def test_code_that_changed_is_named(library: Runtime, user: str) -> None:
    def make(answer: str) -> type:
        class Sage:
            def ask(self) -> str:
                return answer

        return Sage

    library.register(make("old"))
    library.call("sage.ask", user_id=user)
    library.register(make("new"), replace=True)

    assert library.cache.explain("sage.ask", user_id=user).differs == ("code",)


@pytest.mark.parametrize(
    ("name", "params", "reason"),
    [
        ("never", {}, "cache=False"),
        ("send", {}, "not idempotent"),
        ("read", {"ledger": "", "what": Opaque()}, "Opaque"),
    ],
)
def test_why_something_is_not_cached_at_all(
    library: Runtime, user: str, name: str, params: dict[str, Any], reason: str
) -> None:
    explained = library.cache.explain(f"library.{name}", params, user_id=user)

    assert (explained.cacheable, explained.hit) == (False, False)
    assert reason in explained.reason


def test_without_a_context_the_reason_is_that(library: Runtime) -> None:
    assert "no user_id or task_id" in library.cache.explain("library.read", {"ledger": ""}).reason


def test_what_no_tool_offers_cannot_be_explained(library: Runtime) -> None:
    with pytest.raises(AiecsError):
        library.cache.explain("library.burn")


# --- invalidate ------------------------------------------------------------------------------------------------------


def test_entries_are_invalidated_by_the_tags_of_their_operation(library: Runtime, ledger: Ledger, user: str) -> None:
    library.call("library.read", {"ledger": ledger.path}, user_id=user)
    library.call("library.choose", {"ledger": ledger.path, "keep": None}, user_id=user)

    gone = [library.cache.invalidate(tag=tag, user_id=user) for tag in ("daily", "nightly", "slow")]

    assert gone == [0, 1, 0]
    assert library.cache.invalidate(user_id=user) == 1


# --- warm ------------------------------------------------------------------------------------------------------------


def test_warming_up_runs_only_what_is_missing(library: Runtime, ledger: Ledger, user: str) -> None:
    operations = [op("library.read", ledger=ledger.path, what=n) for n in range(4)]
    library.call("library.read", operations[0]["params"], user_id=user)

    first = library.cache.warm(operations, user_id=user)
    second = library.cache.warm(operations, user_id=user)

    assert (first.warmed, first.cached, first.failed) == (3, 1, ())
    assert (second.warmed, second.cached, second.failed) == (0, 4, ())
    assert len(ledger) == 4
    assert library.call("library.read", operations[3]["params"], user_id=user, cache="only") == 3


def test_warming_up_reports_what_fails_and_does_not_run_what_cannot_be_cached(
    library: Runtime, ledger: Ledger, user: str
) -> None:
    operations = [
        op("library.fail"),
        op("library.never"),
        op("library.read", ledger=ledger.path, what=Opaque()),
        op("library.burn"),
        op("library.read", ledger=ledger.path),
    ]

    report = library.cache.warm(operations, user_id=user)

    assert (report.warmed, report.cached) == (1, 0)
    assert [name for name, _ in report.failed] == ["library.fail", "library.never", "library.read", "library.burn"]
    assert "cannot be cached" in report.failed[1][1]
    assert "Opaque" in report.failed[2][1]
    assert len(ledger) == 1


def test_warming_up_needs_a_list(library: Runtime) -> None:
    with pytest.raises(InvalidInputError):
        library.cache.warm("library.read")


# --- health and memory -----------------------------------------------------------------------------------------------


def test_a_cache_that_answers_is_healthy(library: Runtime, ledger: Ledger, user: str) -> None:
    library.call("library.read", {"ledger": ledger.path}, user_id=user)
    before = library.cache.stats()

    report = library.cache.health_check()

    assert report["status"] == "healthy"
    assert report["cache_size"] == before["entries"]
    assert library.cache.stats() == before


def test_a_cache_that_is_gone_is_not_healthy(library: Runtime) -> None:
    library.close()

    assert library.cache.health_check()["status"] == "unhealthy"


def test_the_memory_is_that_of_the_values_and_their_records(library: Runtime, ledger: Ledger, user: str) -> None:
    before = library.cache.get_memory_stats()

    library.call("library.read", {"ledger": ledger.path, "what": b"x" * 500_000}, user_id=user)

    after = library.cache.get_memory_stats()
    assert after["cache_size"] == before["cache_size"] + 1
    assert after["ttl_entries"] == before["ttl_entries"] + 1
    assert 500_000 < after["cache_memory_bytes"] - before["cache_memory_bytes"] < 510_000
    assert after["max_cache_size"] == 10_000


# --- how much is said ------------------------------------------------------------------------------------------------


def test_a_batch_of_a_thousand_costs_a_few_messages(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, user: str) -> None:
    asked: list[int] = []
    stored: list[int] = []

    class Counting(Cache):
        def get_many(self, keys: Any, operations: Any = ()) -> Any:
            asked.append(len(keys))
            return super().get_many(keys, operations)

        def put_many(self, entries: Any) -> None:
            stored.append(len(entries))
            super().put_many(entries)

    monkeypatch.setattr(inprocess, "Cache", Counting)
    with aiecs_ray.connect("inprocess", registry=aiecs_ray.Registry()) as rt:
        rt.register(Library)
        operations = [op("library.read", ledger=ledger.path, what=n) for n in range(1_000)]

        for _ in range(2):
            rt.run(operations, "batch", user_id=user)

    assert asked == [1_000, 1_000]
    assert sum(stored) == 1_000
    assert len(stored) < 200
