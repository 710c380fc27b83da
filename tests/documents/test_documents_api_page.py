"""Every example on the page about the documents' API runs, in order, as the cells of one notebook."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

from aiecs_ray.config import ExecutorConfig
from aiecs_ray.engine import QUEUES

PAGE = Path(__file__).parents[2] / "docs" / "documents-api.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = [
    (TEXT[: match.start(1)].count("\n"), match[1])
    for match in re.finditer(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
]


async def test_the_examples_run() -> None:
    space: dict[str, Any] = {"__name__": "documents_api_page"}

    for line, code in BLOCKS:
        cell = compile("\n" * line + code, str(PAGE), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        waiting = eval(cell, space)  # noqa: S307  # the page's own code
        if inspect.isawaitable(waiting):
            await waiting

    assert len(BLOCKS) == 9


def test_the_page_has_every_name_of_the_configuration_with_its_default() -> None:
    for name, field in ExecutorConfig.model_fields.items():
        (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{name}` |")]
        shown = row.split("|")[2].strip().strip("`").strip('"')
        assert shown in {str(field.default), f"{field.default:g}" if isinstance(field.default, float) else ""}


def test_the_page_has_the_queues_with_their_limits() -> None:
    for name, queue in QUEUES.items():
        assert f'`"{name}"` ({queue.seconds:g} s' in TEXT
