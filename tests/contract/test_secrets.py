"""A secret that was given to an operation stands nowhere that people look: everything written is searched."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

import aiecs_ray
from aiecs_ray.cli.main import main
from aiecs_ray.config import Settings
from aiecs_ray.errors import AiecsError
from aiecs_ray.logs import configure_logging
from aiecs_ray.masking import MASK
from aiecs_ray.messages import PROTOCOL
from aiecs_ray.registry import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)
BY_NAME = "s3same-by-name"
BY_TYPE = "s3same-by-type"
NESTED = "s3same-nested"
TRACE = "s3same"
"""What all of them begin with: whatever is left of one is found, too."""


class Vault:
    def open(self, password: str, hint: SecretStr, options: dict[str, Any]) -> str:
        logging.getLogger("aiecs_ray.vault").debug("opening")
        aiecs_ray.progress(1, 2, f"with {password}")
        return f"opened with {password}, {hint.get_secret_value()}, {options}"

    def fail(self, password: str, hint: SecretStr, options: dict[str, Any]) -> None:
        raise ValueError(f"cannot open with {password}, {hint.get_secret_value()}, {options}", password)

    def retry(self, password: str, hint: SecretStr, options: dict[str, Any]) -> None:
        raise ConnectionError(f"{password} {hint.get_secret_value()} {options}")

    def narrow(self, password: str, count: int) -> int:
        del password
        return count


def given() -> dict[str, Any]:
    return {"password": BY_NAME, "hint": SecretStr(BY_TYPE), "options": {"auth": {"api_key": NESTED}}}


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    path = tmp_path / "everything.log"
    configure_logging("DEBUG", as_json=True, file=path)
    return path


@pytest.fixture
def vault(backend: str, tmp_path: Path, logged: Path) -> Iterator[aiecs_ray.Runtime]:  # noqa: ARG001  # it logs
    settings = Settings(namespace="secrets", grace=0.1, history_url=f"sqlite:///{tmp_path}/history.sqlite3")
    address = "inprocess" if backend == "inprocess" else None
    with aiecs_ray.connect(address, settings=settings, registry=aiecs_ray.Registry()) as rt:
        # No CPU of its own: replicas of another namespace may hold them all.
        rt.register(Vault, num_cpus=0)
        yield rt
    if backend != "inprocess":
        ray: Any = pytest.importorskip("ray")
        for kind in ("coordinator", "cache", "history"):
            with contextlib.suppress(ValueError):
                ray.kill(ray.get_actor(f"aiecs_ray_{kind}_v{PROTOCOL}", "secrets"))


def use(rt: aiecs_ray.Runtime) -> str:
    """Give secrets to operations that end in every way; return everything that was said of them."""
    again = {"retry": {"attempts": 2, "wait_min": 0.01, "wait_max": 0.01}}
    run = rt.submit(
        [
            {"operation": "vault.open", "params": given()},
            {"operation": "vault.fail", "params": given()},
            {"operation": "vault.retry", "params": given(), **again},
        ],
        user_id="ann",
        mode="parallel",
    )
    results = run.result()
    said = [repr(result) for result in results if not result.completed]
    said += [repr(event) for event in run.events()]
    with pytest.raises(AiecsError) as raised:
        rt.call("vault.fail", given())
    said.append(str(raised.value) + repr(vars(raised.value)) + str(raised.value.__cause__))
    with pytest.raises(AiecsError) as raised:
        rt.call("vault.narrow", {"password": BY_NAME, "count": BY_NAME})
    said.append(str(raised.value))
    said.append(str(rt.cache.explain("vault.open", given(), user_id="ann")))
    said += [str(rt.stats()), str(rt.cache.stats()), rt.metrics()]
    return "\n".join(said)


def dump(path: Path) -> str:
    """Return every cell of every table."""
    with contextlib.closing(sqlite3.connect(path)) as base:
        tables = [name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return "\n".join(repr(row) for table in tables for row in base.execute(f'SELECT * FROM "{table}"'))  # noqa: S608


def test_no_text_log_or_table_has_a_secret(vault: aiecs_ray.Runtime, tmp_path: Path, logged: Path) -> None:
    said = use(vault)
    vault.history.export(tmp_path / "export.jsonl", since=0)
    shown = [json.dumps(vault.history.run(run.id).to_dict(), default=str) for run in vault.history.runs()]

    assert TRACE not in said
    assert TRACE not in "\n".join(shown)
    assert TRACE not in (tmp_path / "export.jsonl").read_text()
    assert TRACE not in dump(tmp_path / "history.sqlite3")
    assert TRACE not in logged.read_text()
    assert MASK in dump(tmp_path / "history.sqlite3")
    assert '"step": 1' in logged.read_text()


def test_no_command_prints_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DEFAULT, "_tools", {})
    DEFAULT.register(Vault)
    monkeypatch.setenv("AIECS_RAY_HISTORY_URL", f"sqlite:///{tmp_path}/history.sqlite3")
    plan = tmp_path / "plan.json"
    failing = {"operation": "vault.narrow", "params": {"password": BY_NAME, "count": f"no {BY_NAME}"}}
    plan.write_text(json.dumps({"operations": [failing]}))
    (tmp_path / "in.jsonl").write_text(json.dumps({"password": BY_NAME, "count": BY_NAME}) + "\n")
    files = ("--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl"))

    for command in (
        ("run", str(plan)),
        ("tools", "call", "vault.narrow", "--arg", f"password={BY_NAME}", "--arg", "count=x"),
        ("batch", "vault.narrow", *files),
        ("cache", "explain", "vault.narrow", "--param", f"password={BY_NAME}", "--param", "count=1"),
        ("history", "query"),
    ):
        for form in ("--json", "--address=inprocess"):
            main(["--address", "inprocess", form, "--yes", *command])
    main(["runs", "list", "--json"])

    captured = capsys.readouterr()
    written = "".join(path.read_text() for path in tmp_path.glob("out.jsonl*"))
    assert "vault.narrow" in captured.out
    assert TRACE not in captured.out + captured.err + written
