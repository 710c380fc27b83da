"""From the parameters of a request to the keyword arguments of a method: names, context, types."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from aiecs_ray import param_names
from aiecs_ray.definition import SYSTEM_NAMES, OperationDef, ToolDef, describe
from aiecs_ray.errors import InvalidParamsError, OperationNotFoundError
from aiecs_ray.hints import adapter, parameter_hints
from aiecs_ray.masking import MASK, mask, names_secret, secrets_in
from aiecs_ray.quoting import nearest, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from aiecs_ray.options import UnknownParams

SHOWN_PROBLEMS = 3
"""How many wrong values one message names."""

_log = logging.getLogger(__name__)
_CONTEXT_NAMES = ("user_id", "task_id")


class _Plan(NamedTuple):
    """What binding an operation needs, worked out once."""

    operation: OperationDef
    names: frozenset[str]
    required: frozenset[str]
    validators: Mapping[str, Callable[[Any], Any]]
    bare: bool
    """There is nothing to check but the names."""


class Binder:
    """Binds the parameters of a tool's operations, in the process that runs them.

    >>> class Table:
    ...     def head(self, path: str, n: int = 5) -> list: ...
    >>> Binder(Table).bind("head", {"path": "a.csv", "n": "3", "user_id": "ann"})
    {'path': 'a.csv', 'n': 3}
    """

    def __init__(self, tool: type | ToolDef) -> None:
        """Take a tool's description, or make it of its class; hints are read when an operation is first bound."""
        self._tool = tool if isinstance(tool, ToolDef) else describe(tool)
        self._plans: dict[str, _Plan] = {}
        self._warned: set[tuple[str, str]] = set()

    def bind(
        self, operation_name: str, params: Mapping[str, Any], user_id: str | None = None, task_id: str | None = None
    ) -> dict[str, Any]:
        """Return the keyword arguments for one call.

        A declared ``user_id`` or ``task_id`` that ``params`` lacks is taken from the context; names of the envelope
        that are not declared are dropped (C-09), other undeclared ones too, with one warning per name (C-10). Values
        are checked and coerced by the type hints (C-70); defaults are left to Python.

        Raises:
            OperationNotFoundError: the tool has no such operation.
            InvalidParamsError: a parameter is missing or wrong, or unknown where the tool refuses unknown ones.
        """
        plan = self._plans.get(operation_name) or self._make_plan(operation_name)
        given = params.keys()
        if plan.bare and given <= plan.names and plan.required <= given:
            return dict(params)
        arguments = self._select(plan, params)
        for name, value in zip(_CONTEXT_NAMES, (user_id, task_id), strict=True):
            if value and name in plan.names and name not in arguments:
                arguments[name] = value
        _check_missing(plan.operation, arguments, params)
        if plan.validators:
            _coerce(plan, arguments)
        return arguments

    def _make_plan(self, name: str) -> _Plan:
        operation = self._tool.operations.get(name)
        if operation is None:
            raise OperationNotFoundError(name, self._tool.name, nearest(name, self._tool.operations))
        hints = parameter_hints(operation.function, operation.owner)
        adapters = {parameter: adapter(hint) for parameter, hint in hints.items() if parameter in operation.names}
        validators = {parameter: made.validate_python for parameter, made in adapters.items() if made is not None}
        bare = not validators and not operation.names.intersection(_CONTEXT_NAMES)
        plan = _Plan(operation, operation.names, frozenset(operation.required), validators, bare)
        self._plans[name] = plan
        return plan

    def _select(self, plan: _Plan, params: Mapping[str, Any]) -> dict[str, Any]:
        operation = plan.operation
        arguments = {name: value for name, value in params.items() if name in plan.names}
        unknown = [name for name in params if name not in plan.names and name not in SYSTEM_NAMES]
        if operation.accepts_any:
            if operation.receiver in unknown:
                raise _refused(operation, f"{operation.receiver!r} cannot be a parameter: it is the instance itself")
            return arguments | {name: params[name] for name in unknown}
        if unknown and self._tool.options.unknown_params == "error":
            raise _unknown(operation, unknown)
        for name in unknown:
            self._warn(operation, name)
        return arguments

    def _warn(self, operation: OperationDef, name: str) -> None:
        if (operation.name, name) in self._warned:
            return
        self._warned.add((operation.name, name))
        _log.warning("%s", param_names.left_out(operation.spec, name, _declared(operation)))


def check_names(
    operation: OperationDef,
    names: Iterable[str],
    *,
    unknown_params: UnknownParams = "drop",
    user_id: str | None = None,
    task_id: str | None = None,
) -> None:
    """Check the names of a request's parameters, before anything runs.

    Args:
        operation: the operation that is asked for.
        names: the names in the request's ``params``.
        unknown_params: the tool's option of that name.
        user_id: of the context; fills in for a declared parameter.
        task_id: of the context; fills in for a declared parameter.

    Raises:
        InvalidParamsError: a name is missing, or unknown where the tool refuses unknown ones.
    """
    given = dict.fromkeys(names)
    if unknown_params == "error" and not operation.accepts_any:
        unknown = [name for name in given if name not in operation.names and name not in SYSTEM_NAMES]
        if unknown:
            raise _unknown(operation, unknown)
    filled = [name for name, value in zip(_CONTEXT_NAMES, (user_id, task_id), strict=True) if value]
    _check_missing(operation, given | dict.fromkeys(filled), given)


def _check_missing(operation: OperationDef, given: Mapping[str, Any], sent: Iterable[str]) -> None:
    missing = [name for name in operation.required if name not in given]
    if missing:
        raise _located(operation, param_names.missing(operation.spec, missing, sent, _declared(operation)))


def _coerce(plan: _Plan, arguments: dict[str, Any]) -> None:
    problems: list[str] = []
    for name, validate in plan.validators.items():
        if name not in arguments:
            continue
        try:
            arguments[name] = validate(arguments[name])
        except ValidationError as error:
            problems.extend(_problems(name, error, secrets_in(arguments)))
    if problems:
        more = len(problems) - SHOWN_PROBLEMS
        rest = f"; and {more} more" if more > 0 else ""
        raise _refused(plan.operation, f"{'; '.join(problems[:SHOWN_PROBLEMS])}{rest}")


def _problems(name: str, error: ValidationError, secrets: Sequence[str]) -> list[str]:
    return [
        f"parameter {_path(name, problem['loc'])!r} is {_quoted(name, problem['loc'], problem['input'], secrets)}: "
        f"{problem['msg']}"
        for problem in error.errors(include_url=False, include_context=False)
    ]


def _path(name: str, location: tuple[int | str, ...]) -> str:
    return shorten(name + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location))


def _quoted(name: str, location: tuple[int | str, ...], value: object, secrets: Sequence[str]) -> str:
    if any(map(names_secret, (name, *location))):
        return MASK
    # Masked first: of what is shortened, a part of a secret could be left.
    return repr(shorten(mask(value, secrets))) if isinstance(value, str) else mask(shorten(value), secrets)


def _unknown(operation: OperationDef, unknown: list[str]) -> InvalidParamsError:
    return _located(operation, param_names.unknown(operation.spec, unknown, _declared(operation)))


def _declared(operation: OperationDef) -> list[str]:
    return [parameter.name for parameter in operation.parameters]


def _refused(operation: OperationDef, problem: str) -> InvalidParamsError:
    return _located(operation, f"{operation.spec}: {problem}")


def _located(operation: OperationDef, text: str) -> InvalidParamsError:
    error = InvalidParamsError(text)
    error.locate(operation=operation.spec)
    return error
