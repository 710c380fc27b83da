"""The graph of a plan: what is told of it, and where its nodes stand."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aiecs_ray
from aiecs_ray.outlines import ABREAST, BANDS, SINGLE, Outline, Vertex, draw, heard, layers, outline_of, told
from aiecs_ray.run_options import RunOptions


class Shelf:
    def put(self, value: Any = None) -> Any:
        return value


def op(value: Any = None, **more: Any) -> dict[str, Any]:
    return {"operation": "shelf.put", "params": {"value": value}, **more}


@st.composite
def outlines(draw_: Any) -> Outline:
    count = draw_(st.integers(1, 120))
    vertices = []
    for step in range(count):
        needs = draw_(st.sets(st.integers(0, step - 1), max_size=3)) if step else set()
        vertices.append(Vertex(f"t{draw_(st.integers(0, 3))}.op", needs=tuple(sorted(needs))))
    return Outline(tuple(vertices), draw_(st.booleans()))


def test_the_graph_is_what_the_operations_say() -> None:
    operations = [op(1, id="one"), op("$result[0]"), op(['$result["one"]', "$result[1]"], depends_on=[0])]

    with aiecs_ray.connect("inprocess", registry=aiecs_ray.Registry()) as rt:
        rt.register(Shelf)
        request = rt.prepare(operations, RunOptions("parallel")).request

    outline = outline_of(request)
    assert outline.vertices == (
        Vertex("shelf.put", "one"),
        Vertex("shelf.put", None, (0,)),
        Vertex("shelf.put", None, (0, 1), (0,)),
    )
    assert heard(told(request) or {}, "parallel") == outline


def test_of_a_run_of_one_step_or_of_very_many_no_graph_is_told() -> None:
    with aiecs_ray.connect("inprocess", registry=aiecs_ray.Registry()) as rt:
        rt.register(Shelf)
        requests = [rt.prepare([op()] * count, RunOptions("batch")).request for count in (1, 2, 2_000, 2_001)]

    assert [told(request) is None for request in requests] == [True, False, False, True]


def test_a_sequence_goes_one_below_the_other() -> None:
    drawing = draw(Outline(tuple(Vertex("t.op") for _ in range(5)), sequence=True))

    assert [(node.row, node.column) for node in drawing.nodes] == [(row, 0.0) for row in range(5)]
    assert drawing.edges == tuple((step, step + 1, "order") for step in range(4))


def test_a_reading_edge_wins_over_the_order_of_a_sequence() -> None:
    drawing = draw(Outline((Vertex("t.a"), Vertex("t.b", needs=(0,))), sequence=True))

    assert drawing.edges == ((0, 1, "data"),)


def test_wide_plans_are_drawn_operation_by_operation() -> None:
    wide = [Vertex("t.load")] + [Vertex("t.work", needs=(0,)) for _ in range(500)]
    outline = Outline((*wide, Vertex("t.sum", needs=tuple(range(1, 501)))))

    drawing = draw(outline)

    assert [(node.spec, len(node.steps), node.row) for node in drawing.nodes] == [
        ("t.load", 1, 0),
        ("t.work", 500, 1),
        ("t.sum", 1, 2),
    ]
    assert drawing.edges == ((0, 1, "data"), (1, 2, "data"))


def test_a_hundred_thousand_steps_are_drawn_in_few_nodes() -> None:
    vertices = [Vertex(f"tool_{step % 50}.op", needs=(step - 1,) if step else ()) for step in range(100_000)]

    drawing = draw(Outline(tuple(vertices)))

    assert len(drawing.nodes) <= BANDS * ABREAST
    assert sorted(itertools.chain.from_iterable(node.steps for node in drawing.nodes)) == list(range(100_000))


@given(outlines())
@settings(max_examples=150, deadline=None)
def test_every_step_is_in_one_node_and_no_two_nodes_overlap(outline: Outline) -> None:
    drawing = draw(outline)

    assert sorted(itertools.chain.from_iterable(node.steps for node in drawing.nodes)) == list(
        range(len(outline.vertices))
    )
    for first, second in itertools.combinations(drawing.nodes, 2):
        assert first.row != second.row or abs(first.column - second.column) >= 1 - 1e-9
    assert len(drawing.nodes) <= max(SINGLE, BANDS * ABREAST)
    assert drawing == draw(outline)


@given(outlines())
@settings(max_examples=100, deadline=None)
def test_an_edge_never_goes_up(outline: Outline) -> None:
    drawing = draw(outline)

    assert all(drawing.nodes[first].row <= drawing.nodes[second].row for first, second, _ in drawing.edges)
    depth = layers(outline)
    assert all(depth[before] < depth[step] for step in range(len(depth)) for before in outline.before(step))


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_and_one_step_have_a_picture_too(count: int) -> None:
    drawing = draw(Outline(tuple(Vertex("t.op") for _ in range(count))))

    assert (len(drawing.nodes), drawing.rows, drawing.width) == (count, count, 1.0)
