"""When what ran, as a picture: a row for each step, for each replica, or for how busy they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aiecs_ray.pictures.elements import clean, counted, duration, element, svg, words
from aiecs_ray.pictures.palette import look

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aiecs_ray.run_view import RunView, Start, StepView

BY_STEP = 40
"""Steps up to which each has a row."""
SINGLE = 400
"""Steps up to which each has a bar in the row of its replica."""
ROWS = 24
WIDTH = 860.0
LABELS = 210.0
RIGHT = 74.0
ROW = 22.0
TOP = 26.0
NAME = 30
"""Characters of a row's name."""
_GRID = {"stroke": "currentColor", "stroke-opacity": "0.15"}


class Span(NamedTuple):
    """A bar: an attempt of a step."""

    step: StepView
    start: float
    end: float
    status: str
    told: bool = True
    """Its beginning is known; else it is reckoned back from its end."""


def gantt(view: RunView, now: float) -> str:
    """Return the picture of a run; ``now`` in seconds since the epoch ends what still runs.

    However long the run, the picture is bounded: some hundred bars, or one line a row.
    """
    if view.began is None or not view.total:
        return ""
    scale = _Scale(view.began, max(view.ended or now, view.last, view.began))
    if not view.detailed or view.total > SINGLE:
        return _busy(view, scale)
    if view.total <= BY_STEP:
        return _by_step(view, scale)
    return _by_replica(view, scale)


class _Scale:
    """Places of times."""

    def __init__(self, began: float, end: float) -> None:
        self.began = began
        self.seconds = max(end - began, 0.001)
        self.room = WIDTH - LABELS - RIGHT

    def x(self, when: float) -> float:
        return LABELS + max(0.0, min(when - self.began, self.seconds)) / self.seconds * self.room

    def axis(self, height: float) -> str:
        step = _nice(self.seconds / 6)
        marks = [n * step for n in range(int(self.seconds / step + 1e-9) + 1)]
        drawn = []
        for mark in marks:
            x = self.x(self.began + mark)
            drawn.append(element("line", {"x1": x, "x2": x, "y1": TOP - 4, "y2": height, **_GRID}))
            shown = duration(mark) if mark else "0"
            drawn.append(
                element(
                    "text", {"x": x, "y": TOP - 10, "text-anchor": "middle", "font-size": 10, "opacity": 0.7}, shown
                )
            )
        return "".join(drawn)


def _nice(least: float) -> float:
    """Return 1, 2 or 5 times a power of ten, not below ``least``.

    >>> _nice(0.3), _nice(7.0)
    (0.5, 10.0)
    """
    power = 1e-3
    while True:
        for factor in (1, 2, 5):
            if power * factor >= least:
                return round(power * factor, 6)
        power *= 10


def _row(place: int) -> float:
    return TOP + place * ROW


def _name(place: int, text: str, title: str = "") -> str:
    attributes = {"x": LABELS - 8, "y": _row(place) + ROW * 0.68, "text-anchor": "end"}
    return element("text", attributes, *_titled(title), words(text, NAME))


def _titled(title: str) -> Iterable[str]:
    return [element("title", {}, words(title, 300))] if title else []


def _picture(view: RunView, scale: _Scale, rows: int, content: Sequence[str]) -> str:
    height = _row(rows) + 6
    return svg(WIDTH, height, f"Timeline of run {view.run}", scale.axis(height - 4), *content)


# --- a row for each step ---------------------------------------------------------------------------------------------


def _by_step(view: RunView, scale: _Scale) -> str:
    drawn = [_start(start, view, scale) for start in view.starts]
    for place in range(view.total):
        step = view.steps.get(place)
        if step is None:
            drawn.append(_name(place, f"{place}"))
            continue
        named = f" {step.id}" if step.id else ""
        drawn.append(_name(place, f"{place}{named} {step.spec}", _told(step)))
        drawn.append(_wait(step, scale, place))
        drawn.extend(_bar(span, scale, place) for span in _spans(step, scale))
        drawn.append(_behind(step, scale, place))
    return _picture(view, scale, view.total, drawn)


