"""The simulator's model of a tool's host and the host itself say the same, script by script.

A script is some work, how each of its bodies ends, and questions that are asked while a body runs. The host runs it in
a thread whose bodies wait to be let go; the model in virtual time.
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
from aiecs_ray.messages import Elided, ErrorInfo, Item, Outcome, ToolSpec, Work
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
    rng = random.Random(seed)  # noqa: S311  # reproducible, not secret
    count = rng.choice((1, 2, 3, 5))
    chain, once = rng.random() < 0.5 and count > 1, rng.random() < 0.4
    items, courses = [], []
    for step in range(count):
        idempotent = not (once and rng.random() < 0.5)
        left_out = idempotent and rng.random() < 0.3
        items.append(Item(step, 1, "repeatable" if idempotent else "once", step, (), idempotent, left_out=left_out))
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
    clock, said = FakeClock(), []
    spec = ToolSpec("s@1", "scripted", f"{__name__}:Scripted", "1")
    host = ToolHost(spec, fetch=lambda packed: packed, report=lambda *_: None, inline_limit=LIMIT, clock=clock)
    assert host.start() is None
    STAGE.courses = script.courses
    STAGE.let_go = {item.step: threading.Event() for item in script.work.items}
    items = tuple(
        item._replace(params=packing.to_payload(packing.pack({"step": item.step}))) for item in script.work.items
    )

    def serve() -> None:
        for delivery in host.stream(script.work._replace(items=items), hold=script.hold):
            said.append(_delivered(delivery.outcomes))  # noqa: PERF401  # what is answered meanwhile goes between them
        STAGE.entered.put(None)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    while (step := STAGE.entered.get(timeout=10)) is not None:
        said.extend(_answer(host, question) for question in script.courses[step].questions)
        clock.advance(script.courses[step].seconds)
        STAGE.let_go[step].set()
    thread.join(10)
    return said


def of_model(script: Script) -> list[object]:
    """Run a script on the model and return everything that it said, in order."""
    loop, said = VirtualLoop(), []

    async def run_body(body: ModelBody, _: Work, item: Item, __: dict[int, Any]) -> Outcome:
        course = script.courses[item.step]
        said.extend(_answer(host, question) for question in course.questions)
        await asyncio.sleep(course.seconds)
        seconds = loop.time() - body.since
        if course.ending == "error" or (course.ending == "obeys" and body.asked):
            kind = "cancelled" if body.asked else "error"
            return Outcome(item.step, 1, kind, error=ErrorInfo("E003", ""), seconds=seconds)  # type: ignore[arg-type]
        value = LargeValue(0) if course.ending == "large" else 0
        return Outcome(item.step, 1, "value", value, seconds=seconds)

    async def serve() -> None:
        async for outcomes in host.stream(script.work, hold=script.hold):
            said.append(_delivered(outcomes))  # noqa: PERF401  # what is answered meanwhile goes between them

    host = HostModel(run_body, is_async=lambda _: False, clock=loop.time)
    loop.run_until_complete(serve())
    loop.close()
    return said


def _answer(host: ToolHost | HostModel, question: Question) -> object:
    if question.kind == "status":
        return "status", [(one.work, one.step) for one in host.status()]
    stopped: Stopped = host.collect(1) if question.kind == "collect" else host.stop(1, question.ask)
    return question.kind, stopped.running, stopped.begun, _delivered(stopped.outcomes)


def _delivered(outcomes: Any) -> list[tuple[int, str, str]]:
    return [(one.step, one.kind, _form(one.payload)) for one in outcomes]


def _form(payload: object) -> str:
    if payload is Elided.ELIDED:
        return "left out"
    return "large" if type(payload) in (Large, LargeValue) else "small"


@pytest.mark.parametrize("first", range(0, SCRIPTS, BLOCK))
def test_model_and_host_say_the_same(first: int) -> None:
    for seed in range(first, first + BLOCK):
        script = draw(seed)

        expected = of_host(script)

        assert of_model(script) == expected, f"seed {seed}: {script}"


def test_the_scripts_reach_what_is_worth_comparing() -> None:
    said = [entry for seed in range(SCRIPTS) for entry in of_model(draw(seed))]

    answers = [entry for entry in said if type(entry) is tuple and entry[0] != "status"]
    assert any(answer[3] for answer in answers), "outcomes that were held back"
    assert any(len(answer[2]) > 1 for answer in answers), "work of which several have begun"
    assert any(type(entry) is list and len(entry) > 1 for entry in said), "several outcomes in one delivery"
    assert any(kind == "cancelled" for entry in said if type(entry) is list for _, kind, _ in entry)
    assert any(form == "left out" for entry in said if type(entry) is list for *_, form in entry)
