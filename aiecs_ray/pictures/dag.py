"""A plan as a picture: its steps, what each waits for, and how far each is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiecs_ray.outlines import draw
from aiecs_ray.pictures.elements import clean, element, number, svg, words
from aiecs_ray.pictures.palette import LOOKS, look

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aiecs_ray.outlines import Drawing, Kind, Node, Outline
    from aiecs_ray.run_view import StepView

ACROSS, DOWN = 176.0, 62.0
"""From one node to the next, beside it and below it."""
BOX, TALL = 158.0, 36.0
NAME = 23
"""Characters of an operation's name in a node."""
_WORST = ("failed", "timed_out", "running", "retrying", "cancelled", "skipped", "pending", "completed", "cached")
"""Of a node with several steps, the first of these that one of them has is shown."""
_LINES: dict[Kind, dict[str, object]] = {
    "data": {"stroke-width": 1.6, "opacity": 0.75},
    "success": {"stroke-width": 1.4, "opacity": 0.6, "stroke-dasharray": "6 3"},
    "order": {"stroke-width": 1, "opacity": 0.4, "stroke-dasharray": "2 3"},
}


def dag(outline: Outline, steps: Mapping[int, StepView] | None = None) -> str:
    """Return the picture of a plan; with ``steps`` each node shows how it stands.

    The same plan gives the same picture. It is bounded: see :func:`~aiecs_ray.outlines.draw`.
    """
    if not outline.vertices:
        return ""
    drawing = draw(outline)
    width, height = drawing.width * ACROSS, drawing.rows * DOWN - (DOWN - TALL) + 12
    around = _detours(drawing)
    content = [_edge(drawing, first, second, kind, width) for first, second, kind in drawing.edges]
    content += [_node(node, outline, steps, width) for node in drawing.nodes]
    label = f"Graph of {len(outline.vertices)} steps"
    return svg(width + around, height, label, *content)


def mermaid(outline: Outline) -> str:
    """Return a plan as the text of a Mermaid flowchart.

    >>> from aiecs_ray.outlines import Outline, Vertex
    >>> print(mermaid(Outline((Vertex("t.load"), Vertex("t.sum", needs=(0,))))))
    flowchart TD
        n0["0 t.load"]
        n1["1 t.sum"]
        n0 --> n1
    """
    drawing = draw(outline)
    arrows: dict[Kind, str] = {"data": "-->", "success": "-.->", "order": "-.-"}
    lines = ["flowchart TD"]
    for place, node in enumerate(drawing.nodes):
        name = _title(node).replace('"', "'").replace("<", "(").replace(">", ")")
        lines.append(f'    n{place}["{name}"]')
    lines += [f"    n{first} {arrows[kind]} n{second}" for first, second, kind in drawing.edges]
    return "\n".join(lines)


def _title(node: Node) -> str:
    if len(node.steps) > 1:
        return f"{clean(node.spec)} \N{MULTIPLICATION SIGN}{number(len(node.steps))}"
    return f"{node.steps[0]} {clean(node.spec)}"


def _middle(node: Node, width: float) -> tuple[float, float]:
    return width / 2 + node.column * ACROSS, 6 + node.row * DOWN + TALL / 2


def _detours(drawing: Drawing) -> float:
    """Return how much room the edges need that go around nodes on the right."""
    pairs = [(drawing.nodes[first], drawing.nodes[second]) for first, second, _ in drawing.edges]
    return max((_way_round(upper, lower) for upper, lower in pairs if _is_detour(upper, lower)), default=0.0)


def _way_round(upper: Node, lower: Node) -> float:
    """Return how far from the nodes an edge goes around those between them: the longer, the further."""
    return 14.0 + 14.0 * min(lower.row - upper.row, 8)


def _is_detour(upper: Node, lower: Node) -> bool:
    """Whether a straight line would run through the nodes between two nodes."""
    return lower.row - upper.row > 1 and abs(lower.column - upper.column) < 0.5  # noqa: PLR2004  # half a node


