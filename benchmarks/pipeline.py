"""A real job: the report of the flights from New York City, and the same pandas code in one process."""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiecs_ray.demo import write_data
from aiecs_ray.demo_plan import REPORT, daily_report_plan
from aiecs_ray.tools import TOOLS
from benchmarks.figures import Target
from benchmarks.harness import Case, Contender, Measured, compare, measure
from benchmarks.world import CPUS

if TYPE_CHECKING:
    from benchmarks.world import World

_WHOLE = re.compile(r'\$result\["(\w+)"\]')


def page(report: dict[str, Any]) -> str:
    """Return a fingerprint of a report."""
    return hashlib.sha256(report["html"].encode()).hexdigest()


def plain(plan: list[dict[str, Any]]) -> dict[str, Any]:
    """Run the plan in this process: the same methods, called one after the other."""
    tools = {cls.__name__: cls() for cls in TOOLS}
    named = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): tool for name, tool in tools.items()}
    results: dict[str, Any] = {}

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(one) for name, one in value.items()}
        if isinstance(value, list):
            return [filled(one) for one in value]
        found = _WHOLE.fullmatch(value) if isinstance(value, str) else None
        return results[found[1]] if found else value

    for step in plan:
        tool, _, operation = step["operation"].partition(".")
        results[step["id"]] = getattr(named[tool], operation)(**filled(step["params"]))
    return results[REPORT]


def pandas_real(world: World) -> Measured:
    """The daily report: cold cache, warm actors."""
    rt = world.rt
    for cls in TOOLS:
        # All four are to stay, on two processors; the tables are worked on by two.
        replicas = CPUS if cls.__name__ == "PandasTool" else 1
        rt.register(cls, replace=True, num_cpus=0, min_replicas=replicas, max_replicas=replicas)
    with tempfile.TemporaryDirectory() as folder:
        plan = daily_report_plan(write_data(Path(folder)))

        def ours(mode: str, **context: str) -> str:
            results = rt.run(plan, mode=mode, keep=[REPORT], **context)
            assert results[-1].completed, [one.message for one in results if not one.completed]
            return page(results[-1].result)

        expected = page(plain(plan))
        contenders = [
            Contender("aiecs, sequence", lambda: ours("sequence", **world.context()), expected),
            Contender("aiecs, parallel", lambda: ours("parallel", **world.context()), expected),
            Contender("aiecs, sequence, no cache", lambda: ours("sequence"), expected),
            Contender("aiecs, parallel, no cache", lambda: ours("parallel"), expected),
            Contender("plain pandas", lambda: page(plain(plan)), expected),
        ]
        samples = measure(contenders, world.pick(7, 1))
    rows = [
        compare(samples, "aiecs, sequence", "plain pandas", Target(1.15)),
        compare(samples, "aiecs, parallel", "plain pandas", Target(1.0)),
        compare(samples, "aiecs, sequence, no cache", "plain pandas"),
        compare(samples, "aiecs, parallel, no cache", "plain pandas"),
    ]
    return Measured(samples, rows, {"steps": len(plan)})


CASES = (Case("pandas-real", "the daily report of 336,776 flights, cold cache, warm actors", pandas_real),)
