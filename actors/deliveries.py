"""How outcomes leave a replica: large values travel beside them."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from concurrent.futures import Future

    from aiecs_ray.messages import Outcome, Outcomes
    from aiecs_ray.packing import Packed

Ran: TypeAlias = "tuple[Outcome | None, Packed | None]"
"""What became of an item and, beside it, a value that may be large; nothing where the item never began."""


class Large(NamedTuple):
    """Stands in an outcome for a large value that travels beside it, at ``place``."""

    place: int


class Delivery(NamedTuple):
    """Outcomes, and the large values they refer to."""

    outcomes: Outcomes
    larges: list[Packed]


def ran(future: Future[Ran]) -> Ran:
    """Return what ran; nothing where it was cancelled before it began."""
    try:
        return future.result()
    except CancelledError:
        return None, None


def shifted(outcome: Outcome, by: int) -> Outcome:
    """Return an outcome whose large value stands ``by`` places further on."""
    if by and type(outcome.payload) is Large:
        return outcome._replace(payload=Large(outcome.payload.place + by))
    return outcome