def _edge(drawing: Drawing, first: int, second: int, kind: Kind, width: float) -> str:
    upper, lower = drawing.nodes[first], drawing.nodes[second]
    (x1, y1), (x2, y2) = _middle(upper, width), _middle(lower, width)
    if _is_detour(upper, lower):
        start, end = (x1 + BOX / 2, y1 + 6), (x2 + BOX / 2, y2 - 6)
        out = max(start[0], end[0]) + _way_round(upper, lower)
        path = (
            f"M{start[0]:.1f} {start[1]:.1f}C{out:.1f} {start[1]:.1f} {out:.1f} {end[1]:.1f} {end[0]:.1f} {end[1]:.1f}"
        )
        head = f"M{end[0] + 6:.1f} {end[1] - 4:.1f}l-6 4l6 4"
    else:
        y1, y2 = y1 + TALL / 2, y2 - TALL / 2
        bend = max((y2 - y1) * 0.5, 10.0)
        path = f"M{x1:.1f} {y1:.1f}C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"
        head = f"M{x2 - 4:.1f} {y2 - 6:.1f}l4 6l4 -6"
    line = {"d": path, "fill": "none", "stroke": "currentColor", **_LINES[kind]}
    tip = {"d": head, "fill": "none", "stroke": "currentColor", "stroke-width": 1.4, "opacity": _LINES[kind]["opacity"]}
    return element("path", line) + element("path", tip)


def _node(node: Node, outline: Outline, steps: Mapping[int, StepView] | None, width: float) -> str:
    x, y = _middle(node, width)
    views = [] if steps is None else [steps[step] for step in node.steps if step in steps]
    status = look(_status(views)) if views else None
    colour = "currentColor" if status is None else status.colour
    box = {
        "x": x - BOX / 2,
        "y": y - TALL / 2,
        "width": BOX,
        "height": TALL,
        "rx": 6,
        "fill": colour,
        "fill-opacity": "0.06" if status is None else "0.16",
        "stroke": colour,
        "stroke-opacity": "0.5" if status is None else None,
        "stroke-width": 1.4,
        "stroke-dasharray": "4 3" if status is LOOKS["pending"] else None,
    }
    upper = node.id or (f"step {node.steps[0]}" if len(node.steps) == 1 else f"{number(len(node.steps))} steps")
    sign = "" if status is None else status.sign
    if len(views) > 1:
        sign = f"{sign} {_tally(views)}"
    small = {"x": x - BOX / 2 + 8, "y": y - 4, "font-size": 10, "opacity": 0.75}
    mark = {"x": x + BOX / 2 - 8, "y": y - 4, "text-anchor": "end", "font-size": 11, "fill": colour}
    name = {"x": x - BOX / 2 + 8, "y": y + 11, "font-size": 12}
    return element(
        "g",
        {},
        element("title", {}, words(_told(node, outline, views), 400)),
        element("rect", box),
        element("text", small, words(upper, 18)),
        element("text", mark, words(sign, 16)) if sign else "",
        element("text", name, words(node.spec, NAME)),
    )


def _status(views: Sequence[StepView]) -> str:
    found = {"cached" if view.from_cache else view.status for view in views}
    return next((status for status in _WORST if status in found), "pending")


def _tally(views: Iterable[StepView]) -> str:
    """Return how many of some steps have ended."""
    listed = list(views)
    return f"{number(sum(view.ended is not None for view in listed))}/{number(len(listed))}"


def _told(node: Node, outline: Outline, views: Sequence[StepView]) -> str:
    if len(node.steps) > 1:
        counts: dict[str, int] = {}
        for view in views:
            counts[view.status] = counts.get(view.status, 0) + 1
        told = ", ".join(f"{number(count)} {look(status).words}" for status, count in sorted(counts.items()))
        return f"{number(len(node.steps))} \N{MULTIPLICATION SIGN} {node.spec}" + (f": {told}" if told else "")
    step = node.steps[0]
    vertex = outline.vertices[step]
    parts = [f"step {step}: {vertex.spec}"]
    if vertex.needs:
        parts.append(f"reads {', '.join(map(str, vertex.needs[:20]))}")
    if vertex.after:
        parts.append(f"after {', '.join(map(str, vertex.after[:20]))}")
    if views:
        parts += [part for part in (look(views[0].status).words, views[0].summary, views[0].message) if part]
    return " · ".join(parts)
