"""``aiecs-ray batch``: one operation over the lines of a file, in bounded memory, and again where it was cut off."""

from __future__ import annotations

import hashlib
import json
import time
from array import array
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from aiecs_ray.cli.ending import CommandError, ExitCode
from aiecs_ray.cli.output import plain
from aiecs_ray.cli.session import Session
from aiecs_ray.errors import AiecsError
from aiecs_ray.operation import split_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

FLUSH_EVERY = 0.5
"""Seconds of results that a killed batch may have to make again."""
REPORT_EVERY = 10.0
"""Seconds between two lines that say how far it is."""


class _Line(NamedTuple):
    """A line of the input."""

    number: int
    digest: int
    problem: str = ""


class _Progress:
    """What was done before, and counts of what is done now."""

    def __init__(self) -> None:
        self.done = array("Q")
        """Per line a digest of what it was; 0 where it was not done."""
        self.resumed = self.completed = self.failed = 0

    def read(self, path: Path) -> None:
        """Take up what a file holds; a last line that was cut off is removed."""
        if not path.exists():
            return
        with path.open("r+b") as file:
            sound = 0
            for raw in file:
                if not raw.endswith(b"\n"):
                    break
                sound += len(raw)
                self._note(json.loads(raw), path)
            file.truncate(sound)

    def _note(self, entry: dict[str, Any], path: Path) -> None:
        try:
            number, digest = int(entry["line"]), int(entry["digest"], 16)
        except (KeyError, TypeError, ValueError) as error:
            raise CommandError(ExitCode.USAGE, f"{path} was not written by a batch; choose another --output") from error
        if number >= len(self.done):
            self.done.extend([0] * (number + 1000 - len(self.done)))
        self.done[number] = digest
        self.resumed += 1

    def has(self, line: _Line) -> bool:
        """Whether a line was done before.

        Raises:
            CommandError: it was another line then.
        """
        digest = self.done[line.number] if line.number < len(self.done) else 0
        if digest and digest != line.digest:
            raise CommandError(
                ExitCode.USAGE, f"line {line.number} of the input has changed; begin anew without --resume"
            )
        return bool(digest)

    def summary(self, letters: Path) -> dict[str, Any]:
        """Return the counts, and where failures are."""
        failures = str(letters) if self.failed else None
        return {"failures": failures, "completed": self.completed, "failed": self.failed, "resumed": self.resumed}

    def text(self) -> str:
        """Return the counts for people."""
        return f"{self.completed} completed" + (f", {self.resumed} were there" if self.resumed else "")


def batch(  # noqa: PLR0913  # options of a batch
    context: typer.Context,
    spec: Annotated[str, typer.Argument(metavar="TOOL.OPERATION")],
    source: Annotated[Path, typer.Option("--input", help="JSON lines: one object of parameters each")],
    target: Annotated[Path, typer.Option("--output", help="JSON lines: line, digest of the input, result")],
    failed: Annotated[Path | None, typer.Option(help="where failures go; else OUTPUT.failed.jsonl")] = None,
    max_failures: Annotated[int | None, typer.Option(min=0, help="stop at more failures than this")] = None,
    window: Annotated[int | None, typer.Option(min=1, help="operations under way at once")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on after what the output holds")] = False,
) -> None:
    """Run one operation for every line of a file; results are in input order."""
    session: Session = context.obj
    letters = failed or target.with_name(f"{target.name}.failed.jsonl")
    progress = _taken_up(session, (target, letters), resume=resume)
    session.load_tools()
    session.load_shipped([split_spec(spec)[0]])
    mode = "a" if resume else "w"
    with (
        source.open("rb") as lines,
        session.runtime() as rt,
        target.open(mode, encoding="utf-8") as good,
        letters.open(mode, encoding="utf-8") as bad,
    ):
        pending: deque[_Line] = deque()
        params = _params(lines, progress, pending)
        values = rt.map(spec, params, window=window, on_error="return")
        _Writer(session, (good, bad), progress, max_failures).write(values, pending)
    if not bad_lines(letters):
        letters.unlink(missing_ok=True)
    data = {"input": str(source), "output": str(target), **progress.summary(letters)}
    if progress.failed:
        stopped = max_failures is not None and progress.failed > max_failures
        code = ExitCode.FAILED if stopped else ExitCode.PARTLY_FAILED
        how = "stopped after" if stopped else "with"
        raise CommandError(code, f"{how} {progress.failed} failures, which are in {letters}", data)
    session.output.document("batch", data, progress.text())


def _taken_up(session: Session, files: tuple[Path, Path], *, resume: bool) -> _Progress:
    """Return what was done before.

    Raises:
        CommandError: there is something, and nobody said what is to become of it.
    """
    progress = _Progress()
    if resume:
        for path in files:
            progress.read(path)
    elif any(path.exists() for path in files) and not session.yes:
        raise CommandError(ExitCode.USAGE, f"{files[0]} is there: --resume goes on after it, --yes begins anew")
    return progress


def bad_lines(letters: Path) -> bool:
    """Whether anything failed, now or before."""
    return letters.exists() and letters.stat().st_size > 0


def _params(lines: Any, progress: _Progress, pending: deque[_Line]) -> Iterator[Any]:
    """Yield the parameters of every line that is to be done."""
    for number, raw in enumerate(lines):
        if not raw.strip():
            continue
        # Never 0, which stands for a line that was not done.
        digest = int.from_bytes(hashlib.sha256(raw.strip()).digest()[:8], "big") | 1
        line, found = _Line(number, digest), None
        if progress.has(line):
            continue
        try:
            found = json.loads(raw)
        except ValueError as error:
            line = line._replace(problem=f"the line is no JSON: {error}")
        pending.append(line)
        yield found


class _Writer:
    """Writes results as they come."""

    def __init__(
        self,
        session: Session,
        files: tuple[IO[str], IO[str]],
        progress: _Progress,
        max_failures: int | None,
    ) -> None:
        self._session, self._files, self._progress = session, files, progress
        self._most = max_failures
        self._flushed = self._reported = time.monotonic()

    def write(self, values: Iterator[Any], pending: deque[_Line]) -> None:
        """Write a line for each value, until there are none or too many failures."""
        progress = self._progress
        for value in values:
            self._put(pending.popleft(), value)
            if self._most is not None and progress.failed > self._most:
                return
            now = time.monotonic()
            if now - self._flushed > FLUSH_EVERY:
                self._flushed = now
                for file in self._files:
                    file.flush()
            if now - self._reported > REPORT_EVERY:
                self._reported = now
                self._session.output.note(f"{progress.completed} completed, {progress.failed} failed")

    def _put(self, line: _Line, value: Any) -> None:
        good, bad = self._files
        head = {"line": line.number, "digest": f"{line.digest:016x}"}
        if isinstance(value, AiecsError):
            error = {"error_code": value.error_code, "error_message": line.problem or str(value)}
            bad.write(json.dumps({**head, **error}) + "\n")
            self._progress.failed += 1
        else:
            good.write(json.dumps({**head, "result": plain(value)}) + "\n")
            self._progress.completed += 1
