"""What the items of a call read: values that came along, or were made by the items before them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs_ray import failures, packing
from aiecs_ray.errors import ResultInvalidError
from aiecs_ray.packing import Packed
from aiecs_ray.reference import look_up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiecs_ray.messages import Item, Work


class InputLostError(Exception):
    """An input lay on a node that is gone: its slot, and what its store says."""


def read_inputs(work: Work, item: Item, made: Mapping[int, Any], fetch: Callable[[Any], Packed]) -> list[Any]:
    """Return what the references of ``item`` name, in their order; each value is read once.

    Raises:
        InputLostError: a large one is gone.
        ResultInvalidError: one cannot be read.
        DSLEvaluationError: there is no such place in it.
    """
    whole: dict[tuple[str, int], Any] = {}
    inputs = []
    for slot, (kind, index, path, text) in enumerate(item.inputs):
        if (kind, index) not in whole:
            whole[kind, index] = _value(work.values[index] if kind == "value" else made[index], slot, fetch)
        inputs.append(look_up(whole[kind, index], path, text))
    return inputs


def _value(source: Any, slot: int, fetch: Callable[[Any], Packed]) -> Any:
    if type(source) is Packed or type(source) is bytes or packing.inline(source):
        packed = packing.as_packed(source)
    else:
        try:
            packed = fetch(source)
        except Exception as error:
            raise InputLostError(slot, type(error).__name__) from error
    try:
        return packing.unpack(packed)
    except Exception as error:
        text = f"an input cannot be read: {type(error).__name__}: {failures.text_of(error)}"
        raise ResultInvalidError(text) from error
