"""Where progress is shown, and what is written there."""

from __future__ import annotations

import concurrent.futures
import io
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from aiecs_ray import displays
from aiecs_ray.digests import Digest
from aiecs_ray.displays import PlainLines, check_progress, display, is_shown
from aiecs_ray.errors import InvalidInputError, RunLostError
from aiecs_ray.notebook import NotebookCard
from aiecs_ray.terminal import Terminal
from aiecs_ray.watching import Watch
from tests.unit.pictures import BEGAN, Story

if TYPE_CHECKING:
    from aiecs_ray.run_view import RunView

NOW = BEGAN + 5


def half() -> Story:
    story = Story(4)
    story.complete(0)
    story.fail(1, "no \x1b[2Jtea")
    story.start(2)
    return story


def ended() -> Story:
    story = half()
    story.complete(2)
    story.complete(3)
    story.finish("failed", completed=3, failed=1)
    return story


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


# --- whether and where -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, 1, "yes", "AUTO"])
def test_only_true_false_and_auto_are_taken(wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="progress must be True, False or 'auto'"):
        check_progress(wrong)


@pytest.mark.parametrize(("notebook", "terminal"), [(False, False), (True, False), (False, True)])
def test_auto_shows_where_somebody_looks(monkeypatch: pytest.MonkeyPatch, *, notebook: bool, terminal: bool) -> None:
    monkeypatch.setattr(displays, "in_notebook", lambda: notebook)
    monkeypatch.setattr(displays, "on_terminal", lambda: terminal)

    assert is_shown("auto") == (notebook or terminal)
    assert [is_shown(wish) for wish in (True, False)] == [True, False]


@pytest.mark.parametrize(
    ("stream", "term", "expected"), [(Screen(), "xterm", Terminal), (Screen(), "dumb", PlainLines)]
)
def test_a_terminal_that_cannot_be_written_over_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, stream: Screen, term: str, expected: type
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", term)

    assert type(display()) is expected


def test_what_is_no_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())

    assert type(display()) is PlainLines


def test_a_kernel_is_known_by_its_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    shells = [None, SimpleNamespace(kernel=None), SimpleNamespace(kernel=object())]
    answers = []

    for shell in shells:
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        answers.append(displays.in_notebook())

    assert answers == [False, False, True]


# --- plain lines -----------------------------------------------------------------------------------------------------


def test_plain_lines_come_every_ten_seconds_and_at_the_end() -> None:
    stream, seconds = io.StringIO(), iter(range(0, 1000, 3))
    plain = PlainLines(stream, clock=lambda: float(next(seconds)))
    view = half().view

    for _ in range(10):
        plain.draw(view, NOW)
    drawn = len(stream.getvalue().splitlines())
    plain.close(ended().view, NOW)

    assert 1 <= drawn <= 4
    assert stream.getvalue().splitlines()[drawn:] == [
        "run r-1 · failed · 4/4 steps · 1 failed · 1 replica · 6.00 s",
        "  ✗ 1 tool.op: no tea",
    ]
    assert "\x1b" not in stream.getvalue()


def test_a_stream_without_the_letters_gets_others() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")

    PlainLines(stream).close(ended().view, NOW)

    assert b"4/4 steps" in raw.getvalue()


# --- the terminal ----------------------------------------------------------------------------------------------------


def terminal(screen: Screen, **more: Any) -> Terminal:
    return Terminal(Console(file=screen, force_terminal=True, width=80, **more))


def test_a_terminal_is_left_with_how_the_run_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    shown = terminal(screen)
    monkeypatch.setattr(sys, "stdout", io.StringIO())

    shown.draw(half().view, NOW)
    alive = screen.getvalue()
    shown.close(ended().view, NOW)

    assert "█" in alive
    assert "2/4 steps" in alive
    assert "\x1b[2J" not in screen.getvalue()
    assert "4/4 steps" in screen.getvalue().splitlines()[-2]
    assert sys.stdout.getvalue() == ""  # type: ignore[attr-defined]  # a StringIO


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Screen()

    terminal(screen).close(ended().view, NOW)

    assert "\x1b[31m" not in screen.getvalue()
    assert "no tea" in screen.getvalue()


def test_a_second_display_writes_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    first, second = Screen(), Screen()
    one, two = terminal(first), terminal(second)

    one.draw(half().view, NOW)
    two.draw(half().view, NOW)
    while_both = second.getvalue()
    two.close(ended().view, NOW)
    one.close(ended().view, NOW)

    assert while_both == ""
    assert "4/4 steps" in second.getvalue()
    terminal(third := Screen()).draw(half().view, NOW)
    assert "2/4 steps" in third.getvalue()


