"""A run or a plan as a card: what a notebook shows, and what a report is made of. Static HTML without any script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs_ray.outlines import draw, layers
from aiecs_ray.pictures.dag import dag
from aiecs_ray.pictures.elements import FONT, amount, clean, counted, duration, element, number, words
from aiecs_ray.pictures.gantt import gantt
from aiecs_ray.pictures.palette import look

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aiecs_ray.outlines import Outline
    from aiecs_ray.run_view import RunView, StepView

ERRORS = 5
"""Failures that a card shows; a report shows more."""
STEPS = 30
REPLICAS = 12
LOW = 10
"""Rows up to which a graph is shown at once."""
_CARD = (
    f"{FONT};font-size:13px;line-height:1.45;border:1px solid rgba(128,128,128,.4);border-radius:8px;"
    "padding:12px 16px;margin:4px 0;max-width:920px"
)
_HEAD = "display:flex;flex-wrap:wrap;gap:4px 12px;align-items:baseline"
_ERROR = "border-left:3px solid {};padding:2px 10px;margin:6px 0;overflow-wrap:anywhere"
_CELL = "padding:2px 10px 2px 0;text-align:{};vertical-align:top;border:none;background:none"
_QUIET = "opacity:.7"
_SECTION = "margin-top:10px"
_BAR = "display:flex;height:8px;border-radius:4px;overflow:hidden;margin:8px 0;background:rgba(128,128,128,.25)"


def run_card(view: RunView, now: float, *, errors: int = ERRORS, steps: int = STEPS, note: str = "") -> str:
    """Return a run as a card: status, errors, how far it is, a timeline, the graph, the steps.

    Args:
        view: the run.
        now: seconds since the epoch.
        errors: how many failures are shown.
        steps: how many steps are listed.
        note: something to say of the run beside what its events say.
    """
    graph, low = "", False
    if view.outline is not None:
        graph, low = dag(view.outline, view.steps), draw(view.outline).rows <= LOW
    return element(
        "div",
        {"style": _CARD, "class": "aiecs-ray-run"},
        _head(view, now),
        element("div", {"style": _QUIET}, words(note, 300)) if note else "",
        _errors(view, errors),
        _progress(view),
        element("div", {"style": "margin-bottom:4px"}, _facts(view)),
        _section("Timeline", gantt(view, now), shown=True),
        _section("Graph", graph, shown=low),
        _section("Steps", _steps(view, steps)),
        _section("Replicas", _replicas(view)),
        _section("Notes", "".join(element("div", {}, words(one.text, 300)) for one in view.notes)),
    )


def runtime_card(address: str, stats: Mapping[str, Any] | None) -> str:
    """Return a connection as a card: where to, and what its coordinator has; None: it is closed."""
    facts = [clean(address)]
    rows: list[list[str]] = []
    if stats is None:
        facts.append("closed")
    else:
        facts.append(f"{counted(stats['runs']['active'], 'run')} under way")
        facts.append(counted(stats["clients"], "client"))
        rows = [
            [words(name, 60), number(one["replicas"]), number(one["queued"])]
            for name, one in sorted(stats["tools"].items())[:REPLICAS]
        ]
    columns = [("tool", "left"), ("replicas", "right"), ("waiting", "right")]
    return element(
        "div",
        {"style": _CARD, "class": "aiecs-ray-runtime"},
        element(
            "div", {"style": _HEAD}, element("strong", {}, "aiecs-ray"), element("span", {}, words(" · ".join(facts)))
        ),
        _table(columns, rows) if rows else "",
    )


def plan_card(outline: Outline, mode: str) -> str:
    """Return a plan as a card: what it is made of, and its graph."""
    specs = {vertex.spec for vertex in outline.vertices}
    depth = max(layers(outline), default=-1) + 1
    facts = f"{counted(len(outline.vertices), 'step')} · {counted(len(specs), 'operation')} · {clean(mode)}"
    facts += f" · {number(depth)} one after the other" if depth > 1 else ""
    return element(
        "div",
        {"style": _CARD, "class": "aiecs-ray-plan"},
        element(
            "div", {"style": _HEAD}, element("strong", {}, "Plan"), element("span", {"style": _QUIET}, words(facts))
        ),
        element("div", {"style": _SECTION}, dag(outline)),
    )


def _head(view: RunView, now: float) -> str:
    status = look(view.status)
    pill = f"background:{status.colour};color:#fff;border-radius:10px;padding:1px 10px;font-weight:600"
    return element(
        "div",
        {"style": _HEAD},
        element("span", {"style": pill}, words(f"{status.sign} {status.words}")),
        element("strong", {}, words(f"run {view.run}")),
        element("span", {"style": _QUIET}, words(f"{view.mode} · {duration(view.seconds(now))}".lstrip(" ·"))),
    )


def _errors(view: RunView, most: int) -> str:
    worst = view.worst()
    bad = [problem for problem in worst if problem.status in ("failed", "timed_out")]
    shown = []
    for problem in bad[:most]:
        colour = look(problem.status).colour
        head = f"{look(problem.status).sign} step {problem.step} {problem.spec} {problem.code}"
        shown.append(
            element(
                "div",
                {"style": _ERROR.format(colour), "class": "aiecs-ray-error"},
                element("strong", {"style": f"color:{colour}"}, words(head)),
                " ",
                words(problem.message or look(problem.status).words, 500),
            )
        )
    more = view.bad - min(len(bad), most)
    if more > 0:
        shown.append(element("div", {"style": _ERROR.format("#8a8a8a")}, f"and {number(more)} more failed"))
    return "".join(shown)


def _progress(view: RunView) -> str:
    if not view.total:
        return ""
    ended = view.ended_steps
    parts = {
        "completed": ended["completed"] - min(view.hits, ended["completed"]),
        "cached": min(view.hits, ended["completed"]),
        "failed": ended["failed"],
        "timed_out": ended["timed_out"],
        "cancelled": ended["cancelled"] + ended["skipped"],
        "running": 0 if view.over else len(view.under_way()),
    }
    drawn = [
        element("div", {"style": f"width:{100 * count / view.total:.3f}%;background:{look(status).colour}"})
        for status, count in parts.items()
        if count
    ]
    return element("div", {"style": _BAR, "role": "progressbar"}, *drawn)


def _facts(view: RunView) -> str:
    ended = view.ended_steps
    facts = [f"{number(view.done)} of {counted(view.total, 'step')} ended"]
    ends = (
        ("completed", ended["completed"]),
        ("cached", view.hits),
        ("failed", ended["failed"]),
        ("timed_out", ended["timed_out"]),
        ("cancelled", ended["cancelled"]),
        ("skipped", ended["skipped"]),
        ("running", 0 if view.over else len(view.under_way())),
    )
    facts += [f"{_sign(name)} {number(count)} {look(name).words}" for name, count in ends if count]
    facts += [counted(view.retries, "retry", "retries")] if view.retries else []
    facts += [counted(len(view.replicas), "replica")] if view.replicas else []
    facts += [f"{amount(view.size)} of results"] if view.size else []
    facts += [f"{counted(view.missed, 'event')} not kept"] if view.missed else []
    return " · ".join(facts)


def _sign(status: str) -> str:
    return element("span", {"style": f"color:{look(status).colour}"}, look(status).sign)


def _section(title: str, content: str, *, shown: bool = False) -> str:
    if not content:
        return ""
    attributes = {"style": _SECTION, "open": "open" if shown else None}
    summary = element("summary", {"style": "cursor:pointer;font-weight:600"}, title)
    return element("details", attributes, summary, element("div", {"style": "overflow-x:auto"}, content))


def _table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a column is its name and where its texts stand, a cell is markup."""
    head = "".join(element("th", {"style": _CELL.format(side)}, words(name)) for name, side in columns)
    body = (
        element(
            "tr",
            {"style": "background:none"},
            *(element("td", {"style": _CELL.format(side)}, cell) for cell, (_, side) in zip(row, columns, strict=True)),
        )
        for row in rows
    )
    style = "border-collapse:collapse;font-size:12px;margin-top:4px"
    return element("table", {"style": style}, element("tr", {"style": "background:none"}, head), *body)


