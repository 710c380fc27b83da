"""``aiecs-ray plan`` and ``aiecs-ray run``: plans in files."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiecs_ray.cli.ending import CommandError, ExitCode
from aiecs_ray.cli.output import brief, plain
from aiecs_ray.cli.session import Session, interrupted, pairs
from aiecs_ray.context import Context
from aiecs_ray.errors import AiecsError
from aiecs_ray.plan_file import PlanFile, load_plan, plan_schema
from aiecs_ray.reference import is_reference, parse
from aiecs_ray.run_options import RunOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiecs_ray.messages import Event
    from aiecs_ray.model import TaskStepResult
    from aiecs_ray.run import Run
    from aiecs_ray.runtime import Runtime

app = typer.Typer(rich_markup_mode=None)
PlanArgument = Annotated[str, typer.Argument(metavar="PLAN", help="a YAML or JSON file")]
ParamOption = Annotated[list[str] | None, typer.Option(help="name=value for an input of the plan")]


@app.command()
def check(context: typer.Context, plan: PlanArgument, param: ParamOption = None) -> None:
    """Check a plan with its tools; nothing runs, and no cluster is needed."""
    session: Session = context.obj
    document = load_plan(plan)
    operations = _operations(session, document, param)
    with Session(address="inprocess", output=session.output).runtime() as rt:
        _prepared(rt, document, operations)
    count = len(operations)
    data = {"plan": plan, "operations": count, "mode": document.document.mode}
    session.output.document(
        "plan check", data, f"{plan}: {count} operations, {document.document.mode}: no problem found"
    )


@app.command()
def show(
    context: typer.Context,
    plan: PlanArgument,
    param: ParamOption = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="as a Mermaid flowchart")] = False,
) -> None:
    """Show the steps of a plan and what each waits for."""
    session: Session = context.obj
    document = load_plan(plan)
    operations = document.operations(pairs(param or ()))
    document.check(operations)
    rows = list(_steps(operations, sequence=document.document.mode == "sequence"))
    if mermaid:
        session.output.document("plan show", rows, _mermaid(rows))
    else:
        session.output.rows("plan show", rows, ["step", "id", "operation", "after"])


@app.command()
def schema(context: typer.Context) -> None:
    """Print the JSON Schema of plan files."""
    session: Session = context.obj
    session.output.document("plan schema", plan_schema(), json.dumps(plan_schema(), indent=2))


def run(  # noqa: PLR0913  # options of a run
    context: typer.Context,
    plan: PlanArgument,
    param: ParamOption = None,
    timeout: Annotated[
        float | None, typer.Option(help="seconds for the whole run; wins over the plan's deadline")
    ] = None,
    user_id: Annotated[str | None, typer.Option(help="wins over the plan's")] = None,
    task_id: Annotated[str | None, typer.Option(help="wins over the plan's")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="leave it running and print its id")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check only")] = False,
    report: Annotated[Path | None, typer.Option(help="an HTML file about the run, also when it fails")] = None,
    trace: Annotated[Path | None, typer.Option(help="a JSON file for ui.perfetto.dev, also when it fails")] = None,
) -> None:
    """Run a plan and show how it goes; with --jsonl, its events as they happen."""
    session: Session = context.obj
    if detach and (report or trace):
        raise CommandError(ExitCode.USAGE, "--report and --trace wait for the end of the run, --detach does not")
    document = load_plan(plan)
    if dry_run:
        check(context, plan, param)
        return
    operations = _operations(session, document, param)
    given = document.document.context
    whose = Context(user_id or given.user_id, task_id or given.task_id)
    with session.runtime(existing=detach) as rt:
        prepared = _prepared(rt, document, operations, context=whose, deadline=timeout, detach=detach)
        started = rt.start(prepared)
        if detach:
            session.output.document("run", {"run": started.id, "status": "running"}, started.id)
            return
        try:
            _follow(session, started)
        finally:
            _keep(session, started, report, trace)
            with contextlib.suppress(AiecsError):
                started.release()


def _operations(session: Session, document: PlanFile, param: list[str] | None) -> list[dict[str, Any]]:
    operations = document.operations(pairs(param or ()))
    document.check(operations)
    session.load_tools(document.document.tools)
    session.load_shipped([operation["operation"].partition(".")[0] for operation in operations])
    return operations


def _prepared(rt: Runtime, document: PlanFile, operations: list[dict[str, Any]], **given: Any) -> Any:
    plan = document.document
    deadline = given.pop("deadline", None) or plan.deadline
    options = RunOptions(plan.mode, stop_on_failure=plan.stop_on_failure, keep=plan.keep, deadline=deadline, **given)
    try:
        return rt.prepare(operations, options)
    except AiecsError as error:
        raise document.located(error) from error


def _follow(session: Session, started: Run) -> None:
    """Show how the run goes, and tell how it went."""
    try:
        _show(session, started)
        results = started.result()
        status = started.status()
    except KeyboardInterrupt as interrupt:
        started.cancel()
        done, total = started.progress()
        session.output.note(f"run {started.id} is cancelled; {done} of {total} steps had ended or were stopped")
        raise CommandError(interrupted(interrupt), "cancelled", {"run": started.id, "status": "cancelled"}) from None
    shown = [_shown(index, result) for index, result in enumerate(results)]
    data = {"run": started.id, "status": status, "steps": shown}
    if status == "completed":
        if not session.output.jsonl:
            session.output.document("run", data, brief(results[-1].result) if results else "")
        return
    failed = next((one for one in shown if one["status"] in ("failed", "timed_out")), None)
    code = ExitCode.TIMED_OUT if status == "timed_out" else ExitCode.FAILED
    why = f": step {failed['step']} ({failed['operation']}): {failed['error_message']}" if failed else ""
    raise CommandError(code, f"run {started.id} {status.replace('_', ' ')}{why}", data)


def _show(session: Session, started: Run) -> None:
    """Show the run until it has ended: its events to programs, its progress to people."""
    if session.output.jsonl:
        for event in started.events():
            session.output.line(_event(event))
    elif session.output.quiet:
        started.wait()
    else:
        started.watch()


def _keep(session: Session, started: Run, report: Path | None, trace: Path | None) -> None:
    """Write the files that were asked for; that they cannot be written does not hide how the run went."""
    for target, write in ((report, started.report), (trace, started.trace)):
        if target is None:
            continue
        try:
            session.output.note(f"{target} is written: {write(target).stat().st_size:,} bytes")
        except (AiecsError, OSError) as error:
            session.output.note(f"{target} cannot be written: {error}")


def _event(event: Event) -> dict[str, Any]:
    return {
        "number": event.number,
        "kind": event.kind.value,
        "run": event.run,
        "time": event.time,
        "step": event.step,
        "data": plain(dict(event.data)),
    }


def _shown(index: int, result: TaskStepResult) -> dict[str, Any]:
    return {
        "step": index,
        "operation": result.step,
        "status": str(getattr(result.status, "value", result.status)),
        "result": plain(result.result),
        "error_code": getattr(result.error_code, "value", result.error_code),
        "error_message": result.error_message,
    }


def _steps(operations: list[dict[str, Any]], *, sequence: bool) -> Iterator[dict[str, Any]]:
    ids: dict[Any, int] = {operation["id"]: index for index, operation in enumerate(operations) if operation.get("id")}
    for index, operation in enumerate(operations):
        named = operation.get("depends_on") or []
        after: set[Any] = {ids.get(one, one) for one in (named if isinstance(named, list) else [named])}
        for text in _texts(operation.get("params") or {}):
            if is_reference(text):
                target = parse(text).target
                after.add(ids.get(target, target))
        if sequence and index and not after:
            after.add(index - 1)
        shown = sorted(after, key=str)
        yield {"step": index, "id": operation.get("id"), "operation": operation["operation"], "after": shown}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _mermaid(rows: list[dict[str, Any]]) -> str:
    lines = ["flowchart TD"]
    lines += [f'    s{row["step"]}["{row["step"]} {row["operation"]}"]' for row in rows]
    lines += [f"    s{before} --> s{row['step']}" for row in rows for before in row["after"]]
    return "\n".join(lines)
