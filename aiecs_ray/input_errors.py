"""Errors about what a caller gave: E001 where it is wrong, E007 where a reference cannot be evaluated."""

from __future__ import annotations

from aiecs_ray.error_base import AiecsError
from aiecs_ray.quoting import did_you_mean, shorten


class InvalidInputError(AiecsError, ValueError):
    """The input was refused before anything ran."""

    error_code = "E001"


class InvalidSpecError(InvalidInputError):
    """An operation spec is not ``tool_name.operation_name``."""

    def __init__(self, spec: str, hint: str = "") -> None:
        super().__init__(spec, hint)
        self.spec, self.hint = spec, hint

    def __str__(self) -> str:
        text = f"Invalid operation spec: {shorten(self.spec)}, expected 'tool_name.operation_name'"
        return f"{text} ({self.hint})" if self.hint else text


class OperationForbiddenError(InvalidSpecError):
    """An operation spec names something private, which no tool exposes."""

    def __str__(self) -> str:
        return f"Operation spec {shorten(self.spec)!r} names a private member; only public operations can be called"


class InvalidParamsError(InvalidInputError):
    """The parameters of one operation are wrong."""


class ParamTooLargeError(InvalidParamsError):
    """A parameter is too large to travel inline; put it with ``rt.put(value)``."""


class InvalidOperationsError(InvalidInputError):
    """The list of operations itself is wrong."""


class DuplicateNameError(InvalidOperationsError):
    """Two operations of one run have the same ``id``."""


class InvalidConfigError(InvalidInputError):
    """A setting is unknown, or its value is out of range."""

    def __init__(self, name: str, problem: str, nearest: tuple[str, ...] = ()) -> None:
        super().__init__(name, problem, nearest)
        self.name, self.problem, self.nearest = name, problem, nearest

    def __str__(self) -> str:
        return f"Setting {shorten(self.name)!r}: {self.problem}{did_you_mean(self.nearest)}"


class PlanFileError(InvalidInputError):
    """A plan's file is wrong; ``line`` counts from 1, ``step`` is the index of the operation, where they are known."""

    def __init__(self, file: str, line: int | None, step: int | None, problem: str) -> None:
        super().__init__(file, line, step, problem)
        self.file, self.line, self.step, self.problem = file, line, step, problem

    def __str__(self) -> str:
        name = shorten(self.file, 200)
        place = name if self.line is None else f"{name}:{self.line}"
        return f"{place}: {'' if self.step is None else f'operation {self.step}: '}{shorten(self.problem, 1000)}"


class InvalidTimeoutError(InvalidInputError):
    """A timeout, deadline or other duration is not a positive, finite number of seconds."""


class InvalidToolError(InvalidInputError):
    """A class cannot be a tool; the message says why and what to change."""


class ToolConflictError(InvalidToolError):
    """Two different classes were registered under one tool name."""

    def __init__(self, name: str, old: str, new: str) -> None:
        super().__init__(name, old, new)
        self.name, self.old, self.new = name, old, new

    def __str__(self) -> str:
        return (
            f"Tool name {self.name!r} is taken: {self.old} is registered, {self.new} is another class "
            "(pass replace=True to replace it)"
        )


class InvalidStepResultError(InvalidInputError):
    """A step's result contradicts itself, or the data it should be read from is malformed."""


class StatusTransitionError(InvalidInputError):
    """A task cannot go from one status to another (document S2, "状态转换规则").

    ``old``, ``new`` and ``valid`` (what ``old`` may become) are names of ``TaskStatus`` members.
    """

    def __init__(self, old: str, new: str, valid: tuple[str, ...] = ()) -> None:
        super().__init__(old, new, valid)
        self.old, self.new, self.valid = old, new, valid

    def __str__(self) -> str:
        return (
            f"Invalid status transition: {self.old} → {self.new}. "
            f"Valid transitions from {self.old}: {', '.join(self.valid) or 'none'}"
        )


class InterfaceMismatchError(InvalidInputError, TypeError):
    """A class does not implement an interface, or implements too old a version of it."""


class ReferenceRangeError(InvalidInputError):
    """A reference names a result that can never exist at its place (contradictions C-04, C-05)."""

    def __init__(self, target: int | str, position: int = -1) -> None:
        super().__init__(target, position)
        self.target, self.position = target, position

    def __str__(self) -> str:
        if isinstance(self.target, str):
            return f"Referenced result {shorten(self.target)!r} is not the id of an operation of this run"
        return f"Referenced result index {shorten(self.target)} out of range"


class ReferenceForwardError(ReferenceRangeError):
    """A reference names its own step or a later one."""

    def __str__(self) -> str:
        name = repr(shorten(self.target)) if isinstance(self.target, str) else f"index {shorten(self.target)}"
        return f"Referenced result {name} out of range: step {self.position} can only refer to earlier steps"


class DSLEvaluationError(AiecsError, ValueError):
    """A reference could not be evaluated."""

    error_code = "E007"


class ReferenceSyntaxError(DSLEvaluationError):
    """A string that starts as a reference does not follow the grammar."""

    def __init__(self, text: str, problem: str = "") -> None:
        super().__init__(text, problem)
        self.text, self.problem = text, problem

    def __str__(self) -> str:
        return (
            f"Invalid reference {shorten(self.text)!r}: {self.problem or 'malformed'} "
            "(write $result[0].field, or $$result[0] for the literal text)"
        )


class ReferenceForbiddenError(ReferenceSyntaxError):
    """A reference asks for a private name."""


class ReferencePathError(DSLEvaluationError):
    """A reference's path does not exist in the result it names."""

    def __init__(self, reference: str, element: str, found: str, available: tuple[str, ...] = ()) -> None:
        super().__init__(reference, element, found, available)
        self.reference, self.element, self.found, self.available = reference, element, found, available

    def __str__(self) -> str:
        text = f"Reference {shorten(self.reference)!r}: no {shorten(self.element)} in {self.found}"
        return f"{text}; available: {', '.join(self.available)}" if self.available else text


class UpstreamFailedError(DSLEvaluationError):
    """A step was skipped because a step whose result it needs did not complete."""

    def __init__(self, step: int, spec: str, status: str = "failed") -> None:
        super().__init__(step, spec, status)
        self.step, self.spec, self.status = step, spec, status

    def __str__(self) -> str:
        return f"Skipped: step {self.step} ({self.spec}) {self.status}"
