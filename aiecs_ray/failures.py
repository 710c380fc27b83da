"""From an exception to an :class:`~aiecs_ray.messages.ErrorInfo` and back."""

from __future__ import annotations

import contextlib
import pickle
import platform
import threading
import traceback
from types import MethodDescriptorType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any

from aiecs_ray import errors
from aiecs_ray.errors import AiecsError, OperationFailedError
from aiecs_ray.messages import ErrorInfo
from aiecs_ray.packing import pack

if TYPE_CHECKING:
    from collections.abc import Mapping

MESSAGE_LIMIT = 8 * 1024
TRACEBACK_LIMIT = 32 * 1024
EXCEPTION_LIMIT = 64 * 1024
PATIENCE = 1.0
"""Seconds that the code of a tool's exceptions may take to say what they are."""
_CHAIN = 32
"""Exceptions of a chain that are looked at before its text is made."""
_PLAIN = frozenset(map(id, (type(None), bool, int, float, complex, str, bytes)))
_DATABASE_ERRORS = frozenset({"sqlite3.Error", "PostgresError", "DatabaseError", "psycopg.Error", "SQLAlchemyError"})


def text_of(error: BaseException) -> str:
    """Return the message of ``error``, at most 8 KB; its class name when it has none or cannot say it."""
    try:
        # Plain text: a subclass of str could not be read where its class is unknown.
        text = str.__str__(str(error))
    except BaseException:  # noqa: BLE001  # a user's __str__ may raise anything, and must not harm the report
        text = ""
    if isinstance(error, SystemExit):
        text = f"the tool called sys.exit({text})"
    elif not text:
        text = type(error).__name__
    if len(text) > MESSAGE_LIMIT:
        text = f"{text[:MESSAGE_LIMIT]}... ({len(text)} characters)"
    return text


def type_names(error: BaseException) -> tuple[str, ...]:
    """Return the names of the class of ``error`` and its bases, bare and qualified, most derived first."""
    names: list[str] = []
    for kind in type(error).__mro__[:-1]:
        names.append(kind.__name__)
        if kind.__module__ != "builtins":
            names.append(f"{kind.__module__}.{kind.__name__}")
    return tuple(names)


class RelayedError(Exception):
    """What the body of an operation raises to end with ``error`` as it is, and not as a failure of a tool's code."""

    def __init__(self, error: AiecsError) -> None:
        super().__init__(error)
        self.error = error


def of_tool(error: BaseException, operation: str) -> ErrorInfo:
    """Describe what a tool's own code raised: E003, or E006 for a database.

    An exception that takes longer than a second to say what it is is described by its class.
    """
    if isinstance(error, RelayedError):
        return _relayed(error.error)
    if _is_plain(error):
        return _describe(error, operation)
    described: list[ErrorInfo] = []
    worker = threading.Thread(target=lambda: described.append(_describe(error, operation)), daemon=True)
    worker.start()
    worker.join(PATIENCE)
    if described:
        return described[0]
    name = type(error).__name__
    message = f"Error executing {operation}: {name} (its text could not be made within {PATIENCE:g}s)"
    return ErrorInfo("E003", message, name, type_names(error))


def of_constructor(error: BaseException, tool: str) -> ErrorInfo:
    """Describe what the constructor of a tool raised; a module that is missing is missing on a node."""
    info = of_tool(error, "__init__")
    text = info.message.removeprefix("Error executing __init__: ")
    message = f"Tool '{tool}' cannot be constructed: {type(error).__name__}: {text}"
    if isinstance(error, ImportError):
        # What is installed may differ from node to node.
        message += f" (on node {platform.node()})"
    return info._replace(message=message, type_names=("ToolInitError", *info.type_names))


def _describe(error: BaseException, operation: str) -> ErrorInfo:
    names = type_names(error)
    code = "E006" if _DATABASE_ERRORS.intersection(names) else "E003"
    prefix, text = f"Error executing {operation}: ", text_of(error)
    message = text if text.startswith(prefix) else prefix + text
    return ErrorInfo(code, message, type(error).__name__, names, _traceback(error), _pickled(error))


