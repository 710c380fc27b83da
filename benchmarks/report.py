"""What comes of a case: a file with every number, and its lines in the table."""

from __future__ import annotations

import json
import os
import platform
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Row, Spread, Target, spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.harness import Case, Measured
    from benchmarks.world import World


def record(case: Case, world: World, out: Path) -> Measured:
    """Measure a case and write its JSON file."""
    load, begun = os.getloadavg(), time.time()
    measured = case.measure(world)
    out.mkdir(parents=True, exist_ok=True)
    facts = {
        "case": case.name,
        "work": case.work,
        "machine": machine(),
        "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun)),
        "load before and after": [load[0], os.getloadavg()[0]],
        **measured.facts,
        "rows": [as_json(row) for row in measured.rows],
        "seconds": {name: spread(times)._asdict() for name, times in measured.samples.items()},
        "repetitions": measured.samples,
    }
    (out / f"{case.name}.json").write_text(json.dumps(rounded(facts), indent=1) + "\n")
    return measured


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    return {
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "ray": version("ray"),
        "aiecs-ray": version("aiecs-ray"),
    }


def as_json(row: Row) -> dict[str, Any]:
    """Return a row for the file."""
    target = None if row.target is None else row.target._asdict()
    return {"what": row.what, **row.value._asdict(), "unit": row.unit, "target": target, "verdict": row.verdict}


def rounded(value: Any) -> Any:
    """Return the same with floats of five digits: the others are noise.

    >>> rounded({"a": [1.23456789, 2]})
    {'a': [1.2346, 2]}
    """
    if isinstance(value, dict):
        return {str(name): rounded(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def recorded(name: str, folder: Path) -> list[Row]:
    """Return the rows of a case that was measured before; none if it was not."""
    path = folder / f"{name}.json"
    rows = json.loads(path.read_text())["rows"] if path.is_file() else []
    return [
        Row(
            row["what"],
            Spread(row["median"], row["low"], row["high"]),
            row["unit"],
            None if row["target"] is None else Target(**row["target"]),
        )
        for row in rows
    ]


def table(found: Mapping[str, Sequence[Row]]) -> str:
    """Return the table of the figures of some cases, as Markdown."""
    lines = ["| case | what | median | 10 to 90 % | target | |", "|---|---|---|---|---|---|"]
    for name, rows in found.items():
        for row in rows:
            value = row.value
            around = f"{number(value.low)} to {number(value.high)}"
            target = ""
            if row.target is not None:
                sign = "≤" if row.target.sense == "at most" else "≥"
                target = f"{sign} {number(row.target.limit)}{' (stretch)' if row.target.stretch else ''}"
            cells = (name, row.what, f"{number(value.median)} {row.unit}", around, target, row.verdict)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def number(value: float) -> str:
    """Return a number with as many digits as say something.

    >>> number(0.07891), number(3.14159), number(41234.5), number(20000), number(0.0)
    ('0.079', '3.14', '41,234', '20,000', '0')
    """
    if value == 0:
        return "0"
    if abs(value) >= 100:  # noqa: PLR2004  from here on a fraction says nothing
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.2g}"
