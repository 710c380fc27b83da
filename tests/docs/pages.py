"""The pages of the documentation: their links, names and code blocks."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
INDEX = ROOT / "docs" / "index.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [README, *DOCS]
OTHERS = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "cluster-configs" / "README.md"]

_BLOCK = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")
_PRINTS = re.compile(r"\s*print\(.*\)  # (.+)")


class Block(NamedTuple):
    """A fenced block: where it stands, what is written behind the fence, and its text."""

    line: int
    kind: str
    text: str

    @property
    def printed(self) -> list[str]:
        """What its ``print`` calls say that they print, in comments behind them."""
        return [match[1] for line in self.text.splitlines() if (match := _PRINTS.fullmatch(line))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, match.start(3)), match[2].strip(), textwrap.dedent(match[3]))
        for match in _BLOCK.finditer(text)
    ]


def prose(page: Path) -> str:
    """Return a page without its blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    return _LINK.findall(prose(page))


def code(page: Path) -> list[str]:
    """Return what stands in backticks."""
    return _CODE.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """Return what a link to a heading of the page is called, as GitHub does it."""
    headings = (match[1].lower().replace("`", "") for match in _HEADING.finditer(prose(page)))
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in headings}


def commands(page: Path) -> Iterator[str]:
    """Yield every command of a page: lines of bash blocks, and what stands in backticks."""
    yield from code(page)
    for block in blocks(page):
        if block.kind == "bash":
            yield from (line.partition("  #")[0].strip() for line in block.text.splitlines())


def missing_in_order(expected: list[str], lines: list[str]) -> str | None:
    """Return the first of ``expected`` that does not come, in its turn, among ``lines``."""
    remaining = iter(lines)
    return next((one for one in expected if one not in remaining), None)
