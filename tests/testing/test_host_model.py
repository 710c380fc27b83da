"""The simulator's model of a tool's host and the host itself say the same, script by script.

A script is some work, how each of its bodies ends, and questions that are asked while a body runs. The host runs it in a
thread whose bodies wait to be let go; the model in virtual time.
"""

from __future__ import annotations

import asyncio
import random
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from aiecs_ray import operation, packing
from aiecs_ray.actors.tool import Large, ToolHost
from aiecs_ray.definition import describe
from aiecs_ray.messages import ErrorInfo, Item, Outcome, ToolSpec, Work
from aiecs_ray.running import cancelled
from aiecs_ray.testing import FakeClock
from aiecs_ray.testing.host_model import HostModel, LargeValue
from aiecs_ray.testing.virtual_time import VirtualLoop

if TYPE_CHECKING:
    from aiecs_ray.backend import Stopped
    from aiecs_ray.testing.host_model import ModelBody

SCRIPTS, BLOCK = 400, 100
LIMIT = 1000
"""Bytes from which a value is large."""


class Question(NamedTuple):
    """What is asked while a body runs."""

    kind: str
    """"status", "collect" or "stop"."""
    ask: tuple[int, ...] = ()


class Course(NamedTuple):
    """How one body goes."""

    ending: str
    """"value", "large", "error", or "obeys": it raises if it was asked to end."""
    seconds: float
    questions: tuple[Question, ...]


class Script(NamedTuple):
    """Some work and the courses of its bodies."""

    work: Work
    courses: tuple[Course, ...]
    hold: bool


def draw(seed: int) -> Script:
    rng = random.Random(seed)
    count = rng.choice((1, 2, 3, 5))
    chain, once = rng.random() < 0.5 and count > 1, rng.random() < 0.4
    items, courses = [], []
    for step in range(count):
        idempotent = not (once and rng.random() < 0.5)
        items.append(Item(step, 1, "repeatable" if idempotent else "once", step, (), idempotent))
        questions = [_question(rng, count) for _ in range(rng.choice((0, 0, 1, 2)))]
        ending = rng.choice(("value", "value", "value", "large", "error", "obeys"))
        courses.append(Course(ending, rng.choice((0.0001, 0.0001, 0.01)), tuple(questions)))
    work = Work(1, "run", tuple(items), (), chain)
    return Script(work, tuple(courses), hold=not chain and rng.random() < 0.5)


def _question(rng: random.Random, count: int) -> Question:
    kind = rng.choice(("status", "collect", "stop"))
    ask = tuple(step for step in range(count) if kind == "stop" and rng.random() < 0.4)
    return Question(kind, ask)


# --- the host --------------------------------------------------------------------------------------------------------


class Stage:
    """Where bodies of the host say that they run, and wait to be let go."""

    def __init__(self) -> None:
        self.entered: SimpleQueue[int | None] = SimpleQueue()
        self.let_go: dict[int, threading.Event] = {}
        self.courses: tuple[Course, ...] = ()

    def play(self, step: int) -> Any:
        self.entered.put(step)
        assert self.let_go[step].wait(10)
        course = self.courses[step]
        if course.ending == "error" or (course.ending == "obeys" and cancelled()):
            raise ValueError("the script says so")
        return bytes(LIMIT * 2) if course.ending == "large" else step


STAGE = Stage()


class Scripted:
    """The tool of the scripts."""

    @operation
    def repeatable(self, step: int) -> Any:
        return STAGE.play(step)

    @operation(idempotent=False)
    def once(self, step: int) -> Any:
        return STAGE.play(step)


def of_host(script: Script) -> list[object]:
    """Run a script on the host and return everything that it said, in order."""
    clock = FakeClock()
    spec = ToolSpec("s@1", "scripted", f"{__name__}:Scripted", "1", dict(describe(Scripted, "scripted").options._asdict()))
    raise NotImplementedError(spec, clock)
