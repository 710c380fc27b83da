"""Logs: where they go, in which form, and which operation they are about."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from aiecs_ray.errors import InvalidConfigError
from aiecs_ray.running import current

if TYPE_CHECKING:
    from aiecs_ray.config import Settings

FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
"""The documents' (S1, 8.4)."""
NAMES = ("aiecs_ray", "aiecs")
"""The loggers of this package; ``aiecs.execution_utils`` is the documents' name."""
_PLAIN = frozenset({*logging.makeLogRecord({}).__dict__, "asctime", "message", "taskName"})

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
logger = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (seconds since the epoch), level, logger, message, and what is known beside.

    That is whatever was given as ``extra``, and ``run``, ``step``, ``tool``, ``operation`` of the operation that logs.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        shown: dict[str, Any] = {
            "time": record.created,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_place(),
            **{name: value for name, value in record.__dict__.items() if name not in _PLAIN},
        }
        if record.exc_info:
            shown["traceback"] = self.formatException(record.exc_info)
        return json.dumps(shown, default=str)


def _place() -> dict[str, Any]:
    attempt = current()
    if attempt is None:
        return {}
    tool, _, operation = (attempt.calls[-1] if attempt.calls else "").partition(".")
    return {"run": attempt.run, "step": attempt.step, "tool": tool, "operation": operation}


class _Handler(logging.StreamHandler[Any]):
    """Ours: replaced when the logs are configured again."""


class _FileHandler(logging.FileHandler):
    """Ours, too."""


def configure_logging(level: Level = "INFO", *, as_json: bool = False, file: str | Path | None = None) -> None:
    """Write this package's logs of this process to standard error, or to a file; again, to change that.

    Args:
        level: from which level on. Tracebacks of operations that failed come at DEBUG.
        as_json: one JSON object a line instead of the documents' format.
        file: appended to, with its folder made where it is missing. One that cannot be written is told to standard
            error, and so are the logs.

    Raises:
        InvalidConfigError: there is no such level.

    >>> configure_logging("loud")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    aiecs_ray.input_errors.InvalidConfigError: Setting 'log_level': it must be DEBUG, ..., not 'loud'
    """
    if level not in get_args(Level):
        raise InvalidConfigError("log_level", f"it must be DEBUG, INFO, WARNING, ERROR or CRITICAL, not {level!r}")
    handler, problem = _handler(file)
    handler.setFormatter(JsonFormatter() if as_json else logging.Formatter(FORMAT))
    for name in NAMES:
        named = logging.getLogger(name)
        for old in [one for one in named.handlers if isinstance(one, _Handler | _FileHandler)]:
            named.removeHandler(old)
            old.close()
        named.addHandler(handler)
        named.setLevel(level)
        # Once is enough: the root's handlers belong to whoever configured them.
        named.propagate = False
    if problem is not None:
        logger.warning("logs go to standard error: %s", problem)


def use_settings(settings: Settings) -> None:
    """Configure the logs of this process as the settings say, where they say anything."""
    if settings.log_level is not None:
        configure_logging(settings.log_level, as_json=settings.log_json)


def _handler(file: str | Path | None) -> tuple[logging.Handler, OSError | None]:
    if file is None:
        return _Handler(), None
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        return _FileHandler(file, encoding="utf-8"), None
    except OSError as error:
        return _Handler(), error
