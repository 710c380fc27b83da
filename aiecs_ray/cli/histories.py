"""``aiecs-ray history``: numbers, files, and what is deleted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from aiecs_ray.cli import recorded
from aiecs_ray.cli.ending import CommandError, ExitCode
from aiecs_ray.cli.recorded import SinceOption, TaskOption, ToolOption, UserOption, age, moment
from aiecs_ray.cli.session import Session

app = typer.Typer(rich_markup_mode=None)
app.command("query", help="List runs, the latest first: the same as `runs list`.")(recorded.list_runs)


@app.command()
def stats(
    context: typer.Context,
    tool: ToolOption = None,
    user: UserOption = None,
    task: TaskOption = None,
    since: SinceOption = None,
) -> None:
    """Show, per operation, how many there were, how they ended and how long they took."""
    session: Session = context.obj
    with session.history() as history:
        rows = history.statistics(tool=tool, user=user, task=task, since=moment(since))
    columns = ["operation", "count", "success_rate", "p50", "p95", "from_cache", "retries", "bytes"]
    session.output.rows("history stats", rows, columns)


@app.command()
def info(context: typer.Context) -> None:
    """Show where the history is and how much it holds."""
    session: Session = context.obj
    with session.history() as history:
        facts = history.info()
    session.output.document("history info", facts, "\n".join(f"{name}: {value}" for name, value in facts.items()))


@app.command()
def prune(
    context: typer.Context,
    older_than: Annotated[str | None, typer.Option(help="that began longer ago than: 30m, 2h, 7d")] = None,
    keep: Annotated[int | None, typer.Option(min=0, help="all but the latest so many")] = None,
) -> None:
    """Delete runs from the history."""
    session: Session = context.obj
    if older_than is None and keep is None:
        raise CommandError(ExitCode.USAGE, "say what to delete: --older-than 30d, or --keep 1000")
    seconds = None if older_than is None else age(older_than)
    session.confirm("deleting runs from the history")
    with session.history() as history:
        deleted = history.prune(older_than=seconds, keep=keep)
    session.output.document("history prune", {"deleted": deleted}, f"{deleted} runs deleted")


@app.command()
def export(  # noqa: PLR0913  # filters
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="a file with one JSON object a run")],
    user: UserOption = None,
    task: TaskOption = None,
    tool: ToolOption = None,
    since: SinceOption = None,
) -> None:
    """Write runs with their steps and events to a file."""
    session: Session = context.obj
    with session.history() as history:
        count = history.export(output, user=user, task=task, tool=tool, since=moment(since))
    data = {"output": str(output), "runs": count}
    session.output.document("history export", data, json.dumps(data))
