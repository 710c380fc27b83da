"""The tour runs in a kernel of its own, and what is saved of it shows everything without one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTEBOOKS = Path(__file__).resolve().parents[2] / "examples" / "notebooks"
TOUR = NOTEBOOKS / "tour.ipynb"
PERSONAL = re.compile(r"/(?:home|root|tmp|Users|usr|opt|var|mnt|srv|work)/|[A-Z]:\\|\.py\b|0x[0-9a-f]{6,}")
"""Places on somebody's machine, and addresses in somebody's memory."""
LIMIT = 250_000
"""Bytes of a saved notebook."""


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def outputs(notebook: Any) -> Iterator[Any]:
    for cell in notebook.cells:
        yield from cell.get("outputs", ())


def html(notebook: Any) -> str:
    return "".join(output.get("data", {}).get("text/html", "") for output in outputs(notebook))


def check(notebook: Any) -> None:
    """Raise unless the notebook shows cards, timelines and graphs that need no kernel."""
    shown = html(notebook)
    assert shown.count('class="aiecs-ray-plan"') == 1
    assert shown.count('class="aiecs-ray-run"') == 6
    assert shown.count("Timeline of run") == 6
    assert shown.count('aria-label="Graph of') == 7
    assert "the key &#x27;brass&#x27; does not fit" in shown
    assert "6 from the cache" in shown
    assert "bytes of 5000000" in shown
    assert [output for output in outputs(notebook) if output.output_type == "error"] == []
    assert "<script" not in shown
    assert [kind for output in outputs(notebook) for kind in output.get("data", {}) if "widget" in kind] == []


@pytest.fixture
def small_history(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIECS_RAY_HISTORY_URL", "off")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOKS.parents[1]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("small_history")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_the_tour_runs(tmp_path: Path) -> None:
    notebook = read(TOUR)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []

    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()

    check(notebook)


FIRST = """
import aiecs_ray
from aiecs_ray import cancelled, tool

rt = aiecs_ray.connect("inprocess")
"""
TOOL = """
@tool("till")
class Till:
    def count(self, n: int) -> int:
        return n + {more}
"""
CALL = """rt.run([{"operation": "till.count", "params": {"n": 1}}], progress=True)[0].result"""
STOP = """
import _thread

@tool("patient")
class Patient:
    def wait(self) -> None:
        _thread.interrupt_main()
        while not cancelled():
            pass
        raise InterruptedError

try:
    rt.run([{"operation": "patient.wait"}, {"operation": "till.count", "params": {"n": 1}}], progress=True)
except KeyboardInterrupt:
    told = rt.stats()["runs"]["active"]
told
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("small_history")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_cells_can_be_run_again_and_the_stop_button_cancels(tmp_path: Path) -> None:
    cells = [FIRST, TOOL.format(more=1), CALL, FIRST, TOOL.format(more=1), CALL, TOOL.format(more=2), CALL, STOP, STOP]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])  # type: ignore[no-untyped-call]

    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()

    last = [cell.outputs[-1] for cell in notebook.cells if cell.outputs]
    assert [output.data["text/plain"] for output in last] == ["2", "2", "3", "0", "0"]
    cards = [output.data["text/html"] for output in outputs(notebook) if "text/html" in output.get("data", {})]
    assert ["cancelled</span>" in card for card in cards] == [False, False, False, True, True]


def test_the_saved_tour_shows_everything_without_a_kernel() -> None:
    check(read(TOUR))


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_saved_notebook_is_small_and_says_nothing_of_the_machine(path: Path) -> None:
    notebook = read(path)

    said = [str(output) for output in outputs(notebook)]
    assert [match[0] for text in said for match in PERSONAL.finditer(text)] == []
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == list(
        range(1, 1 + sum(cell.cell_type == "code" for cell in notebook.cells))
    )
    assert path.stat().st_size < LIMIT


def test_the_notebooks_are_those_that_are_tested() -> None:
    assert [path.name for path in NOTEBOOKS.glob("*.ipynb")] == [TOUR.name]
