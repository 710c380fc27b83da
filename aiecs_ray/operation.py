"""One requested operation, checked before anything runs."""

from __future__ import annotations

import functools
import re
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo

from aiecs_ray.errors import (
    AiecsError,
    DuplicateNameError,
    InvalidInputError,
    InvalidOperationsError,
    InvalidParamsError,
    InvalidSpecError,
    InvalidTimeoutError,
    OperationForbiddenError,
)
from aiecs_ray.messages import RetryOptions
from aiecs_ray.quoting import alternatives, shorten

_SPEC = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,63})\.([A-Za-z][A-Za-z0-9_]{0,63})", re.ASCII)
_PRIVATE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\._[A-Za-z0-9_]{0,63}", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_PARAM = re.compile(r"[^\W\d]\w{0,127}")
MAX_PARAMS = 256
MAX_SECONDS = 1e9
"""The longest duration that can be asked for: 30 years, as in the settings."""


def seconds(value: Any, what: str = "timeout") -> float:
    """Return ``value`` as a positive, finite number of seconds.

    Raises:
        InvalidTimeoutError: it is anything else; True and "5" too.

    >>> seconds(5)
    5.0
    """
    if type(value) not in (int, float) or not 0 < value <= MAX_SECONDS:
        shown = repr(shorten(value)) if isinstance(value, str) else shorten(value)
        most = f"; at most {MAX_SECONDS:g}" if type(value) in (int, float) and value > MAX_SECONDS else ""
        raise InvalidTimeoutError(f"{what} must be a positive number of seconds, got {shown}{most}")
    return float(value)


def split_spec(spec: Any) -> tuple[str, str]:
    """Return tool name and operation name of ``"tool_name.operation_name"``.

    Raises:
        InvalidSpecError: it has another form.
        OperationForbiddenError: it names something private.

    >>> split_spec("pandas_tool.read_csv")
    ('pandas_tool', 'read_csv')
    """
    if type(spec) is str:
        if (names := _split(spec)) is not None:
            return names
        if _PRIVATE.fullmatch(spec) is not None:
            raise OperationForbiddenError(spec)
        raise InvalidSpecError(spec[:200])
    raise InvalidSpecError(shorten(spec))


@functools.lru_cache(maxsize=1024)
def _split(spec: str) -> tuple[str, str] | None:
    match = _SPEC.fullmatch(spec)
    return None if match is None else (match[1], match[2])


@functools.lru_cache(maxsize=4096)
def _names_a_param(name: str) -> bool:
    return _PARAM.fullmatch(name) is not None


def check_params(params: Any) -> dict[str, Any]:
    """Return a copy of ``params``, a dict with parameter names as keys.

    Raises:
        InvalidParamsError: it is no such dict, or has over 256 entries.
    """
    if type(params) is not dict:
        raise InvalidParamsError(f"params must be a dict of parameter names and values, got {shorten(params)}")
    # One read: another thread may be changing it.
    params = params.copy()
    if len(params) > MAX_PARAMS:
        raise InvalidParamsError(f"params has {len(params)} entries, at most {MAX_PARAMS} are allowed")
    for name in params:
        if type(name) is not str or not _names_a_param(name):
            raise InvalidParamsError(f"params has the key {shorten(name)}, which is not a parameter name")
    checked: dict[str, Any] = params
    return checked


def _duration(value: Any, info: ValidationInfo) -> float | None:
    return None if value is None else seconds(value, str(info.field_name))


Duration = Annotated[float | None, BeforeValidator(_duration)]


class Operation(BaseModel):
    """A requested operation: ``{"operation": "tool.op", "params": {...}}`` with its optional settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    operation: str
    params: dict[str, Any] = Field(default_factory=dict)
    id: str | None = None
    depends_on: tuple[int | str, ...] = ()
    timeout: Duration = None
    deadline: Duration = None
    retry: Any = None
    cache: Literal["on", "off", "refresh", "only"] | bool | None = None
    priority: int = Field(default=0, ge=-10, le=10)


class Requested(NamedTuple):
    """A checked operation, in the form that the runtime works with."""

    operation: str
    params: dict[str, Any]
    id: str | None = None
    depends_on: tuple[int | str, ...] = ()
    timeout: float | None = None
    deadline: float | None = None
    retry: Any = None
    cache: Literal["on", "off", "refresh", "only"] | bool | None = None
    priority: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether nothing but the operation itself is asked for."""
        return self[4:] == (None, None, None, None, 0)


