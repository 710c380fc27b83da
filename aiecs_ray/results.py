"""From what the coordinator reports to what a user gets: values, step results, errors."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from aiecs_ray import failures, packing
from aiecs_ray.collector import undisturbed
from aiecs_ray.errors import AiecsError, ResultExpiredError
from aiecs_ray.messages import ErrorInfo, Settled
from aiecs_ray.model import TaskStepResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiecs_ray.packing import Packed

logger = logging.getLogger(__name__)

LOST = "ResultLostError"


class Opened:
    """The value or the error of one step."""

    __slots__ = ("error", "settled", "value")

    def __init__(self, settled: Settled, value: Any, error: ErrorInfo | None) -> None:
        self.settled, self.value, self.error = settled, value, error

    @property
    def is_lost(self) -> bool:
        """Whether the step completed and its value is gone."""
        return self.settled.status == "completed" and self.error is not None and self.error.type_name == LOST


def open_all(settled: Sequence[Settled], fetch: Callable[[Sequence[Any]], list[Packed | Exception]]) -> list[Opened]:
    """Return the value or the error of each step; large values are got all at once.

    A value that cannot be read is an error of its own step (E003), whatever the others hold.
    """
    with undisturbed(len(settled)):
        references = [step.payload for step in settled if _is_reference(step)]
        fetched = iter(fetch(references)) if references else iter(())
        return [_open(step, next(fetched) if _is_reference(step) else None) for step in settled]


def _is_reference(step: Settled) -> bool:
    return step.status == "completed" and not packing.is_small(step.payload)


def _open(step: Settled, fetched: Packed | Exception | None) -> Opened:
    if step.status != "completed":
        return Opened(step, None, step.error)
    try:
        if isinstance(fetched, Exception):
            raise fetched  # noqa: TRY301  # told apart below, like every other way in which a value can be gone
        value = packing.from_payload(step.payload) if fetched is None else packing.unpack(fetched)
    except Exception as error:  # noqa: BLE001  # reading a value runs its class's code, which may raise anything
        lost = LOST if error is fetched else "ResultInvalidError"
        text = f"the result cannot be read: {type(error).__name__}: {failures.text_of(error)}"
        return Opened(step, None, ErrorInfo("E003", text, lost, (lost,)))
    return Opened(step, value, None)


def to_step_result(opened: Opened, spec: str, *, step: str | None = None, kind: str = "operation") -> TaskStepResult:
    """Return the documents' result of a step."""
    name = spec if step is None else step
    error = opened.error
    if error is None:
        return TaskStepResult(name, opened.value, True, f"Completed {kind} {spec}", "completed")  # noqa: FBT003
    status = "failed" if opened.settled.status == "completed" else opened.settled.status
    message = error.message if status == "cancelled" else f"Failed {kind} {spec}"
    if kind == "operation" and status != "cancelled":
        message = f"Failed to execute {spec}"
    return TaskStepResult(name, None, False, message, status, error.code, error.message)  # noqa: FBT003


def to_value(opened: Opened, spec: str, index: int | None = None) -> Any:
    """Return the value of a step.

    Raises:
        AiecsError: the step did not complete; the tool's own exception is its cause.
        ResultExpiredError: the run did not keep it.
    """
    if opened.settled.dropped:
        raise ResultExpiredError(f"the result of step {index} ({spec}) was not kept (keep=)")
    if opened.error is not None:
        raise to_error(opened, spec, index)
    return opened.value


def to_error(opened: Opened, spec: str, index: int | None = None) -> AiecsError:
    """Return the error of a step that did not complete."""
    assert opened.error is not None
    return failures.to_exception(opened.error).locate(operation=spec, index=index)


def note_failures(run: str, steps: Sequence[int], opened: Sequence[Opened], specs: Sequence[str]) -> None:
    """Log the tracebacks of operations that failed; secrets are masked in them already."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    for step, one in zip(steps, opened, strict=True):
        if one.error is not None:
            tool, _, operation = specs[step].partition(".")
            logger.debug(
                "operation %d (%s) of run %s failed: %s\n%s",
                *(step, specs[step], run, one.error.message, one.error.traceback),
                extra={"run": run, "step": step, "tool": tool, "operation": operation, "code": one.error.code},
            )
