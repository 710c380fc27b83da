"""A rate that four programs share, and turns between users and priorities under a flood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.accept.driver import drive

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.ray, pytest.mark.accept, pytest.mark.timeout(300)]

RATE = 50

RATED = """
import json, os, subprocess, sys, time
from pathlib import Path
import aiecs_ray
from aiecs_ray import operation

class Rated:
    @operation(rate=50)
    def start(self, ledger: str) -> None:
        with open(ledger, "a") as file:
            file.write(f"{time.time()}\\n")

DRIVER = '''
import json, sys
import aiecs_ray
address, ledger = sys.argv[1:]
with aiecs_ray.connect(address) as rt:
    print("ready", flush=True)
    sys.stdin.readline()
    run = rt.submit([{"operation": "rated.start", "params": {"ledger": ledger}}] * 50, "parallel", cache="off")
    done = sum(result.completed for result in run.result())
    print(json.dumps([done, [event.time for event in run.events() if event.kind == "step_started"]]), flush=True)
'''
ledger = os.environ["LEDGER"]
with aiecs_ray.connect("local", num_cpus=2) as rt:
    rt.register(Rated)
    rt.call("rated.start", {"ledger": os.devnull})
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", DRIVER, rt.address, ledger],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]
    for driver in drivers:
        while "ready" not in driver.stdout.readline():
            assert driver.poll() is None
    for driver in drivers:
        driver.stdin.write("go\\n")
        driver.stdin.flush()
    answers = [json.loads(driver.communicate()[0].splitlines()[-1]) for driver in drivers]
    answer({
        "done": sum(done for done, _ in answers),
        "grants": sorted(time for _, times in answers for time in times),
        "ledger": sorted(map(float, Path(ledger).read_text().split())),
        "limits": rt.limits(),
    })
"""

FLOOD = """
import os, time
from pathlib import Path
import aiecs_ray

class Counter:
    def serve(self, ledger: str, who: str) -> None:
        time.sleep(0.002)
        with open(ledger, "a") as file:
            file.write(f"{who}\\n")

def line(who, count, **options):
    return [{"operation": "counter.serve", "params": {"ledger": os.environ["LEDGER"], "who": who}, **options}] * count

with aiecs_ray.connect("local", num_cpus=2) as rt:
    rt.register(Counter)
    rt.run(line("warm", 20), "parallel")
    first = rt.submit(line("ann", 10_000), "parallel", user_id="ann", cache="off")
    second = rt.submit(line("bob", 10, %s), "parallel", user_id=%r, cache="off")
    statuses = {result.status for result in second.result()}
    left = first.status()
    results = first.result()
    answer({
        "statuses": sorted(statuses),
        "left": left,
        "done": sum(result.completed for result in results),
        "order": [who for who in Path(os.environ["LEDGER"]).read_text().split() if who != "warm"],
    })
"""


def most_in_a_second(times: list[float]) -> int:
    """Return the largest number of times that lie within one second, wherever it begins."""
    return max(sum(begin <= one < begin + 1.0 for one in times) for begin in times)


def test_four_programs_share_one_rate(tmp_path: Path) -> None:
    found: dict[str, Any] = drive(RATED, LEDGER=str(tmp_path / "ledger"))

    grants, ledger = found["grants"], found["ledger"]
    assert (found["done"], len(grants), len(ledger)) == (200, 200, 200)
    assert most_in_a_second(grants) <= RATE
    assert most_in_a_second(ledger) <= RATE + 2
    assert 0.99 * 199 / RATE <= grants[-1] - grants[0] <= 1.06 * 199 / RATE
    assert found["limits"]["rated.start"]["waiting"] == 0


@pytest.mark.parametrize(
    ("user_id", "options"), [("bob", ""), ("ann", "priority=5")], ids=["another user", "a higher priority"]
)
def test_a_flood_delays_ten_operations_by_less_than_a_twentieth_of_it(
    tmp_path: Path, user_id: str, options: str
) -> None:
    found: dict[str, Any] = drive(FLOOD % (options, user_id), LEDGER=str(tmp_path / "ledger"))

    order = found["order"]
    last = max(place for place, who in enumerate(order) if who == "bob")
    assert (found["statuses"], found["left"], found["done"]) == (["completed"], "running", 10_000)
    assert order[:last].count("ann") < 0.05 * 10_000
