"""Cards, timelines, graphs, reports and traces: complete, bounded, and of what a user named never more than text."""

from __future__ import annotations

import html.parser
import itertools
import json
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from aiecs_ray.messages import EventKind
from aiecs_ray.outlines import Outline, Vertex
from aiecs_ray.pictures.card import plan_card, run_card, runtime_card
from aiecs_ray.pictures.dag import dag, mermaid
from aiecs_ray.pictures.elements import clean, element
from aiecs_ray.pictures.gantt import Span, gantt, one_by_one, tracks
from aiecs_ray.pictures.lines import lines, summary
from aiecs_ray.pictures.page import page
from aiecs_ray.pictures.palette import LOOKS
from aiecs_ray.pictures.trace import trace
from aiecs_ray.run_view import StepView
from tests.unit.pictures import BEGAN, Story

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x1b[31m\x00"
NOW = BEGAN + 100
PLAN = {"specs": ["tool.load", "tool.sum"], "steps": [[0, "in", [], []], [1, None, [0], []], [1, None, [], [1]]]}


class Elements(html.parser.HTMLParser):
    """Collects the elements of a document; raises where they are not closed in order."""

    VOID = ("meta",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def pictures(text: str) -> list[ET.Element]:
    return [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]  # noqa: S314  # our own


def told() -> Story:
    story = Story(3, plan=PLAN)
    story.start(0, "tool.load")
    story.complete(0, "tool.load", summary="DataFrame 10x2", size=5_000_000)
    story.start(1, "tool.sum")
    story.retry(1)
    story.start(1, "tool.sum", attempt=2)
    story.fail(1, "the sum is no number", "tool.sum")
    story.fail(2, "Skipped: step 1 (tool.sum) failed", "tool.sum", EventKind.STEP_SKIPPED)
    story.finish("failed", completed=1, failed=1, cancelled=1)
    return story


def many(steps: int, **more: Any) -> Story:
    story = Story(steps)
    for step in range(steps):
        story.complete(step, replica=f"tool-{step % 4}", after=0.01, **more)
    story.finish("completed", completed=steps)
    return story


# --- cards -----------------------------------------------------------------------------------------------------------


def test_a_card_says_how_the_run_went_errors_first() -> None:
    card = run_card(told().view, NOW)

    text = Elements(card).text
    wanted = ["✗ failed", "run r-1", "the sum is no number", "3 of 3 steps ended", "1 retry", "Timeline", "Graph"]
    places = [text.index(one) for one in wanted]
    assert places == sorted(places)
    assert len(pictures(card)) == 2


def test_a_large_result_is_named_by_type_shape_and_size() -> None:
    text = Elements(run_card(told().view, NOW)).text

    assert "DataFrame 10x2" in text
    assert "5.0 MB" in text


def test_a_card_of_a_run_from_the_cache_says_so() -> None:
    text = Elements(run_card(many(5, from_cache=True, attempts=0).view, NOW)).text

    assert "5 from the cache" in text


def test_an_attribute_ends_where_its_element_says() -> None:
    made = element("rect", {"aria-label": "a\" onload='x' <b>&"})

    assert made == '<rect aria-label="a&quot; onload=&#x27;x&#x27; &lt;b&gt;&amp;"/>'


def test_nothing_a_user_names_is_more_than_text() -> None:
    story = Story(2, plan={"specs": [EVIL], "steps": [[0, EVIL, [], []], [0, None, [0], []]]})
    story.start(0, EVIL)
    story.tell(EventKind.PROGRESS, 0, done=1, total=2, message=EVIL)
    running = story.view
    story.complete(0, EVIL, summary=EVIL, replica=EVIL, node=EVIL)
    story.fail(1, EVIL, EVIL)
    story.tell(EventKind.REPLICA_DIED, tool=EVIL, message=EVIL)
    story.finish(EVIL, completed=1, failed=1)
    outline = story.view.outline
    assert outline is not None

    made = [run_card(running, NOW, note=EVIL), run_card(story.view, NOW), page(story.view, NOW, footer=EVIL)]
    made += [plan_card(outline, EVIL), runtime_card(EVIL, None)]

    for one in made:
        elements = Elements(one)
        assert {"script", "img", "iframe", "object"}.isdisjoint(elements.names)
        assert [name for name in elements.attributes if name.startswith("on")] == []
        assert "\x1b" not in one
        assert "\x00" not in one
        assert pictures(one) or "aiecs-ray-runtime" in one
    assert "\x1b" not in "".join(line.text for line in lines(running, NOW))


def test_a_report_needs_nothing_from_anywhere() -> None:
    report = page(told().view, NOW, footer="made today")

    elements = Elements(report)
    assert report.startswith("<!DOCTYPE html>")
    assert {"href", "src", "script"}.isdisjoint([*elements.attributes, *elements.names])
    assert "default-src 'none'" in report
    assert not re.search(r"https?://(?!www\.w3\.org)|url\(", report)
    assert "made today" in elements.text


@pytest.mark.parametrize("steps", [1, 41, 400, 2_000, 100_000])
def test_cards_and_reports_are_bounded(steps: int) -> None:
    view = many(steps).view

    assert len(run_card(view, NOW)) < 150_000
    assert len(page(view, NOW)) < 2_000_000
    assert len(lines(view, NOW)) <= 10


def test_a_plan_shows_its_graph_before_it_runs() -> None:
    outline = Outline((Vertex("t.load", "in"), Vertex("t.sum", needs=(0,))))

    card = plan_card(outline, "parallel")

    text = Elements(card).text
    assert "2 steps · 2 operations · parallel" in text
    assert "in" in text
    assert "t.sum" in text
    assert len(pictures(card)) == 1


def test_statuses_are_told_apart_without_colours() -> None:
    signs = [look.sign for name, look in LOOKS.items() if name not in ("pending", "lost")]

    assert len(set(signs)) == len(signs)


# --- timelines and graphs --------------------------------------------------------------------------------------------


def bars(text: str) -> list[ET.Element]:
    (picture,) = pictures(text)
    return [one for one in picture.iter() if one.tag.endswith("rect")]


def test_every_attempt_has_a_bar_in_the_row_of_its_step() -> None:
    drawn = bars(gantt(told().view, NOW))

    assert len(drawn) == 3
    rows = [one.attrib["y"] for one in drawn]
    assert rows[0] != rows[1] == rows[2]
    assert [one.attrib["fill"] for one in drawn] == [LOOKS[name].colour for name in ("completed", "failed", "failed")]


def test_bars_stand_where_their_time_is() -> None:
    story = Story(2)
    story.start(0)
    story.complete(0)
    story.start(1)
    story.complete(1)

    first, second = bars(gantt(story.view, story.clock))

    x = [float(one.attrib["x"]) for one in (first, second)]
    width = [float(one.attrib["width"]) for one in (first, second)]
    assert x[1] - x[0] == pytest.approx(2 * width[0], abs=0.3)
    assert width[0] == pytest.approx(width[1], abs=0.3)


def test_what_runs_ends_now() -> None:
    story = Story(1)
    story.start(0)

    early, late = bars(gantt(story.view, BEGAN + 2))[0], bars(gantt(story.view, BEGAN + 50))[0]

    assert float(early.attrib["width"]) < float(late.attrib["width"])
    assert early.attrib["fill"] == LOOKS["running"].colour


def test_bars_of_one_replica_never_overlap() -> None:
    step = StepView(0, "t.op")
    spans = [Span(step, start, start + 1.5, "completed") for start in (0.0, 1.0, 2.0, 3.0)]

    found = tracks(spans)

    assert [[span.start for span in track] for track in found] == [[0.0, 2.0], [1.0, 3.0]]


def test_bars_that_were_reported_together_stand_one_before_the_other() -> None:
    step = StepView(0, "t.op")
    spans = [Span(step, 9.0, 10.0 + place / 1000, "completed", told=False) for place in range(3)]

    found = sorted((round(span.start, 1), round(span.end, 1)) for span in one_by_one(spans))

    assert found == [(7.0, 8.0), (8.0, 9.0), (9.0, 10.0)]


@pytest.mark.parametrize("steps", [100, 5_000])
def test_many_steps_have_rows_by_replica(steps: int) -> None:
    text = Elements(gantt(many(steps).view, NOW)).text

    assert all(f"tool.op · tool-{replica}"[-6:] in text for replica in range(4))


def test_a_graph_shows_how_each_step_stands() -> None:
    view = told().view
    assert view.outline is not None

    drawn = bars(dag(view.outline, view.steps))

    assert [one.attrib["stroke"] for one in drawn] == [
        LOOKS[name].colour for name in ("completed", "failed", "skipped")
    ]


def test_a_node_of_many_steps_shows_the_worst_and_how_many_have_ended() -> None:
    vertices = tuple(Vertex("t.op") for _ in range(100))
    steps = {step: StepView(step, "t.op", status="completed", ended=1.0) for step in range(60)}
    steps[7].status = "failed"

    picture = dag(Outline(vertices), steps)

    assert "✗ 60/60" in Elements(picture).text
    assert bars(picture)[0].attrib["stroke"] == LOOKS["failed"].colour


def test_the_same_plan_is_the_same_picture() -> None:
    outline = Outline(
        tuple(Vertex(f"t.op{step % 4}", needs=tuple({step // 2, step // 3} - {step})) for step in range(30))
    )

    assert dag(outline) == dag(outline)


def test_a_mermaid_text_quotes_what_it_holds() -> None:
    text = mermaid(Outline((Vertex('t.<b>"x"'), Vertex("t.sum", after=(0,)))))

    assert text.splitlines() == ["flowchart TD", "    n0[\"0 t.(b)'x'\"]", '    n1["1 t.sum"]', "    n0 -.-> n1"]


# --- lines -----------------------------------------------------------------------------------------------------------


def test_a_line_says_how_the_run_goes() -> None:
    story = Story(10)
    for step in range(4):
        story.complete(step)
    story.start(4)

    line = summary(story.view, BEGAN + 12.34)

    assert line == "run r-1 · running · 4/10 steps · 1 running · 1 replica · 12.3 s"


def test_lines_show_what_failed_and_what_runs() -> None:
    story = Story(10)
    for step in range(5):
        story.fail(step, f"no {step}")
    for step in range(5, 10):
        story.start(step)
    story.tell(EventKind.PROGRESS, 5, done=2, total=4, message="parts\x1b[2J")

    shown = [(line.kind, line.text) for line in lines(story.view, BEGAN + 20, 80)]

    assert [kind for kind, _ in shown] == ["head", *["failed"] * 4, *["running"] * 5]
    assert shown[1][1] == "  ✗ 0 tool.op: no 0"
    assert shown[5][1].endswith("2/4 parts")
    assert all(len(text) <= 80 for _, text in shown)


def test_text_for_people_has_no_control_characters_and_an_end() -> None:
    shown = clean("\x1b]0;title\x07a\x1b[2Jb\r\n\tc\u202ed\ud800" + "e" * 500, 20)

    assert shown.startswith("ab c\N{REPLACEMENT CHARACTER}d")
    assert len(shown) == 20


# --- traces ----------------------------------------------------------------------------------------------------------


def test_a_trace_has_every_attempt_and_arrows_from_result_to_reader() -> None:
    document = trace(told().events)

    entries = json.loads(json.dumps(document))["traceEvents"]
    attempts = [
        (one["args"]["step"], one["cat"], one["ts"], one["dur"]) for one in entries if "step" in one.get("args", {})
    ]
    assert attempts[:3] == [
        (0, "completed", 1e6, 1e6),
        (1, "retried", 3e6, 1e6),
        (1, "failed", 5e6, 1e6),
    ]
    arrows = {one["ph"]: one for one in entries if one["ph"] in "sf"}
    assert arrows["s"]["ts"] == 2e6
    assert arrows["f"]["ts"] == 5e6


def test_entries_of_one_row_of_a_trace_never_overlap() -> None:
    story = Story(10)
    for step in range(10):
        story.complete(step, after=0.1, seconds=0.35)

    rows: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for one in trace(story.events)["traceEvents"]:
        if one["ph"] == "X" and "step" in one["args"]:
            rows.setdefault((one["pid"], one["tid"]), []).append((one["ts"], one["ts"] + one["dur"]))

    for spans in rows.values():
        assert all(first[1] <= second[0] + 1 for first, second in itertools.pairwise(spans))


def test_a_trace_says_how_many_events_it_lacks() -> None:
    assert trace(told().events[4:])["otherData"] == {"run": "r-1", "missing_events": 4}
    assert trace([])["traceEvents"][0]["ph"] == "M"