_ORDER = ("failed", "timed_out", "running", "retrying", "cancelled", "skipped", "completed", "pending")


def _steps(view: RunView, most: int) -> str:
    if not view.detailed:
        rows = [[words(spec, 60), number(count)] for spec, count in view.specs.most_common(most)]
        return _table([("operation", "left"), ("ended", "right")], rows) if rows else ""
    steps = sorted(view.steps.values(), key=lambda one: (_ORDER.index(one.status), one.index))
    columns = [("step", "right"), ("operation", "left"), ("status", "left"), ("took", "right"), ("tries", "right")]
    columns += [("result", "left"), ("size", "right"), ("replica", "left")]
    table = _table(columns, [_step(step) for step in steps[:most]])
    if len(steps) > most:
        table += element("div", {"style": _QUIET}, f"and {number(len(steps) - most)} more steps")
    return table


def _step(step: StepView) -> list[str]:
    status = look("cached" if step.from_cache else step.status)
    told = step.summary or step.message
    named = f"{step.index} {step.id}" if step.id else f"{step.index}"
    return [
        words(named, 40),
        words(step.spec, 60),
        _sign("cached" if step.from_cache else step.status) + f" {words(status.words)}",
        duration(step.seconds) if step.ended is not None else "",
        number(step.attempts) if step.attempts > 1 else "",
        words(told, 120),
        amount(step.size) if step.size else "",
        words(step.replica[-12:]),
    ]


def _replicas(view: RunView) -> str:
    if not view.replicas:
        return ""
    busiest = sorted(view.replicas.values(), key=lambda one: (-one.seconds, one.replica))
    columns = [("replica", "left"), ("node", "left"), ("operations", "left"), ("steps", "right"), ("busy", "right")]
    rows = [
        [
            words(one.replica[-12:]),
            words(one.node[:12]),
            words(", ".join(sorted(one.specs)[:3]) + (" …" if len(one.specs) > 3 else ""), 80),  # noqa: PLR2004
            number(one.steps),
            duration(one.seconds),
        ]
        for one in busiest[:REPLICAS]
    ]
    more = len(busiest) - REPLICAS
    return _table(columns, rows) + (element("div", {"style": _QUIET}, f"and {number(more)} more") if more > 0 else "")
