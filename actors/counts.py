"""What the shared cache counts, operation by operation."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiecs_ray.backend import Note

MOST = 1_000
"""Names that are counted apart; texts of users can be of any number."""
OTHERS = "(others)"


@dataclass(slots=True)
class Tally:
    """What happened to one operation."""

    hits: int = 0
    misses: int = 0
    joined: int = 0
    uncacheable: int = 0
    seconds_saved: float = 0.0


class Counts:
    """Counters since the cache was started."""

    def __init__(self) -> None:
        self._operations: dict[str, Tally] = {}
        self._reasons: Counter[str] = Counter()

    def of(self, operation: str) -> Tally:
        """Return the counters of an operation."""
        if (tally := self._operations.get(operation)) is not None:
            return tally
        name = operation if len(self._operations) < MOST else OTHERS
        return self._operations.setdefault(name, Tally())

    def hit(self, operation: str, seconds: float) -> None:
        """An answer was found, which took ``seconds`` to compute."""
        tally = self.of(operation)
        tally.hits += 1
        tally.seconds_saved += seconds

    def uncacheable(self, operation: str, reason: str, count: int = 1) -> None:
        """A result could not be stored."""
        self.of(operation).uncacheable += count
        self._reasons[reason if reason in self._reasons or len(self._reasons) < MOST else OTHERS] += count

    def note(self, notes: Sequence[Note]) -> None:
        """Count what happened outside of the cache."""
        for note in notes:
            if note.kind == "uncacheable":
                self.uncacheable(note.operation, note.reason, note.times)
            else:
                tally = self.of(note.operation)
                tally.joined += note.times
                tally.seconds_saved += note.seconds

    def report(self) -> dict[str, Any]:
        """Return the sums, and everything by operation."""
        tallies = self._operations.values()
        hits, misses = sum(tally.hits for tally in tallies), sum(tally.misses for tally in tallies)
        return {
            "hits": hits,
            "misses": misses,
            "hit_rate": hits / (hits + misses) if hits + misses else 0.0,
            "joined": sum(tally.joined for tally in tallies),
            "seconds_saved": sum(tally.seconds_saved for tally in tallies),
            "uncacheable": dict(self._reasons),
            "operations": {name: asdict(tally) for name, tally in self._operations.items()},
        }
