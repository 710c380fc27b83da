"""A tool's operations as JSON Schema, and in the forms that language models are given."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiecs_ray.definition import OperationDef, ToolDef

NAME_LIMIT = 64
_HASH_DIGITS = 8
_CONTEXT_NAMES = ("user_id", "task_id")


def json_schema(tool: ToolDef) -> dict[str, Any]:
    """Return, for each operation, the JSON Schemas of its parameters and of its result.

    >>> from aiecs_ray.tool import describe
    >>> class Greeter:
    ...     def greet(self, name: str) -> str: ...
    >>> schema = json_schema(describe(Greeter))
    >>> schema["operations"]["greet"]["parameters"]["properties"]
    {'name': {'type': 'string'}}
    """
    operations = {
        operation.name: {
            "description": operation.doc,
            "parameters": dict(operation.schema),
            "result": None if operation.result_schema is None else dict(operation.result_schema),
        }
        for operation in tool.operations.values()
    }
    return {"name": tool.name, "description": tool.doc, "operations": operations}


def function_name(tool_name: str, operation_name: str) -> str:
    """Return the name of an operation for a language model: ``^[A-Za-z0-9_-]{1,64}$``, one per operation.

    A name that would be too long, or read as another's, ends in a hash instead.

    >>> function_name("pandas_tool", "read_csv")
    'pandas_tool__read_csv'
    """
    name = f"{tool_name}__{operation_name}"
    if len(name) <= NAME_LIMIT and "__" not in operation_name:
        return name
    digest = hashlib.sha256(f"{tool_name}.{operation_name}".encode()).hexdigest()[:_HASH_DIGITS]
    return f"{name[: NAME_LIMIT - _HASH_DIGITS - 1]}-{digest}"


def to_openai(tool: ToolDef) -> list[dict[str, Any]]:
    """Return the operations as OpenAI's function tools.

    >>> from aiecs_ray.tool import describe
    >>> class Greeter:
    ...     def greet(self, name: str) -> str:
    ...         "Greet somebody."
    >>> to_openai(describe(Greeter))[0]["function"]["name"]
    'greeter__greet'
    """
    return [
        {
            "type": "function",
            "function": {
                "name": function_name(tool.name, operation.name),
                "description": _description(tool, operation),
                "parameters": _input_schema(operation),
            },
        }
        for operation in tool.operations.values()
    ]


def to_anthropic(tool: ToolDef) -> list[dict[str, Any]]:
    """Return the operations as Anthropic's tools."""
    return [
        {
            "name": function_name(tool.name, operation.name),
            "description": _description(tool, operation),
            "input_schema": _input_schema(operation),
        }
        for operation in tool.operations.values()
    ]


def to_mcp(tool: ToolDef) -> list[dict[str, Any]]:
    """Return the operations as MCP tools.

    The hints say what the options say: an operation that may be answered from the cache even without a context
    (``cache=True``), or is tagged ``"read-only"``, changes nothing; one tagged ``"destructive"`` destroys something.
    """
    return [_mcp_tool(tool, operation) for operation in tool.operations.values()]


def _mcp_tool(tool: ToolDef, operation: OperationDef) -> dict[str, Any]:
    form = {
        "name": function_name(tool.name, operation.name),
        "title": operation.spec,
        "description": _description(tool, operation),
        "inputSchema": _input_schema(operation),
        "annotations": _mcp_hints(operation),
    }
    result = operation.result_schema
    if result is not None and result.get("type") == "object":
        form["outputSchema"] = _without_dialect(result)
    return form


def _mcp_hints(operation: OperationDef) -> dict[str, bool]:
    options = operation.options
    read_only = options.cache is True or "read-only" in options.tags
    hints = {"readOnlyHint": read_only, "idempotentHint": options.idempotent}
    if "destructive" in options.tags:
        hints["destructiveHint"] = True
    return hints


def _description(tool: ToolDef, operation: OperationDef) -> str:
    return operation.doc or f"{operation.name.replace('_', ' ')} ({tool.doc.partition(chr(10))[0] or tool.name})"


def _input_schema(operation: OperationDef) -> dict[str, Any]:
    """Return the parameters without those that the context fills in: a model must not choose whose work it does."""
    schema = _without_dialect(operation.schema)
    schema["properties"] = {name: value for name, value in schema["properties"].items() if name not in _CONTEXT_NAMES}
    required = [name for name in schema.pop("required", ()) if name not in _CONTEXT_NAMES]
    return {**schema, "required": required} if required else schema


def _without_dialect(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "$schema"}
