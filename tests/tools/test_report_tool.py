from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from aiecs_ray.tools import ChartTool, PandasTool, ReportTool, StatsTool, markup

if TYPE_CHECKING:
    from pathlib import Path

_VOID = {"meta", "img", "link", "br", "hr"}


class Page(HTMLParser):
    """What a browser would find: the texts by element, the attributes, and whether all elements are closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.elements: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open:
            self.texts.setdefault(self.open[-1], []).append(data.strip())


@pytest.fixture
def tool() -> ReportTool:
    return ReportTool()


@pytest.fixture
def chart(orders: pd.DataFrame) -> dict:
    return ChartTool().bar_chart(orders, x="category", y="amount", title="Sales & <more>")


def test_a_report_holds_its_charts_numbers_and_tables(tool: ReportTool, chart: dict[str, Any]) -> None:
    report = tool.generate_daily_report(
        charts=[chart, chart],
        metrics=[{"label": "orders", "value": 12345, "unit": ""}, {"label": "Late", "value": 12.345, "unit": "%"}],
        template="daily_sales_template",
        title="Tuesday",
        subtitle="All shops",
        tables={"By shop": pd.DataFrame({"shop": ["A", "B"], "net_sales": [1234.5, None], "head": ["Ann", "Bo"]})},
        notes=["Checked."],
    )

    page = Page(report["html"])
    assert page.open == []
    assert page.texts["h1"] == ["Tuesday"]
    assert page.texts["p"] == ["All shops", "Checked."]
    assert page.texts["dt"] == ["Orders", "Late"]
    assert page.texts["dd"] == ["12,345", "12.3"]
    assert page.texts["caption"] == ["By shop"]
    assert page.texts["th"] == ["Shop", "Net sales", "Head", "A", "B"]
    assert page.texts["td"] == ["1,234", "Ann", "\N{EN DASH}", "Bo"]
    assert report["charts"] == 2
    assert report["bytes"] == len(report["html"].encode())


def test_a_report_needs_no_other_file(tool: ReportTool, chart: dict[str, Any]) -> None:
    html = tool.generate_daily_report([chart], {})["html"]

    (source,) = re.findall(r'<img src="data:image/png;base64,([^"]+)"', html)
    assert base64.b64decode(source) == chart["png"]
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|url\(", html.replace(source, ""))


def test_a_report_escapes_every_text(tool: ReportTool, chart: dict[str, Any]) -> None:
    evil = '<script>alert("x")</script>'

    html = tool.generate_daily_report(
        [{**chart, "alt": evil + '" onload="x'}],
        {evil: evil},
        title=evil,
        subtitle=evil,
        tables={evil: [{evil: evil, "b": evil}]},
        notes=[evil],
    )["html"]

    page = Page(html)
    assert "script" not in page.elements
    assert "onload" not in [name for name, _ in page.attributes]
    assert html.count("&lt;script&gt;") == 11
    assert page.open == []


def test_a_dollar_sign_in_a_text_is_no_placeholder(tool: ReportTool) -> None:
    page = Page(tool.generate_daily_report([], {"price": "$title"}, title="Cost in $")["html"])

    assert page.texts["h1"] == ["Cost in $"]
    assert page.texts["dd"] == ["$title"]


def test_the_same_report_is_the_same_text(tool: ReportTool, chart: dict[str, Any]) -> None:
    assert tool.generate_daily_report([chart], {"a": 1}) == tool.generate_daily_report([chart], {"a": 1})


def test_metrics_are_what_the_other_tools_return(orders: pd.DataFrame) -> None:
    metrics, sales = StatsTool().calculate_metrics(orders), PandasTool().analyze_sales(orders)

    assert [(tile["label"], tile["value"]) for tile in markup.headline(metrics)] == [
        ("rows", 5),
        ("amount sum", 70.0),
        ("amount mean", 14.0),
        ("units sum", 14),
        ("units mean", pytest.approx(2.8)),
    ]
    assert {tile["label"]: tile["value"] for tile in markup.headline(sales)}["total"] == 70.0
    assert markup.headline({"cpu": {"mean": 1, "max": 2}}) == [
        {"label": "cpu mean", "value": 1},
        {"label": "cpu max", "value": 2},
    ]


def test_a_long_table_says_how_many_rows_it_does_not_show() -> None:
    html = markup.table("Long", {"n": list(range(250))})

    assert html.count("<tr>") == 1 + markup.MAX_ROWS
    assert "and 50 more rows" in html


def test_numbers_are_shown_with_a_minus_sign_and_missing_ones_with_a_dash() -> None:
    assert markup.number(-1234) == "\N{MINUS SIGN}1,234"
    assert markup.number(float("nan")) == "\N{EN DASH}"
    assert markup.number(3.14159, "km") == "3.1 <small>km</small>"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"template": "weekly"}, ValueError, "unknown template 'weekly'; there is: daily_sales_template"),
        ({"template": "../daily_sales_template"}, ValueError, "unknown template"),
        ({"charts": [{"png": b"GIF89a"}]}, ValueError, r"charts\[0\] is not a chart"),
        ({"charts": [None]}, ValueError, r"charts\[0\] is not a chart"),
        ({"metrics": [{"name": "x"}]}, ValueError, "metrics must be"),
        ({"metrics": "x"}, TypeError, "metrics must be"),
        ({"tables": {"T": 3}}, TypeError, "T must be a DataFrame"),
    ],
)
def test_a_report_says_what_is_wrong_with_its_parts(
    tool: ReportTool, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tool.generate_daily_report(**{"charts": [], "metrics": {}, **options})


def test_a_deleted_report_is_written_again(tool: ReportTool, tmp_path: Path) -> None:
    report, path = tool.generate_daily_report([], {}, title="T"), tmp_path / "report.html"
    tool.write_report(report, path)
    path.unlink()

    written = tool.write_report(report, path)

    assert path.read_text() == report["html"]
    assert written == {"path": str(path), "bytes": report["bytes"]}


def test_write_report_refuses_what_is_no_page(tool: ReportTool, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="report has no 'html'"):
        tool.write_report({"png": b""}, tmp_path / "x.html")


def test_a_pdf_has_a_page_for_each_chart(tool: ReportTool, chart: dict[str, Any]) -> None:
    pdf = tool.generate_pdf([chart, chart, chart], title="Charts")

    assert pdf["pages"] == 3
    assert pdf["pdf"].startswith(b"%PDF-")
    assert re.search(rb"/Count 3\b", pdf["pdf"])
    assert tool.generate_pdf([chart, chart, chart], title="Charts") == pdf
    assert b"Date" not in pdf["pdf"]


def test_a_pdf_takes_one_chart_alone_and_refuses_none(tool: ReportTool, chart: dict[str, Any]) -> None:
    assert tool.generate_pdf(chart)["pages"] == 1
    with pytest.raises(ValueError, match="at least one chart"):
        tool.generate_pdf([])
