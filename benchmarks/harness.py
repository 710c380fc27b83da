"""Contenders, and how they are measured: warm-up apart, repetitions in turn, every result checked."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.figures import Row, Target, ratio, turns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.world import World


class Contender(NamedTuple):
    """One way to do the work, and what must come out."""

    name: str
    run: Callable[[], object]
    expected: object


class Measured(NamedTuple):
    """What a case found out."""

    samples: dict[str, list[float]]
    """Seconds of each repetition, by contender."""
    rows: list[Row]
    facts: dict[str, Any]
    """What else is worth keeping with the numbers."""


class Case(NamedTuple):
    """One line of the table of cases."""

    name: str
    work: str
    measure: Callable[[World], Measured]


def checked(contender: Contender) -> float:
    """Run once, compare the result and return the seconds.

    Raises:
        AssertionError: the result is not the expected one.
    """
    begun = time.perf_counter()
    result = contender.run()
    seconds = time.perf_counter() - begun
    if result != contender.expected:
        raise AssertionError(f"{contender.name} returned a wrong result: {str(result)[:200]}")
    return seconds


def measure(contenders: Sequence[Contender], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of interleaved repetitions of each contender, after a first one of each that does not count.

    Raises:
        AssertionError: a result is not the expected one.
    """
    known = {contender.name: contender for contender in contenders}
    for contender in contenders:
        checked(contender)
    samples: dict[str, list[float]] = {name: [] for name in known}
    gc.collect()
    # What is there stays: collecting after each repetition looks at what that left behind alone.
    gc.freeze()
    try:
        for repetition in range(repeats):
            for name in turns(list(known), repetition):
                gc.collect()
                samples[name].append(checked(known[name]))
    finally:
        gc.unfreeze()
    return samples


def compare(samples: Mapping[str, list[float]], ours: str, peer: str, target: Target | None = None) -> Row:
    """Return the row that compares two contenders."""
    return Row(f"{ours} / {peer}", ratio(samples[ours], samples[peer]), target=target)


def best(choices: Mapping[Any, Callable[[], object]], tries: int = 3) -> Any:
    """Return which of several ways to do the same is fastest, by the least of a few runs in turn.

    That is how a peer gets its best size before it is measured.
    """
    for run in choices.values():
        run()
    least = dict.fromkeys(choices, float("inf"))
    for repetition in range(tries):
        for choice in turns(list(choices), repetition):
            begun = time.perf_counter()
            choices[choice]()
            least[choice] = min(least[choice], time.perf_counter() - begun)
    return min(least, key=lambda choice: least[choice])
