"""The acceptance runs of the shared cache, in any size: ``make accept`` runs them whole, ``make test`` a tenth."""

from __future__ import annotations

import itertools
import random
from bisect import bisect_left
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from aiecs_ray.backend import CacheEntry
from aiecs_ray.keys import digest
from tests.accept.driver import drive, new_mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOOL = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
import aiecs_ray, aiecs_ray.errors
from aiecs_ray.config import Settings

class Maker:
    def make(self, ledger: str, size: int, fill: int = 1) -> bytes:
        with open(ledger, "a") as file:
            file.write("made\\n")
        return bytes([fill]) * size

    def wait(self, ledger: str, go: str) -> str:
        with open(ledger, "a") as file:
            file.write("waits\\n")
        while not os.path.exists(go):
            time.sleep(0.01)
        return "gone"

def until(happened, seconds=120):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(0.02)

def answers(rt):
    try:
        return bool(rt.stats())
    except aiecs_ray.errors.AiecsError:
        return False

def processes(start):
    # Of this run's own Ray: there may be others on the machine.
    import psutil
    named = [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [""])[0].startswith(start)]
    return [p for p in named if p.environ().get("AIECS_CACHE_RUN") == os.environ["AIECS_CACHE_RUN"]]
"""


def survivors(folder: Path, sizes: list[int], store: int) -> dict[str, Any]:
    """Kill client, coordinator and tool after results of these sizes were cached; read them from another driver."""
    ledger = folder / "ledger"
    calls = f"""
def results(rt):
    rt.register(Maker)
    return [rt.call("maker.make", {{"ledger": {str(ledger)!r}, "size": size}}, user_id="u") for size in {sizes!r}]
"""
    client = f"""{TOOL}{calls}
rt = aiecs_ray.connect(sys.argv[1])
results(rt)
until(lambda: rt.cache.stats()["entries"] == {len(sizes)})
os.kill(os.getpid(), signal.SIGKILL)
"""
    reader = f"""{TOOL}{calls}
rt = aiecs_ray.connect(sys.argv[1])
print(json.dumps([[len(result), set(result) == {{1}}] for result in results(rt)] + [rt.incarnation]))
"""
    code = f"""{TOOL}{calls}
holder = aiecs_ray.connect("local", num_cpus=2, object_store_memory={store})
killed = subprocess.run([sys.executable, "-c", {client!r}, holder.address])
[coordinator] = processes("ray::_CoordinatorActor")
[tool] = processes("ray::Replica_maker")
before = holder.incarnation
coordinator.kill()
until(lambda: not tool.is_running() or tool.status() == "zombie")
until(lambda: answers(holder))
reader = {reader!r}
done = subprocess.run([sys.executable, "-c", reader, holder.address], capture_output=True, text=True)
assert done.returncode == 0, done.stderr
*read, incarnation = json.loads(done.stdout.splitlines()[-1])
answer({{"client": killed.returncode, "read": read, "made": Path({str(ledger)!r}).read_text().count("made"),
         "another coordinator": incarnation != before}})
holder.close()
"""
    return dict(drive(code, AIECS_CACHE_RUN=new_mark()))


def crowd(folder: Path, processes: int, calls: int, *, cancel: bool) -> dict[str, Any]:
    """Call one operation at once from several processes; return what came back and how often it ran."""
    ledger, go = folder / "ledger", folder / "go"
    client = f"""{TOOL}
from concurrent.futures import ThreadPoolExecutor
rt = aiecs_ray.connect(sys.argv[1])
rt.register(Maker)
params = {{"ledger": {str(ledger)!r}, "go": {str(go)!r}}}
with ThreadPoolExecutor({calls}) as threads:
    done = list(threads.map(lambda _: rt.call("maker.wait", params, user_id="u"), range({calls})))
print(json.dumps(done))
"""
    code = f"""{TOOL}
rt = aiecs_ray.connect("local", num_cpus=2)
rt.register(Maker)
params = {{"ledger": {str(ledger)!r}, "go": {str(go)!r}}}
ledger, go = Path({str(ledger)!r}), Path({str(go)!r})
first = rt.submit([{{"operation": "maker.wait", "params": params}}], user_id="u")
until(ledger.exists)
clients = [subprocess.Popen([sys.executable, "-c", {client!r}, rt.address], stdout=subprocess.PIPE)
           for _ in range({processes})]
until(lambda: rt.stats()["joining"] == {processes * calls})
if {cancel}:
    first.cancel()
    until(lambda: rt.stats()["joining"] == {processes * calls - 1})
go.touch()
answers = [answer for client in clients for answer in json.loads(client.communicate()[0].splitlines()[-1])]
answer({{"answers": sorted(set(answers)), "count": len(answers), "ran": len(ledger.read_text().splitlines()),
         "first": first.status(), "joined": rt.cache.stats()["joined"]}})
