"""Work on three tools while their processes are killed, and what the tools' own ledgers say of it."""

from __future__ import annotations

import os
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiecs_ray import operation, testing
from tests.contract.probes import op

if TYPE_CHECKING:
    from pathlib import Path

    from aiecs_ray import Run, Runtime
    from aiecs_ray.model import TaskStepResult

TOOLS = ("mill", "press", "saw")
SHAPES: tuple[tuple[Any, int, float], ...] = (
    ("sequence", 12, 0.02),
    ("batch", 150, 0.0),
    ("parallel", 8, 0.1),
    ("sequence", 40, 0.0),
    ("batch", 1, 0.2),
)
"""Segments, chunks, long operations one by one, quick segments, one alone: mode, operations, seconds of each."""


@dataclass
class Account:
    """What was asked of one operation of one tool, what was answered, and what its ledger holds."""

    ledger: testing.Ledger
    answers: dict[str, TaskStepResult] = field(default_factory=dict)

    @property
    def right(self) -> set[str]:
        return {name for name, answer in self.answers.items() if answer.completed and answer.result == name}

    @property
    def unknown(self) -> set[str]:
        return {name for name, answer in self.answers.items() if is_unknown(answer)}

    @property
    def denied(self) -> set[str]:
        """Those that are neither done nor of unknown outcome, so that nobody would expect them to have begun."""
        return set(self.answers) - self.right - self.unknown


@dataclass
class Aftermath:
    """What is left when the killer is gone."""

    repeatable: list[Account]
    once: list[Account]
    kills: int

    @property
    def count(self) -> int:
        return sum(len(account.answers) for account in (*self.repeatable, *self.once))


def rage(rt: Runtime, folder: Path, seconds: float, seed: int) -> Aftermath:
    """Keep three tools busy for so long, while one of their processes is killed every second or two."""
    accounts: dict[tuple[str, str], Account] = {}
    for tool in TOOLS:
        ledger = testing.Ledger(folder / tool)
        rt.register(testing.LedgerTool, tool, config=ledger.config, num_cpus=0, max_replicas=2)
        for name in ("run", "run_once"):
            accounts[tool, name] = Account(ledger)
    end = time.monotonic() + seconds
    failures: list[BaseException] = []

    def work(tool: str, name: str, account: Account) -> None:
        try:
            _keep_busy(rt, tool, name, account, end)
        except BaseException as error:  # noqa: BLE001  # whatever it is, the test has to see it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(*key, account)) for key, account in accounts.items()]
    with testing.ReplicaKiller(rt, TOOLS, seed=seed) as killer:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures, failures
    return Aftermath(
        [account for (_, name), account in accounts.items() if name == "run"],
        [account for (_, name), account in accounts.items() if name == "run_once"],
        killer.count,
    )


def _keep_busy(rt: Runtime, tool: str, name: str, account: Account, end: float) -> None:
    rng = random.Random(f"{tool} {name}")  # noqa: S311  # reproducible, not secret
    while time.monotonic() < end:
        mode, count, seconds = rng.choice(SHAPES)
        ids = [f"{name}-{len(account.answers) + number}" for number in range(count)]
        results = rt.run([op(f"{tool}.{name}", id=one, seconds=seconds) for one in ids], mode)
        account.answers.update(zip(ids, results, strict=True))


def judge(aftermath: Aftermath) -> None:
    """Hold the answers against the ledgers."""
    for account in aftermath.repeatable:
        assert account.right == set(account.answers), sorted(set(account.answers) - account.right)[:5]
        assert account.ledger.lost(account.answers) == set()
    for account in aftermath.once:
        started = account.ledger.started()
        assert {name for name in account.ledger.started_twice() if name.startswith("run_once")} == set()
        assert account.right <= account.ledger.finished()
        assert account.denied & started == set()
        # The process may end between the mark of the runtime and the line of the tool, which is rare.
        assert len(account.unknown - started) <= max(1, len(account.unknown) // 10)


class Ending:
    """Operations that go well, and one that ends its process before it does anything else."""

    @operation
    def give(self, value: int) -> int:
        return value

    @operation(idempotent=False)
    def end(self) -> None:
        os.kill(os.getpid(), 9)


def alone(rt: Runtime, count: int) -> tuple[list[TaskStepResult], int]:
    """End ``count`` processes by a call each; return the results, and how many processes died."""
    runs = [rt.submit([op("ending.end")]) for _ in range(count)]
    return [result for run in runs for result in run.result()], sum(map(deaths, runs))


def in_company(rt: Runtime, mode: Any, count: int, company: int = 4) -> tuple[list[TaskStepResult], int]:
    """End ``count`` processes in one run, with operations that go well before and after each; return as above.

    Raises an AssertionError if one of those does not go well.
    """
    operations = []
    for number in range(count):
        operations += [op("ending.give", value=number)] * company + [op("ending.end")]
    run = rt.submit(operations, mode)
    results = run.result()
    ended = results[company :: company + 1]
    others = [result for place, result in enumerate(results) if place % (company + 1) != company]
    assert [result.result for result in others] == [number for number in range(count) for _ in range(company)]
    return ended, deaths(run)


def deaths(run: Run) -> int:
    return sum(event.kind == "replica_died" for event in run.events())


def is_unknown(result: TaskStepResult) -> bool:
    said = result.error_message or ""
    return (result.status, result.error_code) == ("failed", "E003") and "Outcome unknown" in said
