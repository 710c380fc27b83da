"""What the items of one call made, for those after them that read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiecs_ray.messages import Work


class Made(dict[int, Any]):
    """Results by step, each for as long as an item that has not run yet reads it.

    Args:
        work: whose items run, in their order.
    """

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._last = {
            source[1]: place for place, item in enumerate(work.items) for source in item.inputs if source[0] == "item"
        }
        """Where the last reader of each result stands."""

    def add(self, step: int, result: Any, place: int) -> None:
        """The item at ``place`` made this: hold it if somebody reads it, and let go of what has no reader left."""
        for other in [one for one in self if self._last[one] <= place]:
            del self[other]
        if step in self._last:
            self[step] = result


def meets_others(work: Work, place: int, *, hold: bool) -> bool:
    """Whether a result is delivered or read only after bodies that may write to what it is made of."""
    item, later = work.items[place], work.items[place + 1 :]
    if hold and later and not item.left_out:
        return True
    return any(source[:2] == ("item", item.step) for other in later[1:] for source in other.inputs)
