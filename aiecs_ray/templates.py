"""Two small notations in text: tool calls in a description, and the named inputs of a plan.

Both are parsed and looked up; nothing in them is ever evaluated.
"""

from __future__ import annotations

import ast
import re
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from aiecs_ray.errors import InvalidInputError, InvalidParamsError
from aiecs_ray.quoting import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_OPENING = re.compile(r"\{\{\s*([A-Za-z_][\w-]*(?:\.[A-Za-z]\w*)?)\(", re.ASCII)
_STRING = re.compile(r"""(?<![A-Za-z])([A-Za-z]*)('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")""", re.DOTALL)
_QUOTE = re.compile(r"""['"]""")
_CLOSING = re.compile(r"\)\s*\}\}")
_UNKNOWN_ESCAPE = re.compile(r"""\\([^\n\\'"abfnrtvxuUN0-7])|(\\.)""", re.DOTALL)
_SOURCE = re.compile(r"(input|context)\.(.+)", re.DOTALL)
_INPUT = re.compile(r"\$input\.([A-Za-z_]\w*)", re.ASCII)
_WORDS = {"true": True, "false": False, "null": None, "none": None}


class _Call(NamedTuple):
    tool: str
    arguments: str


def extract_tool_calls(
    description: str, input_data: Mapping[str, Any] | None = None, context: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    r"""Return the calls ``{{tool(name='value', ...)}}`` in a text, in the form that ``batch_tool_calls`` takes.

    A value is a Python or JSON literal. ``'input.x'`` and ``'context.y'`` stand for what those dicts hold under ``x``
    and ``y``; where they hold no such name, the text stays as it is (defect D-37). A call without an end is text, and
    so is all that follows it.

    Raises:
        InvalidParamsError: a call cannot be parsed, or a value is more than a literal; the message quotes it.

    >>> extract_tool_calls(r"Now {{stats(op='mean', of='input.rows', n=5, log=true, note='it\'s')}}!", {"rows": [1, 2]})
    [{'tool': 'stats', 'params': {'op': 'mean', 'of': [1, 2], 'n': 5, 'log': True, 'note': "it's"}}]
    """
    if not isinstance(description, str):
        raise InvalidInputError(f"a description must be text, got {shorten(description)}")
    sources = {"input": input_data or {}, "context": context or {}}
    return [{"tool": call.tool, "params": _params(call, sources)} for call in _calls(description)]


def _calls(text: str) -> Iterator[_Call]:
    position = 0
    while (opening := _OPENING.search(text, position)) is not None:
        closing = _closing(text, opening.end())
        if closing is None:
            return
        yield _Call(opening[1], text[opening.end() : closing.start()])
        position = closing.end()


def _closing(text: str, start: int) -> re.Match[str] | None:
    """Return the end of a call: the first ``)}}`` outside quotes. Every part of the text is looked at once."""
    closing = _CLOSING.search(text, start)
    while closing is not None and _QUOTE.search(text, start, closing.start()) is not None:
        string = _STRING.search(text, start)
        if string is None or string.start() > closing.start():
            return closing
        start = string.end()
        if start > closing.start():
            closing = _CLOSING.search(text, start)
    return closing


def _params(call: _Call, sources: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    written = f"{call.tool}({call.arguments})"
    try:
        # Python warns of an escape that it does not know, and keeps it; so does this, without the warning.
        tree = ast.parse(f"f({_STRING.sub(_keep_unknown_escapes, call.arguments)})", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or "nested too deeply"
        raise InvalidParamsError(f"Invalid tool call {shorten(written)!r}: {reason}") from None
    if not isinstance(tree, ast.Call) or tree.args or not isinstance(tree.func, ast.Name):
        raise InvalidParamsError(f"Invalid tool call {shorten(written)!r}: write every argument as name=value")
    params: dict[str, Any] = {}
    for keyword in tree.keywords:
        if keyword.arg is None or keyword.arg in params:
            raise InvalidParamsError(f"Invalid tool call {shorten(written)!r}: write each name once, as name=value")
        try:
            params[keyword.arg] = _resolved(_literal(keyword.value), sources)
        except InvalidParamsError as error:
            raise InvalidParamsError(f"Invalid tool call {shorten(written)!r}: {keyword.arg}: {error}") from None
    return params


def _keep_unknown_escapes(string: re.Match[str]) -> str:
    prefix, quoted = string.groups()
    if prefix:
        return string[0]
    return _UNKNOWN_ESCAPE.sub(lambda found: rf"\\{found[1]}" if found[1] else found[0], quoted)


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.Name(id=word) if word in _WORDS:
            return _WORDS[word]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=parts):
            return [_literal(part) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(_literal(part) for part in parts)
        case ast.Dict(keys=keys, values=values) if all(isinstance(key, ast.Constant) for key in keys):
            return {_literal(key): _literal(value) for key, value in zip(keys, values, strict=True) if key is not None}
    raise InvalidParamsError("a value must be a literal; put text in quotes")


def _resolved(value: Any, sources: Mapping[str, Mapping[str, Any]]) -> Any:
    if isinstance(value, str) and (match := _SOURCE.fullmatch(value)) is not None:
        return sources[match[1]].get(match[2], value)
    return _mapped(value, lambda part: _resolved(part, sources))


def fill_inputs(operations: Iterable[Mapping[str, Any]], inputs: Mapping[str, Any], task: str) -> list[dict[str, Any]]:
    """Return operations with every ``$input.name`` in their parameters replaced by that input.

    Only a whole string is a placeholder, anywhere inside the parameters; ``$$input.name`` is the literal text.

    Raises:
        InvalidParamsError: an input is missing; the message names all that are, and those that were given.

    >>> fill_inputs([{"operation": "t.read", "params": {"path": "$input.file"}}], {"file": "a.csv"}, "load")
    [{'operation': 't.read', 'params': {'path': 'a.csv'}}]
    """
    operations = list(operations)
    missing = [name for name in dict.fromkeys(_inputs_of(operations)) if name not in inputs]
    if missing:
        given = ", ".join(map(str, inputs)) or "none"
        raise InvalidParamsError(
            f"Task {shorten(task)!r} needs the input {', '.join(map(repr, missing))}; given: {given}"
        )
    return [{**operation, "params": _filled(operation.get("params", {}), inputs)} for operation in operations]


def _inputs_of(operations: list[Mapping[str, Any]]) -> Iterator[str]:
    open_values = deque(operation.get("params", {}) for operation in operations)
    while open_values:
        value = open_values.popleft()
        if isinstance(value, str) and (match := _INPUT.fullmatch(value)) is not None:
            yield match[1]
        elif type(value) is dict:
            open_values.extend(value.values())
        elif type(value) in (list, tuple):
            open_values.extend(value)


def _filled(value: Any, inputs: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        match = _INPUT.fullmatch(value)
        if match is not None:
            return inputs[match[1]]
        return value[1:] if value.startswith("$$input.") else value
    return _mapped(value, lambda part: _filled(part, inputs))


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return the same containers with every part changed; anything that is no container stays as it is."""
    if type(value) is dict:
        return {key: change(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(change(part) for part in value)
    return value
