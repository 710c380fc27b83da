"""Logs: their form, where they go, and which operation they are about."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest

import aiecs_ray
from aiecs_ray.config import Settings
from aiecs_ray.errors import AiecsError, InvalidConfigError
from aiecs_ray.execution_utils import ExecutionUtils
from aiecs_ray.logs import NAMES, JsonFormatter, configure_logging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leave the loggers as they were."""
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(one.level, one.propagate, list(one.handlers)) for one in loggers]
    yield
    for one, (level, propagate, handlers) in zip(loggers, before, strict=True):
        for handler in one.handlers:
            if handler not in handlers:
                handler.close()
        one.level, one.propagate, one.handlers = level, propagate, handlers
        one.setLevel(level)


class Smith:
    def burn(self) -> None:
        raise ValueError("too hot")

    def say(self) -> None:
        logging.getLogger("aiecs_ray.smith").info("working", extra={"iron": 3})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_text_has_the_format_of_the_documents(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "execution_utils.log"
    configure_logging("INFO", file=path)

    logging.getLogger("aiecs.execution_utils").warning("timeout in %s", "x")

    assert re.fullmatch(r"[\d-]+ [\d:,]+ - aiecs\.execution_utils - WARNING - timeout in x\n", path.read_text())


async def test_lines_about_cache_retry_and_timeout_say_so(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    configure_logging("DEBUG", file=path)
    utils = ExecutionUtils(retry_attempts=2, retry_backoff=0, async_sleep=_no_sleep)

    utils.get_from_cache("k")
    with pytest.raises(AiecsError):
        await utils.execute_with_retry_and_timeout(_hang, 0.01)

    text = path.read_text()
    for word in ("cache", "retry", "timeout"):
        assert re.search(word, text)
    utils.close()


async def _no_sleep(_: float) -> None:
    pass


async def _hang() -> None:
    await asyncio.sleep(60)


def test_a_file_that_cannot_be_written_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", file="/proc/nowhere/x.log")

    logging.getLogger("aiecs_ray").info("still here")

    said = capsys.readouterr().err
    assert "logs go to standard error" in said
    assert "still here" in said


def test_to_configure_again_replaces_what_was_configured(tmp_path: Path) -> None:
    configure_logging("INFO", file=tmp_path / "a")
    configure_logging("WARNING", file=tmp_path / "b")

    logging.getLogger("aiecs_ray").info("quiet")
    logging.getLogger("aiecs_ray").warning("loud")

    assert (tmp_path / "a").read_text() == ""
    assert (tmp_path / "b").read_text().count("loud") == 1
    assert "quiet" not in (tmp_path / "b").read_text()


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="'LOUD'"):
        configure_logging("LOUD")  # type: ignore[arg-type]


def test_a_failed_operation_has_its_traceback_at_debug_with_run_step_and_tool(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    configure_logging("DEBUG", as_json=True, file=path)
    with aiecs_ray.connect("inprocess", registry=aiecs_ray.Registry()) as rt:
        rt.register(Smith)
        run = rt.submit([{"operation": "smith.say"}, {"operation": "smith.burn"}])
        run.result()

    told = next(line for line in lines(path) if "failed" in line["message"])
    assert (told["level"], told["run"], told["step"]) == ("DEBUG", run.id, 1)
    assert (told["tool"], told["operation"], told["code"]) == ("smith", "burn", "E003")
    assert 'raise ValueError("too hot")' in told["message"]


def test_what_a_tool_logs_says_of_which_operation_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    configure_logging("INFO", as_json=True, file=path)
    with aiecs_ray.connect("inprocess", registry=aiecs_ray.Registry()) as rt:
        rt.register(Smith)
        run = rt.submit([{"operation": "smith.say"}])
        run.result()

    told = next(line for line in lines(path) if line["message"] == "working")
    assert (told["run"], told["step"], told["tool"], told["operation"]) == (run.id, 0, "smith", "say")
    assert told["iron"] == 3


def test_an_exception_is_one_line_of_json() -> None:
    error = ValueError("no\nway")
    reason = (ValueError, error, None)
    record = logging.getLogger("x").makeRecord("x", logging.ERROR, "", 1, "bad %s", ("a",), reason)

    line = JsonFormatter().format(record)

    assert "\n" not in line
    assert "ValueError: no\nway" in json.loads(line)["traceback"]
    assert json.loads(line)["message"] == "bad a"


def test_settings_configure_the_logs(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(log_level="DEBUG", log_json=True)
    with aiecs_ray.connect("inprocess", settings=settings, registry=aiecs_ray.Registry()) as rt:
        rt.register(Smith)
        rt.run([{"operation": "smith.burn"}])

    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert any("too hot" in line["message"] for line in told)
