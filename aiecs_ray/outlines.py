"""The graph of a plan as it is told and drawn: steps, what each waits for, and where each stands in a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aiecs_ray.messages import RunRequest

TOLD = 2_000
"""Steps up to which the beginning of a run tells its graph."""
SINGLE = 40
"""Steps up to which each is drawn as a node of its own."""
BANDS = 16
"""Rows of a picture; more layers than these share rows."""
ABREAST = 6
"""Nodes of one row."""
Kind = Literal["data", "success", "order"]
_RANK: dict[Kind, int] = {"order": 0, "success": 1, "data": 2}


class Vertex(NamedTuple):
    """One step of a plan."""

    spec: str
    id: str | None = None
    needs: tuple[int, ...] = ()
    """Steps whose results it reads."""
    after: tuple[int, ...] = ()
    """Steps that must have completed (``depends_on``)."""


class Outline(NamedTuple):
    """The graph of a plan."""

    vertices: tuple[Vertex, ...]
    sequence: bool = False
    """Each step also waits until the one before it has ended."""

    def before(self, step: int) -> dict[int, Kind]:
        """Return what a step waits for, and how."""
        vertex = self.vertices[step]
        found: dict[int, Kind] = {}
        if self.sequence and step:
            found[step - 1] = "order"
        found.update(dict.fromkeys(vertex.after, "success"))
        found.update(dict.fromkeys(vertex.needs, "data"))
        return found


def outline_of(request: RunRequest) -> Outline:
    """Return the graph of a request."""
    specs = [policy.spec for policy in request.policies]
    vertices = tuple(
        Vertex(
            specs[step.policy],
            step.id,
            tuple(sorted({source.place for source in step.inputs if source.kind == "step"})),
            step.after,
        )
        for step in request.steps
    )
    return Outline(vertices, request.mode == "sequence")


def told(request: RunRequest) -> dict[str, Any] | None:
    """Return the graph of a request as the event of its beginning carries it; None where it has nothing to tell."""
    if not 1 < len(request.steps) <= TOLD:
        return None
    outline = outline_of(request)
    specs = list(dict.fromkeys(vertex.spec for vertex in outline.vertices))
    number = {spec: place for place, spec in enumerate(specs)}
    rows = [[number[one.spec], one.id, list(one.needs), list(one.after)] for one in outline.vertices]
    return {"specs": specs, "steps": rows}


def heard(plan: Mapping[str, Any], mode: str) -> Outline:
    """Return the graph that :func:`told` made.

    >>> heard({"specs": ["a.b"], "steps": [[0, None, [], []], [0, "x", [0], []]]}, "batch").vertices[1].needs
    (0,)
    """
    specs = plan["specs"]
    vertices = tuple(Vertex(specs[spec], id_, tuple(needs), tuple(after)) for spec, id_, needs, after in plan["steps"])
    return Outline(vertices, mode == "sequence")


class Node(NamedTuple):
    """What is drawn as one: a step, or steps of one operation side by side."""

    steps: tuple[int, ...]
    spec: str
    id: str | None
    row: int
    column: float
    """Of its middle; 0 is the middle of the picture, 1 the width of a node."""


class Drawing(NamedTuple):
    """Nodes, and the edges between them: from, to, kind."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int, Kind], ...]

    @property
    def rows(self) -> int:
        """How many rows of nodes there are."""
        return 1 + max((node.row for node in self.nodes), default=-1)

    @property
    def width(self) -> float:
        """From the middle of the picture to its edge, and back: in nodes."""
        return 2 * max((abs(node.column) + 0.5 for node in self.nodes), default=0.5)


def layers(outline: Outline) -> list[int]:
    """Return of each step how many others must end one after the other before it starts.

    >>> layers(Outline((Vertex("t.a"), Vertex("t.b", needs=(0,)), Vertex("t.c"))))
    [0, 1, 0]
    """
    count = len(outline.vertices)
    before = [list(outline.before(step)) for step in range(count)]
    waiting = [len(some) for some in before]
    following: list[list[int]] = [[] for _ in range(count)]
    for step, some in enumerate(before):
        for place in some:
            following[place].append(step)
    depth = [0] * count
    ready = [step for step in range(count) if not waiting[step]]
    while ready:
        step = ready.pop()
        for successor in following[step]:
            depth[successor] = max(depth[successor], depth[step] + 1)
            waiting[successor] -= 1
            if not waiting[successor]:
                ready.append(successor)
    return depth


