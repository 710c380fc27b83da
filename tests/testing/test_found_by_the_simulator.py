"""What the simulator found once, each in a scenario written by hand or in the part that was wrong."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from aiecs_ray.actors.pool import Pool
from aiecs_ray.actors.watch import _runs
from aiecs_ray.config import Settings
from aiecs_ray.messages import Policy, RetryOptions, RunRequest, Step, ToolSpec
from aiecs_ray.testing.scenario import Faults, OperationPlan, RunPlan, Scenario, ToolPlan
from aiecs_ray.testing.simulation import simulate_scenario

SETTINGS = Settings(grace=0.2, init_timeout=5.0)
OPTIONS: dict[str, Any] = {"stateful": False, "max_replicas": 1}
POLICY = Policy("t.op", "t@1", "op", retry=RetryOptions(1, 0.01, 0.01, 0.01), version="1")


def scenario(
    policy: Policy = POLICY, *, seconds: float = 0.001, constructor: str = "builds", **changes: Any
) -> Scenario:
    """Return one run of three steps in sequence; ``changes`` are those of the request, the tool or the faults."""
    faults = Faults(**{name: value for name, value in changes.items() if name in vars(Faults())})
    request = {name: value for name, value in changes.items() if name in RunRequest.__slots__}
    options = {name: value for name, value in changes.items() if name in ("min_replicas", "has_async")}
    spec = ToolSpec("t@1", "t", "tools:t", "1", {**OPTIONS, **options}, has_async=policy.is_async)
    steps = tuple(Step(0, number, digest=b"%d" % number) for number in range(3))
    made = replace(RunRequest(steps, (policy,), client="ann", token="run0"), **request)  # noqa: S106  # no password
    tool = ToolPlan(spec, (OperationPlan(policy, seconds, large=False),), constructor)
    return Scenario(1, SETTINGS, (1.0,), (tool,), [RunPlan(made, "ann", 0.0)], {}, faults, ())


def trace_of(one: Scenario) -> list[str]:
    report = simulate_scenario(one, traced=True)
    assert report.violations == ()
    return list(report.trace)


@pytest.mark.parametrize("silent", [0.0, 1.0], ids=["slow", "silent"])
def test_a_cache_that_does_not_answer_gives_no_step_more_time_and_holds_up_no_run(silent: float) -> None:
    policy = POLICY._replace(cache="on", deadline=0.5)

    trace = trace_of(scenario(policy, cache_slow=1.0, cache_silent=silent))

    assert any("finish sim-run0" in line for line in trace)


def test_the_deadline_of_an_operation_inside_a_segment_is_kept() -> None:
    trace = trace_of(scenario(POLICY._replace(deadline=0.5), hang=1.0))

    assert any("killed" in line for line in trace) or any("cancelled" in line for line in trace)


def test_an_operation_that_only_the_cache_may_answer_runs_in_no_segment() -> None:
    trace = trace_of(scenario(POLICY._replace(cache="only")))

    assert not any("begin" in line for line in trace)


def test_operations_over_their_time_are_ended_together() -> None:
    policy = POLICY._replace(timeout=0.3, is_async=True)
    one = scenario(policy, seconds=4.0, mode="batch", deaf=1.0)

    assert simulate_scenario(one).violations == ()


def test_a_tool_whose_constructor_fails_is_not_made_again_and_again() -> None:
    trace = trace_of(scenario(constructor="raises", min_replicas=1))

    assert sum("create" in line for line in trace) <= 3  # one for each step


def test_a_request_that_is_sent_again_is_known_although_the_coordinator_is_busy() -> None:
    one = scenario(seconds=1.0, mode="batch")
    one.settings = Settings(grace=0.2, init_timeout=5.0, max_queued=3)
    one.runs[0].twice = True

    assert simulate_scenario(one).violations == ()


@pytest.mark.parametrize(
    ("options", "runs"), [({}, False), ({"concurrency": 2}, True)], ids=["one after the other", "side by side"]
)
def test_an_empty_call_hides_none_and_calls_side_by_side_hide_none(options: dict[str, int], runs: bool) -> None:  # noqa: FBT001  # a parameter
    pool = Pool(ToolSpec("t@1", "t", "tools:t", "1", options), SETTINGS)
    emptied, first, second = (SimpleNamespace(open=opened) for opened in ({}, {1: None}, {2: None}))
    member: Any = SimpleNamespace(pool=pool, flights={1: emptied, 2: first, 3: second})

    assert _runs(member, first)  # type: ignore[arg-type]  # what it looks at
    assert _runs(member, second) is runs  # type: ignore[arg-type]
