"""Tools for tables, statistics, charts and reports: the optional extra ``tools`` (pandas and matplotlib).

>>> from aiecs_ray.tools import TOOLS
>>> [tool.__name__ for tool in TOOLS]
['PandasTool', 'StatsTool', 'ChartTool', 'ReportTool']
"""

from __future__ import annotations

from aiecs_ray.tools.chart_tool import ChartTool
from aiecs_ray.tools.pandas_tool import PandasTool
from aiecs_ray.tools.report_tool import ReportTool
from aiecs_ray.tools.stats_tool import StatsTool

__all__ = ["TOOLS", "ChartTool", "PandasTool", "ReportTool", "StatsTool"]

TOOLS: tuple[type, ...] = (PandasTool, StatsTool, ChartTool, ReportTool)
