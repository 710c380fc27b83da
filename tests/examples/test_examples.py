"""The examples run, and do what they say."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_quick_start_counts_words(capsys: pytest.CaptureFixture[str]) -> None:
    counts = example("quickstart").main("inprocess")

    assert counts == {"be": 2, "not": 1, "or": 1, "to": 2}
    assert "step 0: text_tool.split completed" in capsys.readouterr().out


def test_the_executor_of_the_documents_adds_tax_and_caches(capsys: pytest.CaptureFixture[str]) -> None:
    results = asyncio.run(example("documents_api").main("inprocess"))

    assert [result.result for result in results] == [29.5, 35.4]
    assert "answered from the cache: 2" in capsys.readouterr().out


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"quickstart", "documents_api"}
