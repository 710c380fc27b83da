"""Reports: one HTML file with everything in it, or a PDF with one chart a page."""

from __future__ import annotations

from importlib import resources
from io import BytesIO
from pathlib import Path
from string import Template
from typing import Any

from matplotlib import image
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from aiecs_ray.tool import operation, tool
from aiecs_ray.tools import files, markup

_POINTS = 72
_TEMPLATE_SUFFIX = ".html"


@tool("report_tool")
class ReportTool:
    """Put charts, numbers and tables together."""

    @operation
    def generate_daily_report(  # noqa: PLR0913  an operation's parameters are what its callers write
        self,
        charts: list[Any] | dict[str, Any],
        metrics: dict[str, Any] | list[Any],
        *,
        template: str = "daily_sales_template",
        title: str = "Daily report",
        subtitle: str = "",
        tables: dict[str, Any] | None = None,
        notes: list[str] | None = None,
    ) -> dict[str, Any]:
        """Return a page that needs no other file: ``title``, ``html``, ``bytes`` (its size), ``charts`` (how many).

        ``charts`` is what ``chart_tool`` returns, one or several. ``metrics`` is what ``calculate_metrics`` or
        ``analyze_sales`` returns, a list of ``{"label", "value", "unit"}`` or a dict of numbers. ``tables`` maps a
        heading to a table. All text is escaped; nothing depends on the time, so that a cached page equals a new one.
        To keep the page as a file use ``write_report``, which is not cached. Raises ValueError for an unknown
        template or something that is no chart.
        """
        # Source: operation_executor.md, case 1.
        page = _template(template)
        pictures = _charts(charts)
        html = page.substitute(
            title=markup.escape(title),
            subtitle=f"<p>{markup.escape(subtitle)}</p>" if subtitle else "",
            tiles=markup.tiles(metrics),
            figures="\n".join(markup.figure(chart) for chart in pictures),
            tables="\n".join(markup.table(heading, rows) for heading, rows in (tables or {}).items()),
            notes=markup.notes(notes or []),
        )
        return {"title": title, "html": html, "bytes": len(html.encode()), "charts": len(pictures)}

    @operation(cache=False)
    def write_report(self, report: dict[str, Any] | str, file_path: files.PathLike) -> dict[str, Any]:
        """Write a report's page to a file, which is replaced as a whole or not at all: ``path`` and ``bytes``.

        ``report`` is what ``generate_daily_report`` returns, or its HTML. It is never answered from the cache, so a
        file that somebody deleted is there again (defect D-09). Raises FileNotFoundError if its directory does not
        exist, TypeError for another ``report`` or if ``file_path`` is no path.
        """
        html = report if isinstance(report, str) else report.get("html")
        if not isinstance(html, str):
            raise TypeError("report has no 'html': pass what generate_daily_report returns, or the text of a page")
        target = files.as_path(file_path)
        return {"path": str(target), "bytes": files.write_atomically(target, html.encode())}

    @operation
    def generate_pdf(self, charts: list[Any] | dict[str, Any], title: str = "Report") -> dict[str, Any]:
        """Return a PDF with one chart a page: ``title``, ``pdf`` (bytes), ``pages``.

        Raises ValueError if there is no chart.
        """
        # Source: operation_executor.md, scenario 1.
        pictures = _charts(charts)
        if not pictures:
            raise ValueError("a PDF needs at least one chart")
        content = BytesIO()
        # Without dates in it, the same charts are the same bytes.
        with PdfPages(content, metadata={"Title": title, "CreationDate": None, "ModDate": None}) as pages:
            for chart in pictures:
                pixels = image.imread(BytesIO(chart["png"]), format="png")
                height, width = pixels.shape[:2]
                dots = 2 * _POINTS
                page = Figure(figsize=(width / dots, height / dots), dpi=dots)
                page.figimage(pixels)
                pages.savefig(page)
        return {"title": title, "pdf": content.getvalue(), "pages": len(pictures)}


def _template(name: str) -> Template:
    folder = Path(str(resources.files("aiecs_ray.tools")))
    known = sorted(path.stem for path in folder.glob(f"*{_TEMPLATE_SUFFIX}"))
    if name not in known:
        raise ValueError(f"unknown template {name!r}; there is: {', '.join(known)}")
    return Template((folder / f"{name}{_TEMPLATE_SUFFIX}").read_text(encoding="utf-8"))


def _charts(value: Any) -> list[dict[str, Any]]:
    charts = [value] if isinstance(value, dict) else list(value)
    for number, chart in enumerate(charts):
        picture = chart.get("png") if isinstance(chart, dict) else None
        if not isinstance(picture, bytes) or not picture.startswith(b"\x89PNG"):
            raise ValueError(f"charts[{number}] is not a chart: pass what chart_tool returns, a dict with 'png' bytes")
    return charts
