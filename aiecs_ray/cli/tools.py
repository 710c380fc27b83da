"""``aiecs-ray tools``: what there is, what it takes, one call."""

from __future__ import annotations

import inspect
import json
import sys
from typing import Annotated, Any

import typer

from aiecs_ray import schemas
from aiecs_ray.cli.ending import CommandError, ExitCode
from aiecs_ray.cli.output import brief, plain
from aiecs_ray.cli.session import SHIPPED, Session, pairs
from aiecs_ray.errors import AiecsError
from aiecs_ray.operation import split_spec
from aiecs_ray.registry import DEFAULT
from aiecs_ray.shipping import ship

app = typer.Typer(rich_markup_mode=None)
FORMATS = {"openai": schemas.to_openai, "anthropic": schemas.to_anthropic, "mcp": schemas.to_mcp}


@app.command("list")
def list_tools(context: typer.Context) -> None:
    """List the tools: those of installed packages, of --load, and of the extra `tools`."""
    session: Session = context.obj
    session.load_tools()
    try:
        session.load_shipped(sorted(SHIPPED))
    except CommandError as missing:
        session.output.note(f"without the tools that ship: {missing}")
    rows = [
        {
            "tool": tool["name"],
            "operations": [operation["name"] for operation in tool["operations"]],
            "doc": tool["doc"].partition("\n")[0],
        }
        for tool in DEFAULT.list_tools()
    ]
    session.output.rows("tools list", rows, ["tool", "operations", "doc"])


@app.command()
def show(context: typer.Context, tool: str) -> None:
    """Show a tool with its operations and their parameters."""
    session: Session = context.obj
    _load(session, tool)
    DEFAULT.get(tool)
    found = next(one for one in DEFAULT.list_tools() if one["name"] == tool)
    lines = [f"{tool}: {found['doc'].partition(chr(10))[0]}".rstrip(": ")]
    for operation in found["operations"]:
        parameters = ", ".join(map(_signature, operation["parameters"]))
        lines.append(f"  {operation['name']}({parameters})")
        if operation["doc"]:
            lines.append(f"      {operation['doc'].partition(chr(10))[0]}")
    session.output.document("tools show", found, "\n".join(lines))


@app.command()
def schema(
    context: typer.Context,
    spec: Annotated[str, typer.Argument(metavar="TOOL[.OPERATION]")],
    form: Annotated[str, typer.Option("--format", help="jsonschema, openai, anthropic or mcp")] = "jsonschema",
) -> None:
    """Print JSON Schemas of a tool, or of one operation of it."""
    session: Session = context.obj
    tool, _, operation = spec.partition(".")
    _load(session, tool)
    definition = DEFAULT.find_operation(spec)[0] if operation else DEFAULT.get(tool)
    found: Any
    if form == "jsonschema":
        found = schemas.json_schema(definition)
        found = found["operations"][operation] if operation else found
    elif form in FORMATS:
        made = FORMATS[form](definition)
        name = schemas.function_name(tool, operation)
        found = next(one for one in made if one.get("function", one)["name"] == name) if operation else made
    else:
        raise CommandError(ExitCode.USAGE, f"--format must be jsonschema, {', '.join(FORMATS)}, got {form!r}")
    session.output.document("tools schema", found, json.dumps(found, indent=2))


@app.command()
def call(  # noqa: PLR0913  # options of a call
    context: typer.Context,
    spec: Annotated[str, typer.Argument(metavar="TOOL.OPERATION")],
    arg: Annotated[list[str] | None, typer.Option(help="name=value; the value as JSON, or else text")] = None,
    json_args: Annotated[
        str | None, typer.Option(help="all parameters as a JSON object; - reads standard input")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="seconds for each attempt")] = None,
    user_id: Annotated[str | None, typer.Option()] = None,
    task_id: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Run one operation and print its value."""
    session: Session = context.obj
    _load(session, split_spec(spec)[0])
    params = {**_object(json_args), **pairs(arg or ())}
    with session.runtime() as rt:
        value = rt.call(spec, params, timeout=timeout, user_id=user_id, task_id=task_id)
    shown = plain(value)
    text = value if isinstance(value, str) else json.dumps(shown, indent=2, ensure_ascii=False)
    session.output.document("tools call", shown, text)


@app.command()
def check(context: typer.Context, target: Annotated[str, typer.Argument(metavar="MODULE[:CLASS]")]) -> None:
    """Check the tools of a module: it imports, they can be sent to a cluster, every operation has a schema."""
    session: Session = context.obj
    session.load_tools()
    before = set(DEFAULT.names())
    session.load_tools([target])
    rows = []
    for name in sorted(set(DEFAULT.names()) - before) or _of_module(target):
        definition = DEFAULT.get(name)
        try:
            way = "by reference" if isinstance(ship(definition.cls), str) else "by value"
            schemas.json_schema(definition)
        except AiecsError as error:
            rows.append({"tool": name, "ok": False, "sent": None, "problem": str(error)})
        else:
            undocumented = [one.spec for one in definition.operations.values() if not one.doc]
            hint = f"no docstring: {', '.join(undocumented)}" if undocumented else None
            rows.append({"tool": name, "ok": True, "sent": way, "problem": hint})
    if not all(row["ok"] for row in rows):
        bad = next(row for row in rows if not row["ok"])
        raise CommandError(ExitCode.INVALID, f"{bad['tool']}: {bad['problem']}", rows)
    session.output.rows("tools check", rows, ["tool", "ok", "sent", "problem"])


def _load(session: Session, tool: str) -> None:
    session.load_tools()
    session.load_shipped([tool])


def _of_module(target: str) -> list[str]:
    module = target.partition(":")[0]
    return [name for name in DEFAULT.names() if inspect.getmodule(DEFAULT.get(name).cls) is sys.modules.get(module)]


def _signature(parameter: dict[str, Any]) -> str:
    kind = f": {parameter['type']}" if parameter["type"] else ""
    return f"{parameter['name']}{kind}" + (
        "" if parameter["required"] else f" = {brief(parameter['default']).strip(chr(34))}"
    )


def _object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise CommandError(ExitCode.USAGE, f"--json-args is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise CommandError(ExitCode.USAGE, "--json-args must be a JSON object")
    return found
