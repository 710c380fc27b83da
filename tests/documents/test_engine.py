"""``ExecutionEngine``: routing, tasks, and what they return (S3-19 to S3-26; C-60, C-61)."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest

import aiecs_ray
from aiecs_ray import ErrorCode, ExecutionInterface, ExecutionUtils, IOperationExecutor, OperationExecutor, TaskStatus
from aiecs_ray.engine import ExecutionEngine
from aiecs_ray.errors import InvalidInputError, InvalidParamsError, OperationCancelledError
from aiecs_ray.model import TaskStepResult
from tests.contract.probes import eventually, op
from tests.documents.tools_of_cases import Bench, Desk

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.probes import Gate, Ledger
    from tests.documents.conftest import Make

SEVEN = ["step", "result", "completed", "message", "status", "error_code", "error_message"]


class Scripted(IOperationExecutor):
    """An executor of another maker's: it answers with its own name."""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name, self.error = name, error
        self.asked: list[Any] = []

    async def execute_operation(self, operation_spec: str, params: dict[str, Any]) -> Any:
        return [self.name, operation_spec, params]

    async def batch_execute_operations(self, operations: list[dict[str, Any]]) -> list[Any]:
        return [self.name for _ in operations]

    async def execute_operations_sequence(
        self,
        operations: list[dict[str, Any]],
        user_id: str,
        task_id: str,
        stop_on_failure: bool = False,  # noqa: FBT001, FBT002  # the interface's signature
        save_callback: Callable[..., Any] | None = None,  # noqa: ARG002
    ) -> list[TaskStepResult]:
        self.asked.append((operations, user_id, task_id, stop_on_failure))
        if self.error is not None:
            raise self.error
        return [TaskStepResult(one["operation"], self.name, True, "done", "completed") for one in operations]  # noqa: FBT003

    async def execute_parallel_operations(self, operations: list[dict[str, Any]]) -> list[TaskStepResult]:
        raise NotImplementedError


