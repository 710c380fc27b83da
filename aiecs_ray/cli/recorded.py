"""``aiecs-ray runs``: those of the history, and those under way."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from aiecs_ray.cli.ending import CommandError, ExitCode
from aiecs_ray.cli.output import plain
from aiecs_ray.cli.session import Session

app = typer.Typer(rich_markup_mode=None)
_AGE = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
SinceOption = Annotated[str | None, typer.Option(help="that began within: 30m, 2h, 7d")]
UserOption = Annotated[str | None, typer.Option(help="of this user_id")]
TaskOption = Annotated[str | None, typer.Option(help="of this task_id")]
ToolOption = Annotated[str | None, typer.Option(help="that used this tool")]
_SHOWN = ("number", "kind", "run", "time", "step", "data")


def age(text: str) -> float:
    """Return the seconds of ``30m``, ``2h`` or ``7d``.

    >>> age("2h")
    7200.0
    """
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise CommandError(ExitCode.USAGE, f"expected a number and s, m, h or d, such as 2h, got {text!r}")
    return float(match[1]) * _UNITS[match[2]]


def moment(since: str | None) -> float | None:
    """Return when something that is ``since`` old began."""
    return None if since is None else time.time() - age(since)


@app.command("list")
def list_runs(  # noqa: PLR0913  # filters
    context: typer.Context,
    user: UserOption = None,
    task: TaskOption = None,
    tool: ToolOption = None,
    status: Annotated[str | None, typer.Option(help="running, completed, failed, cancelled, timed_out, lost")] = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
) -> None:
    """List runs, the latest first; without an address, those in this user's history file."""
    session: Session = context.obj
    with session.history() as history:
        runs = history.runs(user=user, task=task, tool=tool, status=status, since=moment(since), limit=limit)
    rows = [{**dataclasses.asdict(run), "when": _clock(run.began)} for run in runs]
    session.output.rows("runs list", rows, ["id", "status", "when", "seconds", "steps", "user_id", "task_id", "mode"])


@app.command()
def show(context: typer.Context, run: str) -> None:
    """Show a run with its steps; failures first."""
    session: Session = context.obj
    with session.history() as history:
        record = history.run(run)
    head = record.run
    lines = [
        f"run {head.id}: {head.status}, {head.mode}, {head.steps} operations",
        f"began {_clock(head.began)}" + (f", took {head.seconds:.2f} s" if head.seconds is not None else ""),
    ]
    for step in sorted(record.steps, key=lambda one: (one.status == "completed", one.step)):
        told = step.message or ("from cache" if step.from_cache else step.summary)
        lines.append(f"  {step.step}  {step.spec}  {step.status}  {step.seconds:.3f} s  {told}".rstrip())
    lines += [f"  {row['spec']}: {json.dumps(row['counts'])}" for row in record.bulk]
    data = {name: value for name, value in record.to_dict().items() if name != "events"}
    session.output.document("runs show", data, "\n".join(lines))


@app.command()
def events(
    context: typer.Context,
    run: str,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="go on until the run has ended; asks the cluster")
    ] = False,
) -> None:
    """Print the events of a run, one a line."""
    session: Session = context.obj
    if follow:
        with session.runtime(existing=True) as rt:
            for event in rt.attach(run).events():
                _print(session, [event.number, event.kind.value, event.time, event.step, dict(event.data)], run)
        return
    with session.history() as history:
        found = [[one.number, one.kind.value, one.time, one.step, dict(one.data)] for one in history.run(run).events()]
    if session.output.json:
        rows = [_event(one, run) for one in found]
        session.output.document("runs events", rows, "")
        return
    for one in found:
        _print(session, one, run)


@app.command()
def cancel(context: typer.Context, run: str) -> None:
    """Cancel a run of a running cluster."""
    session: Session = context.obj
    with session.runtime(existing=True) as rt:
        status = rt.attach(run).cancel()
    session.output.document("runs cancel", {"run": run, "status": status}, f"{run} {status}")


@app.command()
def export(
    context: typer.Context, run: str, output: Annotated[Path | None, typer.Option(help="else standard output")] = None
) -> None:
    """Write all that is recorded of a run as JSON."""
    session: Session = context.obj
    with session.history() as history:
        record = history.run(run).to_dict()
    if output is None:
        session.output.document("runs export", record, json.dumps(record, indent=2))
        return
    output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    session.output.document("runs export", {"run": run, "output": str(output)}, str(output))


def _event(row: list[Any], run: str) -> dict[str, Any]:
    number, kind, when, step, data = row
    return dict(zip(_SHOWN, (number, kind, run, when, step, plain(data)), strict=True))


def _print(session: Session, row: list[Any], run: str) -> None:
    if session.output.machine:
        session.output.line(_event(row, run))
        return
    number, kind, when, step, data = row
    told = " ".join(f"{name}={value}" for name, value in data.items())
    session.output.document(
        "runs events", None, f"{_clock(when)}  {number}  {kind}  {'' if step is None else step}  {told}"
    )


def _clock(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