def draw(outline: Outline) -> Drawing:
    """Return where everything stands; the same graph always gives the same picture, of a bounded number of nodes.

    Small plans are drawn step by step. In larger ones, steps of one operation in one row are one node, and rows
    that are too many are put together.
    """
    groups = _groups(outline)
    of_step = {step: place for place, (_, _, steps) in enumerate(groups) for step in steps}
    edges: dict[tuple[int, int], Kind] = {}
    for step in range(len(outline.vertices)):
        for before, kind in outline.before(step).items():
            pair = (of_step[before], of_step[step])
            if pair[0] != pair[1] and _RANK[kind] >= _RANK[edges.get(pair, "order")]:
                edges[pair] = kind
    rows = [row for row, _, _ in groups]
    columns = _columns(rows, edges)
    nodes = tuple(
        Node(tuple(steps), spec, outline.vertices[steps[0]].id if len(steps) == 1 else None, row, columns[place])
        for place, (row, spec, steps) in enumerate(groups)
    )
    return Drawing(nodes, tuple((first, second, kind) for (first, second), kind in sorted(edges.items())))


def _groups(outline: Outline) -> list[tuple[int, str, list[int]]]:
    """Return row, operation and steps of every node."""
    depth = layers(outline)
    deepest = max(depth, default=0) + 1
    crowd: dict[int, int] = {}
    for row in depth:
        crowd[row] = crowd.get(row, 0) + 1
    if len(depth) <= SINGLE and deepest <= SINGLE and max(crowd.values(), default=0) <= ABREAST:
        return [
            (row, vertex.spec, [step]) for step, (row, vertex) in enumerate(zip(depth, outline.vertices, strict=True))
        ]
    bands = min(deepest, BANDS)
    groups: dict[tuple[int, str], list[int]] = {}
    for step, row in enumerate(depth):
        groups.setdefault((row * bands // deepest, outline.vertices[step].spec), []).append(step)
    return _few(groups)


def _few(groups: Mapping[tuple[int, str], list[int]]) -> list[tuple[int, str, list[int]]]:
    """Put the rarest operations of a crowded row together."""
    rows: dict[int, list[tuple[str, list[int]]]] = {}
    for (row, spec), steps in groups.items():
        rows.setdefault(row, []).append((spec, steps))
    found: list[tuple[int, str, list[int]]] = []
    for row in sorted(rows):
        members = sorted(rows[row], key=lambda one: (-len(one[1]), one[1][0]))
        if len(members) > ABREAST:
            rest = members[ABREAST - 1 :]
            together = sorted(step for _, steps in rest for step in steps)
            members = [*members[: ABREAST - 1], (f"{len(rest)} other operations", together)]
        found.extend((row, spec, steps) for spec, steps in sorted(members, key=lambda one: one[1][0]))
    return found


def _columns(rows: Sequence[int], edges: Iterable[tuple[int, int]]) -> list[float]:
    """Put nodes of one row beside each other, each near the middle of those it comes from."""
    before: dict[int, list[int]] = {}
    after: dict[int, list[int]] = {}
    for first, second in edges:
        before.setdefault(second, []).append(first)
        after.setdefault(first, []).append(second)
    by_row: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        by_row.setdefault(row, []).append(place)
    columns = [0.0] * len(rows)
    for row in sorted(by_row):
        _spread(by_row[row], columns)
    for neighbours, order in (
        (before, sorted(by_row)),
        (after, sorted(by_row, reverse=True)),
        (before, sorted(by_row)),
    ):
        for row in order:
            _settle(by_row[row], neighbours, columns)
    return columns


def _spread(places: Sequence[int], columns: list[float]) -> None:
    for number, place in enumerate(places):
        columns[place] = number - (len(places) - 1) / 2


def _settle(places: list[int], neighbours: Mapping[int, list[int]], columns: list[float]) -> None:
    """Order a row by where its neighbours are; nodes keep their distance, and the row stays in the middle of them."""
    wished = {
        place: sum(columns[one] for one in neighbours[place]) / len(neighbours[place])
        if neighbours.get(place)
        else columns[place]
        for place in places
    }
    places.sort(key=lambda place: (wished[place], place))
    taken = [wished[places[0]]]
    for place in places[1:]:
        taken.append(max(wished[place], taken[-1] + 1.0))
    # Pushing to the right only would make every row lean: half of it is given back.
    lean = sum(have - wished[place] for have, place in zip(taken, places, strict=True)) / len(places)
    for have, place in zip(taken, places, strict=True):
        columns[place] = have - lean
