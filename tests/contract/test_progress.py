"""Runs that are seen: progress while they go on, cards, reports and traces of what they did."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import progress, watching
from aiecs_ray.errors import InvalidInputError, ToolNotFoundError
from aiecs_ray.outlines import Vertex
from tests.contract.probes import DEADLINE, Gate, eventually, op, visit

if TYPE_CHECKING:
    from pathlib import Path

    from aiecs_ray import Runtime
    from aiecs_ray.run_view import RunView

pytestmark = pytest.mark.timeout(120)
SECRET = "hunter2-in-full"  # noqa: S105  # what must not be seen


class Office:
    def give(self, value: Any = None) -> Any:
        return value

    def fail(self, api_key: str = "") -> None:
        raise ValueError(f"<b>no</b> {api_key}")

    def visit(self, gate: int) -> str:
        return visit(gate)

    def tell(self, api_key: str) -> int:
        progress(1, 2, f"with {api_key} <i>")
        return 1


class Sketch:
    """A display that remembers."""

    interval = 0.01

    def __init__(self) -> None:
        self.drawn: list[tuple[str, int]] = []
        self.closed: list[tuple[str, int]] = []
        self.view: RunView | None = None

    def draw(self, view: RunView, now: float) -> None:
        assert now > 0
        self.drawn.append((view.status, view.done))

    def close(self, view: RunView, now: float) -> None:
        assert now > 0
        self.view = view
        self.closed.append((view.status, view.done))


@pytest.fixture
def office(rt: Runtime) -> Runtime:
    rt.register(Office)
    return rt


@pytest.fixture
def sketch(monkeypatch: pytest.MonkeyPatch) -> Sketch:
    sketch = Sketch()
    monkeypatch.setattr(watching, "display", lambda: sketch)
    return sketch


def test_a_run_with_progress_is_shown_to_its_end(office: Runtime, sketch: Sketch) -> None:
    operations = [op("office.give", value=1), op("office.give", value="$result[0]"), op("office.fail")]

    results = office.run(operations, progress=True)

    assert [result.status for result in results] == ["completed", "completed", "failed"]
    assert sketch.closed == [("failed", 3)]
    assert sketch.view is not None
    assert (sketch.view.total, sketch.view.mode) == (3, "sequence")


def test_a_large_batch_is_shown_to_its_end_too(office: Runtime, sketch: Sketch) -> None:
    results = office.run([op("office.give", value=n) for n in range(5_000)], "batch", progress=True)

    assert [result.result for result in results] == list(range(5_000))
    assert sketch.closed == [("completed", 5_000)]


def test_a_run_is_drawn_while_it_goes_on(office: Runtime, sketch: Sketch, gate: Gate) -> None:
    def let_go() -> None:
        visitor = gate.arrival()
        eventually(lambda: bool(sketch.drawn))
        visitor.let_go()

    opener = threading.Thread(target=let_go)
    opener.start()
    office.run([op("office.visit", gate=gate.port)], progress=True)
    opener.join(DEADLINE)

    assert ("running", 0) in sketch.drawn
    assert sketch.closed == [("completed", 1)]


def test_a_run_that_is_followed_step_by_step_is_shown_too(office: Runtime, sketch: Sketch) -> None:
    seen = []

    office.run([op("office.give", value=n) for n in range(5)], progress=True, on_step=lambda step, _: seen.append(step))

    assert seen == list(range(5))
    assert sketch.closed == [("completed", 5)]


@pytest.mark.parametrize("wish", [False, "auto"])
def test_where_nobody_looks_nothing_is_shown(office: Runtime, sketch: Sketch, wish: Any) -> None:
    office.run([op("office.give")], progress=wish)

    assert (sketch.drawn, sketch.closed) == ([], [])


def test_a_wrong_wish_is_refused_before_anything_runs(office: Runtime) -> None:
    with pytest.raises(InvalidInputError, match="progress must be"):
        office.run([op("office.give")], progress="always")  # type: ignore[arg-type]  # what is refused


def test_an_interrupt_cancels_the_run_and_its_card_says_so(office: Runtime, sketch: Sketch, gate: Gate) -> None:
    def interrupt() -> None:
        gate.arrival()
        os.kill(os.getpid(), signal.SIGINT)

    # A process that was started in the background ignores interrupts; this is about one that does not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        office.run([op("office.visit", gate=gate.port), op("office.give")], progress=True)
    interrupter.join(DEADLINE)
    signal.signal(signal.SIGINT, before)

    assert office.stats()["runs"]["active"] == 0
    assert sketch.closed == [("cancelled", 2)]


def test_a_submitted_run_can_be_watched(office: Runtime, sketch: Sketch) -> None:
    run = office.submit([op("office.give", value=n) for n in range(3)])

    status = run.watch()

    assert (status, sketch.closed) == ("completed", [("completed", 3)])
    assert run.result()[2].result == 2


def test_a_run_found_by_its_id_shows_everything(office: Runtime) -> None:
    run = office.submit([op("office.give", value=1), op("office.give", value="$result[0]")], "parallel")
    run.wait()

    card = office.attach(run.id)._repr_html_()

    assert f"run {run.id}" in card
    assert card.count("<svg") == 2
    assert "office.give" in card


def test_a_large_result_is_shown_and_not_fetched(office: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    run = office.submit([op("office.give", value=b"x" * 1_000_000)])
    run.wait()
    monkeypatch.setattr(office._link, "fetch", lambda _: pytest.fail("a picture needs no value"))

    card = run._repr_html_()

    assert "bytes of 1000000" in card
    assert "1.0 MB" in card


def test_a_released_run_shows_what_was_seen_of_it(office: Runtime) -> None:
    run = office.submit([op("office.give", value=1)])
    run.wait()
    seen = run._repr_html_()
    run.release()

    assert run._repr_html_() == seen
    assert "does not have this run any more" in office_card_of_nothing(office, run.id)


def office_card_of_nothing(office: Runtime, run_id: str) -> str:
    from aiecs_ray.run import Run  # noqa: PLC0415  # a run that was never looked at

    return Run(office, run_id, ["office.give"])._repr_html_()


def test_a_secret_is_in_no_picture(office: Runtime, tmp_path: Path) -> None:
    run = office.submit([op("office.fail", api_key=SECRET), op("office.tell", api_key=SECRET)], "parallel")
    run.wait()
    told = [event.data["message"] for event in run.events() if event.kind == "progress"]

    pictures = [run._repr_html_(), run.report(tmp_path / "r.html").read_text("utf-8")]
    pictures.append(run.trace(tmp_path / "t.json").read_text("utf-8"))

    assert told == ["with ******** <i>"]
    assert all(SECRET not in picture for picture in pictures)
    assert all("<b>no" not in picture for picture in pictures[:2])


def test_a_trace_is_json_of_every_step(office: Runtime, tmp_path: Path) -> None:
    run = office.submit([op("office.give", value=1), op("office.give", value="$result[0]")])
    run.wait()

    path = run.trace(tmp_path / "trace.json")

    entries = json.loads(path.read_text("utf-8"))["traceEvents"]
    assert [one["args"]["step"] for one in entries if one["ph"] == "X" and "step" in one["args"]] == [0, 1]
    assert [one["ph"] for one in entries if one.get("cat") == "reference"] == ["s", "f"]


def test_a_plan_is_checked_shown_and_run_as_often_as_wanted(office: Runtime) -> None:
    plan = office.plan([op("office.give", value=3), op("office.give", value="$result[0]")], "parallel")

    values = [plan.run()[1].result, plan.submit().result()[1].result]

    assert values == [3, 3]
    assert plan.outline.vertices == (Vertex("office.give"), Vertex("office.give", None, (0,)))
    assert "<svg" in plan._repr_html_()
    assert plan.mermaid().count("-->") == 1
    assert (len(plan), repr(plan)) == (2, "<plan: 2 operations, parallel>")


def test_a_plan_that_is_wrong_is_refused_before_it_is_shown(office: Runtime) -> None:
    with pytest.raises(ToolNotFoundError):
        office.plan([op("nobody.gives")])


def test_a_plan_runs_the_tool_as_it_is_now(office: Runtime) -> None:
    plan = office.plan([op("office.give", value=1)])

    class Office:
        def give(self, value: int) -> int:
            return value + 1

    office.register(Office, replace=True)

    assert plan.run()[0].result == 2


def test_a_run_in_the_history_has_the_same_pictures(tmp_path: Path) -> None:
    import aiecs_ray  # noqa: PLC0415
    from aiecs_ray.config import Settings  # noqa: PLC0415

    settings = Settings(history_url=f"sqlite:///{tmp_path}/history.sqlite3")
    with aiecs_ray.connect("inprocess", settings=settings, registry=aiecs_ray.Registry()) as rt:
        rt.register(Office)
        run = rt.submit([op("office.give", value=1), op("office.fail")], "parallel")
        run.wait()
        record = rt.history.run(run.id)

    card = record._repr_html_()

    assert card.count("<svg") == 2
    assert "&lt;b&gt;no" in card
    assert record.report(tmp_path / "r.html").stat().st_size > 2_000
    assert record.trace(tmp_path / "t.json").stat().st_size > 500
