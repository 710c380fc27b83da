"""Which steps run again when large results are lost, and as what request."""

from __future__ import annotations

import asyncio
from typing import Any

from aiecs_ray.actors.remaking import Remaking, closure, request_again
from aiecs_ray.messages import Input, Policy, RunRequest, Step


def step(*needs: int, objects: tuple[int, ...] = ()) -> Step:
    inputs = [Input("step", place) for place in needs] + [Input("object", place) for place in objects]
    return Step(0, b"params", tuple(inputs), after=(0,))


STEPS = (step(), step(0), step(1, objects=(0,)), step(2), step(0, 2))


def request() -> RunRequest:
    policy = Policy("t.op", "t@1", "op", cache="on")
    return RunRequest(STEPS, (policy,), objects=("put",), object_ids=(b"id",), keep="last", deadline=5.0)


def test_a_lost_result_needs_its_step_alone_where_the_inputs_are_at_hand() -> None:
    assert closure(STEPS, [3], lambda _: True) == [3]


def test_what_is_not_at_hand_is_made_as_well_in_the_order_of_the_steps() -> None:
    assert closure(STEPS, [3], lambda place: place == 1) == [2, 3]
    assert closure(STEPS, [4], lambda _: False) == [0, 1, 2, 4]


def test_a_result_that_is_lost_is_not_at_hand() -> None:
    assert closure(STEPS, [2, 3], lambda _: True) == [2, 3]


def test_the_request_reads_the_other_results_as_objects() -> None:
    again = request_again(request(), [2, 4], {4}, lambda place: f"result {place}")

    first, second = (one.inputs for one in again.steps)
    assert again.objects == ("put", "result 1", "result 0")
    assert first == (Input("object", 1), Input("object", 0))
    assert second == (Input("object", 2), Input("step", 0))


def test_the_request_runs_everything_and_keeps_what_was_lost() -> None:
    again = request_again(request(), [2, 3], {3}, str)

    assert (again.mode, again.keep, again.deadline) == ("parallel", (1,), None)
    assert all(one.after == () for one in again.steps)
    assert [policy.cache for policy in again.policies] == ["off"]
    assert len(again.object_ids) == len(again.objects)


class Reader:
    """A run whose step 1 reads the large result of step 0, which was made anew meanwhile."""

    def __init__(self) -> None:
        self.request = request()
        self.settled = [None] * len(STEPS)
        self.payloads = {0: "made anew"}
        self.resumed: list[int] = []
        self.went_on = asyncio.Event()

    def set_aside(self, step: int) -> list[int]:
        return [step]

    def resume(self, steps: list[int]) -> None:
        self.resumed += steps
        self.went_on.set()


async def test_a_step_that_was_sent_a_result_since_made_anew_is_only_sent_again() -> None:
    run: Any = Reader()
    remaking = Remaking(run, lambda *_: 1 / 0)  # type: ignore[arg-type, return-value]  # nothing is to be begun

    waits = remaking.wait_for(1, 0, "the lost one")
    await asyncio.wait_for(run.went_on.wait(), 10)

    assert waits
    assert run.resumed == [1]
