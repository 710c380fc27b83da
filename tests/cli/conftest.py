"""Commands in this process, on tools of a module that only the test has."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from aiecs_ray.cli.main import main
from aiecs_ray.registry import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOOLS = '''
"""Tools of a test."""

import time

from aiecs_ray import cancelled, tool


@tool("kitchen")
class Kitchen:
    """Cooks."""

    def double(self, n: int) -> int:
        """Return twice n."""
        return 2 * n

    def fail(self, n: int = 0) -> int:
        raise ValueError(f"burnt {n}")

    def even(self, n: int) -> int:
        if n % 2:
            raise ValueError("odd")
        return n

    def shout(self) -> str:
        for _ in range(20):
            print("\\x1b[2J\\x1b[31m" + "x" * 2**20 + "\\r", end="")
        return "done"

    def cook(self) -> None:
        while not cancelled():
            time.sleep(0.01)
        raise InterruptedError
'''


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def kitchen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in an empty folder with a module of tools and a history of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kitchen_tools.py").write_text(TOOLS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "kitchen_tools", raising=False)
    monkeypatch.setattr(DEFAULT, "_tools", {})
    monkeypatch.setenv("AIECS_RAY_HISTORY_URL", f"sqlite:///{tmp_path}/history.sqlite3")
    monkeypatch.setenv("AIECS_RAY_GRACE", "0.1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run a command in process."""

    def command(*arguments: str, address: str | None = "inprocess") -> Done:
        where = [] if address is None else ["--address", address]
        code = main([*where, "--load", "kitchen_tools", *arguments])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return command
