"""Every example on the page about writing tools runs, in order, as one program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aiecs_ray import options
from aiecs_ray.registry import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs" / "tool-authoring.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def forget_tools() -> Iterator[None]:
    before = set(DEFAULT.names())
    yield
    for name in set(DEFAULT.names()) - before:
        DEFAULT.unregister(name)


def blocks() -> list[tuple[int, str]]:
    """Return the line and the code of each example."""
    text = PAGE.read_text(encoding="utf-8")
    return [(text[: match.start(1)].count("\n"), match[1]) for match in BLOCK.finditer(text)]


def test_examples_run() -> None:
    space = {"__name__": "__main__"}

    for line, code in blocks():
        exec(compile("\n" * line + code, str(PAGE), "exec"), space)  # noqa: S102

    assert len(blocks()) == 10


@pytest.mark.parametrize("kind", [options.OperationOptions, options.ToolOptions])
def test_page_names_every_option(kind: type) -> None:
    text = PAGE.read_text(encoding="utf-8")

    missing = [name for name in kind.__dataclass_fields__ if f"`{name}`" not in text]

    assert missing == []
