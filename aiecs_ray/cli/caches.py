"""``aiecs-ray cache``: of a running cluster."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from aiecs_ray.cli.session import Session, pairs
from aiecs_ray.operation import split_spec

app = typer.Typer(rich_markup_mode=None)


@app.command()
def stats(context: typer.Context) -> None:
    """Show hits, misses, entries, bytes and the seconds that were saved."""
    session: Session = context.obj
    with session.runtime(existing=True) as rt:
        found = rt.cache.stats()
    session.output.document(
        "cache stats", found, "\n".join(f"{name}: {json.dumps(value)}" for name, value in found.items())
    )


@app.command()
def explain(
    context: typer.Context,
    spec: Annotated[str, typer.Argument(metavar="TOOL.OPERATION")],
    param: Annotated[list[str] | None, typer.Option(help="name=value; the value as JSON, or else text")] = None,
    user_id: Annotated[str | None, typer.Option()] = None,
    task_id: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Say whether a call would be answered from the cache, and if not, why; nothing runs."""
    session: Session = context.obj
    session.load_tools()
    session.load_shipped([split_spec(spec)[0]])
    with session.runtime(existing=True) as rt:
        found = rt.cache.explain(spec, pairs(param or ()), user_id=user_id, task_id=task_id)
    session.output.document("cache explain", dataclasses.asdict(found), str(found))


@app.command()
def invalidate(
    context: typer.Context,
    tool: Annotated[str | None, typer.Option()] = None,
    operation: Annotated[str | None, typer.Option(help="tool.operation")] = None,
    user: Annotated[str | None, typer.Option(help="user_id")] = None,
    task: Annotated[str | None, typer.Option(help="task_id")] = None,
) -> None:
    """Delete the entries that match everything given."""
    session: Session = context.obj
    with session.runtime(existing=True) as rt:
        count = rt.cache.invalidate(tool=tool, operation=operation, user_id=user, task_id=task)
    session.output.document("cache invalidate", {"deleted": count}, f"{count} entries deleted")


@app.command()
def clear(context: typer.Context) -> None:
    """Delete every entry."""
    session: Session = context.obj
    session.confirm("deleting every entry of the cache")
    with session.runtime(existing=True) as rt:
        count = rt.cache.clear()
    session.output.document("cache clear", {"deleted": count}, f"{count} entries deleted")
