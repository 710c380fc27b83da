"""Pieces of an HTML page made of charts, numbers and tables; every text is escaped."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, Any

from aiecs_ray.tools import frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

MAX_ROWS = 200
"""How many rows of a table a page shows; below it says how many more there are."""

NOTHING = "\N{EN DASH}"
"""What stands for a missing value."""

_CLOSE_UNITS = ("%", "°")


def escape(value: object) -> str:
    """Return text that is safe in an element and in a quoted attribute.

    >>> escape('<b> & "c"')
    '&lt;b&gt; &amp; &quot;c&quot;'
    """
    return html.escape(str(value), quote=True)


def figure(chart: Mapping[str, Any]) -> str:
    """Return a chart as a picture inside the page."""
    data = base64.b64encode(chart["png"]).decode("ascii")
    size = "".join(f' {side}="{int(chart[side])}"' for side in ("width", "height") if side in chart)
    alt = escape(chart.get("alt") or chart.get("title") or "Chart")
    return f'<figure><img src="data:image/png;base64,{data}" alt="{alt}"{size}></figure>'


def tiles(metrics: Any) -> str:
    """Return each number with its name; see :func:`headline` for what ``metrics`` may be."""
    entries = headline(metrics)
    cells = "\n".join(
        f'<div class="tile"><dt>{escape(heading(entry["label"]))}</dt>'
        f"<dd>{number(entry['value'], entry.get('unit', ''))}</dd></div>"
        for entry in entries
    )
    return f'<dl class="tiles">\n{cells}\n</dl>' if entries else ""


def table(title: str, rows: Any) -> str:
    """Return a table with its title; the first column names the rows, numbers stand to the right."""
    frame = frames.to_frame(rows, title)
    shown = frame.head(MAX_ROWS)
    numeric = set(frames.numeric_columns(frame))
    kinds = ["" if place == 0 or str(name) in numeric else ' class="text"' for place, name in enumerate(frame.columns)]
    head = "".join(
        f'<th scope="col"{kind}>{escape(heading(str(name)))}</th>'
        for name, kind in zip(frame.columns, kinds, strict=True)
    )
    columns = [
        _texts(shown.iloc[:, place], as_numbers=place > 0 and str(name) in numeric)
        for place, name in enumerate(frame.columns)
    ]
    body = "\n".join(_row(cells, kinds) for cells in zip(*columns, strict=True))
    more = len(frame) - len(shown)
    below = f'\n<p class="more">and {more:,} more rows</p>' if more else ""
    return (
        f'<div class="table"><table>\n<caption>{escape(title)}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table>{below}</div>"
    )


def notes(lines: Iterable[str]) -> str:
    """Return lines of small print at the end of the page."""
    paragraphs = "\n".join(f"<p>{escape(line)}</p>" for line in lines)
    return f"<footer>\n{paragraphs}\n</footer>" if paragraphs else ""


def heading(name: str) -> str:
    """Return a column's name as a reader would write it.

    >>> heading("arr_delay_mean"), heading("Mean delay (min)")
    ('Arr delay mean', 'Mean delay (min)')
    """
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def number(value: Any, unit: str = "") -> str:
    """Return a value with its unit, for a tile.

    >>> number(327346), number(6.895, "min"), number(75.6, "%")
    ('327,346', '6.9 <small>min</small>', '75.6<small>%</small>')
    """
    value = frames.plain(value)
    if value is None:
        return NOTHING
    text = escape(_one(value))
    if not unit:
        return text
    return f"{text}{'' if unit.startswith(_CLOSE_UNITS) else ' '}<small>{escape(unit)}</small>"


def headline(metrics: Any) -> list[dict[str, Any]]:
    """Return ``[{"label", "value", "unit"}]`` made of what the other tools return, of such a list, or of a dict.

    Of statistics without a headline it is the rows, and the sum and mean of each column; of a nested dict one
    entry a number, ``outer inner``. Raises TypeError for another type, ValueError for another list.
    """
    if isinstance(metrics, list):
        for entry in metrics:
            if not isinstance(entry, dict) or not {"label", "value"} <= entry.keys():
                raise ValueError('metrics must be a dict, or a list of {"label", "value", "unit"}')
        return metrics
    if not isinstance(metrics, dict):
        raise TypeError(f"metrics must be a dict or a list, not {type(metrics).__name__}")
    if metrics.get("headline"):
        return headline(metrics["headline"])
    if isinstance(metrics.get("metrics"), dict):
        return headline(metrics["metrics"])
    columns = metrics.get("columns")
    if isinstance(columns, dict) and "rows" in metrics:
        sums = [
            {"label": f"{name} {how}", "value": facts[how]}
            for name, facts in columns.items()
            for how in ("sum", "mean")
            if isinstance(facts, dict) and how in facts
        ]
        return [{"label": "rows", "value": metrics["rows"]}, *sums]
    return _flat(metrics)


def _flat(metrics: dict[str, Any], outer: str = "") -> list[dict[str, Any]]:
    entries = []
    for name, value in metrics.items():
        label = f"{outer} {name}".strip()
        if isinstance(value, dict):
            entries += _flat(value, label)
        else:
            entries.append({"label": label, "value": value})
    return entries


def _row(cells: tuple[str, ...], kinds: list[str]) -> str:
    first, *others = cells
    rest = "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(others, kinds[1:], strict=True))
    return f'<tr><th scope="row">{escape(first)}</th>{rest}</tr>'


def _texts(column: pd.Series, *, as_numbers: bool) -> list[str]:
    values = [frames.plain(value) for value in column]
    if not as_numbers:
        return [NOTHING if value is None else str(value) for value in values]
    texts = iter(frames.format_values([float(value) for value in values if value is not None]))
    return [NOTHING if value is None else next(texts) for value in values]


def _one(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}".replace("-", frames.MINUS) if isinstance(value, int) else frames.format_values([value])[0]
