"""Parameters on their way: names checked, values packed, large ones put where replicas can read them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from aiecs_ray import keys, packing, param_names
from aiecs_ray.errors import InvalidParamsError, ResultInvalidError, UncacheableValueError
from aiecs_ray.packing import Slot
from aiecs_ray.reference import MAX_REFERENCES
from aiecs_ray.run_options import Handle
from aiecs_ray.shipping import pickled_by_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiecs_ray.catalog import OperationInfo
    from aiecs_ray.packing import Packed
    from aiecs_ray.reference import References

Known = dict[int, tuple[Any, Handle]]
"""Large values that were put, by their id."""

logger = logging.getLogger(__name__)

SYSTEM_NAMES = frozenset({"user_id", "task_id", "op"})
"""Parameters of the envelope: they reach an operation only if it declares them (C-09)."""
COVERED = b""
"""Identity of an object whose value is known to the cache key otherwise, or does not belong to it."""
SMALL = 64
"""Bytes of a value that stays where it is, because a slot takes as many."""
CONTEXT_NAMES = ("user_id", "task_id")
"""Those that the context fills in when an operation declares them."""


class Parameters:
    """Packs the parameters of operations.

    Args:
        put: puts a large value and returns its reference.
        inline_limit: bytes of parameters that travel inside a request.
        runtime_env: what replicas can import beside what is installed.
    """

    def __init__(
        self, put: Callable[[Packed], Any], inline_limit: int, runtime_env: Mapping[str, Any] | None = None
    ) -> None:
        self._put = put
        self._inline_limit = inline_limit
        self._runtime_env = runtime_env
        self._warned: set[tuple[str, str]] = set()

    def handle(self, value: Any) -> Handle:
        """Put a value for use in parameters.

        Raises:
            InvalidParamsError: it cannot be sent.
        """
        try:
            with pickled_by_value(self._runtime_env):
                packed = packing.pack(value)
        except ResultInvalidError as error:
            raise InvalidParamsError(str(error)) from error
        try:
            identity: bytes | None = keys.digest(value)
        except UncacheableValueError:
            identity = None
        return Handle(self.payload(packed), identity, packed.size, packing.summarise(value))

    def payload(self, packed: Packed) -> Any:
        """Return the form in which a packed value travels: inline, or a reference to where it was put."""
        return packing.to_payload(packed) if packed.size <= self._inline_limit else self._put(packed)

    def pack_literal(self, params: dict[str, Any]) -> bytes | None:
        """Return the packed form of parameters that are plain values, None where they are too large to travel so."""
        packed = packing.pack_literal(params)
        return packed if len(packed) <= self._inline_limit else None

    def pack(self, params: dict[str, Any], references: References, known: Known) -> Any:
        """Return packed parameters; what is large is put and replaced by a slot.

        ``known`` remembers what was put, so that steps with one large value in common put it once.

        Raises:
            InvalidParamsError: a value cannot be sent; the message names the parameter and its type.
        """
        try:
            packed = packing.pack(params)
            if packed.size > self._inline_limit:
                outside = {name: self._externalise(value, references, known) for name, value in params.items()}
                packed = packing.pack(outside)
                if packed.size > self._inline_limit:
                    packed = packing.pack(self._put_rest(outside, references))
        except ResultInvalidError as error:
            raise self._unsendable(params, error) from error
        return packing.to_payload(packed)

    def _externalise(self, value: Any, references: References, known: Known) -> Any:
        kind = type(value)
        if kind is Slot or len(references.inputs) >= MAX_REFERENCES:
            return value
        if (put := known.get(id(value))) is not None:
            return references.slot(id(put[1]), put[1])
        packed = packing.pack(value)
        if packed.size <= self._inline_limit // 4:
            return value
        if _holds_slot(value):
            if kind is dict:
                return {key: self._externalise(part, references, known) for key, part in value.items()}
            return kind(self._externalise(part, references, known) for part in value)
        handle = Handle(self.payload(packed), COVERED, packed.size, packing.summarise(value))
        # With the value, so that its id stays its own.
        known[id(value)] = (value, handle)
        return references.slot(id(handle), handle)

    def _put_rest(self, params: dict[str, Any], references: References) -> dict[str, Any]:
        """Put together what is left in many parts, none of them large, and leave slots."""
        index, rest = len(references.inputs), list[Any]()
        slotted = {name: _take_out(value, index, rest) for name, value in params.items()}
        if rest:
            packed = packing.pack(rest)
            # One input more than an operation may have references: this one is not the caller's.
            references.inputs.append(Handle(self.payload(packed), COVERED, packed.size, packing.summarise(rest)))
        return slotted

    def _unsendable(self, params: dict[str, Any], error: ResultInvalidError) -> InvalidParamsError:
        for name, value in params.items():
            try:
                packing.pack(value)
            except ResultInvalidError as reason:
                return InvalidParamsError(f"parameter {name!r}: {reason}")
        return InvalidParamsError(str(error))

    def check_names(self, spec: str, info: OperationInfo, params: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters that an operation declares (C-09, C-10).

        Raises:
            InvalidParamsError: one is missing, or unknown where the tool refuses that.
        """
        if params.keys() <= info.names and info.required <= params.keys():
            return params
        declared, sent = info.parameters, list(params)
        if not info.accepts_any:
            unknown = [name for name in params if name not in declared]
            refused = [name for name in unknown if name not in SYSTEM_NAMES]
            if refused and info.unknown_params == "error":
                raise InvalidParamsError(param_names.unknown(spec, refused, declared))
            for name in refused:
                if (spec, name) not in self._warned:
                    self._warned.add((spec, name))
                    logger.warning("%s", param_names.left_out(spec, name, declared))
            if unknown:
                params = {name: value for name, value in params.items() if name in declared}
        else:
            params = {name: value for name, value in params.items() if name in declared or name not in SYSTEM_NAMES}
        missing = [name for name in declared if name in info.required and name not in params]
        missing = [name for name in missing if name not in CONTEXT_NAMES]
        if missing:
            raise InvalidParamsError(param_names.missing(spec, missing, sent, declared))
        return params


def _take_out(value: Any, index: int, rest: list[Any]) -> Any:
    """Return ``value`` with its parts in ``rest``, but for slots and what is smaller than a slot."""
    kind = type(value)
    if kind is Slot:
        return value
    if _holds_slot(value):
        if kind is dict:
            return {key: _take_out(part, index, rest) for key, part in value.items()}
        return kind(_take_out(part, index, rest) for part in value)
    if packing.pack(value).size <= SMALL:
        return value
    rest.append(value)
    return Slot(index, len(rest) - 1)


def _holds_slot(value: Any) -> bool:
    kind = type(value)
    if kind is Slot:
        return True
    if kind is dict:
        return any(_holds_slot(part) for part in value.values())
    return kind in (list, tuple) and any(_holds_slot(part) for part in value)


def take_from(params: dict[str, Any], info: OperationInfo, references: References) -> tuple[dict[str, Any], int]:
    """Return the parameters with slots, and how many of the inputs belong to the cache key: those come first."""
    if not info.options["ignore"]:
        taken = references.take_from(params)
        return taken, len(references.inputs)
    ignored = [name for name in params if name in info.options["ignore"]]
    taken = references.take_from({name: value for name, value in params.items() if name not in ignored})
    keyed = len(references.inputs)
    return {**taken, **references.take_from({name: params[name] for name in ignored})}, keyed