def _start(start: Start, view: RunView, scale: _Scale) -> str:
    """Return a pale bar for a replica that was made, in the row of the first step that waited for it."""
    waited = [
        (step.bars[0].start if step.bars else step.since or scale.began, step.index)
        for step in view.steps.values()
        if step.spec.partition(".")[0] == start.tool and (step.bars or step.since is not None)
    ]
    first = min((one for one in waited if one[0] >= start.end - 0.01), default=None)
    if first is None:
        return ""
    x = scale.x(start.start)
    place = {"x": x, "y": _row(first[1]) + 8, "width": max(scale.x(start.end) - x, 1.0), "height": ROW - 16, "rx": 2}
    title = f"a replica of {start.tool} was made: {duration(start.end - start.start)}"
    return element("rect", {**place, "fill-opacity": "0.3"}, *_titled(title))


def _spans(step: StepView, scale: _Scale) -> list[Span]:
    spans = [Span(step, *bar) for bar in step.bars]
    if step.since is not None:
        spans.append(Span(step, step.since, scale.began + scale.seconds, "running"))
    return spans


def _told(step: StepView) -> str:
    status = look("cached" if step.from_cache else step.status).words
    parts = [f"step {step.index}: {step.spec}", status, duration(step.seconds)]
    if step.attempts > 1:
        parts.append(f"{step.attempts} attempts")
    parts += [part for part in (step.summary, step.message) if part]
    return " · ".join(parts)


def _bar(span: Span, scale: _Scale, place: int, *, deep: float = 4.0) -> str:
    start, end = scale.x(span.start), scale.x(span.end)
    attributes = {
        "x": start,
        "y": _row(place) + deep,
        "width": max(end - start, 1.5),
        "height": ROW - 2 * deep,
        "rx": 2,
        "fill": look(span.status).colour,
    }
    return element("rect", attributes, *_titled(_told(span.step)))


def _wait(step: StepView, scale: _Scale, place: int) -> str:
    """Return a thin line from the first attempt to the last."""
    spans = _spans(step, scale)
    if len(spans) < 2 and not (step.status == "retrying" and spans):  # noqa: PLR2004  # between two attempts
        return ""
    end = spans[-1].start if len(spans) > 1 else scale.began + scale.seconds
    y = _row(place) + ROW / 2
    line = {"x1": scale.x(spans[0].end), "x2": scale.x(end), "y1": y, "y2": y, "stroke": look("retrying").colour}
    return element("line", {**line, "stroke-width": 1.5, "stroke-dasharray": "3 2"})


def _behind(step: StepView, scale: _Scale, place: int) -> str:
    """Return what stands behind the last bar of a step: how it ended, and how long it took."""
    if step.status == "pending":
        return ""
    status = look("cached" if step.from_cache else step.status)
    when = step.bars[-1].end if step.bars else step.ended
    if step.since is not None:
        when = scale.began + scale.seconds
    x = scale.x(when if when is not None else scale.began)
    shown = "cache" if step.from_cache else duration(step.seconds) if step.bars else status.words
    if step.status in ("running", "retrying"):
        shown = "" if step.since is None else duration(scale.began + scale.seconds - step.since)
    tries = f" ↻{step.attempts - 1}" if step.attempts > 1 else ""
    sign = element("tspan", {"fill": status.colour}, status.sign)
    attributes = {"x": x + 5, "y": _row(place) + ROW * 0.68, "font-size": 11}
    return element("text", attributes, sign, element("tspan", {"dx": 3}, words(f"{shown}{tries}", 40)))


# --- a row for each replica ------------------------------------------------------------------------------------------