_FIELDS = frozenset(Operation.model_fields)
_PLAIN = {"operation", "params", "id"}


def parse_operations(operations: Any) -> list[Requested]:
    """Return the operations of a list, every one checked.

    Raises:
        InvalidOperationsError: it is not a list or tuple of operations; the message names the index.
        InvalidSpecError, InvalidParamsError, InvalidTimeoutError: one operation is wrong; ``index`` says which.
    """
    if type(operations) not in (list, tuple):
        raise InvalidOperationsError(f"operations must be a list of dicts, got {shorten(operations)}")
    # One read: another thread may be changing the list.
    listed = list(operations)
    parsed = [_parse(operation, index, len(listed)) for index, operation in enumerate(listed)]
    _check_ids(parsed)
    return parsed


def _parse(operation: Any, index: int, total: int) -> Requested:
    if type(operation) is Operation:
        # Not its ``model_dump``, which would turn models inside the parameters into dicts.
        operation = {name: getattr(operation, name) for name in operation.model_fields_set}
    if type(operation) is not dict:
        raise InvalidOperationsError(f"operation {index} must be a dict, got {shorten(operation)}").locate(index=index)
    try:
        name = operation.get("id")
        if operation.keys() <= _PLAIN and "operation" in operation and (name is None or type(name) is str):
            params = operation.get("params", {})
            split_spec(operation["operation"])
            return Requested(operation["operation"], check_params(params), _check_id(name))
        return _parse_fully(operation)
    except AiecsError as error:
        spec = operation.get("operation")
        raise error.place(spec if type(spec) is str else None, index, total) from None


def _check_id(name: str | None) -> str | None:
    if name is not None and _ID.fullmatch(name) is None:
        raise InvalidInputError(f"id {shorten(name)!r} must be letters, digits, '_', '-' or '.', at most 128")
    return name


def _parse_fully(operation: dict[Any, Any]) -> Requested:
    if not isinstance(retry := operation.get("retry"), (int, str, dict, RetryOptions, NoneType)) or retry is True:
        raise InvalidOperationsError(
            f"retry: expected a number of attempts, a profile's name or a dict, got {shorten(retry)}"
        )
    for key in operation:
        if key not in _FIELDS:
            raise InvalidSpecError(f"unknown key {shorten(key)}", alternatives(key, sorted(_FIELDS)).strip(" ()"))
    if "operation" not in operation:
        raise InvalidSpecError("(no 'operation' key)")
    split_spec(operation["operation"])
    given = {**operation, "params": check_params(operation.get("params", {}))}
    if type(given.get("depends_on")) in (list, int, str):
        given["depends_on"] = (
            tuple(given["depends_on"]) if type(given["depends_on"]) is list else (given["depends_on"],)
        )
    try:
        parsed = Operation.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if isinstance(reason := first.get("ctx", {}).get("error"), AiecsError):
            raise reason from None
        raise InvalidInputError(_problem(str(first["loc"][0]), first)) from None
    _check_id(parsed.id)
    fields = {name: getattr(parsed, name) for name in Requested._fields}
    return Requested(**fields)


def _problem(key: str, found: Any) -> str:
    """Say what is wrong with a key, and nothing of how it is checked."""
    got = shorten(found["input"])
    if key == "cache":
        return f"cache must be one of on, off, refresh, only, True or False, got {got}"
    return f"{key}: {found['msg']}, got {got}"


def _check_ids(operations: list[Requested]) -> None:
    seen: dict[str, int] = {}
    for index, operation in enumerate(operations):
        if operation.id is None:
            continue
        if operation.id in seen:
            text = f"operations {seen[operation.id]} and {index} both have the id {operation.id!r}"
            raise DuplicateNameError(text).locate(operation=operation.operation, index=index)
        seen[operation.id] = index