rt.close()
"""
    return dict(drive(code, AIECS_CACHE_RUN=new_mark()))


def flood(folder: Path, budget: int, entry: int, count: int, store: int) -> dict[str, Any]:
    """Push more through the cache than it may hold; return what Ray's object store held at most."""
    ledger = folder / "ledger"
    code = f"""{TOOL}
import ray
from ray._private.internal_api import node_stats
rt = aiecs_ray.connect("local", num_cpus=2, object_store_memory={store}, settings=Settings(cache_bytes={budget}))
rt.register(Maker)
[node] = ray.nodes()

def held():
    return node_stats(node["NodeManagerAddress"], node["NodeManagerPort"]).store_stats.object_store_bytes_primary_copy

def push(n):
    params = {{"ledger": {str(ledger)!r}, "size": {entry}, "fill": n % 256}}
    [result] = rt.run([{{"operation": "maker.make", "params": params}}], user_id="u", keep=())
    assert result.completed, result

push(0)
rt.cache.clear()
until(lambda: held() < {entry})
baseline, most, counted = held(), 0, 0
for n in range({count}):
    push(n)
    most, counted = max(most, held() - baseline), max(counted, rt.cache.stats()["bytes"])
stats = rt.cache.stats()
rt.cache.clear()
until(lambda: held() <= baseline)
answer({{"most": most, "counted": counted, "entries": stats["entries"], "evicted": stats["evictions"]["size"],
         "spilled": node_stats(node["NodeManagerAddress"], node["NodeManagerPort"]).store_stats.spilled_bytes_total}})
rt.close()
"""
    return dict(drive(code, AIECS_CACHE_RUN=new_mark()))


def zipf(calls: int, keys: int, exponent: float = 1.1, seed: int = 7) -> list[int]:
    """Return a workload in which the n-th key is asked for as often as n ** -exponent."""
    weights = list(itertools.accumulate((n + 1) ** -exponent for n in range(keys)))
    draw = random.Random(seed)  # noqa: S311  # a workload
    return [bisect_left(weights, draw.random() * weights[-1]) for _ in range(calls)]


def offline_hit_rate(workload: list[int], entries: int) -> float:
    """Return the share of hits of the textbook's LRU cache."""
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in workload:
        if key in held:
            hits += 1
            held.move_to_end(key)
            continue
        held[key] = None
        if len(held) > entries:
            held.popitem(last=False)
    return hits / len(workload)


def hit_rate(workload: list[int], found: Callable[[int], bool], put: Callable[[int], object]) -> float:
    """Return the share of hits of some cache."""
    hits = 0
    for key in workload:
        if found(key):
            hits += 1
        else:
            put(key)
    return hits / len(workload)


def compare(request: Callable[..., Any], steps: int, seed: int) -> None:
    """Put, get and purge at random, and compare each answer with that of a dictionary."""
    draw = random.Random(seed)  # noqa: S311  # a test
    prefix = digest([seed, draw.random()]).hex()
    model: dict[str, tuple[bytes, str]] = {}
    for step in range(steps):
        names = [f"{prefix}{draw.randrange(50)}" for _ in range(draw.randrange(1, 6))]
        kind = draw.randrange(20)
        user = f"{prefix}{draw.randrange(4)}"
        if kind < 9:
            entries = [CacheEntry(name, b"%d" % step, 10, b"", tool="t", operation="o", user_id=user) for name in names]
            request("put_many", entries)
            model.update((name, (b"%d" % step, user)) for name in names)
        elif kind < 19:
            found = request("get_many", names)
            assert [None if one is None else one.payload for one in found] == [model.get(n, (None,))[0] for n in names]
        else:
            gone = [name for name, (_, owner) in model.items() if owner == user]
            assert request("purge", {"user_id": user}) == len(gone)
            for name in gone:
                del model[name]


def pairs(count: int, seed: int = 3) -> Iterator[tuple[Any, Any]]:
    """Yield pairs of parameters that differ, many of them by very little."""
    draw = random.Random(seed)  # noqa: S311  # a test
    leaves: list[Callable[[], Any]] = [
        lambda: draw.choice([None, True, False, 0, 1, 0.0, 1.0, -0.0, "", "0", "1", b"", b"1", "None", float("inf")]),
        lambda: draw.randrange(-5, 300),
        draw.random,
        lambda: "".join(draw.choices("ab,:'\"\\\0é{}[]", k=draw.randrange(6))),
        lambda: draw.randbytes(draw.randrange(4)),
    ]

    def value(depth: int) -> Any:
        kind = draw.randrange(8) if depth else 0
        if kind < 4:
            return draw.choice(leaves)()
        parts = [value(depth - 1) for _ in range(draw.randrange(4))]
        if kind < 7:
            return (list, tuple, lambda items: {str(n): item for n, item in enumerate(items)})[kind - 4](parts)
        return {draw.choice("abc"): part for part in parts}

    while count:
        one, other = ({"x": value(3), "y": value(2)} for _ in range(2))
        if draw.random() < 0.5:
            other = {**one, draw.choice("xyz"): value(1)}
        # repr tells these values apart exactly: they are made of plain types.
        if _in_order(one) != _in_order(other):
            count -= 1
            yield one, other


def _in_order(value: Any) -> str:
    if type(value) is dict:
        return "{" + ",".join(f"{key!r}:{_in_order(item)}" for key, item in sorted(value.items())) + "}"
    if type(value) in (list, tuple):
        return f"{type(value).__name__}({','.join(map(_in_order, value))})"
    return repr(value)
