"""What runs through injected parts keeps what its tool says of it: options, errors, the context, parameters' names."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray import ExecutionUtils, IToolProvider, OperationExecutor, ToolExecutor, injected, operation, tool
from aiecs_ray.errors import (
    InvalidParamsError,
    OperationFailedError,
    OperationNotFoundError,
    OperationTimeoutError,
    RetryExhaustedError,
    ToolNotFoundError,
)
from aiecs_ray.injected_cache import file_state
from tests.contract.probes import eventually, op
from tests.documents.test_injection import NO_RATE, DictCache, Recording, Shelf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import aiecs_ray
    from tests.contract.probes import Gate, Ledger

    Wire = Callable[..., OperationExecutor]

ANN = {"user_id": "ann", "task_id": "t1"}


class Mail:
    """Says of its operations how they are to be run."""

    sent: list[str]

    def __init__(self) -> None:
        Mail.sent = []

    @operation(idempotent=False)
    def send(self, to: str) -> str:
        self.sent.append(to)
        return to

    @operation(idempotent=False)
    def send_badly(self, to: str) -> str:
        self.sent.append(to)
        raise ConnectionError("line dropped after DATA")

    @operation(cache=False)
    def now(self) -> int:
        self.sent.append("now")
        return len(self.sent)

    @operation(cache=True)
    def always(self) -> int:
        return self.now()

    @operation(scope="user", ignore=("note",), ttl=lambda result: 0 if result == 1 else 50)
    def count(self, note: str = "") -> int:
        self.sent.append(note)
        return len(self.sent)

    @operation(fingerprint={"path": "mtime"})
    def read(self, path: str) -> int:
        return self.count(path)

    @operation(timeout=0.1)
    async def slow(self) -> None:
        await asyncio.sleep(60)

    @operation(retry={"wait_min": 0.01, "wait_max": 0.02, "multiplier": 0.01})
    def flaky(self) -> None:
        self.sent.append("flaky")
        raise ConnectionError("no line")

    @operation
    def who(self, user_id: str, op: str = "none", task_id: str = "") -> str:
        return f"{user_id}/{task_id}/{op}"

    @operation
    def names(self, tool: int = 0, operation_name: int = 0, operation: int = 0) -> tuple[int, int, int]:
        return tool, operation_name, operation

    @operation
    def need(self, n: int) -> int:
        return n

    @operation
    def fail(self) -> None:
        raise KeyError("oat")


@tool("stateful_injected", stateful=True)
class Stateful:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def call(self) -> int:
        self.calls += 1
        return self.calls


@pytest.fixture(params=["provided", "registered"])
def wire(request: pytest.FixtureRequest, local: aiecs_ray.Runtime) -> Iterator[Wire]:
    """Make executors with an injected cache: over a provided tool, or over a registered one."""
    made: list[OperationExecutor] = []

    def wire(cache: Any = None) -> OperationExecutor:
        if request.param == "provided":
            parts: dict[str, Any] = {"tool_provider": Shelf(mail=Mail(), stateful_injected=Stateful())}
        else:
            local.register(Mail, replace=True, max_replicas=1)
            local.register(Stateful)
            parts = {}
        cache = DictCache() if cache is None else cache
        made.append(OperationExecutor(ToolExecutor(runtime=local), config=NO_RATE, cache_provider=cache, **parts))
        return made[-1]

    yield wire
    for executor in made:
        executor.close()


# --- options ---------------------------------------------------------------------------------------------------


async def test_what_may_run_once_only_runs_once_and_is_never_answered_from_the_cache(wire: Wire) -> None:
    executor = wire()

    with pytest.raises(OperationFailedError, match="Error executing send_badly: line dropped after DATA"):
        await executor.execute_operation("mail.send_badly", {"to": "eve", **ANN})
    for _ in range(2):
        await executor.execute_operation("mail.send", {"to": "bob", **ANN})

    assert Mail.sent == ["eve", "bob", "bob"]


async def test_the_cache_is_asked_as_the_operation_says(wire: Wire) -> None:
    executor = wire()
    await executor.execute_operation("mail.send", {"to": "bob"})

    now = [await executor.execute_operation("mail.now", ANN) for _ in range(2)]
    always = [await executor.execute_operation("mail.always", {}) for _ in range(2)]
    without = [await executor.execute_operation("mail.count", {}) for _ in range(2)]
    state = [await executor.execute_operation("stateful_injected.call", ANN) for _ in range(2)]

    assert (now, always, without, state) == ([2, 3], [4, 4], [5, 6], [1, 2])


async def test_scope_ignored_parameters_and_the_time_to_live_hold_for_an_injected_cache(wire: Wire) -> None:
    executor = wire()
    await executor.execute_operation("mail.need", {"n": 1})

    told = [
        await executor.execute_operation("mail.count", {"note": note, "user_id": user, "task_id": note})
        for note, user in (("a", "ann"), ("b", "ann"), ("c", "ann"), ("d", "bob"))
    ]

    assert told[1] == told[2] == 2
    assert told[3] == 3


async def test_a_file_that_changed_is_read_again(wire: Wire, tmp_path: Path) -> None:
    executor, path = wire(), tmp_path / "data.csv"
    found = []

    for text in ("a", "a", "abc"):
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        found.append(await executor.execute_operation("mail.read", {"path": str(path), **ANN}))

    assert (found, len(Mail.sent)) == ([1, 1, 2], 2)
    assert file_state(str(path), "content") != file_state(str(path), "mtime")
    assert file_state(str(tmp_path / "none"), "mtime") is None


# --- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "params", "kind", "code", "text"),
    [
        ("mail.need", {"n": "x"}, InvalidParamsError, "E001", "parameter 'n' is 'x'"),
        ("mail.need", {}, InvalidParamsError, "E001", "'n'"),
        ("mail.nope", {}, OperationNotFoundError, "E003", "^Operation 'nope' not found in tool 'mail'"),
        ("zz.nope", {}, ToolNotFoundError, "E003", "^Tool 'zz' is not registered"),
        ("mail.slow", {}, OperationTimeoutError, "E002", "^Operation timed out after 0.1s$"),
        ("mail.flaky", {}, RetryExhaustedError, "E005", "^Error executing flaky: no line$"),
        ("mail.fail", {}, OperationFailedError, "E003", "^Error executing fail: 'oat'$"),
    ],
)
async def test_an_error_is_the_one_that_it_is_without_injected_parts(  # noqa: PLR0913, PLR0917
    wire: Wire, spec: str, params: dict[str, Any], kind: type[Exception], code: str, text: str
) -> None:
    executor = wire()

    with pytest.raises(kind, match=text) as caught:
        await executor.execute_operation(spec, params)
    (step,) = await executor.execute_parallel_operations([op(spec, **params)])

    assert type(caught.value) is kind
    assert (step.error_code, step.status) == (code, "timed_out" if code == "E002" else "failed")


async def test_the_tools_own_exception_is_the_cause(wire: Wire) -> None:
    with pytest.raises(OperationFailedError) as caught:
        await wire().execute_operation("mail.fail", {})

    assert type(caught.value.__cause__) is KeyError
    assert caught.value.type_name == "KeyError"


async def test_what_may_pass_is_tried_again_by_one_owner(wire: Wire) -> None:
    executor = wire()

    with pytest.raises(RetryExhaustedError):
        await executor.execute_operation("mail.flaky", {})

    assert Mail.sent == ["flaky"] * 3


# --- parameters ------------------------------------------------------------------------------------------------


async def test_the_context_reaches_an_operation_that_declares_it(wire: Wire) -> None:
    executor = wire()

    assert await executor.execute_operation("mail.who", {**ANN, "op": "x"}) == "ann/t1/x"
    (step,) = await executor.execute_operations_sequence([op("mail.who")], "bob", "t2")
    assert step.result == "bob/t2/none"


async def test_parameters_may_have_the_names_of_the_methods_own(wire: Wire) -> None:
    params = {"tool": 1, "operation_name": 2, "operation": 3}

    assert tuple(await wire().execute_operation("mail.names", params)) == (1, 2, 3)


async def test_parameters_that_a_provided_tool_does_not_declare_are_left_out() -> None:
    recording = Recording()
    executor = OperationExecutor(recording, tool_provider=Shelf(mail=Mail()))

    await executor.execute_operation("mail.need", {"n": 1, "extra": 2})
    executor.close()

    assert [params for _, _, params in recording.asked] == [{"n": 1}]


async def test_a_name_that_a_foreign_executor_cannot_pass_on_is_refused_with_that_name() -> None:
    executor = OperationExecutor(Recording())

    with pytest.raises(InvalidParamsError, match=r"any\.one: the injected executor has a parameter 'tool' of its own"):
        await executor.execute_operation("any.one", {"tool": 1})
    executor.close()


# --- the cache and the tools themselves ------------------------------------------------------------------------


async def test_a_cache_that_fails_fails_no_operation(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    class Down(DictCache):
        def get_from_cache(self, cache_key: str) -> Any | None:
            raise OSError(f"down: {cache_key}")

        def add_to_cache(self, cache_key: str, value: Any, ttl: float | None = None) -> None:
            raise OSError(f"down: {cache_key} {value} {ttl}")

    class Keyless(DictCache):
        def generate_cache_key(self, *_: Any) -> str:
            raise TypeError("no key")

    for cache in (Down(), Keyless()):
        executor = wire(cache)
        assert await executor.execute_operation("mail.need", {"n": 1, **ANN}) == 1
        assert executor.get_stats()["cache"]["hits"] == 0

    warnings = [record.message for record in caplog.records if record.name == "aiecs_ray.injected_cache"]
    assert [text.partition(",")[0] for text in warnings] == [
        "the injected cache cannot be read",
        "the injected cache did not take a result",
        "the injected cache makes no key for mail.need",
    ]


@pytest.mark.parametrize("cache", [DictCache, ExecutionUtils])
async def test_the_statistics_count_what_the_injected_cache_was_asked(wire: Wire, cache: type) -> None:
    executor = wire(cache())

    for _ in range(4):
        await executor.execute_operation("mail.need", {"n": 1, **ANN})

    assert executor.get_stats()["cache"] == {"hits": 3, "misses": 1, "hit_rate": 0.75}


async def test_a_tool_of_our_own_executor_has_methods_and_is_stopped(local: aiecs_ray.Runtime) -> None:
    local.register(Mail)
    executor = OperationExecutor(ToolExecutor(runtime=local), cache_provider=DictCache())

    assert executor.get_tool_instance("mail").need(n=1) == 1
    with pytest.raises(ToolNotFoundError):
        executor.get_tool_instance("zz")
    Mail.sent = ["old"]
    executor.clear_tool_cache()
    await executor.execute_operation("mail.send", {"to": "new"})
    executor.close()

    assert Mail.sent == ["new"]


async def test_a_cancelled_await_ends_what_runs_behind_our_own_executor(
    local: aiecs_ray.Runtime, gate: Gate, ledger: Ledger
) -> None:
    executor = OperationExecutor(ToolExecutor(runtime=local), cache_provider=DictCache())
    params = {"gate": gate.port, "ledger": ledger.path}
    running = asyncio.create_task(executor.execute_operation("desk.visit_until_asked", params))
    await asyncio.to_thread(gate.arrival)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    executor.close()

    assert ledger.lines() == ["asked"]
    assert local.stats()["runs"]["active"] == 0


# --- life ------------------------------------------------------------------------------------------------------


def test_an_executor_with_injected_parts_takes_nothing_until_it_is_used() -> None:
    before = threading.active_count()

    OperationExecutor(tool_provider=Shelf(mail=Mail()))

    assert threading.active_count() == before


async def test_an_executor_with_injected_parts_that_nobody_holds_goes_away() -> None:
    before = set(injected._INJECTIONS)

    for _ in range(3):
        executor = OperationExecutor(tool_provider=Shelf(mail=Mail()))
        await executor.execute_operation("mail.need", {"n": 1})
    del executor

    def gone() -> bool:
        gc.collect()
        return set(injected._INJECTIONS) <= before

    # A thread may hold the last call for a moment longer.
    await asyncio.to_thread(eventually, gone)


class OfSubclass(ToolExecutor):
    """Runs operations in a way of its own."""

    async def execute_async(self, tool: Any, operation_name: str, /, **params: Any) -> Any:
        return tool, operation_name, params


async def test_a_subclass_that_runs_operations_itself_is_asked(local: aiecs_ray.Runtime) -> None:
    class Every(IToolProvider):
        def get_tool(self, tool_name: str) -> Any:
            return tool_name

        def has_tool(self, tool_name: str) -> bool:
            return bool(tool_name)

    executor = OperationExecutor(OfSubclass(runtime=local), tool_provider=Every())

    found = await executor.execute_operation("mail.capitalize", {"n": 1})
    executor.close()

    assert found == ("mail", "capitalize", {"n": 1})