class Tasks(ExecutionInterface):
    """Another engine, with tasks of its own."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    async def execute_operation(self, operation_spec: str, params: dict[str, Any]) -> Any:
        return ["tasks", operation_spec, params]

    async def execute_task(self, task_name: str, input_data: dict[str, Any], context: dict[str, Any]) -> Any:
        self.asked.append((task_name, input_data, context))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def batch_execute_operations(self, operations: list[dict[str, Any]]) -> list[Any]:
        return ["tasks" for _ in operations]

    async def batch_execute_tasks(self, tasks: list[dict[str, Any]]) -> list[Any]:
        raise NotImplementedError


@pytest.fixture
def engine(executor: OperationExecutor) -> ExecutionEngine:
    engine = ExecutionEngine()
    engine.register_executor("local", executor)
    return engine


# --- executors -----------------------------------------------------------------------------------------------


async def test_the_first_executor_is_used_until_another_is_chosen(engine: ExecutionEngine) -> None:
    engine.register_executor("other", Scripted("other"))
    operation = op("desk.give", value=1)

    before = await engine.execute_operation("desk.give", {"value": 1})
    engine.use("other")
    after = await engine.execute_operation("desk.give", {"value": 1})
    batch = await engine.batch_execute_operations([operation, operation])
    engine.use("local")

    assert (before, after, batch) == (1, ["other", "desk.give", {"value": 1}], ["other", "other"])
    assert await engine.batch_execute_operations([operation]) == [1]
    assert (engine.executors, engine.current) == (("local", "other"), "local")


async def test_a_task_runs_on_the_executor_that_its_context_names(engine: ExecutionEngine) -> None:
    other = Scripted("other")
    engine.register_executor("other", other)

    here = await engine.execute_task("desk.give", {"value": 1}, {})
    there = await engine.execute_task(
        "desk.give", {"value": 1}, {"executor": "other", "user_id": "ann", "task_id": "t"}
    )

    assert (here["result"], there["result"]) == (1, "other")
    assert other.asked == [([{"operation": "desk.give", "params": {"value": 1}}], "ann", "t", True)]


async def test_a_defined_task_may_name_its_executor(engine: ExecutionEngine) -> None:
    engine.register_executor("other", Scripted("other"))
    engine.define_task("one", [op("desk.give", value=1)], executor="other")

    assert (await engine.execute_task("one", {}, {}))["result"] == "other"
    assert (await engine.execute_task("one", {}, {"executor": "local"}))["result"] == 1


async def test_an_unknown_executor_is_refused_with_the_names_there_are(engine: ExecutionEngine) -> None:
    engine.register_executor("ray", Scripted("ray"))

    with pytest.raises(ValueError, match=r"^Executor 'celery' is not registered; known: local, ray$"):
        engine.use("celery")
    with pytest.raises(ValueError, match=r"^Executor 'celery' is not registered; known: local, ray$"):
        await engine.execute_task("desk.give", {}, {"executor": "celery"})

    assert engine.current == "local"


async def test_without_an_executor_it_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="register_executor"):
        await ExecutionEngine().execute_operation("desk.give", {})


@pytest.mark.parametrize("instance", [None, object(), Desk(), OperationExecutor, "local"])
def test_something_that_is_no_executor_is_refused(instance: Any) -> None:
    with pytest.raises(ValueError, match="an executor must be"):
        ExecutionEngine().register_executor("local", instance)


@pytest.mark.parametrize("name", ["", None, 5])
def test_an_executor_needs_a_name(name: Any) -> None:
    with pytest.raises(ValueError, match="non-empty string"):
        ExecutionEngine().register_executor(name, Scripted("x"))


def test_an_engine_cannot_run_on_itself() -> None:
    engine = ExecutionEngine()

    with pytest.raises(ValueError, match="an executor must be"):
        engine.register_executor("self", engine)


async def test_an_executor_of_the_same_name_replaces_the_one_before(engine: ExecutionEngine) -> None:
    engine.register_executor("local", Scripted("newer"))

    assert (await engine.execute_task("desk.give", {}, {}))["result"] == "newer"


# --- a task that is an operation -----------------------------------------------------------------------------


async def test_an_operation_as_a_task_returns_the_seven_fields(engine: ExecutionEngine) -> None:
    result = await engine.execute_task("desk.add", {"a": 40, "b": 2}, {"user_id": "ann", "task_id": "t1"})

    assert result == {
        "step": "desk.add",
        "result": 42,
        "completed": True,
        "message": "Completed operation desk.add",
        "status": "completed",
        "error_code": None,
        "error_message": None,
    }
    assert list(result) == SEVEN


async def test_the_envelope_of_a_task_does_not_reach_the_tool(engine: ExecutionEngine) -> None:
    envelope = {"task_id": "t9", "step": 3, "mode": "execute", "service": "default", "queue": "heavy_tasks"}

    given = await engine.execute_task("desk.take_any", {**envelope, "x": 1}, {"user_id": "ann"})
    names = await engine.execute_task("desk.own_names", envelope, {"user_id": "ann"})

    assert given["result"] == {"x": 1}
    assert names["result"] == ["ann", "t9", "none"]


async def test_the_context_of_a_task_scopes_its_cache(engine: ExecutionEngine, ledger: Ledger) -> None:
    for user in ("ann", "ann", "bob"):
        await engine.execute_task("desk.note", {"ledger": ledger.path, "task_id": "t"}, {"user_id": user})

    assert len(ledger) == 2


async def test_a_failure_is_in_what_is_returned(engine: ExecutionEngine) -> None:
    result = await engine.execute_task("desk.fail", {"message": "no ink"}, {})

    assert (result["completed"], result["status"], result["error_code"]) == (False, "failed", "E003")
    assert result["error_message"] == "Error executing fail: no ink"


@pytest.mark.parametrize("name", ["nobody.give", "desk.nothing"])
async def test_a_tool_or_an_operation_that_is_not_there_is_a_failure(engine: ExecutionEngine, name: str) -> None:
    result = await engine.execute_task(name, {}, {})

    assert (result["step"], result["status"], result["error_code"]) == (name, "failed", "E003")


@pytest.mark.parametrize("name", ["unknown", "", "a.b.c", ".", None, 5])
async def test_something_that_is_no_task_is_refused(engine: ExecutionEngine, name: Any) -> None:
    engine.define_task("daily", [op("desk.give")])

    with pytest.raises(ValueError, match=r"is not defined; known: daily|expected 'tool_name.operation_name'"):
        await engine.execute_task(name, {}, {})


@pytest.mark.parametrize(
    ("input_data", "context"),
    [
        (None, {}),
        ([], {}),
        ({}, None),
        ({"queue": "slow"}, {}),
        ({"queue": []}, {}),
        ({}, {"timeout": 0}),
        ({1: 2}, {}),
    ],
)
async def test_a_malformed_request_is_refused(engine: ExecutionEngine, input_data: Any, context: Any) -> None:
    with pytest.raises(InvalidInputError):
        await engine.execute_task("desk.give", input_data, context)


async def test_a_user_who_is_no_text_is_refused(engine: ExecutionEngine) -> None:
    with pytest.raises(ValueError, match="user_id"):
        await engine.execute_task("desk.give", {}, {"user_id": 7})


async def test_a_task_has_a_limit(make: Make, gate: Gate) -> None:
    engine = ExecutionEngine()
    engine.register_executor("local", make(timeout=0.1))

    result = await engine.execute_task("desk.visit_async", {"gate": gate.port}, {"timeout": 0.5})

    assert (result["status"], result["error_code"], result["completed"]) == ("timed_out", "E002", False)
    assert "0.5s" in result["error_message"]


async def test_fast_tasks_go_before_heavy_ones(local: aiecs_ray.Runtime, gate: Gate, ledger: Ledger) -> None:
    local.register(Bench, max_replicas=1)
    engine = ExecutionEngine()
    engine.register_executor("local", OperationExecutor(runtime=local))
    standing = asyncio.create_task(engine.execute_task("bench.visit", {"gate": gate.port}, {}))
    visitor = await asyncio.to_thread(gate.arrival)

    tasks = [
        asyncio.create_task(
            engine.execute_task("bench.note", {"ledger": ledger.path, "text": queue, "queue": f"{queue}_tasks"}, {})
        )
        for queue in ("heavy", "heavy", "heavy", "fast")
    ]
    await asyncio.to_thread(eventually, lambda: local.stats()["tools"]["bench"]["queued"] == 4)
    visitor.let_go()
    await asyncio.gather(standing, *tasks)

    assert ledger.lines() == ["fast", "heavy", "heavy", "heavy"]


# --- a task that is a plan -----------------------------------------------------------------------------------


async def test_a_plan_is_filled_and_run_in_order(engine: ExecutionEngine) -> None:
    engine.define_task(
        "double",
        [op("desk.add", a="$input.number", b="$input.number"), op("desk.give", value=["$result[0]", "$input.label"])],
    )

    result = await engine.execute_task("double", {"number": 21, "label": "sum"}, {"user_id": "ann"})

    assert list(result) == [*SEVEN, "steps"]
    assert (result["step"], result["status"], result["completed"]) == ("double", "completed", True)
    assert result["result"] == [42, "sum"]
    assert result["message"] == "Completed task double"
    assert [(step["step"], step["result"]) for step in result["steps"]] == [
        ("desk.add", 42),
        ("desk.give", [42, "sum"]),
    ]


async def test_a_plan_stops_at_its_first_failure(engine: ExecutionEngine, ledger: Ledger) -> None:
    engine.define_task("three", [op("desk.give"), op("desk.fail"), op("desk.note", ledger=ledger.path)])

    result = await engine.execute_task("three", {}, {})

    assert [step["status"] for step in result["steps"]] == ["completed", "failed"]
    assert (result["status"], result["error_code"], result["result"]) == ("failed", "E003", None)
    assert result["message"] == "Failed task three at step 1 (desk.fail)"
    assert len(ledger) == 0


async def test_a_plan_that_runs_out_of_time_has_the_steps_that_were_done(engine: ExecutionEngine, gate: Gate) -> None:
    engine.define_task("slow", [op("desk.give", value=1), op("desk.visit_async", gate="$input.gate"), op("desk.give")])

    result = await engine.execute_task("slow", {"gate": gate.port}, {"timeout": 0.4})

    assert (result["status"], result["error_code"]) == ("timed_out", "E002")
    assert [step["status"] for step in result["steps"]] == ["completed", "timed_out"]


async def test_a_missing_input_is_refused_and_named(engine: ExecutionEngine, ledger: Ledger) -> None:
    engine.define_task("daily", [op("desk.note", ledger=ledger.path), op("desk.give", value=["$input.date"])])

    with pytest.raises(InvalidParamsError, match=r"^Task 'daily' needs the input 'date'; given: day$"):
        await engine.execute_task("daily", {"day": 1}, {})

    assert len(ledger) == 0


async def test_a_plan_reads_its_envelope_too(engine: ExecutionEngine) -> None:
    engine.define_task("save", [op("desk.take_any", mode="$input.mode")])

    assert (await engine.execute_task("save", {"mode": "append"}, {}))["result"] == {"mode": "append"}


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        ("", [op("desk.give")]),
        ("a.b", [op("desk.give")]),
        (None, [op("desk.give")]),
        ("empty", []),
        ("bad", [{}]),
        ("bad", [{"operation": "desk"}]),
        ("bad", "desk.give"),
    ],
)
def test_a_malformed_definition_is_refused(name: Any, operations: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|expected|no operations"):
        ExecutionEngine().define_task(name, operations)


async def test_a_definition_can_be_replaced_and_its_list_changed(engine: ExecutionEngine) -> None:
    operations = [op("desk.give", value=1)]
    engine.define_task("one", operations)
    operations.clear()

    assert (await engine.execute_task("one", {}, {}))["result"] == 1
    engine.define_task("one", [op("desk.give", value=2)])
    assert (await engine.execute_task("one", {}, {}))["result"] == 2


# --- executors of other makers -------------------------------------------------------------------------------


async def test_another_engine_gets_the_task_as_it_is(engine: ExecutionEngine) -> None:
    tasks = Tasks({"rows": 3})
    engine.register_executor("tasks", tasks)
    given = {"queue": "heavy_tasks", "x": 1}

    result = await engine.execute_task("anything at all", given, {"executor": "tasks", "user_id": "ann"})

    assert tasks.asked == [("anything at all", given, {"user_id": "ann"})]
    assert (result["step"], result["result"], result["status"]) == ("anything at all", {"rows": 3}, "completed")


async def test_an_engine_may_stand_behind_an_engine(engine: ExecutionEngine) -> None:
    outer = ExecutionEngine()
    outer.register_executor("inner", engine)
    engine.define_task("one", [op("desk.give", value=1)])

    assert (await outer.execute_task("one", {}, {}))["steps"][0]["result"] == 1
    assert await outer.execute_operation("desk.give", {"value": 2}) == 2
    with pytest.raises(ValueError, match="Task 'two' is not defined; known: one"):
        await outer.execute_task("two", {}, {})


async def test_a_result_as_aiecs_returns_it_gets_plain_values(engine: ExecutionEngine) -> None:
    answer = {"status": TaskStatus.FAILED, "error_code": ErrorCode.EXECUTION_ERROR, "error_message": "no worker"}
    engine.register_executor("celery", Tasks(answer))

    result = await engine.execute_task("t", {}, {"executor": "celery"})

    assert json.loads(json.dumps(result)) == {
        "step": "t",
        "result": None,
        "completed": False,
        "message": "",
        "status": "failed",
        "error_code": "E003",
        "error_message": "no worker",
    }


@pytest.mark.parametrize("status", [200, ["odd"], "fine", None])
async def test_a_dict_with_a_status_of_its_own_is_a_value(engine: ExecutionEngine, status: Any) -> None:
    engine.register_executor("tasks", Tasks({"status": status}))

    result = await engine.execute_task("t", {}, {"executor": "tasks"})

    assert (result["completed"], result["result"]) == (True, {"status": status})


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("no worker"), "failed", "E003"),
        (TimeoutError("too slow"), "timed_out", "E002"),
        (ValueError("its own"), "failed", "E003"),
        (OperationCancelledError("by hand"), "cancelled", "E004"),
    ],
)
@pytest.mark.parametrize("kind", [Tasks, lambda error: Scripted("x", error)])
async def test_however_an_executor_fails_it_is_the_tasks_result(
    engine: ExecutionEngine, kind: Callable[[Exception], Any], error: Exception, status: str, code: str
) -> None:
    engine.register_executor("broken", kind(error))

    result = await engine.execute_task("desk.give", {}, {"executor": "broken"})

    assert (result["status"], result["error_code"], result["error_message"]) == (status, code, str(error))


async def test_an_executor_that_never_answers_is_left_after_the_limit(engine: ExecutionEngine) -> None:
    class Deaf(Scripted):
        async def execute_operations_sequence(self, *_: Any, **__: Any) -> list[TaskStepResult]:
            await asyncio.Event().wait()
            raise NotImplementedError

    engine.register_executor("deaf", Deaf("deaf"))

    result = await engine.execute_task("desk.give", {}, {"executor": "deaf", "timeout": 0.1})

    assert (result["status"], result["error_message"]) == ("timed_out", "Task desk.give timed out after 0.1s")


async def test_a_task_that_is_not_waited_for_is_cancelled(engine: ExecutionEngine, gate: Gate, ledger: Ledger) -> None:
    running = asyncio.create_task(
        engine.execute_task("desk.visit_until_asked", {"gate": gate.port, "ledger": ledger.path}, {})
    )
    await asyncio.to_thread(gate.arrival)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert ledger.lines() == ["asked"]


# --- results are plain ---------------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int


class Opaque:
    def __repr__(self) -> str:
        raise AssertionError("nobody asked")


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, 2), [1, 2]),
        ({1: {"a": float("nan")}}, {"1": {"a": None}}),
        (Colour.RED, "red"),
        (Point(3), {"x": 3}),
        ([TaskStepResult("s", 1)], [TaskStepResult("s", 1).dict()]),
        (b"\xff", "_w=="),
        ({3}, [3]),
        (Opaque(), "a value of type Opaque"),
        (CIRCLE, "list: no JSON value (Circular reference detected (id repeated))"),
    ],
)
async def test_what_is_returned_is_json(engine: ExecutionEngine, value: Any, plain: Any) -> None:
    engine.register_executor("tasks", Tasks(value))

    result = await engine.execute_task("t", {}, {"executor": "tasks"})

    assert result["result"] == plain
    assert json.loads(json.dumps(result, allow_nan=False)) == result


async def test_tables_and_arrays_become_lists(engine: ExecutionEngine) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"day": pd.to_datetime(["2024-01-01"]), "n": [1.5]})
    engine.register_executor("tasks", Tasks({"table": frame, "array": frame["n"].to_numpy(), "one": frame["n"].sum()}))

    result = await engine.execute_task("t", {}, {"executor": "tasks"})

    assert result["result"] == {
        "table": [{"day": "2024-01-01T00:00:00", "n": 1.5}],
        "array": [1.5],
        "one": 1.5,
    }


# --- many tasks ----------------------------------------------------------------------------------------------


async def test_tasks_run_side_by_side_and_come_back_in_order(engine: ExecutionEngine, gate: Gate) -> None:
    tasks = [{"task_name": "desk.visit_async", "input_data": {"gate": gate.port, "text": str(n)}} for n in range(8)]
    running = asyncio.create_task(engine.batch_execute_tasks([*tasks, {"task_name": "desk.give"}]))

    for visitor in reversed(await asyncio.to_thread(gate.arrivals, 8)):
        visitor.let_go(visitor.text)

    assert [result["result"] for result in await running] == [*map(str, range(8)), None]


async def test_each_task_has_its_own_context_and_executor(engine: ExecutionEngine) -> None:
    other = Scripted("other")
    engine.register_executor("other", other)

    results = await engine.batch_execute_tasks(
        [
            {"task_name": "desk.own_names", "input_data": {}, "context": {"user_id": "ann"}},
            {"task_name": "desk.own_names", "input_data": {}, "context": {"user_id": "bob", "executor": "other"}},
            {"task_name": "desk.own_names", "executor": "other"},
        ]
    )

    assert [result["result"] for result in results] == [["ann", "none", "none"], "other", "other"]
    assert [asked[1] for asked in other.asked] == ["bob", ""]


async def test_a_refused_task_is_its_own_failure(engine: ExecutionEngine) -> None:
    tasks: list[dict[str, Any]] = [
        {"task_name": "unknown"},
        {"task_name": 5},
        {"task_name": "desk.give", "context": {"executor": "x"}},
    ]

    *refused, fine = await engine.batch_execute_tasks([*tasks, {"task_name": "desk.give", "input_data": {"value": 1}}])

    assert [result["error_code"] for result in refused] == ["E001"] * 3
    assert refused[2]["error_message"] == "Executor 'x' is not registered; known: local"
    assert fine["result"] == 1
    json.dumps(refused)


@pytest.mark.parametrize("tasks", [None, {}, "x", [None], [{}], [{"task_name": "desk.give", "inputs": {}}]])
async def test_a_malformed_list_of_tasks_is_refused(engine: ExecutionEngine, tasks: Any) -> None:
    with pytest.raises(ValueError, match="must be a"):
        await engine.batch_execute_tasks(tasks)


# --- both kinds at once --------------------------------------------------------------------------------------


@pytest.mark.ray
async def test_tasks_move_from_this_process_to_ray(engine: ExecutionEngine, ray_rt: aiecs_ray.Runtime) -> None:
    ray_rt.register(Desk)
    engine.register_executor("ray", OperationExecutor(None, ExecutionUtils(), {}, runtime=ray_rt))
    engine.define_task("double", [op("desk.add", a="$input.n", b="$input.n"), op("desk.give", value="$result[0]")])

    local = await engine.execute_task("double", {"n": 2}, {})
    engine.use("ray")
    remote = await engine.execute_task("double", {"n": 3}, {"user_id": "ann"})

    assert (local["result"], remote["result"], len(remote["steps"])) == (4, 6, 2)
