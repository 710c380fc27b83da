"""What happens in one seed: tools, runs, clients and faults, all drawn from one source of randomness.

Each seed has few kinds of faults, and those often: a rare mixture of everything would find less.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from typing import Any

from aiecs_ray.config import Settings
from aiecs_ray.messages import Input, Limits, Mode, Policy, RetryOptions, RunRequest, Step, ToolSpec

_MODES: tuple[Mode, ...] = ("sequence", "sequence", "parallel", "batch")
GRACES = (0.2, 1.0)
SETTINGS = tuple(
    Settings(grace=grace, window=window, init_timeout=5.0, idle_timeout=idle, max_queued=queued, event_limit=100_000)
    for grace in GRACES
    for window in (1, 2, 4)
    for idle, queued in ((300.0, 1000), (0.5, 1000), (2.0, 20))
)


@dataclass(frozen=True)
class Faults:
    """How likely each kind of trouble is, each time that it could happen."""

    error: float = 0.0
    """A body raises something that no second attempt changes."""
    transient: float = 0.0
    """A body raises a connection error."""
    crash_before: float = 0.0
    """The process ends when a body is about to begin."""
    crash_in: float = 0.0
    """The process ends inside a body."""
    crash_after: float = 0.0
    """The process ends when a body has ended, its outcome unread."""
    hang: float = 0.0
    """A body never ends by itself; only where something limits it."""
    deaf: float = 0.0
    """A body does not hear that it should end."""
    slow_message: float = 0.0
    """A message takes up to two seconds."""
    twice: float = 0.0
    """Outcomes are delivered twice."""
    lost_answer: float = 0.0
    """An answer of ``status``, ``stop`` or ``collect`` never arrives."""
    mute: float = 0.0
    """A replica stops answering, for a while or for good."""
    kill: float = 0.0
    """A random replica is killed, this often a second."""
    interrupt: float = 0.0
    """The threads of a replica are interrupted at the worst moment."""
    no_ledger: float = 0.0
    """Nothing can be read of what a dead replica had begun."""
    cache_slow: float = 0.0
    """The cache takes seconds to answer."""
    cache_silent: float = 0.0
    """The cache stops answering at some time."""


_LEVELS = {
    "error": (0.05, 0.3),
    "transient": (0.1, 0.4),
    "crash_before": (0.02, 0.2),
    "crash_in": (0.02, 0.2),
    "crash_after": (0.02, 0.2),
    "hang": (0.05, 0.3),
    "deaf": (0.3, 1.0),
    "slow_message": (0.02, 0.2),
    "twice": (0.1, 0.5),
    "lost_answer": (0.1, 0.5),
    "mute": (0.1, 0.5),
    "kill": (0.5, 4.0),
    "interrupt": (0.1, 0.5),
    "no_ledger": (0.1, 1.0),
    "cache_slow": (0.1, 0.5),
    "cache_silent": (0.3, 1.0),
}


@dataclass(frozen=True)
class OperationPlan:
    """One operation of a tool, and how long its bodies take."""

    policy: Policy
    seconds: float
    large: bool
    """Its results travel by reference."""


@dataclass(frozen=True)
class ToolPlan:
    """One tool, and what its constructor does."""

    spec: ToolSpec
    operations: tuple[OperationPlan, ...]
    constructor: str
    """"builds", "raises", "crashes", "sometimes crashes" or "hangs"."""
    feasible: bool = True


@dataclass
class RunPlan:
    """One run: who submits it, when, and what is done to it."""

    request: RunRequest
    client: str
    at: float
    cancel_at: float | None = None
    twice: bool = False
    """The same request is sent a second time."""
    executed: bool = False
    """The client waits in one call for the end."""
    poisoned: frozenset[int] = frozenset()
    """Steps whose body always ends its process."""


@dataclass
class Scenario:
    """Everything that a seed decides before it starts."""

    seed: int
    settings: Settings
    cpus: tuple[float, ...]
    tools: tuple[ToolPlan, ...]
    runs: list[RunPlan]
    leaving: dict[str, tuple[float, bool]]
    """Clients that go: when, and whether they say goodbye."""
    faults: Faults
    disturbances: tuple[tuple[float, str], ...]
    """What else happens: "clear" stops replicas, "replace" registers a tool anew."""

    @property
    def operations(self) -> dict[tuple[str, str], OperationPlan]:
        """Each operation, by the key of its tool and its name."""
        return {(one.policy.tool, one.policy.operation): one for tool in self.tools for one in tool.operations}


def draw(seed: int) -> Scenario:
    """Return the scenario of a seed; the same one each time."""
    return _Draw(seed).scenario()


class _Draw:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def scenario(self) -> Scenario:
        rng = self.rng
        self.settings = rng.choice(SETTINGS)
        self.faults = self._faults()
        self.cached = self.chance(0.3)
        self.timed = self.chance(0.4)
        self.tools = tuple(self._tool(number) for number in range(rng.choice((1, 1, 2, 3))))
        self.gates = self._gates()
        clients = ["ann", "bob", "cid"][: rng.choice((1, 1, 2, 3))]
        runs = [self._run(number, rng.choice(clients)) for number in range(rng.choice((1, 1, 2, 3)))]
        leaving = {client: (rng.uniform(0.0, 2.0), self.chance(0.5)) for client in clients if self.chance(0.08)}
        disturbances = [(rng.uniform(0.0, 2.0), kind) for kind in ("clear", "replace") if self.chance(0.1)]
        cpus = rng.choice(((1.0,), (2.0,), (4.0,), (2.0, 2.0)))
        return Scenario(
            self.seed, self.settings, cpus, self.tools, runs, leaving, self.faults, tuple(sorted(disturbances))
        )

    def _faults(self) -> Faults:
        if self.chance(0.1):
            return Faults()
        names = [one.name for one in fields(Faults)]
        chosen = self.rng.sample(names, self.rng.choice((1, 2, 3, 4, 6)))
        return Faults(**{name: self.rng.uniform(*_LEVELS[name]) for name in names if name in chosen})

    # --- tools -------------------------------------------------------------------------------------------

    def _tool(self, number: int) -> ToolPlan:
        rng = self.rng
        name, has_async = f"tool{number}", self.chance(0.3)
        stateful = self.chance(0.1)
        options: dict[str, Any] = {"stateful": stateful, "max_replicas": rng.choice((None, 1, 2, 3))}
        if self.chance(0.2):
            options["concurrency"] = rng.choice((1, 2, 4))
        if self.chance(0.2):
            options["min_replicas"] = 1
        feasible = not self.chance(0.02)
        if not feasible:
            options["num_gpus"] = 1
        spec = ToolSpec(f"{name}@1", name, f"tools:{name}", "1", options, has_async=has_async)
        operations = tuple(self._operation(spec, place) for place in range(rng.choice((1, 2, 3))))
        troubled = ("raises", "crashes", "sometimes crashes", "sometimes crashes", "hangs")
        constructor = rng.choice(troubled) if self.chance(0.08) else "builds"
        return ToolPlan(spec, operations, constructor, feasible)

    def _operation(self, spec: ToolSpec, place: int) -> OperationPlan:
        rng = self.rng
        idempotent = self.chance(0.7)
        wait = rng.choice((0.01, 0.2))
        retry = RetryOptions(rng.choice((1, 2, 3, 3)), wait, rng.choice((wait, 1.0)), wait, (), self.chance(0.4))
        policy = Policy(
            spec=f"{spec.name}.op{place}",
            tool=spec.key,
            operation=f"op{place}",
            timeout=rng.choice((0.05, 0.3, 1.5)) if self.timed and self.chance(0.5) else None,
            deadline=rng.choice((0.1, 0.5, 2.0)) if self.timed and self.chance(0.2) else None,
            retry=retry,
            idempotent=idempotent,
            is_async=spec.has_async and self.chance(0.7),
            stateful=bool(spec.options["stateful"]),
            cache=rng.choice(("on", "on", "refresh", "only")) if self.cached and idempotent else "off",
            scope=rng.choice(("task", "user", "global")),
            version="1",
            priority=rng.choice((0, 0, 0, -1, 2)),
        )
        seconds = rng.choice((0.0, 0.0005, 0.001, 0.001, 0.001, 0.01, 0.01, 0.05, 0.3, 1.0, 4.0))
        return OperationPlan(policy, seconds, large=self.chance(0.25))

    # --- runs --------------------------------------------------------------------------------------------

    def _gates(self) -> tuple[Limits, ...]:
        if not self.chance(0.25):
            return ()
        rate = self.rng.choice((None, 2.5, 10.0, 50.0))
        most = self.rng.choice((None, 1, 2, 5)) if rate is not None else self.rng.choice((1, 2, 5))
        return (Limits(self.rng.choice(("", "shared")), rate, most),)

    def _run(self, number: int, client: str) -> RunPlan:
        rng = self.rng
        policies = tuple(one.policy for tool in self.tools for one in tool.operations)
        if self.chance(0.5):
            # Many steps of few operations make chunks and long chains.
            policies = tuple(rng.sample(policies, min(len(policies), rng.choice((1, 2)))))
        # Steps of one tool that hand results on to the next one make chains whose results need not leave a replica.
        linked = self.chance(0.15)
        if linked:
            policies = tuple(one.policy for one in rng.choice(self.tools).operations)
        count = rng.choice((1, 2, 3, 4, 5, 6, 8, 8, 12, 30))
        mode: Mode = "sequence" if linked else rng.choice(_MODES)
        steps = self._steps(count, policies, in_order=mode == "sequence", linked=linked)
        keeps: tuple[Any, ...] = ("all", "all", "last", tuple(n for n in range(count) if self.chance(0.3)))
        bounded = self.faults.hang and self.chance(0.5)
        objects = tuple(rng.randrange(5) for _ in range(2))
        request = RunRequest(
            steps=steps,
            policies=policies,
            objects=objects,
            object_ids=(b"%d" % objects[0], None),
            mode=mode,
            user_id=rng.choice(("", "u1", "u2")),
            task_id=rng.choice(("", "t1")),
            stop_on_failure=self.chance(0.3),
            keep="last" if linked else rng.choice(keeps),
            deadline=rng.choice((0.2, 1.0, 5.0)) if bounded or self.chance(0.1) else None,
            limits=rng.choice(self.gates) if self.gates and self.chance(0.8) else Limits(),
            client=client,
            token=f"run{number}",
            detach=self.chance(0.2),
        )
        poisoned = frozenset(n for n in range(count) if self.chance(0.5)) if self.chance(0.02) else frozenset()
        return RunPlan(
            request,
            client,
            at=rng.choice((0.0, rng.uniform(0.0, 1.0))),
            cancel_at=rng.choice((rng.uniform(0.0, 0.1), rng.uniform(0.0, 3.0))) if self.chance(0.25) else None,
            twice=self.chance(0.1),
            executed=self.chance(0.2),
            poisoned=poisoned,
        )

    def _steps(self, count: int, policies: tuple[Policy, ...], *, in_order: bool, linked: bool) -> tuple[Step, ...]:
        rng = self.rng
        order = list(range(count))
        if not in_order and self.chance(0.3):
            rng.shuffle(order)
        position = {index: place for place, index in enumerate(order)}
        dense, repeated = rng.choice((0.0, 0.0, 0.15, 0.4)), self.chance(0.3)
        steps = []
        for index in range(count):
            before = [one for one in range(count) if position[one] < position[index]]
            # A reference points backward always; only ``depends_on`` may point forward.
            inputs = [Input("step", one) for one in before if one < index and self.chance(dense / 2)]
            if linked and index - 1 in before and not any(one.place == index - 1 for one in inputs):
                inputs.append(Input("step", index - 1))
            if self.chance(0.1):
                inputs.append(Input("object", rng.randrange(2)))
            after = tuple(one for one in before if self.chance(dense / 3))
            policy = rng.randrange(len(policies))
            salt = rng.randrange(3) if repeated else 10 + index
            digest = b"%d" % salt if policies[policy].cache != "off" else None
            steps.append(Step(policy, salt, tuple(inputs), after, digest))
        return tuple(steps)
