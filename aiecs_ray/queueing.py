"""The order in which waiting operations are served: by priority, and fairly between users."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class FairQueue(Generic[T]):
    """A queue of tickets with a priority and an owner each.

    Higher priorities come first; within one, owners take turns, and each owner's tickets keep their order.

    >>> queue = FairQueue()
    >>> for ticket in ("a1", "a2", "b1"):
    ...     queue.push(ticket, owner=ticket[0])
    >>> [queue.pop() for _ in range(3)]
    ['a1', 'b1', 'a2']
    """

    def __init__(self) -> None:
        self._levels: dict[int, OrderedDict[str, deque[T]]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, ticket: T, *, owner: str, priority: int = 0, first: bool = False) -> None:
        """Add a ticket at the end of its owner's line, or at its front."""
        line = self._levels.setdefault(priority, OrderedDict()).setdefault(owner, deque())
        if first:
            line.appendleft(ticket)
        else:
            line.append(ticket)
        self._length += 1

    def pop(self) -> T:
        """Take the next ticket; its owner goes to the end of the round.

        Raises:
            IndexError: the queue is empty.
        """
        priority = max(self._levels, default=None)
        if priority is None:
            raise IndexError("pop from an empty queue")
        level = self._levels[priority]
        owner, line = next(iter(level.items()))
        ticket = line.popleft()
        self._length -= 1
        if line:
            level.move_to_end(owner)
        else:
            del level[owner]
            if not level:
                del self._levels[priority]
        return ticket

    def take(self, count: int, *, owner: str, priority: int, fits: Callable[[T], bool]) -> list[T]:
        """Take up to ``count`` further tickets from the front of one owner's line, as long as they fit."""
        level = self._levels.get(priority, OrderedDict())
        line = level.get(owner)
        taken: list[T] = []
        while line and len(taken) < count and fits(line[0]):
            taken.append(line.popleft())
        self._length -= len(taken)
        if line is not None and not line:
            del level[owner]
            if not level:
                del self._levels[priority]
        return taken

    def remove(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Take out and return every ticket that is not wanted any more."""
        removed: list[T] = []
        for priority, level in list(self._levels.items()):
            for owner, line in list(level.items()):
                kept: deque[T] = deque()
                for ticket in line:
                    (removed if unwanted(ticket) else kept).append(ticket)
                if kept:
                    level[owner] = kept
                else:
                    del level[owner]
            if not level:
                del self._levels[priority]
        self._length -= len(removed)
        return removed
