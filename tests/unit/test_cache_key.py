from __future__ import annotations

import itertools
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiecs_ray.keys import UNCACHEABLE, cache_key, digest, generate_cache_key


class Unknown:
    pass


COMMON: dict[str, Any] = {
    "tool": "stats",
    "operation": "mean",
    "version": "1",
    "scope": "task",
    "owner": ("alice", "t1"),
    "params": digest({"x": 1}),
    "inputs": ((b"id", b"path"),),
    "fingerprints": (("file", 1.5),),
}


def test_every_part_of_an_operation_is_in_its_key() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"tool": "pandas"},
        {"operation": "median"},
        {"version": "2"},
        {"scope": "user"},
        {"scope": "global"},
        {"owner": ("bob", "t1")},
        {"owner": ("alice", "t2")},
        {"owner": ("alice", None)},
        {"owner": (None, "t1")},
        {"owner": ("t1", "alice")},
        {"params": digest({"x": 2})},
        {"inputs": ()},
        {"inputs": ((b"id",), (b"path",))},
        {"inputs": ((b"idpath",),)},
        {"fingerprints": ()},
        {"fingerprints": (("file", 2.5),)},
    ]

    keys = {cache_key(**{**COMMON, **change}) for change in changes}

    assert len(keys) == len(changes)
    assert all(len(key) == 64 and int(key, 16) >= 0 for key in keys)


def test_a_scope_leaves_out_what_it_does_not_need() -> None:
    def key(scope: str, user: str, task: str) -> str:
        return cache_key(**{**COMMON, "scope": scope, "owner": (user, task)})

    assert key("user", "alice", "t1") == key("user", "alice", "t2") != key("user", "bob", "t1")
    assert key("global", "alice", "t1") == key("global", "bob", "t2")


def test_an_unknown_scope_is_refused() -> None:
    with pytest.raises(ValueError, match="scope"):
        cache_key(**{**COMMON, "scope": "everyone"})


ids = st.one_of(st.text(max_size=4), st.sampled_from(["", "a", "a:b", "a\0b", "a/b", "\ud800", "x" * 1_000_000]))


@given(st.tuples(*[ids] * 5), st.tuples(*[ids] * 5))
@settings(max_examples=200, deadline=None)
def test_adversarial_ids_never_collide(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    def key(tool: str, operation: str, version: str, user: str, task: str) -> str:
        return cache_key(tool=tool, operation=operation, version=version, scope="task", owner=(user, task), params=b"p")

    assert (key(*one) == key(*other)) == (one == other)


def test_moving_text_between_ids_makes_another_key() -> None:
    texts = ["ab", "", "a", "b", "a:b"]
    combinations = list(itertools.product(texts, repeat=5))

    keys = {
        cache_key(tool=a, operation=b, version=c, scope="task", owner=(d, e), params=b"")
        for a, b, c, d, e in combinations
    }

    assert len(keys) == len(combinations)


def test_the_documents_key_is_the_same_for_any_order_of_keywords_and_without_self() -> None:
    key = generate_cache_key("f", "u", "t", (1, 2), {"a": 1, "b": 2})

    assert key == generate_cache_key("f", "u", "t", (1, 2), {"b": 2, "self": object(), "a": 1})
    assert not key.startswith(UNCACHEABLE)
    assert isinstance(key, str)


def test_the_documents_key_tells_all_its_parts_apart() -> None:
    calls: list[tuple[Any, ...]] = [
        ("f", "u", "t", (), {}),
        ("g", "u", "t", (), {}),
        ("f", "v", "t", (), {}),
        ("f", "u", "s", (), {}),
        ("f", "t", "u", (), {}),
        ("f", "u", "t", (1,), {}),
        ("f", "u", "t", (1.0,), {}),
        ("f", "u", "t", ([1],), {}),
        ("f", "u", "t", ((1,),), {}),
        ("f", "u", "t", (), {"a": 1}),
        ("f", "u", "t", ({"a": 1},), {}),
        ("f", "u", "t", (), {"a": {"b": [1, {"c": None}]}}),
    ]

    assert len({generate_cache_key(*call) for call in calls}) == len(calls)


def test_ignored_keywords_do_not_count() -> None:
    keys = {generate_cache_key("f", "u", "t", (), {"a": 1, "timestamp": n}, ignore={"timestamp"}) for n in range(3)}

    assert keys == {generate_cache_key("f", "u", "t", (), {"a": 1})}


def test_a_call_without_an_exact_key_gets_one_that_is_never_met_again() -> None:
    keys = {generate_cache_key("f", "u", "t", (Unknown(),), {}) for _ in range(100)}

    assert len(keys) == 100
    assert all(key.startswith("uncacheable:") for key in keys)


def test_strict_keys_raise_instead() -> None:
    with pytest.raises(TypeError, match="Unknown"):
        generate_cache_key("f", "u", "t", (), {"a": [Unknown()]}, strict=True)
    with pytest.raises(ValueError, match="tuple"):
        generate_cache_key("f", "u", "t", "args", {}, strict=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dict"):
        generate_cache_key("f", "u", "t", (), [], strict=True)  # type: ignore[arg-type]

    assert generate_cache_key("f", "u", "t", (1,), {}, strict=True) == generate_cache_key("f", "u", "t", (1,), {})


PROGRAM = """
import sys
from aiecs_ray.keys import cache_key, digest, generate_cache_key
import decimal, fractions, pathlib, uuid, datetime
words = [str(n) for n in range(50)]
values = [None, 1, 1.5, -0.0, "a", b"a", (1, "b"), dict.fromkeys(words), set(words), frozenset(words),
          {"k": set(words)},
          decimal.Decimal("1.50"), fractions.Fraction(1, 3), pathlib.PurePosixPath("a"), uuid.UUID(int=5),
          datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc), [list(range(5000))]]
assert not {"numpy", "pandas", "pyarrow", "ray"} & set(sys.modules)
print(digest(values).hex(), generate_cache_key("f", "u", "t", (values,), {"a": 1, "b": 2}),
      cache_key(tool="t", operation="o", version="v", scope="task", owner=("u", None), params=digest(values)))
"""


def test_keys_are_the_same_in_every_process_and_import_no_frames() -> None:
    outputs = [
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path.cwd())},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4711")
    ]

    assert len(set(outputs)) == 1
    assert len(set(outputs[0].split())) == 3


def test_a_released_key_never_changes() -> None:
    """A cache outlives a process: change the encoding together with its version only."""
    value = {"a": [1, 1.5, "x", None, True], "b": (b"y", {2}), "c": Decimal("1.0")}

    assert digest(value).hex() == "f1da6a12cbab30ef0c90c7a6d9f0971f841e43f5710a5ee5cb49b79a67b76cf5"