def _is_plain(error: BaseException) -> bool:
    """Whether nothing of a user's runs when the text of ``error`` and of those before it is made."""
    found: list[BaseException] = [error]
    for one in found:
        kind = type(one)
        own: tuple[Any, ...] = (kind.__str__, kind.__repr__, kind.__reduce__, kind.__reduce_ex__)
        plain = all(isinstance(method, (WrapperDescriptorType, MethodDescriptorType)) for method in own)
        if not plain or len(found) > _CHAIN or not all(id(type(part)) in _PLAIN for part in one.args):
            return False
        linked = (one.__cause__, one.__context__)
        found.extend(other for other in linked if other is not None and not any(other is known for known in found))
    return True


def of_runtime(error: AiecsError) -> ErrorInfo:
    """Describe an error that the runtime itself raised, with its own code and class."""
    return ErrorInfo(error.error_code, text_of(error), type(error).__name__, type_names(error), "", _pickled(error))


def _relayed(error: AiecsError) -> ErrorInfo:
    """Describe an error that was described before; that its attempts are used up is for whoever retries to say."""
    if not isinstance(error, OperationFailedError):
        return of_runtime(error)
    code = "E003" if isinstance(error, errors.RetryExhaustedError) else error.error_code
    names = error.type_names or type_names(error)
    original = None if error.__cause__ is None else _pickled(error.__cause__)
    name = error.type_name or type(error).__name__
    return ErrorInfo(code, text_of(error), name, names, error.remote_traceback, original)


def to_exception(info: ErrorInfo) -> AiecsError:
    """Return the exception that a caller gets for ``info``; the tool's own is its ``__cause__``."""
    original = _unpickled(info)
    if isinstance(original, AiecsError) and not info.traceback and original.error_code == info.code:
        return original
    kind = _kind(info)
    error: AiecsError
    if issubclass(kind, OperationFailedError):
        error = kind(info.message, info.type_name, info.traceback, info.type_names)
    else:
        error = kind(info.message)
    error.error_code = info.code
    error.__cause__ = original
    return error


def _kind(info: ErrorInfo) -> type[AiecsError]:
    """Return the class for an error that does not come with an exception of ours."""
    kind = _BY_CODE.get(info.code)
    name = info.type_names[0] if info.type_names else info.type_name
    # With a traceback it is the tool's own, unless the runtime put a name of its own before the tool's.
    if kind is None and (name != info.type_name or not info.traceback):
        named = getattr(errors, name, None)
        # The text is made already, so only a class that takes nothing else will do.
        if isinstance(named, type) and issubclass(named, AiecsError) and _takes_text(named):
            return named
    return kind or _BY_INPUT.get(info.code, OperationFailedError)


def _takes_text(kind: type[AiecsError]) -> bool:
    return isinstance(kind.__init__, WrapperDescriptorType)


_BY_CODE: Mapping[str, type[AiecsError]] = {
    "E002": errors.OperationTimeoutError,
    "E004": errors.OperationCancelledError,
    "E005": errors.RetryExhaustedError,
    "E006": errors.DatabaseError,
}
_BY_INPUT: Mapping[str, type[AiecsError]] = {"E001": errors.InvalidInputError, "E007": errors.DSLEvaluationError}


def _traceback(error: BaseException) -> str:
    with contextlib.suppress(Exception):
        # The first frame is the runtime's own; a tool's author wants what is below it.
        frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
        text = "".join(traceback.format_exception(type(error), error, frames))
        return text if len(text) <= TRACEBACK_LIMIT else f"...{text[-TRACEBACK_LIMIT:]}"
    return ""


def _pickled(error: BaseException) -> bytes | None:
    try:
        packed = pack(error, trial=True)
    except BaseException:  # noqa: BLE001  # a user's __reduce__ may raise anything, as above
        return None
    return packed.header if not packed.buffers and len(packed.header) <= EXCEPTION_LIMIT else None


def _unpickled(info: ErrorInfo) -> BaseException | None:
    if info.exception is None:
        return None
    try:
        error = pickle.loads(info.exception)
    except Exception:  # noqa: BLE001  # the class may not exist here; its name and text are in ``info``
        return None
    return error if isinstance(error, BaseException) else None
