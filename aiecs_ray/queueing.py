"""The order in which waiting operations are served, by priority and fairly between users, and how many may wait."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

AGEING = 32
"""Of so many turns and one, the one goes to a lower priority, so that none waits for ever."""
SAMPLE = 1.0
"""Seconds over which endings are counted before they change the estimate of how fast operations end."""
LEAST_WAIT, MOST_WAIT = 0.1, 300.0
UNKNOWN_WAIT = 5.0
"""Seconds after which to come again while nothing ends."""


class FairQueue(Generic[T]):
    """A queue of tickets with a priority and an owner each.

    Higher priorities come first; within one, owners take turns, and each owner's tickets keep their order. While a
    lower priority waits, it gets the turn after every 32 of the highest one; of several, the one that waits longest.

    >>> queue = FairQueue()
    >>> for ticket in ("a1", "a2", "b1"):
    ...     queue.push(ticket, owner=ticket[0])
    >>> [queue.pop() for _ in range(3)]
    ['a1', 'b1', 'a2']
    """

    def __init__(self, ageing: int = AGEING) -> None:
        self._ageing = ageing
        self._levels: dict[int, OrderedDict[str, deque[T]]] = {}
        self._length = 0
        self._turns = 0
        self._passed = 0
        """Turns of the highest priority while a lower one waited."""
        self._served: dict[int, int] = {}
        """Per priority the number of its last turn, or of the one when it began to wait."""

    def __len__(self) -> int:
        return self._length

    def push(self, *tickets: T, owner: str, priority: int = 0) -> None:
        """Add tickets at the end of their owner's line."""
        if priority not in self._levels:
            self._levels[priority] = OrderedDict()
            self._served[priority] = self._turns
        self._levels[priority].setdefault(owner, deque()).extend(tickets)
        self._length += len(tickets)

    def peek(self) -> T:
        """Return the ticket that :meth:`pop` would take.

        Raises:
            IndexError: the queue is empty.
        """
        level = self._levels[self._next_level()]
        return next(iter(level.values()))[0]

    def pop(self) -> T:
        """Take the next ticket; its owner goes to the end of the round.

        Raises:
            IndexError: the queue is empty.
        """
        priority = self._next_level()
        self._turns += 1
        self._served[priority] = self._turns
        lower_wait = len(self._levels) > 1 and priority == max(self._levels)
        self._passed = self._passed + 1 if lower_wait else 0
        level = self._levels[priority]
        owner, line = next(iter(level.items()))
        ticket = line.popleft()
        self._length -= 1
        if line:
            level.move_to_end(owner)
        else:
            self._drop(priority, owner)
        return ticket

    def _next_level(self) -> int:
        if not self._levels:
            raise IndexError("the queue is empty")
        highest = max(self._levels)
        if self._passed < self._ageing or len(self._levels) == 1:
            return highest
        return min((priority for priority in self._levels if priority != highest), key=self._served.__getitem__)

    def _drop(self, priority: int, owner: str) -> None:
        """Forget a line that is empty."""
        level = self._levels[priority]
        del level[owner]
        if not level:
            del self._levels[priority], self._served[priority]

    def take(self, count: int, *, owner: str, priority: int, fits: Callable[[T], bool]) -> list[T]:
        """Take up to ``count`` further tickets from the front of one owner's line, as long as they fit."""
        line = self._levels[priority].get(owner) if priority in self._levels else None
        taken: list[T] = []
        while line and len(taken) < count and fits(line[0]):
            taken.append(line.popleft())
        self._length -= len(taken)
        if line is not None and not line:
            self._drop(priority, owner)
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
                    self._drop(priority, owner)
        self._length -= len(removed)
        return removed


class Backlog:
    """Counts what was accepted and has not ended, refuses what is too much, and says when to come again.

    >>> backlog = Backlog(10)
    >>> backlog.accept(8, 0.0), backlog.accept(4, 0.5)
    (None, 5.0)
    >>> backlog.ended(4); backlog.accept(4, 2.0)
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.open = 0
        """Accepted and not ended."""
        self._ended = 0
        self._since: float | None = None
        self._rate: float | None = None

    def accept(self, count: int, now: float) -> float | None:
        """Count ``count`` operations in and return None, or the seconds after which there may be room for them."""
        self.sample(now)
        excess = self.open + count - self.most
        if excess <= 0:
            self.open += count
            return None
        return min(max(excess / self._rate, LEAST_WAIT), MOST_WAIT) if self._rate else UNKNOWN_WAIT

    def ended(self, count: int = 1) -> None:
        """Count operations out."""
        self.open -= count
        self._ended += count

    def sample(self, now: float) -> None:
        """Bring the estimate of how many end in a second up to date; to be called about every second."""
        seconds = now - self._since if self._since is not None else 0.0
        if self._since is None:
            self._since = now
        if seconds < SAMPLE:
            return
        measured = self._ended / seconds
        self._rate = measured if self._rate is None else (self._rate + measured) / 2
        self._ended, self._since = 0, now
