"""``aiecs-ray config``: the settings, and where each comes from."""

from __future__ import annotations

from typing import Annotated

import typer

from aiecs_ray.cli.session import Session
from aiecs_ray.config import origins

app = typer.Typer(rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Keep ``show`` a command of its own, though it is the only one."""


@app.command()
def show(
    context: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="also where each value comes from")] = False,
) -> None:
    """Show every setting."""
    session: Session = context.obj
    values = session.settings().model_dump()
    came = origins(session.settings_file())
    if session.namespace is not None:
        came["namespace"] = "option --namespace"
    rows = [{"name": name, "value": value, "origin": came[name]} for name, value in values.items()]
    session.output.rows("config show", rows, ["name", "value", "origin"] if origin else ["name", "value"])