def _by_replica(view: RunView, scale: _Scale) -> str:
    lanes: dict[str, list[Span]] = {}
    for step in view.steps.values():
        for span in _spans(step, scale):
            lanes.setdefault(step.replica, []).append(span)
    drawn: list[str] = []
    place = left = 0
    for replica in sorted(lanes, key=lambda one: min(span.start for span in lanes[one])):
        for track, spans in enumerate(tracks(one_by_one(lanes[replica]))):
            if place >= ROWS:
                left += 1
                continue
            specs = {span.step.spec for span in spans}
            named = next(iter(specs)) if len(specs) == 1 else f"{len(specs)} operations"
            drawn.append(_name(place, "" if track else _lane(named, replica), f"replica {replica}"))
            drawn.extend(_bar(span, scale, place) for span in spans)
            place += 1
    if left:
        drawn.append(_name(place, f"and {counted(left, 'more row', 'more rows')}"))
        place += 1
    if not place:
        drawn.append(_name(0, "nothing has run" if view.over else "nothing runs yet"))
    return _picture(view, scale, max(place, 1), drawn)


def one_by_one(spans: Iterable[Span]) -> list[Span]:
    """Put bars whose beginning is not known before one another: they were reported together, and ran in turn."""
    found = []
    until = float("inf")
    for span in sorted(spans, key=lambda one: (one.end, one.step.index), reverse=True):
        if span.told:
            found.append(span)
            continue
        end = min(span.end, until)
        until = end - (span.end - span.start)
        found.append(span._replace(start=until, end=end))
    return found


def tracks(spans: Iterable[Span]) -> list[list[Span]]:
    """Divide bars into as few tracks as needed, so that no two of a track overlap."""
    found: list[list[Span]] = []
    for span in sorted(spans, key=lambda one: (one.start, one.end, one.step.index)):
        free = next((track for track in found if track[-1].end <= span.start + 1e-6), None)
        if free is None:
            found.append([span])
        else:
            free.append(span)
    return found


def _lane(spec: str, replica: str) -> str:
    short = replica[-6:]
    return f"{clean(spec, NAME - 3 - len(short))} · {short}" if short else spec


# --- how busy --------------------------------------------------------------------------------------------------------


def _busy(view: RunView, scale: _Scale) -> str:
    """Return a row for each operation and replica, as high as many steps went through it."""
    timeline = view.timeline
    lanes = sorted(timeline.lanes, key=lambda lane: (-timeline.steps[lane], lane))[:ROWS]
    highest = max((max(timeline.lanes[lane]) for lane in lanes), default=0.0) or 1.0
    drawn = []
    for place, lane in enumerate(sorted(lanes)):
        steps = counted(timeline.steps[lane], "step")
        named = f"{lane[0]}, replica {lane[1]}: {steps}, {duration(timeline.seconds[lane])} of work"
        drawn.append(_name(place, _lane(*lane), named))
        drawn.append(_hill(timeline.lanes[lane], timeline.width, highest, scale, place))
        attributes = {"x": WIDTH - RIGHT + 6, "y": _row(place) + ROW * 0.68, "font-size": 10, "opacity": 0.8}
        drawn.append(element("text", attributes, steps))
    if not lanes:
        drawn.append(_name(0, "nothing was computed" if view.over else "nothing has ended yet"))
    return _picture(view, scale, max(len(lanes), 1), drawn)


def _hill(steps: Sequence[float], width: float, highest: float, scale: _Scale, place: int) -> str:
    low, high = _row(place) + ROW - 3, ROW - 6
    last = max((index for index, part in enumerate(steps) if part), default=-1)
    path = [f"M{scale.x(scale.began):.1f} {low:.1f}"]
    level = 0.0
    for index in range(last + 1):
        now = min(steps[index] / highest, 1.0)
        if abs(now - level) > 0.02:  # noqa: PLR2004  # less cannot be seen
            x = scale.x(scale.began + index * width)
            path.append(f"H{x:.1f}V{low - now * high:.1f}")
            level = now
    path.append(f"H{scale.x(scale.began + (last + 1) * width):.1f}V{low:.1f}Z")
    return element("path", {"d": "".join(path), "fill": look("completed").colour})
