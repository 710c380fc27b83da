"""What a language model sends back: the names of the JSON forms, and calls in the forms of its makers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from aiecs_ray.errors import AiecsError, InvalidOperationsError, InvalidParamsError
from aiecs_ray.options import OPERATION_NAME
from aiecs_ray.quoting import shorten
from aiecs_ray.schemas import function_name

if TYPE_CHECKING:
    from aiecs_ray.catalog import Catalog

_HASHED = re.compile(r".*-[0-9a-f]{8}", re.ASCII | re.DOTALL)


def spec_of(name: Any, catalog: Catalog) -> Any:
    """Return ``"tool.op"`` for the name that the JSON forms give an operation; anything else as it is.

    A tool that has the whole name wins.
    """
    if type(name) is not str or "." in name or catalog.registry.has(name):
        return name
    tool, _, operation = name.rpartition("__")
    if tool and OPERATION_NAME.fullmatch(operation) and function_name(tool, operation) == name:
        return f"{tool}.{operation}"
    return _hashed(name, catalog) if _HASHED.fullmatch(name) else name


def arguments_of(params: Any) -> Any:
    """Return parameters that may be JSON text as what they say.

    Raises:
        InvalidParamsError: the text is no JSON object.

    >>> arguments_of('{"text": "a b"}')
    {'text': 'a b'}
    """
    if type(params) is not str:
        return params
    try:
        found = json.loads(params) if params.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InvalidParamsError(f"params is text, but no JSON: {error}") from None
    if type(found) is not dict:
        raise InvalidParamsError(f"params is JSON text of {shorten(found)}, expected an object of names and values")
    return found


def as_tool_call(call: Any) -> dict[str, Any]:
    """Return a call in the form that ``batch_tool_calls`` documents: ``{"tool": name, "params": {...}}``.

    Taken are that form itself, OpenAI's (``{"type": "function", "function": {"name": ..., "arguments": "{...}"}}``),
    Anthropic's (``{"type": "tool_use", "name": ..., "input": {...}}``) and MCP's
    (``{"name": ..., "arguments": {...}}``).

    Raises:
        InvalidOperationsError, InvalidParamsError: it is none of them.

    >>> as_tool_call({"id": "c1", "type": "function", "function": {"name": "text_tool__count", "arguments": "{}"}})
    {'tool': 'text_tool__count', 'params': {}}
    """
    if type(call) is not dict:
        raise InvalidOperationsError(f"must be a dict of 'tool' and 'params', got {shorten(call)}")
    if "tool" in call:
        return _made(call["tool"], call.get("params", {}), _others(call, ("tool", "params")))
    if type(call.get("function")) is dict:
        function = call["function"]
        return _made(function.get("name"), function.get("arguments", {}), _others(function, ("name", "arguments")))
    if "name" in call:
        return _made(call["name"], call.get("input", call.get("arguments", {})), [])
    raise InvalidOperationsError(
        f"lacks 'tool'; it has {', '.join(shorten(key) for key in list(call)[:8]) or 'no keys'}"
    )


def _made(name: Any, params: Any, unknown: list[str]) -> dict[str, Any]:
    if unknown:
        raise InvalidOperationsError(f"has the unknown key {unknown[0]!r}; a call has 'tool' and 'params'")
    if type(name) is not str:
        raise InvalidOperationsError(f"must name its tool by a text, got {shorten(name)}")
    return {"tool": name, "params": arguments_of(params)}


def _others(call: dict[Any, Any], known: tuple[str, ...]) -> list[str]:
    return [shorten(key) for key in call if key not in known]


def _hashed(name: str, catalog: Catalog) -> str:
    """Look through all tools: what a hash stands for cannot be read from it."""
    for tool in catalog.names():
        try:
            _, operations = catalog.tool(tool)
        except AiecsError:
            continue
        for operation in operations:
            if function_name(tool, operation) == name:
                return f"{tool}.{operation}"
    return name
