"""Bad inputs 20 to 37: references from one step to another."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from aiecs_ray.errors import (
    InvalidParamsError,
    ReferenceForbiddenError,
    ReferenceForwardError,
    ReferenceRangeError,
    ReferenceSyntaxError,
)
from tests.contract.bad_inputs import Row, Rows, World, op

ROWS = Rows()
row = ROWS.row
DATA = {"data": [{"name": "Ada", "a.b": 1, "keys": "own"}], "none": None, "n": 5, "text": "abc", "raw": b"abc"}


def malformed(world: World, *texts: str) -> None:
    for text in texts:
        world.refuses(ReferenceSyntaxError, "E007", "Invalid reference", op("subject.give", value=text))


def absent(world: World, text: str, *says: str) -> None:
    """Follow a reference to something that is not there: the body that wants it does not start."""
    before = len(world.ledger)
    result = world.ends(
        f"Reference {text!r}",
        op("subject.give", value=DATA),
        op("subject.note", ledger=world.ledger.path, text=text),
        status="failed",
        code="E007",
    )
    for part in says:
        assert part in str(result.error_message)
    assert len(world.ledger) == before


@row(20, "negative-index")
def _negative(world: World) -> None:
    malformed(world, "$result[-1]")


@row(21, "brackets")
def _brackets(world: World) -> None:
    malformed(world, "$result[0", "$result0]", "$result[]", "$result[0]]", "$result[0].", "$result[0]..a")


@row(22, "huge-index")
def _huge(world: World) -> None:
    for digits in ("99999999999", "9" * 5_000):
        reference = op("subject.give", value=f"$result[{digits}]")
        world.refuses(ReferenceRangeError, "E001", "out of range", reference)


@row(23, "private-names")
def _private(world: World) -> None:
    for path in (".__class__.__mro__", "._secret", ".__dict__", ".data[0].__init__"):
        reference = op("subject.give", value=f"$result[0]{path}")
        world.refuses(ReferenceForbiddenError, "E007", "private", reference)


@row(24, "itself-or-later")
def _forward(world: World) -> None:
    world.refuses(ReferenceForwardError, "E001", "earlier steps", op("subject.give", value="$result[1]"))
    operations = [op("subject.give", value="$result[1]"), op("subject.note", ledger=world.ledger.path)]
    with pytest.raises(ReferenceForwardError, match="can only refer to earlier steps") as caught:
        world.rt.run(operations)
    assert (caught.value.error_code, caught.value.index, len(world.ledger)) == ("E001", 0, 0)


@row(25, "in-parallel-makes-a-graph-by-C-07")
def _parallel(world: World) -> None:
    for mode in ("parallel", "batch"):
        results = world.rt.run([op("subject.give", value=1), op("subject.give", value="$result[0]")], mode)
        assert [result.result for result in results] == [1, 1]
        world.refuses(ReferenceForwardError, "E001", "earlier steps", op("subject.give", value="$result[1]"), mode)


@row(26, "to-a-failed-step")
def _failed(world: World) -> None:
    results = world.rt.run(
        [
            op("subject.fail", text="broken"),
            op("subject.note", ledger=world.ledger.path, text="$result[0]"),
            op("subject.note", ledger=world.ledger.path, text="$result[1]"),
        ]
    )

    assert [(result.status, result.error_code) for result in results[1:]] == [("cancelled", "E007")] * 2
    assert results[1].error_message == "Skipped: step 0 (subject.fail) failed"
    assert len(world.ledger) == 0


@row(27, "absent-path")
def _absent(world: World) -> None:
    absent(world, "$result[0].data[0].nope", "no 'nope' in a value of type dict", "'name'", "'a.b'")
    absent(world, "$result[0].data[7]", "indexes 0 to 0")
    wide = {f"key{n}": n for n in range(100)}
    result = world.ends("no 'x'", op("subject.give", value=wide), op("subject.give", value="$result[0].x"), code="E007")
    assert str(result.error_message).count("'key") == 10


@row(28, "into-a-scalar")
def _scalar(world: World) -> None:
    for name, kind in (("none", "NoneType"), ("n", "int"), ("text", "str"), ("raw", "bytes")):
        absent(world, f"$result[0].{name}.x", f"a value of type {kind}")
        absent(world, f"$result[0].{name}[0]", f"a value of type {kind}")


@row(29, "names-of-methods")
def _methods(world: World) -> None:
    for name in ("keys", "items", "pop"):
        absent(world, f"$result[0].{name}")
    results = world.rt.run([op("subject.give", value=DATA), op("subject.give", value="$result[0].data[0].keys")])
    assert results[1].result == "own"


@row(30, "keys-with-dots")
def _dotted(world: World) -> None:
    absent(world, "$result[0].data[0].a.b", "no 'a'")
    results = world.rt.run([op("subject.give", value=DATA), op("subject.give", value='$result[0].data[0]["a.b"]')])
    assert results[1].result == 1


@row(31, "other-numbers")
def _numbers(world: World) -> None:
    malformed(world, "$result[0.5]", "$result[1e3]", "$result[ 0 ]", "$result[0x1]", "$result[True]", "$result[00]")
    malformed(world, "$result[\N{ARABIC-INDIC DIGIT THREE}]", "$result[0][\N{SUPERSCRIPT TWO}]")


@row(32, "inside-a-text")
def _embedded(world: World) -> None:
    texts = ["total: $result[0]", "$result of it", " $result[0]", "$$result[0]"]
    results = world.rt.run([op("subject.give", value=1), op("subject.give", value=texts)])
    assert results[1].result == [*texts[:3], "$result[0]"]


@row(33, "at-any-depth")
def _nested(world: World) -> None:
    deep: Any = "$result[0].data"
    for _ in range(30):
        deep = {"a": [deep]}
    results = world.rt.run([op("subject.give", value=DATA), op("subject.give", value=(deep, deep))])
    value = results[1].result[1]
    for _ in range(30):
        value = value["a"][0]
    assert value == DATA["data"]


@row(34, "as-a-key")
def _key(world: World) -> None:
    results = world.rt.run([op("subject.give", value=1), op("subject.give", value={"$result[0]": "$result[0]"})])
    assert results[1].result == {"$result[0]": 1}


@row(35, "in-a-result")
def _single_pass(world: World) -> None:
    operations = [
        op("subject.give", value="$$result[0]"),
        op("subject.give", value={"text": "$result[0]"}),
        op("subject.give", value="$result[1].text"),
    ]
    assert [result.result for result in world.rt.run(operations)] == [
        "$result[0]",
        {"text": "$result[0]"},
        "$result[0]",
    ]


@row(36, "ten-thousand")
def _many(world: World) -> None:
    same = ["$result[0]"] * 10_000
    results = world.rt.run([op("subject.give", value=1), op("subject.give", value=same)])
    assert results[1].result == [1] * 10_000
    distinct = [f"$result[0][{n}]" for n in range(257)]
    world.refuses(InvalidParamsError, "E001", "at most 256", op("subject.give", value=distinct))


@dataclass
class Point:
    x: int


class Giver:
    def generator(self) -> Any:
        return (n for n in range(3))

    def reference(self) -> Any:
        ray = sys.modules["ray"]
        return ray.put(1)

    def error(self) -> Any:
        return ValueError("a value")

    def point(self) -> Any:
        return Point(3)


@row(37, "to-what-is-no-value")
def _no_value(world: World) -> None:
    world.register(Giver)
    results = world.rt.run([op("giver.generator"), op("subject.give", value="$result[0]"), op("giver.point")])
    assert [(result.status, result.error_code) for result in results[:2]] == [("failed", "E003"), ("cancelled", "E007")]
    assert "generator" in str(results[0].error_message)
    # An exception that is returned is a value like any other (row 106).
    results = world.rt.run([op("giver.error"), op("subject.give", value="$result[0]")])
    assert re.search("a value", str(results[1].result))


@row(37, "to-a-reference-of-ray", ray=True)
def _reference(world: World) -> None:
    world.register(Giver)
    results = world.rt.run([op("giver.reference"), op("subject.give", value="$result[0]")])
    assert [(result.status, result.error_code) for result in results] == [("failed", "E003"), ("cancelled", "E007")]
    assert "ObjectRef" in str(results[0].error_message)


@pytest.mark.parametrize("row", ROWS.of(ray=False))
def test_a_bad_reference_never_reaches_a_body(world: World, row: Row) -> None:
    row.check(world)

    assert world.give("good") == "good"


@pytest.mark.parametrize("row", ROWS.of(ray=True))
def test_a_bad_reference_never_reaches_a_body_on_ray(ray_world: World, row: Row) -> None:
    row.check(ray_world)

    assert ray_world.give("good") == "good"