@pytest.fixture(autouse=True)
def free_terminal() -> Any:
    """Let the next test draw."""
    from aiecs_ray import terminal as module  # noqa: PLC0415  # beside the function of that name

    yield
    if module._drawn.locked():
        module._drawn.release()


# --- the notebook ----------------------------------------------------------------------------------------------------


class Output:
    """The output of a cell: what is shown there now."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def display(self, one: Any, *, display_id: bool = False) -> Output:
        self.shown.append((one, display_id))
        return self

    def update(self, one: Any) -> None:
        self.shown[-1] = (one, True)


@pytest.mark.parametrize("widgets", [True, False])
def test_a_card_is_one_output_that_ends_as_html(monkeypatch: pytest.MonkeyPatch, *, widgets: bool) -> None:
    output, closed = Output(), []
    widget = SimpleNamespace(value="", close=lambda: closed.append(True))
    monkeypatch.setattr("aiecs_ray.notebook.show", output.display)
    monkeypatch.setattr("aiecs_ray.notebook._widget", lambda _: widget if widgets else None)
    monkeypatch.setattr("aiecs_ray.notebook.SLOWEST", 0.0)
    monkeypatch.setattr(NotebookCard, "interval", 0.0)
    card = NotebookCard()

    for _ in range(3):
        card.draw(half().view, NOW)
    alive = output.shown[0][0]
    card.close(ended().view, NOW)

    assert len(output.shown) == 1
    assert (alive is widget) == widgets
    assert closed == [True] * widgets
    assert "4 of 4 steps ended" in output.shown[0][0].data
    assert not widgets or "2 of 4 steps ended" in widget.value


# --- watching --------------------------------------------------------------------------------------------------------


class Sketch:
    """A display that remembers."""

    interval = 0.01

    def __init__(self, *, broken: bool = False) -> None:
        self.drawn: list[int] = []
        self.closed: list[tuple[str, int]] = []
        self._broken = broken

    def draw(self, view: RunView, now: float) -> None:
        assert now > 0
        if self._broken:
            raise OSError("the terminal is gone")
        self.drawn.append(view.done)

    def close(self, view: RunView, now: float) -> None:
        assert now > 0
        self.closed.append((view.status, view.done))


class Teller:
    """A coordinator that answers with digests."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def request_nowait(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        self.asked.append((method, *args))
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        elif answer is not None:
            future.set_result(answer)
        return future


def parts() -> list[Digest]:
    events = ended().events
    return [Digest(3, tuple(events[:3])), Digest(len(events), tuple(events[3:]), over=True)]


def test_a_watch_reads_on_from_where_it_was_and_ends_with_the_run() -> None:
    client, sketch = Teller(*parts()), Sketch()
    watch = Watch(client, "r-1", sketch)  # type: ignore[arg-type]  # what a watch asks

    status = watch.end()
    watch.close()

    assert [asked[:3] for asked in client.asked] == [("digest", "r-1", 0), ("digest", "r-1", 3)]
    assert (status, sketch.closed) == ("failed", [("failed", 4)])


def test_a_display_that_breaks_does_not_break_the_run() -> None:
    client = Teller(*parts())
    watch = Watch(client, "r-1", Sketch(broken=True))  # type: ignore[arg-type]

    assert watch.end() == "failed"
    watch.close()


def test_a_run_that_is_forgotten_at_once_is_told_by_its_results() -> None:
    sketch = Sketch()
    watch = Watch(Teller(parts()[0], RunLostError("gone")), "r-1", sketch)  # type: ignore[arg-type]
    done: concurrent.futures.Future[int] = concurrent.futures.Future()
    done.set_result(7)

    watch.tick()
    value = watch.until(done)
    watch.close([SimpleNamespace(settled=SimpleNamespace(status="completed"))] * 4)  # type: ignore[list-item]

    assert value == 7
    assert sketch.closed == [("completed", 5)]


def test_a_run_that_is_over_within_the_delay_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiecs_ray.watching.display", lambda: pytest.fail("nothing is to be shown"))
    client = Teller()
    watch = Watch(client, "r-1", delay=60.0)  # type: ignore[arg-type]
    done: concurrent.futures.Future[int] = concurrent.futures.Future()
    done.set_result(7)

    value = watch.until(done)
    watch.close()

    assert (value, client.asked) == (7, [])
