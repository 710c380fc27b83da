"""``aiecs-ray cluster`` and ``aiecs-ray demo``."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Annotated

import typer

from aiecs_ray.cli.ending import CommandError, ExitCode
from aiecs_ray.cli.session import Session
from aiecs_ray.config import named_cluster

app = typer.Typer(rich_markup_mode=None)


@app.command()
def status(context: typer.Context) -> None:
    """Show what runs, waits and is kept."""
    session: Session = context.obj
    with session.runtime(existing=True) as rt:
        stats = {"address": rt.address, **rt.stats()}
    session.output.document(
        "cluster status", stats, "\n".join(f"{name}: {json.dumps(one)}" for name, one in stats.items())
    )


@app.command()
def down(context: typer.Context) -> None:
    """End the coordinator, the cache and the history of a namespace, with every run; Ray itself stays."""
    session: Session = context.obj
    address = session.address or named_cluster() or "auto"
    settings = session.settings()
    if address == "inprocess":
        raise CommandError(ExitCode.USAGE, "there is no cluster in process")
    session.confirm(f"ending everything in namespace {settings.namespace!r} of {address}")
    ended = importlib.import_module("aiecs_ray.ray_backend").take_down(address, settings)
    session.output.document("cluster down", {"ended": ended}, f"ended: {', '.join(ended) or 'nothing was there'}")


def demo(
    context: typer.Context,
    workdir: Annotated[Path, typer.Option(help="where data and report go")] = Path("demo-output"),
) -> None:
    """Make the daily report of 336,776 flights, twice, and leave it as a page."""
    session: Session = context.obj
    arguments = ["--workdir", str(workdir), *(["--address", session.address] if session.address else [])]
    main = importlib.import_module("aiecs_ray.demo").main
    if main(arguments):
        raise CommandError(ExitCode.FAILED, "the demo failed")
    data = {"report": str(workdir / "report.html")}
    session.output.document("demo", data, "")
