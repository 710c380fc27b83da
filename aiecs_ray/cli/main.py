"""``aiecs-ray``: the commands together, and what happens to their errors."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

import aiecs_ray
from aiecs_ray.cli import batches, caches, clusters, configs, histories, plans, recorded, tools
from aiecs_ray.cli.doctor import doctor
from aiecs_ray.cli.ending import CommandError, ExitCode, code_of
from aiecs_ray.cli.output import Output
from aiecs_ray.cli.session import Session
from aiecs_ray.errors import AiecsError

if TYPE_CHECKING:
    from collections.abc import Sequence

SWITCHES = ("--json", "--jsonl", "--quiet", "-q", "--yes", "-y")
VALUES = ("--address", "--namespace", "--config", "--load")
"""Options that mean the same for every command, and may stand before it or after it."""

app = typer.Typer(
    name="aiecs-ray",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Run tools as Ray actors: plans, batches, their results and their history.",
    epilog="The options above may also stand behind a command. Exit codes: 0 well, 1 failed, 2 called wrongly, "
    "3 invalid plan or configuration, 4 no cluster, 5 timed out, 6 partly failed, 7 extra missing, 130 Ctrl-C.",
)
for name, group, text in (
    ("tools", tools.app, "The tools: what they are, what they take, one call."),
    ("plan", plans.app, "Plans in files: check and look at them."),
    ("runs", recorded.app, "Runs: those that were, and those under way."),
    ("cache", caches.app, "The cache of a running cluster."),
    ("history", histories.app, "The history of runs as a whole."),
    ("cluster", clusters.app, "A running cluster."),
    ("config", configs.app, "The settings."),
):
    app.add_typer(group, name=name, help=text, no_args_is_help=True)
app.command(name="run")(plans.run)
app.command(name="batch")(batches.batch)
app.command(name="doctor")(doctor)
app.command(name="demo")(clusters.demo)


def _version(*, wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"aiecs-ray {aiecs_ray.__version__}\n")
        raise typer.Exit


@app.callback()
def options(  # noqa: PLR0913  # what every command takes
    context: typer.Context,
    *,
    address: Annotated[str | None, typer.Option(help="host:port, auto, local or inprocess; else RAY_ADDRESS")] = None,
    namespace: Annotated[str | None, typer.Option(help="Ray namespace of the shared actors.")] = None,
    config: Annotated[str | None, typer.Option(help="A YAML file of settings; else aiecs-ray.yaml, if there.")] = None,
    load: Annotated[list[str] | None, typer.Option(help="A module of tools: package.module or module:Class.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output, also on failure.")
    ] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON object a line, as things happen.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on standard error but errors.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=lambda value: _version(wanted=value), is_eager=True)
    ] = False,
) -> None:
    """Keep what was said before the command."""
    del version
    output = Output(json=json, jsonl=jsonl, quiet=quiet)
    session = Session(address, namespace, config, tuple(load or ()), yes=yes, output=output)
    session.command = context.invoked_subcommand or ""
    context.obj = session


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = hoisted(sys.argv[1:] if argv is None else argv)
    output = Output(json="--json" in arguments, jsonl="--jsonl" in arguments)
    command = " ".join(part for part in _words(arguments))
    try:
        status = app(arguments, standalone_mode=False)
    except TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        return _failed(output, command, CommandError(ExitCode.USAGE, f"{message} (--help says more)"))
    except (KeyboardInterrupt, typer.Abort):
        return _failed(output, command, CommandError(ExitCode.CANCELLED, "cancelled"))
    except BrokenPipeError:
        return int(ExitCode.FAILED)
    except (AiecsError, CommandError, OSError) as error:
        return _failed(output, command, error)
    return int(status or 0)


def _failed(output: Output, command: str, error: BaseException) -> int:
    code = code_of(error)
    output.failure(command, error, code)
    return int(code)


def hoisted(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with those that every command has in front, up to ``--``.

    >>> hoisted(["tools", "list", "--json", "--address", "auto"])
    ['--json', '--address', 'auto', 'tools', 'list']
    """
    front: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            return [*front, *rest, argument, *waiting]
        if argument in SWITCHES or argument.partition("=")[0] in VALUES:
            front.append(argument)
            if argument in VALUES:
                front.extend(value for value in [next(waiting, None)] if value is not None)
        else:
            rest.append(argument)
    return [*front, *rest]


def _words(arguments: Sequence[str]) -> list[str]:
    """Return the names of the command and of its group."""
    words: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument in VALUES:
            next(waiting, None)
        elif not argument.startswith("-"):
            words.append(argument)
    groups = {group.name for group in app.registered_groups}
    return words[:2] if words[:1] and words[0] in groups else words[:1]


def entry() -> None:
    """Run a command and end the process: what ``aiecs-ray`` on the command line is."""
    raise SystemExit(main())


if __name__ == "__main__":
    entry()
