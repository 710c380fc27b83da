"""What the death of a replica means for the operations that it had been sent: a pure decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aiecs_ray.messages import Mark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiecs_ray.messages import Work


class Fate(NamedTuple):
    """What a death means for one operation."""

    started: bool | None
    """Whether the tool's own code was called; None when nobody can tell."""
    guilty: bool
    """Whether the death counts as an attempt of it: nothing else can have caused it."""
    suspect: bool
    """Whether it may have caused the death, so that it is sent again alone."""


INNOCENT = Fate(started=False, guilty=False, suspect=False)


def judge(work: Work, step: int, first_open: int, marks: Mapping[tuple[int, int], Mark] | None) -> Fate:
    """Return what the death of a replica means for a step of ``work`` whose outcome had not arrived.

    ``marks`` is what the replica's ledger says of all its attempts, None where it cannot be read; ``first_open`` is the
    first step of the work without an outcome. An operation whose body was over, while another's ran, died of nothing,
    though its result is lost. Where several ran side by side, each may be the cause: they are sent again one by one,
    and only a death that an operation dies alone counts as an attempt.

    >>> from aiecs_ray.messages import Item, Work
    >>> work = Work(7, "run", (Item(0, 1, "a", b""), Item(1, 1, "a", b"")))
    >>> judge(work, 1, 0, {(7, 0): Mark.STARTED})
    Fate(started=False, guilty=False, suspect=False)
    >>> judge(work, 0, 0, {(7, 0): Mark.STARTED})
    Fate(started=True, guilty=True, suspect=True)
    """
    if marks is None:
        return _without_marks(work, step, first_open)
    mark = marks.get((work.id, step))
    if mark is None:
        return INNOCENT
    if mark is Mark.DONE:
        # Where nothing else ran, what it left behind may have ended the process, each time that it is run again.
        last = all(other is Mark.DONE for other in marks.values())
        return Fate(started=True, guilty=last and len(work.items) == 1, suspect=last)
    alone = sum(other is not Mark.DONE for other in marks.values()) == 1
    return Fate(started=mark is Mark.STARTED, guilty=alone, suspect=True)


def _without_marks(work: Work, step: int, first_open: int) -> Fate:
    if len(work.items) == 1:
        return Fate(started=None, guilty=True, suspect=True)
    if work.chain and step != first_open:
        # Of a chain one item begins after the other, those that must not run twice once the one before was read;
        # those that may, also while the outcomes before them are on their way.
        repeatable = any(item.step == step and item.idempotent for item in work.items)
        return Fate(started=None, guilty=False, suspect=False) if repeatable else INNOCENT
    return Fate(started=None, guilty=False, suspect=True)
