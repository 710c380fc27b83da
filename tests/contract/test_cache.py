"""The shared cache: who is answered from it, when, and that an answer equals a fresh result.

Runtimes on Ray share one cache, so each test has a user of its own; a ledger counts what really ran.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import Runtime, operation
from aiecs_ray.errors import AiecsError, InvalidInputError, OperationFailedError
from tests.contract.probes import Ledger, eventually, note, op

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(40)


class Opaque:
    """A value without an exact cache key."""


class Archive:
    @operation
    def fetch(self, ledger: str, what: Any = None) -> dict[str, Any]:
        return {"what": what, "run": note(ledger)}

    @operation
    def nothing(self, ledger: str) -> None:
        note(ledger)

    @operation
    def large(self, ledger: str, fill: int) -> bytes:
        note(ledger)
        return bytes([fill]) * 200_000

    @operation(cache=True)
    def always(self, ledger: str) -> int:
        return note(ledger)

    @operation(cache=False)
    def never(self, ledger: str) -> int:
        return note(ledger)

    @operation(idempotent=False)
    def send(self, ledger: str) -> int:
        return note(ledger)

    @operation(ttl=0)
    def fleeting(self, ledger: str) -> int:
        return note(ledger)

    @operation(scope="user")
    def mine(self, ledger: str) -> int:
        return note(ledger)

    @operation(scope="global")
    def everybodys(self, ledger: str) -> int:
        return note(ledger)

    @operation(ignore=("verbose",))
    def quiet(self, ledger: str, *, verbose: bool = False) -> int:
        return note(ledger) + 0 * verbose

    @operation(fingerprint={"path": "mtime"})
    def read(self, ledger: str, path: str) -> str:
        note(ledger)
        with open(path, encoding="utf-8") as file:  # noqa: PTH123  # a plain tool
            return file.read()

    @operation(fingerprint={"path": "content"})
    def parse(self, ledger: str, path: str) -> str:
        note(ledger)
        with open(path, encoding="utf-8") as file:  # noqa: PTH123  # a plain tool
            return file.read()

    @operation
    def fail_once(self, ledger: str) -> int:
        if (runs := note(ledger)) < 2:
            raise ValueError("the first time only")
        return runs

    @operation(ttl=1.5)
    def brief(self, ledger: str, size: int) -> list[Any]:
        return [note(ledger), "x" * size]

    @operation
    def measure(self, data: list[Any]) -> int:
        return int(data[0])

    @operation
    def whose(self, ledger: str, user_id: str = "?") -> list[Any]:
        return [user_id, note(ledger)]


@pytest.fixture
def archive(rt: Runtime) -> Runtime:
    rt.register(Archive)
    return rt


@pytest.fixture
def user() -> str:
    return secrets.token_hex(8)


def test_the_same_call_in_one_context_runs_once(archive: Runtime, ledger: Ledger, user: str) -> None:
    params = {"ledger": ledger.path, "what": {"a": [1, 2]}}

    first = archive.call("archive.fetch", params, user_id=user, task_id="t")
    second = archive.call("archive.fetch", params, user_id=user, task_id="t")

    assert first == second == {"what": {"a": [1, 2]}, "run": 1}
    assert len(ledger) == 1


def test_without_a_context_everything_runs(archive: Runtime, ledger: Ledger) -> None:
    for _ in range(2):
        archive.call("archive.fetch", {"ledger": ledger.path})

    assert len(ledger) == 2


def test_another_user_is_never_answered_with_it(archive: Runtime, ledger: Ledger, user: str) -> None:
    for name in (user, f"{user}2", user, f"{user}2"):
        archive.call("archive.fetch", {"ledger": ledger.path}, user_id=name, task_id="t")

    assert len(ledger) == 2


def test_another_task_is_not_answered_with_it(archive: Runtime, ledger: Ledger, user: str) -> None:
    for task in ("1", "2", "1"):
        archive.call("archive.fetch", {"ledger": ledger.path}, user_id=user, task_id=task)

    assert len(ledger) == 2


def test_user_and_task_are_told_apart(archive: Runtime, ledger: Ledger, user: str) -> None:
    archive.call("archive.fetch", {"ledger": ledger.path}, user_id=user, task_id="x")
    archive.call("archive.fetch", {"ledger": ledger.path}, user_id=f"{user}x", task_id="")
    archive.call("archive.fetch", {"ledger": ledger.path}, user_id="x", task_id=user)

    assert len(ledger) == 3


@pytest.mark.parametrize(("name", "runs"), [("mine", 2), ("everybodys", 1), ("fetch", 4)])
def test_an_operation_says_who_shares_its_results(
    archive: Runtime, ledger: Ledger, user: str, name: str, runs: int
) -> None:
    for who in (user, f"{user}2"):
        for task in ("1", "2"):
            archive.call(f"archive.{name}", {"ledger": ledger.path}, user_id=who, task_id=task)

    assert len(ledger) == runs


def test_a_parameter_cannot_pretend_to_be_another_user(archive: Runtime, ledger: Ledger, user: str) -> None:
    archive.call("archive.whose", {"ledger": ledger.path}, user_id=user)

    answer = archive.call("archive.whose", {"ledger": ledger.path, "user_id": user}, user_id=f"{user}2")
    dropped = archive.call("archive.fetch", {"ledger": ledger.path, "user_id": user}, user_id=f"{user}2")

    assert answer == [user, 2]
    assert dropped["run"] == 3


@pytest.mark.parametrize(
    "values",
    [
        (1, 1.0, True, "1", b"1"),
        ([1, 2], (1, 2), {1, 2}),
        (None, "None", "", 0),
        (0.0, -0.0),
        ({"a": 1}, {"b": 1}, {"a": 2}),
        ([[1], 2], [[1, 2]]),
    ],
    ids=str,
)
def test_different_parameters_are_different_entries(
    archive: Runtime, ledger: Ledger, user: str, values: tuple[Any, ...]
) -> None:
    for value in values:
        archive.call("archive.fetch", {"ledger": ledger.path, "what": value}, user_id=user)

    assert len(ledger) == len(values)


def test_the_order_of_keys_makes_no_difference(archive: Runtime, ledger: Ledger, user: str) -> None:
    archive.call("archive.fetch", {"ledger": ledger.path, "what": {"a": 1, "b": 2}}, user_id=user)
    archive.call("archive.fetch", {"what": {"b": 2, "a": 1}, "ledger": ledger.path}, user_id=user)

    assert len(ledger) == 1


def test_a_parameter_that_is_ignored_makes_no_difference(archive: Runtime, ledger: Ledger, user: str) -> None:
    for verbose in (True, False):
        archive.call("archive.quiet", {"ledger": ledger.path, "verbose": verbose}, user_id=user)

    assert len(ledger) == 1


def test_nothing_is_a_result_too(archive: Runtime, ledger: Ledger, user: str) -> None:
    answers = [archive.call("archive.nothing", {"ledger": ledger.path}, user_id=user) for _ in range(3)]

    assert answers == [None, None, None]
    assert len(ledger) == 1


def test_a_large_result_is_answered_whole(archive: Runtime, ledger: Ledger, user: str) -> None:
    answers = [archive.call("archive.large", {"ledger": ledger.path, "fill": 7}, user_id=user) for _ in range(2)]

    assert answers == [b"\x07" * 200_000] * 2
    assert len(ledger) == 1


def test_a_large_parameter_is_part_of_the_key(archive: Runtime, ledger: Ledger, user: str) -> None:
    values = [b"a" * 200_000, b"b" * 200_000, b"a" * 200_000]

    answers = [
        archive.call("archive.fetch", {"ledger": ledger.path, "what": value}, user_id=user)["what"] for value in values
    ]

    assert answers == values
    assert len(ledger) == 2


def test_an_answer_is_private(archive: Runtime, ledger: Ledger, user: str) -> None:
    params = {"ledger": ledger.path, "what": [1]}
    archive.call("archive.fetch", params, user_id=user)

    archive.call("archive.fetch", params, user_id=user)["what"].append("changed")

    assert archive.call("archive.fetch", params, user_id=user)["what"] == [1]


def test_a_value_without_a_key_is_not_cached_and_the_run_says_so(archive: Runtime, ledger: Ledger, user: str) -> None:
    operations = [op("archive.fetch", ledger=ledger.path, what=Opaque())]
    archive.run(operations, user_id=user)

    run = archive.submit(operations, user_id=user)
    completed = next(event for event in run.events() if event.kind == "step_completed")

    assert "Opaque" in completed.data["uncacheable"]
    assert len(ledger) == 2


@pytest.mark.parametrize(("name", "runs"), [("always", 1), ("never", 2), ("send", 2), ("fleeting", 2)])
def test_an_operation_says_whether_it_is_cached(
    archive: Runtime, ledger: Ledger, user: str, name: str, runs: int
) -> None:
    context = {} if name == "always" else {"user_id": user}

    for _ in range(2):
        archive.call(f"archive.{name}", {"ledger": ledger.path}, **context)  # type: ignore[arg-type]

    assert len(ledger) == runs


def test_a_failure_is_never_cached(archive: Runtime, ledger: Ledger, user: str) -> None:
    with pytest.raises(OperationFailedError):
        archive.call("archive.fail_once", {"ledger": ledger.path}, user_id=user)

    assert archive.call("archive.fail_once", {"ledger": ledger.path}, user_id=user) == 2


def test_off_neither_reads_nor_writes(archive: Runtime, ledger: Ledger, user: str) -> None:
    for cache in ("off", "on", "off", "on", False, True):
        archive.call("archive.fetch", {"ledger": ledger.path}, user_id=user, cache=cache)

    assert len(ledger) == 4


def test_on_caches_without_a_context(archive: Runtime, ledger: Ledger) -> None:
    for _ in range(2):
        archive.call("archive.fetch", {"ledger": ledger.path}, cache="on")

    assert len(ledger) == 1


def test_refresh_runs_again_and_replaces_the_entry(archive: Runtime, ledger: Ledger, user: str) -> None:
    params = {"ledger": ledger.path}

    modes: tuple[Any, ...] = ("on", "refresh", "on")
    runs = [archive.call("archive.fetch", params, user_id=user, cache=mode)["run"] for mode in modes]

    assert runs == [1, 2, 2]


def test_only_answers_or_fails_and_runs_nothing(archive: Runtime, ledger: Ledger, user: str) -> None:
    params = {"ledger": ledger.path}

    with pytest.raises(AiecsError, match="not in the cache") as caught:
        archive.call("archive.fetch", params, user_id=user, cache="only")
    assert (caught.value.error_code, len(ledger)) == ("E003", 0)
    archive.call("archive.fetch", params, user_id=user)

    assert archive.call("archive.fetch", params, user_id=user, cache="only")["run"] == 1


def test_only_means_only_without_a_key_too(archive: Runtime, ledger: Ledger, user: str) -> None:
    with pytest.raises(AiecsError):
        archive.call("archive.fetch", {"ledger": ledger.path, "what": Opaque()}, user_id=user, cache="only")

    assert len(ledger) == 0


def test_a_run_may_be_answered_in_part(archive: Runtime, ledger: Ledger, user: str) -> None:
    def operations(last: int) -> list[dict[str, Any]]:
        return [op("archive.fetch", ledger=ledger.path, what=n) for n in (1, 2, last)]

    archive.run(operations(3), "batch", user_id=user)
    results = archive.run(operations(4), "batch", user_id=user)

    assert [result.result["what"] for result in results] == [1, 2, 4]
    assert len(ledger) == 4


@pytest.mark.parametrize("size", [1, 200_000], ids=["small", "large"])
def test_what_reads_a_cached_result_is_cached_too(archive: Runtime, ledger: Ledger, user: str, size: int) -> None:
    operations = [
        op("archive.fetch", ledger=ledger.path, what="x" * size),
        op("archive.fetch", ledger=ledger.path, what="$result[0].what"),
    ]

    first = archive.run(operations, user_id=user)
    second = archive.run(operations, user_id=user)

    assert [result.result for result in first] == [result.result for result in second]
    assert len(ledger) == 2


@pytest.mark.parametrize("size", [1, 200_000], ids=["small", "large"])
def test_what_reads_a_new_result_runs_again(archive: Runtime, ledger: Ledger, user: str, size: int) -> None:
    def operations(letter: str) -> list[dict[str, Any]]:
        first = op("archive.fetch", ledger=ledger.path, what=letter * size)
        return [first, op("archive.fetch", ledger=ledger.path, what="$result[0].what")]

    archive.run(operations("a"), user_id=user)
    results = archive.run(operations("b"), user_id=user)

    assert results[1].result["what"] == "b" * size
    assert len(ledger) == 4


@pytest.mark.parametrize("size", [1, 200_000], ids=["small", "large"])
def test_what_reads_a_result_that_was_made_anew_after_its_time_runs_again(
    archive: Runtime, ledger: Ledger, user: str, size: int
) -> None:
    operations = [op("archive.brief", ledger=ledger.path, size=size), op("archive.measure", data="$result[0]")]
    archive.run(operations, user_id=user)

    again = archive.run(operations, user_id=user)
    eventually(lambda: not archive.cache.explain("archive.brief", operations[0]["params"], user_id=user).hit)
    anew = archive.run(operations, user_id=user)

    assert [result.result for result in (again[1], anew[1])] == [1, 2]


@pytest.mark.parametrize("name", ["read", "parse"])
def test_a_file_that_changed_is_read_again(
    archive: Runtime, ledger: Ledger, user: str, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "data.txt"
    texts: list[str] = []
    params = {"ledger": ledger.path, "path": str(path)}

    for text in ("one", "one", "two"):
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            os.utime(path, ns=(0, 10**9 * (1 + len(text) + len(texts))))
        texts.append(archive.call(f"archive.{name}", params, user_id=user))

    assert texts == ["one", "one", "two"]
    assert len(ledger) == 2


def test_a_touched_file_counts_by_its_time_or_by_its_content(
    archive: Runtime, ledger: Ledger, user: str, tmp_path: Path
) -> None:
    path = tmp_path / "data.txt"
    path.write_text("same")
    params = {"ledger": ledger.path, "path": str(path)}
    runs = []

    for name in ("read", "parse"):
        for seconds in (1, 2):
            os.utime(path, (seconds, seconds))
            archive.call(f"archive.{name}", params, user_id=user)
        runs.append(len(ledger))

    assert runs == [2, 3]


def test_a_file_that_is_missing_fails_and_is_not_cached(
    archive: Runtime, ledger: Ledger, user: str, tmp_path: Path
) -> None:
    path = tmp_path / "late.txt"
    params = {"ledger": ledger.path, "path": str(path)}

    with pytest.raises(OperationFailedError, match="No such file"):
        archive.call("archive.read", params, user_id=user)
    path.write_text("here")

    assert archive.call("archive.read", params, user_id=user) == "here"


def test_the_cache_counts(archive: Runtime, ledger: Ledger, user: str) -> None:
    before = archive.cache.stats()

    for _ in range(3):
        archive.call("archive.fetch", {"ledger": ledger.path}, user_id=user)

    after = archive.cache.stats()
    assert {name: after[name] - before[name] for name in ("hits", "misses", "entries")} == {
        "hits": 2,
        "misses": 1,
        "entries": 1,
    }
    assert after["bytes"] > before["bytes"]
    assert archive.stats()["cache"] == after


def test_entries_are_invalidated_by_what_they_are(archive: Runtime, ledger: Ledger, user: str) -> None:
    params = {"ledger": ledger.path}
    for name in ("fetch", "nothing"):
        for task in ("1", "2"):
            archive.call(f"archive.{name}", params, user_id=user, task_id=task)

    gone = [
        archive.cache.invalidate(user_id=user, task_id="1", operation="archive.fetch"),
        archive.cache.invalidate(user_id=f"{user}-nobody"),
        archive.cache.invalidate(tool="archive", user_id=user),
    ]

    assert gone == [1, 0, 3]
    archive.call("archive.fetch", params, user_id=user, task_id="1")
    assert len(ledger) == 5


def test_everything_is_cleared(archive: Runtime, ledger: Ledger, user: str) -> None:
    archive.call("archive.fetch", {"ledger": ledger.path}, user_id=user)

    gone = archive.cache.clear()

    assert gone >= 1
    assert archive.cache.stats()["entries"] == 0
    archive.call("archive.fetch", {"ledger": ledger.path}, user_id=user)
    assert len(ledger) == 2


def test_invalidating_without_saying_what_is_refused(archive: Runtime) -> None:
    with pytest.raises(InvalidInputError):
        archive.cache.invalidate()


def test_changed_code_is_not_answered_with_results_of_the_old(archive: Runtime, ledger: Ledger, user: str) -> None:
    def make(answer: str) -> type:
        class Sage:
            def ask(self, ledger: str) -> str:
                note(ledger)
                return answer

        return Sage

    answers = []
    for answer in ("old", "new", "old"):
        archive.register(make(answer), replace=True)
        answers.append(archive.call("sage.ask", {"ledger": ledger.path}, user_id=user))

    assert answers == ["old", "new", "old"]
    assert len(ledger) in (2, 3)
