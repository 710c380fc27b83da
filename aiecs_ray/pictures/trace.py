"""A run as a trace that ui.perfetto.dev and chrome://tracing open: rows are replicas, arrows are results passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs_ray.digests import ENDINGS
from aiecs_ray.messages import EventKind
from aiecs_ray.outlines import heard
from aiecs_ray.pictures.elements import clean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiecs_ray.messages import Event

Entry = dict[str, Any]
_RUN = 1
"""The process of the trace that stands for the coordinator; the others are nodes."""
_MICRO = 1e6


def trace(events: Iterable[Event]) -> dict[str, Any]:
    """Return the events of a run in Chrome's trace event format; times are microseconds since its beginning."""
    return _Trace(list(events)).document()


class _Trace:
    """Builds one trace."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events
        self._zero = min((_begin(event) for event in events), default=0.0)
        self._entries: list[Entry] = []
        self._nodes: dict[str, int] = {}
        self._tracks: dict[tuple[int, str], list[tuple[int, float]]] = {}
        """By node and replica: tracks, and until when each is taken."""
        self._places: dict[int, tuple[int, int, float, float]] = {}
        """By step: process, track, beginning and end of its last attempt."""

    def document(self) -> dict[str, Any]:
        started: dict[int, float] = {}
        bars: list[tuple[float, float, Event, int]] = []
        for event in self._events:
            step = event.step
            if step is None:
                self._mark(event)
            elif event.kind is EventKind.STEP_STARTED:
                started[step] = event.time
            elif event.kind is EventKind.STEP_RETRYING:
                bars.append((started.pop(step, event.time), event.time, event, step))
            elif event.kind in ENDINGS:
                start = started.pop(step, event.time - event.data["seconds"])
                bars.append((start, event.time, event, step))
        specs = {event.step: event.data["spec"] for event in self._events if "spec" in event.data}
        for start, end, event, step in sorted(bars, key=lambda one: (one[0], one[1], one[3])):
            self._bar(start, end, event, step, specs.get(step, ""))
        self._arrows()
        first = self._events[0] if self._events else None
        missing = first.number if first is not None else 0
        run = first.run if first is not None else ""
        return {
            "traceEvents": [*self._names(), *self._entries],
            "displayTimeUnit": "ms",
            "otherData": {"run": run, "missing_events": missing},
        }

    def _time(self, when: float) -> float:
        return round((when - self._zero) * _MICRO, 1)

    def _mark(self, event: Event) -> None:
        data = {name: value for name, value in event.data.items() if name != "plan"}
        if event.kind is EventKind.RUN_FINISHED:
            begun = event.time - data["seconds"]
            self._entries.append(
                {
                    "name": f"run {event.run}",
                    "cat": "run",
                    "ph": "X",
                    "ts": self._time(begun),
                    "dur": round(data["seconds"] * _MICRO, 1),
                    "pid": _RUN,
                    "tid": 0,
                    "args": _plain(data),
                }
            )
            return
        self._entries.append(
            {
                "name": event.kind.value,
                "cat": "run",
                "ph": "i",
                "s": "g",
                "ts": self._time(event.time),
                "pid": _RUN,
                "tid": 0,
                "args": _plain(data),
            }
        )

    def _bar(self, start: float, end: float, event: Event, step: int, spec: str) -> None:
        data = event.data
        replica, node = str(data.get("replica", "")), str(data.get("node", ""))
        process = self._nodes.setdefault(node, _RUN + 1 + len(self._nodes)) if replica else _RUN
        track = self._track(process, replica or "not run", start, end)
        failed = event.kind is EventKind.STEP_RETRYING
        status = "retried" if failed else ENDINGS[event.kind]
        if not failed:
            self._places[step] = (process, track, start, end)
        self._entries.append(
            {
                "name": clean(spec),
                "cat": status,
                "ph": "X",
                "ts": self._time(start),
                "dur": round(max(0.0, end - start) * _MICRO, 1),
                "pid": process,
                "tid": track,
                "args": {"step": step, "status": status, **_plain(data)},
            }
        )

    def _track(self, process: int, name: str, start: float, end: float) -> int:
        """Return a row of a replica on which nothing else is at that time."""
        tracks = self._tracks.setdefault((process, name), [])
        for place, (track, until) in enumerate(tracks):
            if until <= start + 1e-9:
                tracks[place] = (track, end)
                return track
        track = 1 + sum(len(some) for some in self._tracks.values())
        tracks.append((track, end))
        return track

    def _arrows(self) -> None:
        begun = next((event for event in self._events if event.kind is EventKind.RUN_STARTED), None)
        if begun is None or not begun.data.get("plan"):
            return
        outline = heard(begun.data["plan"], str(begun.data["mode"]))
        for step, vertex in enumerate(outline.vertices):
            for before in vertex.needs:
                if step not in self._places or before not in self._places:
                    continue
                source, target = self._places[before], self._places[step]
                shared = {"name": "result", "cat": "reference", "id": f"{before}-{step}"}
                self._entries.append(
                    {**shared, "ph": "s", "ts": self._time(source[3]), "pid": source[0], "tid": source[1]}
                )
                arrival = {"ph": "f", "bp": "e", "ts": self._time(target[2]), "pid": target[0], "tid": target[1]}
                self._entries.append({**shared, **arrival})

    def _names(self) -> list[Entry]:
        named = [_name("process_name", _RUN, 0, "run")]
        named += [_name("process_name", number, 0, f"node {clean(node)}") for node, number in self._nodes.items()]
        for (process, replica), tracks in self._tracks.items():
            named += [_name("thread_name", process, track, clean(replica)) for track, _ in tracks]
        return named


def _begin(event: Event) -> float:
    """Return when something that an event tells of can have begun."""
    if event.kind in ENDINGS or event.kind is EventKind.RUN_FINISHED:
        return event.time - float(event.data["seconds"])
    return event.time


def _name(kind: str, process: int, track: int, name: str) -> Entry:
    return {"name": kind, "ph": "M", "pid": process, "tid": track, "args": {"name": name}}


def _plain(data: Any) -> dict[str, Any]:
    return {
        str(name): clean(value, 1000) if isinstance(value, str) else value
        for name, value in data.items()
        if value is None or isinstance(value, (bool, int, float, str, dict))
    }
