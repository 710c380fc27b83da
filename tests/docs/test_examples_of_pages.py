"""Every Python block of the documentation runs, page by page, and prints what the comments behind its prints say.

A block marked ``python ray`` needs Ray. On Ray, its whole page runs.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import linecache
import logging
from typing import TYPE_CHECKING, Any

import pytest

import aiecs_ray
import aiecs_ray.tools  # here, because a first import inside a test would register them for that test only
from aiecs_ray import tool_executor
from aiecs_ray.registry import DEFAULT
from tests.conftest import SETTINGS
from tests.docs.pages import PAGES, README, blocks, missing_in_order, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.docs.pages import Block

KINDS = {"", "bash", "mermaid", "python", "python ray", "text", "toml", "yaml"}
WITH_CODE = [page for page in PAGES if any(block.kind.startswith("python") for block in blocks(page))]
WITH_RAY = [page for page in WITH_CODE if page == README or any(block.kind == "python ray" for block in blocks(page))]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Run in an empty folder that has the file of settings a page speaks of, without anybody's tools."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.yaml").write_text("window: 4\n", encoding="utf-8")
    monkeypatch.setattr(DEFAULT, "_tools", {})
    log = logging.getLogger("aiecs.execution_utils")
    handlers, level = list(log.handlers), log.level
    yield
    log.handlers[:], log.level = handlers, level


def use(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    """Let every ``connect`` that does not say otherwise lead to one place."""
    original = aiecs_ray.connect

    def connect(asked: str | None = None, **options: Any) -> aiecs_ray.Runtime:
        return original("inprocess" if asked == "inprocess" else address, **{"settings": SETTINGS["ray"], **options})

    monkeypatch.setattr(aiecs_ray, "connect", connect)
    monkeypatch.setattr(tool_executor, "connect", connect)


def execute(page: Path, block: Block, space: dict[str, Any]) -> list[str]:
    """Run a block as a cell of a notebook; return the lines that it printed."""
    name = f"<{name_of(page)}:{block.line}>"
    text = "\n" * block.line + block.text
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    program = compile(text, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        if program.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(program, space))  # noqa: S307  # our own page
        else:
            exec(program, space)  # noqa: S102  # our own page
    return output.getvalue().splitlines()


def run(page: Path, *, ray: bool) -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.kind != "python" and not (ray and block.kind == "python ray"):
            continue

        printed = execute(page, block, space)

        missing = missing_in_order(block.printed, printed)
        assert missing is None, f"{name_of(page)}:{block.line} does not print {missing!r}, but {printed}"


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_a_page_does_what_it_says(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "inprocess")

    run(page, ray=False)


@pytest.mark.ray
@pytest.mark.parametrize("page", WITH_RAY, ids=name_of)
def test_a_page_does_what_it_says_on_ray(
    page: Path, monkeypatch: pytest.MonkeyPatch, ray_rt: aiecs_ray.Runtime
) -> None:
    ray_rt.cache.clear()
    use(monkeypatch, None)

    run(page, ray=True)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_blocks_of_a_page_are_of_known_kinds(page: Path) -> None:
    assert {block.kind for block in blocks(page)} <= KINDS


def test_some_blocks_run_on_ray_and_every_page_of_use_has_blocks() -> None:
    names = {name_of(page) for page in WITH_CODE}

    assert {name_of(page) for page in WITH_RAY} == {"README.md", "docs/running.md", "docs/testing.md"}
    assert names >= {f"docs/{name}.md" for name in ("plans", "running", "caching", "tool-authoring", "troubleshooting")}
