"""How a run goes, in lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aiecs_ray.pictures.elements import clean, counted, duration, number
from aiecs_ray.pictures.palette import look

if TYPE_CHECKING:
    from aiecs_ray.run_view import RunView, StepView

RUNNING = 4
"""Steps under way that are shown one by one."""
FAILURES = 3
BAR = 30
"""Characters of the bar."""
NAME = 40


class Line(NamedTuple):
    """A line and what it is: "head", "failed" or "running"."""

    text: str
    kind: str


def bar(view: RunView, width: int = BAR) -> str:
    """Return how much of a run has ended, as a bar of ``width`` characters."""
    full = 0 if not view.total else width * min(view.done, view.total) // view.total
    return "█" * full + "░" * (width - full)


def summary(view: RunView, now: float, *, named: bool = True) -> str:
    """Return how a run goes in one line; ``now`` in seconds since the epoch; ``named``: also which run it is."""
    total = number(view.total) if view.total else "?"
    parts = [f"run {clean(view.run, 60)}", view.status.replace("_", " ")] if named else []
    parts.append(f"{number(view.done)}/{total} steps")
    running = len(view.under_way())
    told = (
        (running if not view.over else 0, "running"),
        (view.hits, "from the cache"),
        (view.bad, "failed"),
        (view.ended_steps["skipped"] + view.ended_steps["cancelled"], "not run"),
    )
    parts += [f"{number(count)} {what}" for count, what in told if count]
    parts += [counted(view.retries, "retry", "retries")] if view.retries else []
    parts += [counted(len(view.replicas), "replica")] if view.replicas else []
    parts.append(duration(view.seconds(now)))
    return " · ".join(parts)


def lines(view: RunView, now: float, width: int = 100) -> list[Line]:
    """Return what a terminal shows of a run: how far it is, what failed, what runs. Never many lines."""
    head = summary(view, now, named=view.over)
    if not view.over:
        head = f"{bar(view, min(BAR, max(8, width - len(head) - 2)))} {head}"
    found = [Line(clean(head, width), "head")]
    worst = [problem for problem in view.worst() if problem.status in ("failed", "timed_out")]
    for problem in worst[:FAILURES]:
        text = f"{look(problem.status).sign} {problem.step} {problem.spec}: {problem.message or problem.status}"
        found.append(Line(f"  {clean(text, width - 4)}", "failed"))
    if view.bad > FAILURES:
        found.append(Line(f"  and {number(view.bad - FAILURES)} more failed", "failed"))
    if view.over:
        return found
    under_way = view.under_way()
    found += [Line(f"  {clean(_running(step, now), width - 4)}", "running") for step in under_way[:RUNNING]]
    if len(under_way) > RUNNING:
        found.append(Line(f"  and {number(len(under_way) - RUNNING)} more running", "running"))
    return found


def _running(step: StepView, now: float) -> str:
    since = "" if step.since is None else f"  {duration(max(0.0, now - step.since))}"
    text = f"{look(step.status).sign} {step.index} {clean(step.spec, NAME)}{since}"
    if step.status == "retrying":
        return f"{text}  again soon: {step.message}"
    if step.progress is None:
        return text
    done, total, message = step.progress
    how = f"{done:g}" if total is None else f"{done:g}/{total:g}"
    return f"{text}  {how} {message}".rstrip()
