"""Elements of HTML and SVG, made so that nothing a user named can be more than text in them."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
"""Control characters, those that turn the direction of a text, and halves of characters."""
_ESCAPE = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[@-Z\\\\^_])")
FONT = "font-family:system-ui,-apple-system,Segoe UI,Roboto,Helvetica Neue,Arial,sans-serif"
_BYTES = ("B", "kB", "MB", "GB", "TB", "PB")
_MINUTE, _HOUR = 60.0, 3600.0


def clean(text: object, limit: int = 200) -> str:
    r"""Return one line of at most ``limit`` characters, without what a terminal or a browser would act on.

    >>> clean("a\x1b[31mred\x1b[0m\nb\x00")
    'ared b�'
    """
    shown = " ".join(_ESCAPE.sub("", str(text)[: 4 * limit]).split())
    shown = _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", shown)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def words(text: object, limit: int = 200) -> str:
    """Return a text as the content of an element.

    >>> words("<b>&")
    '&lt;b&gt;&amp;'
    """
    return html.escape(clean(text, limit))


def element(name: str, attributes: Mapping[str, Any], *content: str) -> str:
    """Return an element; its content is markup already, its attributes are not.

    >>> element("rect", {"x": 1.25, "fill": "none"})
    '<rect x="1.2" fill="none"/>'
    """
    shown = "".join(f' {key}="{_attribute(value)}"' for key, value in attributes.items() if value is not None)
    inside = "".join(content)
    return f"<{name}{shown}>{inside}</{name}>" if inside or name in _OPEN else f"<{name}{shown}/>"


_OPEN = frozenset({"div", "span", "td", "th", "tr", "table", "g", "details", "summary", "text"})
"""Elements that need an end of their own, also when they are empty."""


def _attribute(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".rstrip("0").rstrip(".")
    return html.escape(str(value), quote=True)


def svg(width: float, height: float, label: str, *content: str) -> str:
    """Return a picture that shrinks with its page, and takes its colour of text from it."""
    style = f"max-width:100%;height:auto;{FONT}"
    view = f"0 0 {_attribute(width)} {_attribute(height)}"
    attributes = {
        "xmlns": "http://www.w3.org/2000/svg",
        "width": float(width),
        "height": float(height),
        "viewBox": view,
        "role": "img",
        "aria-label": clean(label),
        "style": style,
        "font-size": 12,
        "fill": "currentColor",
    }
    return element("svg", attributes, *content)


def duration(seconds: float) -> str:
    """Return seconds as people say them.

    >>> duration(0.0042), duration(0.25), duration(12.34), duration(75), duration(7260)
    ('4 ms', '0.25 s', '12.3 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 0.0995:  # noqa: PLR2004  # where milliseconds are easier to read
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.0005 else "0 ms"  # noqa: PLR2004
    if seconds < _MINUTE:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"  # noqa: PLR2004
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def amount(size: float) -> str:
    """Return a number of bytes as people say it.

    >>> amount(512), amount(2_500_000)
    ('512 B', '2.5 MB')
    """
    unit = 0
    while size >= 999.5 and unit < len(_BYTES) - 1:  # noqa: PLR2004  # what would be shown as 1000
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_BYTES[unit]}" if unit == 0 or size >= 9.95 else f"{size:.1f} {_BYTES[unit]}"  # noqa: PLR2004


def counted(count: int, one: str, more: str = "") -> str:
    """Return how many there are of what.

    >>> counted(1, "retry", "retries"), counted(2000, "step")
    ('1 retry', '2,000 steps')
    """
    return f"{number(count)} {one if count == 1 else more or one + 's'}"


def number(count: int) -> str:
    """Return a count with its thousands apart.

    >>> number(100000)
    '100,000'
    """
    return f"{count:,}"
