"""How many steps went through a run over its time, in as many stretches as a picture has room for."""

from __future__ import annotations

from collections import Counter

STRETCHES = 160
"""Into how many the time of a run is divided at most."""
SHORTEST = 0.01
"""Seconds of a stretch in the beginning; it doubles whenever the run becomes too long for it."""
LANES = 24
"""Lanes that are told apart."""
OTHERS = ("other operations", "")

Lane = tuple[str, str]
"""An operation and a replica."""


class Timeline:
    """Steps by lane and stretch.

    >>> timeline = Timeline()
    >>> timeline.begin(100.0)
    >>> timeline.add(("tool.op", "r1"), 100.0, 101.0, 0.9, steps=5)
    >>> round(sum(timeline.lanes["tool.op", "r1"]), 6)
    5.0
    """

    def __init__(self) -> None:
        self.began: float | None = None
        self.width = SHORTEST
        """Seconds of one stretch."""
        self.lanes: dict[Lane, list[float]] = {}
        self.steps: Counter[Lane] = Counter()
        self.seconds: dict[Lane, float] = {}

    def begin(self, when: float) -> None:
        """Count from ``when`` on, unless something came before."""
        if self.began is None:
            self.began = when

    def add(self, lane: Lane, start: float, end: float, seconds: float, steps: int = 1) -> None:
        """``steps`` ran between ``start`` and ``end``, for ``seconds`` together; they count evenly over that time."""
        self.begin(start)
        assert self.began is not None
        start, end = max(0.0, start - self.began), max(0.0, end - self.began)
        while end >= self.width * STRETCHES:
            self._widen()
        if lane not in self.lanes and len(self.lanes) >= LANES:
            lane = OTHERS
        counts = self.lanes.setdefault(lane, [0.0] * STRETCHES)
        self.steps[lane] += steps
        self.seconds[lane] = self.seconds.get(lane, 0.0) + seconds
        first, last = int(start / self.width), int(end / self.width)
        if first >= last:
            counts[last] += steps
            return
        pace = steps / (end - start)
        for place in range(first, last + 1):
            inside = min(end, (place + 1) * self.width) - max(start, place * self.width)
            counts[place] += pace * inside

    def _widen(self) -> None:
        self.width *= 2
        for lane, counts in self.lanes.items():
            merged = [counts[place] + counts[place + 1] for place in range(0, STRETCHES, 2)]
            self.lanes[lane] = merged + [0.0] * (STRETCHES - len(merged))
