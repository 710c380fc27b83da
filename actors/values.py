"""What an operation returned, made ready to leave its process."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from aiecs_ray import packing
from aiecs_ray.errors import ResultInvalidError, ResultTooLargeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiecs_ray.packing import Packed

_CODE = (BuiltinFunctionType, FunctionType, MethodType, ModuleType, type)


def packed_result(result: object, tool: object, options: Mapping[str, Any], most: int) -> Packed:
    """Return ``result`` packed; of a stateful tool without anything that it shares with the tool.

    Raises:
        ResultInvalidError: it is code or the tool itself, or cannot be pickled and read again.
        ResultTooLargeError: it has more than ``most`` bytes.
    """
    if isinstance(result, _CODE) or result is tool:
        raise ResultInvalidError(f"a {type(result).__name__} is not data; return a value")
    packed = packing.pack(result, trial=True)
    if packed.size > most:
        text = f"the result has {packed.size} bytes, more than {most} (max_result_bytes)"
        raise ResultTooLargeError(f"{text}: return its parts, or the path of a file")
    # What the tool does to its own state later must not be seen in a result that it returned before.
    return packed.copy() if options.get("stateful") else packed
