from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aiecs_ray import packing, prepare
from aiecs_ray.catalog import Catalog
from aiecs_ray.context import Context
from aiecs_ray.errors import (
    AiecsError,
    InvalidInputError,
    InvalidOperationsError,
    InvalidParamsError,
    InvalidSpecError,
    InvalidTimeoutError,
    OperationForbiddenError,
    OperationNotFoundError,
    ReferenceForbiddenError,
    ReferenceForwardError,
    ReferenceRangeError,
    ReferenceSyntaxError,
    ToolNotFoundError,
    UpstreamFailedError,
)
from aiecs_ray.messages import Input, Limits, Policy, RetryOptions, RunRequest
from aiecs_ray.model import TaskStepResult
from aiecs_ray.prepare import Preparer
from aiecs_ray.reference import MAX_REFERENCES, look_up
from aiecs_ray.registry import Registry
from aiecs_ray.retry import PROFILES
from aiecs_ray.run_options import Handle, Prepared, RunOptions
from aiecs_ray.tool import operation, tool

if TYPE_CHECKING:
    from collections.abc import Callable

INLINE = 4096
ME = Context("ann", "t1")


class Odd:
    """Has no exact encoding."""


class Desk:
    @operation
    def give(self, value: Any = None, other: Any = None) -> Any:
        """Give something back."""

    @operation
    def need(self, first: int, second: int) -> None:
        """Need two parameters."""

    @operation
    def mine(self, user_id: str, task_id: str, op: str = "") -> None:
        """Declare names of the envelope."""

    @operation
    def anything(self, fixed: int = 0, **more: Any) -> Any:
        """Take what comes."""

    @operation
    def whoever(self, user_id: str = "", **more: Any) -> Any:
        """Declare a name of the envelope beside anything."""

    @operation
    async def later(self, value: Any = None) -> Any:
        """Be awaited."""

    @operation(cache=True, ttl=60, scope="user", ignore=("note",))
    def kept(self, value: Any = None, note: Any = None) -> Any:
        """Be cached."""

    @operation(cache=True, scope="global")
    def shared(self, value: Any = None, user_id: str = "") -> Any:
        """Be cached for everybody."""

    @operation(cache=False)
    def fresh(self, value: Any = None) -> Any:
        """Never be cached."""

    @operation(idempotent=False)
    def send(self, value: Any = None) -> Any:
        """Have an effect."""

    @operation(timeout=7, deadline=20, retry=RetryOptions(attempts=5, wait_min=0.5))
    def slow(self, value: Any = None) -> Any:
        """Have settings of its own."""

    @operation(fingerprint={"path": "mtime", "other": "content"})
    def read(self, path: Any, other: Any = None, third: str = "") -> Any:
        """Read files."""

    @operation(fingerprint={"path": "mtime"})
    def load(self, path: str = "default.csv") -> Any:
        """Read a file that has a default."""


class Diary:
    @operation
    def give(self, value: Any = None) -> Any:
        """Depend on what was before."""

    @operation(cache=True)
    def kept(self, value: Any = None) -> Any:
        """Be cached all the same."""


class Strict:
    @operation
    def give(self, value: Any = None) -> Any:
        """Refuse what it does not know."""


class Bench:
    """A client without a coordinator."""

    def __init__(self, runtime_env: dict[str, Any] | None = None) -> None:
        self.registry = Registry()
        self.registry.register(Desk)
        self.registry.register(Diary, stateful=True)
        self.registry.register(Strict, unknown_params="error")
        self.puts: list[packing.Packed] = []
        catalog = Catalog(self.registry, runtime_env, lambda _: {}, lambda environment: environment)
        self.preparer = Preparer(catalog, put=self.put, inline_limit=INLINE, client="client-1")

    def put(self, packed: packing.Packed) -> tuple[str, int]:
        self.puts.append(packed)
        return "put", len(self.puts) - 1

    def prepare(self, operations: Any, **options: Any) -> Prepared:
        return self.preparer.prepare(operations, RunOptions(**options))

    def request(self, *operations: Any, **options: Any) -> RunRequest:
        return self.prepare(list(operations), **options).request

    def policy(self, *operations: Any, **options: Any) -> Policy:
        (policy,) = self.request(*operations, **options).policies
        return policy

    def digest(self, spec: str, params: dict[str, Any], **options: Any) -> bytes | None:
        return self.request({"operation": spec, "params": params}, **options).steps[0].digest

    def arrived(self, request: RunRequest, step: int = 0, results: tuple[Any, ...] = ()) -> Any:
        """Return the parameters of a step as a replica sees them."""

        def value_of(source: Input) -> Any:
            if source.kind == "step":
                return look_up(results[source.place], source.path)
            payload = request.objects[source.place]
            whole = packing.unpack(self.puts[payload[1]]) if type(payload) is tuple else packing.from_payload(payload)
            return look_up(whole, source.path)

        spec = request.steps[step]
        return packing.unpack(packing.as_packed(spec.params), inputs=[value_of(source) for source in spec.inputs])

    def refused(self, *operations: Any, **options: Any) -> AiecsError:
        with pytest.raises(AiecsError) as caught:
            self.request(*operations, **options)
        return caught.value


@pytest.fixture
def bench() -> Bench:
    return Bench()


def op(name: str, **params: Any) -> dict[str, Any]:
    return {"operation": f"desk.{name}", "params": params}


def give(value: Any = None, **fields: Any) -> dict[str, Any]:
    return {"operation": "desk.give", "params": {"value": value}, **fields}


def test_a_request_holds_what_was_asked_for(bench: Bench) -> None:
    prepared = bench.prepare(
        [give(1), op("later"), give(2)],
        mode="batch",
        context=ME,
        stop_on_failure=True,
        keep="last",
        deadline=30,
        detach=True,
        limits=Limits("x", 5.0, 2),
    )

    request = prepared.request
    assert prepared.specs == ["desk.give", "desk.later", "desk.give"]
    assert [request.policies[step.policy].spec for step in request.steps] == prepared.specs
    assert (request.mode, request.user_id, request.task_id, request.client) == ("batch", "ann", "t1", "client-1")
    assert (request.stop_on_failure, request.keep, request.deadline, request.detach) == (True, "last", 30, True)
    assert request.limits == Limits("x", 5.0, 2)
    assert [policy.is_async for policy in request.policies] == [False, True]


def test_a_list_of_no_operations_is_a_request(bench: Bench) -> None:
    assert bench.request().steps == ()


def test_every_request_has_a_token_of_its_own(bench: Bench) -> None:
    tokens = {bench.request(give(1)).token for _ in range(20)}

    assert len(tokens) == 20
    assert all(len(token) == 16 for token in tokens)


def test_the_tools_of_a_request_come_along(bench: Bench) -> None:
    prepared = bench.prepare([give(1), {"operation": "diary.give"}])

    keys = [policy.tool for policy in prepared.request.policies]
    assert list(prepared.tools) == keys
    assert [tool.name for tool in prepared.tools.values()] == ["desk", "diary"]
    assert all(prepared.tools[policy.tool].version == policy.version for policy in prepared.request.policies)


@pytest.mark.parametrize(
    ("operations", "kind", "index"),
    [
        ([give(1), {"operation": "dsek.give"}], ToolNotFoundError, 1),
        ([{"operation": "desk.gove"}], OperationNotFoundError, 0),
        ([{"operation": "Desk.give"}], ToolNotFoundError, 0),
        ([{"operation": "desk.__init__"}], OperationForbiddenError, 0),
        ([{"operation": "desk"}], InvalidSpecError, 0),
        ([give(1), give("$result[")], ReferenceSyntaxError, 1),
        ([give(1), give("$result[0]._x")], ReferenceForbiddenError, 1),
        ([give(1), op("need", first=1)], InvalidParamsError, 1),
        ([give(1, timeout=0)], InvalidTimeoutError, 0),
        ([give(1, retry={"attempts": 0})], InvalidOperationsError, 0),
        ([give(1, retry=0)], InvalidOperationsError, 0),
        ([give(1, retry=-1)], InvalidOperationsError, 0),
        ([give(1, retry=1_000_000_000)], InvalidOperationsError, 0),
        ([give(1, retry=1.5)], InvalidOperationsError, 0),
        ([give(1, retry="3")], InvalidOperationsError, 0),
        ([give(1, retry=True)], InvalidOperationsError, 0),
        ([give(1, retry=[3])], InvalidOperationsError, 0),
        ([give(1), give(1, depends_on=[7])], ReferenceRangeError, 1),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    bench: Bench, operations: list[Any], kind: type[AiecsError], index: int
) -> None:
    error = bench.refused(*operations)

    assert type(error) is kind
    assert (error.index, error.operation) == (index, operations[index]["operation"])


def test_a_name_that_is_not_known_is_compared_with_those_that_are(bench: Bench) -> None:
    assert "did you mean 'desk'" in str(bench.refused({"operation": "dsek.give"}))
    assert "did you mean 'give'" in str(bench.refused({"operation": "desk.gove"}))


def test_missing_parameters_are_named(bench: Bench) -> None:
    error = bench.refused(op("need", first=1))

    assert str(error) == "desk.need needs the parameter 'second'; given: first; it takes first, second"
    assert str(bench.refused(op("need"))) == (
        "desk.need needs the parameters 'first', 'second'; given: none; it takes first, second"
    )


def test_a_parameter_that_was_given_by_a_wrong_name_is_shown_each_time(bench: Bench) -> None:
    texts = {str(bench.refused(op("need", first=1, secnd=2))) for _ in range(3)}

    given = "first, secnd (unknown; did you mean 'second'?)"
    assert texts == {f"desk.need needs the parameter 'second'; given: {given}; it takes first, second"}


def test_a_traceback_says_which_operation_of_many_is_wrong(bench: Bench) -> None:
    good = give(1)
    wrong = [op("need"), {"operation": "x"}, give(2, params=None), give(3, timeout=-1), give("$result[900]")]

    notes = [bench.refused(good, good, one).__notes__ for one in wrong]

    assert notes == [[f"at operation 2 ({name})"] for name in ("desk.need", "x", "desk.give", "desk.give", "desk.give")]


def test_a_parameter_that_is_not_declared_is_left_out_with_one_warning(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        first, second = (bench.request(give(1, params={"value": 1, "file_path": "x"})) for _ in range(2))

    assert bench.arrived(first) == bench.arrived(second) == {"value": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "desk.give has no parameter 'file_path': it is left out"
    ]


def test_a_tool_may_refuse_parameters_it_does_not_declare(bench: Bench) -> None:
    error = bench.refused({"operation": "strict.give", "params": {"vlaue": 1}})

    assert str(error) == "strict.give has no parameter 'vlaue' (did you mean 'value'?); it takes value"
    assert bench.request({"operation": "strict.give", "params": {"value": 1, "user_id": "x"}})


@pytest.mark.parametrize("name", ["user_id", "task_id", "op"])
def test_names_of_the_envelope_reach_only_who_declares_them(
    bench: Bench, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with caplog.at_level(logging.WARNING):
        plain, any_name = bench.request(op("give", **{name: "x"})), bench.request(op("anything", **{name: "x", "y": 1}))
        declared = bench.request(op("mine", **{name: "x"}))

    assert (bench.arrived(plain), bench.arrived(any_name)) == ({}, {"y": 1})
    assert bench.arrived(declared) == {name: "x"}
    assert bench.arrived(bench.request(op("whoever", **{name: "x"}))) == ({name: "x"} if name == "user_id" else {})
    assert not caplog.records


def test_who_asks_is_not_taken_from_parameters(bench: Bench) -> None:
    request = bench.request(op("kept", user_id="bob", task_id="t9"), context=ME)

    assert (request.user_id, request.task_id) == ("ann", "t1")
    assert request.steps[0].digest == bench.digest("desk.kept", {}, context=ME)


def test_the_context_fills_in_what_is_declared_and_missing(bench: Bench) -> None:
    assert bench.arrived(bench.request(op("mine"), context=ME)) == {}


def test_parameters_are_a_snapshot(bench: Bench) -> None:
    rows, array = [1, 2], np.zeros(10)
    request = bench.request(give({"rows": rows, "array": array}), give(rows))

    rows.append(3)
    array[:] = 1.0

    assert bench.arrived(request)["value"]["rows"] == [1, 2]
    assert not bench.arrived(request)["value"]["array"].any()
    assert bench.arrived(request, 1)["value"] == [1, 2]


def test_steps_that_call_an_operation_the_same_way_share_a_policy(bench: Bench) -> None:
    request = bench.request(
        give(1),
        give(2, id="x"),
        give(3, priority=5),
        give(4, depends_on=[0]),
        give(5, priority=5),
        op("fresh"),
        give(6, timeout=3),
        give(7, timeout=3.0),
    )

    assert [step.policy for step in request.steps] == [0, 0, 1, 0, 1, 2, 3, 3]
    assert [policy.priority for policy in request.policies] == [0, 5, 0, 0]


def test_a_policy_tells_what_the_author_declared(bench: Bench) -> None:
    slow, send = bench.policy(op("slow")), bench.policy(op("send"))
    kept = bench.policy(op("kept"))

    assert (slow.timeout, slow.deadline, slow.retry) == (7.0, 20.0, RetryOptions(attempts=5, wait_min=0.5))
    assert (slow.idempotent, send.idempotent) == (True, False)
    assert (kept.ttl, kept.scope, kept.cache) == (60.0, "user", "on")
    assert (kept.operation, kept.spec) == ("kept", "desk.kept")
    assert bench.policy({"operation": "diary.give"}).stateful


@pytest.mark.parametrize(
    ("fields", "options", "timeout"),
    [
        ({}, {}, 7.0),
        ({"timeout": 3}, {}, 3.0),
        ({}, {"timeout": 30.0}, 7.0),
        ({"timeout": 3}, {"timeouts": {"slow": 9.0}}, 9.0),
        ({"timeout": 3}, {"timeouts": {"slow": 9.0, "desk.slow": 8.0}}, 8.0),
        ({}, {"timeouts": {"give": 1.0, "other.slow": 1.0}}, 7.0),
    ],
)
def test_the_nearest_limit_counts_and_one_set_by_hand_above_all(
    bench: Bench, fields: dict[str, Any], options: dict[str, Any], timeout: float
) -> None:
    assert bench.policy({"operation": "desk.slow", **fields}, **options).timeout == timeout


def test_an_operation_without_a_limit_gets_that_of_the_run(bench: Bench) -> None:
    assert bench.policy(give(1)).timeout is None
    assert bench.policy(give(1), timeout=30.0).timeout == 30.0
    assert bench.policy(give(1, deadline=9)).deadline == 9.0
    assert bench.policy({"operation": "desk.slow", "deadline": 9}).deadline == 9.0


@pytest.mark.parametrize(
    ("spec", "asked", "of_run", "retry"),
    [
        ("desk.give", None, None, RetryOptions()),
        ("desk.give", None, RetryOptions(attempts=9), RetryOptions(attempts=9)),
        ("desk.slow", None, RetryOptions(attempts=9), RetryOptions(attempts=5, wait_min=0.5)),
        ("desk.give", 2, None, RetryOptions(attempts=2, timeouts=True)),
        ("desk.give", {"attempts": 2, "timeouts": False}, None, RetryOptions(attempts=2)),
        ("desk.slow", {"attempts": 2}, None, RetryOptions(attempts=2, wait_min=0.5, timeouts=True)),
        ("desk.give", "file_operation", None, PROFILES["file_operation"]),
    ],
)
def test_who_asks_for_retries_wants_them_after_timeouts_too(
    bench: Bench, spec: str, asked: Any, of_run: RetryOptions | None, retry: RetryOptions
) -> None:
    assert bench.policy({"operation": spec, "retry": asked}, retry=of_run).retry == retry


@pytest.mark.parametrize(
    ("name", "asked", "of_run", "in_context", "mode"),
    [
        ("give", None, None, False, "off"),
        ("give", None, None, True, "on"),
        ("give", None, "off", True, "off"),
        ("give", None, False, True, "off"),
        ("give", None, "on", False, "on"),
        ("give", None, True, False, "on"),
        ("give", None, "refresh", False, "refresh"),
        ("give", None, "only", False, "only"),
        ("give", True, None, False, "on"),
        ("give", "on", None, False, "on"),
        ("give", False, None, True, "off"),
        ("give", "off", None, True, "off"),
        ("give", "off", "refresh", True, "off"),
        ("give", "refresh", None, True, "refresh"),
        ("give", "refresh", "only", True, "refresh"),
        ("give", "only", None, False, "only"),
        ("give", True, "off", True, "off"),
        ("give", "refresh", False, True, "off"),
        ("kept", None, None, False, "on"),
        ("kept", None, "off", True, "off"),
        ("kept", False, None, True, "off"),
        ("fresh", None, None, True, "off"),
        ("fresh", True, "on", True, "off"),
        ("fresh", "refresh", None, True, "off"),
        ("send", None, None, True, "off"),
        ("send", True, None, True, "off"),
        ("diary.give", None, None, True, "off"),
        ("diary.give", True, None, False, "on"),
        ("diary.give", None, "on", False, "on"),
        ("diary.kept", None, None, False, "on"),
    ],
)
def test_when_the_cache_is_used(name: str, asked: Any, of_run: Any, mode: str, *, in_context: bool) -> None:
    spec = name if "." in name else f"desk.{name}"
    context = ME if in_context else Context()

    request = Bench().request({"operation": spec, "cache": asked}, cache=of_run, context=context)

    assert request.policies[0].cache == mode
    assert (request.steps[0].digest is None) == (mode == "off")


@pytest.mark.parametrize(
    ("operation", "options"),
    [
        ({"operation": "desk.fresh", "cache": "only"}, {}),
        ({"operation": "desk.send", "cache": "only"}, {"context": ME}),
        ({"operation": "desk.send"}, {"cache": "only"}),
        ({"operation": "desk.kept", "cache": "only"}, {"cache": "off"}),
        ({"operation": "desk.kept", "cache": "only", "params": {"value": object()}}, {}),
    ],
)
def test_only_the_cache_is_refused_where_it_can_have_nothing(
    bench: Bench, operation: dict[str, Any], options: dict[str, Any]
) -> None:
    error = bench.refused(operation, **options)

    assert type(error) is InvalidInputError
    assert str(error).startswith(f"cache='only', but {operation['operation']} ")


@pytest.mark.parametrize("cache", ["yes", 1, 0, [], "ON"])
def test_a_wish_for_the_cache_that_is_none_is_refused(bench: Bench, cache: Any) -> None:
    assert "cache must be one of on, off, refresh, only" in str(bench.refused(give(1), cache=cache))


def test_equal_parameters_have_equal_digests(bench: Bench) -> None:
    first = bench.digest("desk.kept", {"value": {"a": 1, "b": [2.0]}, "note": "x"})
    second = bench.digest("desk.kept", {"note": "y", "value": {"b": [2.0], "a": 1}})

    assert first is not None
    assert first == second


def test_different_parameters_have_different_digests(bench: Bench) -> None:
    values = [1, 1.0, True, "1", None, [1], (1,), {"a": 1}, b"1", np.zeros(3), np.zeros(10_000), np.ones(10_000)]

    digests = {bench.digest("desk.kept", {"value": value}) for value in values} | {bench.digest("desk.kept", {})}

    assert len(digests) == len(values) + 1


def test_a_reference_counts_by_its_place_and_not_by_what_it_reads(bench: Bench) -> None:
    first, second = (bench.request(give(n), op("kept", value=["$result[0].a"])).steps[1] for n in (1, 2))
    third = bench.request(give(1), op("kept", value=["$result[0].a", "$result[0].b"])).steps[1]

    assert first.digest == second.digest != third.digest
    assert first.inputs == (Input("step", 0, ("a",), "$result[0].a"),)


def test_a_parameter_without_an_exact_key_makes_the_step_uncacheable(bench: Bench) -> None:
    step = bench.request(op("kept", value=[Odd()])).steps[0]

    assert step.digest is None
    assert "Odd" in step.uncacheable
    assert bench.request(op("fresh", value=[Odd()])).steps[0].uncacheable == ""


def test_an_ignored_parameter_may_be_anything(bench: Bench) -> None:
    plain = bench.digest("desk.kept", {"value": 1})

    assert bench.digest("desk.kept", {"value": 1, "note": 5}) == plain
    assert bench.digest("desk.kept", {"value": 1, "note": object()}) == plain
    assert bench.digest("desk.kept", {"value": 1, "note": np.zeros(10_000)}) == plain
    assert bench.digest("desk.kept", {"note": np.zeros(10_000), "value": 2}) != plain


def test_a_reference_in_an_ignored_parameter_does_not_move_the_others(bench: Bench) -> None:
    first = bench.request(give(1), give(2), op("kept", note="$result[0]", value="$result[1]")).steps[2]
    second = bench.request(give(1), give(2), op("kept", value="$result[1]")).steps[2]

    assert first.digest == second.digest
    assert [source.place for source in first.inputs] == [1, 0]


def test_a_handle_in_an_ignored_parameter_is_no_part_of_the_key(bench: Bench) -> None:
    known, unknown = bench.preparer.handle([1, 2]), bench.preparer.handle(object())

    request = bench.request(op("kept", value=known, note=[known, unknown]))

    assert request.steps[0].digest is not None
    assert [request.object_ids[source.place] for source in request.steps[0].inputs] == [known.identity, b""]
    assert bench.request(op("kept", value=[unknown])).steps[0].digest is None


def test_the_identity_of_a_handle_is_that_of_its_value(bench: Bench) -> None:
    first, second, third = (bench.preparer.handle(value) for value in ({"a": 1}, {"a": 1}, {"a": 2}))

    assert first.identity == second.identity != third.identity
    request = bench.request(op("kept", value=first))
    assert request.object_ids == (first.identity,)


def test_what_the_context_fills_in_counts_as_a_parameter(bench: Bench) -> None:
    ann = bench.digest("desk.shared", {"value": 1}, context=Context("ann", "t1"))

    assert ann == bench.digest("desk.shared", {"value": 1}, context=Context("ann", "t2"))
    assert ann == bench.digest("desk.shared", {"value": 1, "user_id": "ann"})
    assert ann != bench.digest("desk.shared", {"value": 1}, context=Context("bob", "t1"))
    assert bench.digest("desk.shared", {}) != bench.digest("desk.shared", {"user_id": ""})
    assert bench.digest("desk.kept", {}, context=ME) == bench.digest("desk.kept", {})


@pytest.mark.parametrize(
    ("params", "files"),
    [
        ({"path": "a.csv"}, (("a.csv", "mtime"),)),
        ({"path": Path("/data/a.csv")}, (("/data/a.csv", "mtime"),)),
        ({"other": "b.csv", "path": "a.csv"}, (("a.csv", "mtime"), ("b.csv", "content"))),
        ({"path": None, "other": None, "third": "c"}, ()),
    ],
)
def test_files_that_belong_to_the_key_are_listed(
    bench: Bench, params: dict[str, Any], files: tuple[tuple[str, str], ...]
) -> None:
    step = bench.request(op("read", **params), context=ME).steps[0]

    assert step.files == files
    assert step.digest is not None


def test_the_file_of_a_default_belongs_to_the_key_too(bench: Bench) -> None:
    assert bench.request(op("load"), context=ME).steps[0].files == (("default.csv", "mtime"),)
    assert bench.request(op("load"), context=Context()).steps[0].files == ()


@pytest.mark.parametrize("path", [5, ["a.csv"], "$result[0]", b"a.csv"])
def test_what_is_no_path_makes_the_step_uncacheable(bench: Bench, path: Any) -> None:
    step = bench.request(give("a.csv"), op("read", path=path), context=ME).steps[1]

    assert step.digest is None
    assert step.uncacheable == "parameter 'path' is no path, so the state of its file is unknown"


def test_a_relative_path_inside_a_working_dir_makes_the_step_uncacheable(tmp_path: Path) -> None:
    bench = Bench({"working_dir": str(tmp_path)})

    relative, absolute = (bench.request(op("read", path=path), context=ME).steps[0] for path in ("a.csv", "/a.csv"))

    assert relative.uncacheable == "parameter 'path' is a relative path inside a working_dir"
    assert absolute.digest is not None


@pytest.mark.parametrize("mode", ["sequence", "parallel", "batch"])
def test_references_read_earlier_steps_by_index_or_id(bench: Bench, mode: Any) -> None:
    request = bench.request(
        give(1, id="load"), give(["$result[0].rows[1]", '$result["load"]', {"x": "$result[0]"}]), mode=mode
    )

    assert request.steps[0].id == "load"
    assert request.steps[1].inputs == (
        Input("step", 0, ("rows", 1), "$result[0].rows[1]"),
        Input("step", 0, (), '$result["load"]'),
        Input("step", 0, (), "$result[0]"),
    )
    assert bench.arrived(request, 1, results=({"rows": [5, 6]},)) == {
        "value": [6, {"rows": [5, 6]}, {"x": {"rows": [5, 6]}}]
    }


@pytest.mark.parametrize("mode", ["sequence", "parallel", "batch"])
@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("$result[1]", ReferenceForwardError, "Referenced result index 1 out of range"),
        ("$result[2]", ReferenceForwardError, "Referenced result index 2 out of range"),
        ("$result[3]", ReferenceRangeError, "Referenced result index 3 out of range"),
        ("$result[99999999999]", ReferenceRangeError, "Referenced result index 99999999999 out of range"),
        (f"$result[{'9' * 5000}]", ReferenceRangeError, "Referenced result index an int of 333 bits out of range"),
        ('$result["late"]', ReferenceForwardError, "Referenced result 'late' out of range"),
        ('$result["me"]', ReferenceForwardError, "Referenced result 'me' out of range"),
        ('$result["nobody"]', ReferenceRangeError, "Referenced result 'nobody' is not the id of an operation"),
    ],
)
def test_a_reference_that_can_never_resolve_is_refused(
    bench: Bench, mode: Any, text: str, kind: type[AiecsError], message: str
) -> None:
    error = bench.refused(give(1), give([text], id="me"), give(3, id="late"), mode=mode)

    assert type(error) is kind
    assert (error.error_code, error.index) == ("E001", 1)
    assert str(error).startswith(message)


def test_a_reference_can_read_the_results_of_a_call_before(bench: Bench) -> None:
    before = [{"rows": [1, 2]}, TaskStepResult("x", np.zeros(10_000), completed=True, status="completed")]

    request = bench.request(
        give("$result[0].rows"), give(["$result[1]", "$result[0]"]), mode="parallel", context_results=before
    )

    assert bench.arrived(request) == {"value": [1, 2]}
    assert bench.arrived(request, 1)["value"][1] == {"rows": [1, 2]}
    assert bench.arrived(request, 1)["value"][0].shape == (10_000,)
    assert (len(request.objects), len(bench.puts)) == (2, 1)
    assert request.steps[0].inputs == (Input("object", 0, ("rows",), "$result[0].rows"),)


def test_an_id_names_a_step_of_this_run_even_then(bench: Bench) -> None:
    request = bench.request(give(1, id="a"), give('$result["a"]'), mode="batch", context_results=[])

    assert request.steps[1].inputs == (Input("step", 0, (), '$result["a"]'),)


def test_a_result_of_a_call_before_must_be_there_and_have_completed(bench: Bench) -> None:
    failed = TaskStepResult("t.op", None, status="failed", error_code="E003", error_message="no")

    missing = bench.refused(give("$result[1]"), mode="parallel", context_results=[failed])
    skipped = bench.refused(give("$result[0]"), mode="parallel", context_results=[failed])

    assert type(missing) is ReferenceRangeError
    assert type(skipped) is UpstreamFailedError
    assert str(skipped) == "Skipped: step 0 (t.op) failed"


def test_depends_on_names_steps_by_index_or_id(bench: Bench) -> None:
    request = bench.request(give(1, id="a"), give(2), give(3, depends_on=["a", 1]))

    assert [step.after for step in request.steps] == [(), (), (0, 1)]


def test_depends_on_may_point_forward_where_there_is_no_order(bench: Bench) -> None:
    request = bench.request(give(1, depends_on=1), give(2), mode="parallel")

    assert request.steps[0].after == (1,)
    error = bench.refused(give(1, depends_on=1), give(2), mode="sequence")
    assert type(error) is InvalidOperationsError
    assert (error.index, "which a sequence cannot run" in str(error)) == (0, True)
    assert bench.refused(give(1), give(2, depends_on=1)).index == 1


@pytest.mark.parametrize(
    ("operations", "circle"),
    [
        ([give(1, depends_on=0)], "0 -> 0"),
        ([give(1, depends_on=1), give(2, depends_on=0)], "0 -> 1 -> 0"),
        ([give(1, depends_on=1), give("$result[0]")], "0 -> 1 -> 0"),
    ],
)
def test_a_circle_is_refused(bench: Bench, operations: list[Any], circle: str) -> None:
    error = bench.refused(*operations, mode="parallel")

    assert type(error) is InvalidOperationsError
    nodes = str(error).rpartition(": ")[2].split(" -> ")
    assert sorted(nodes[1:]) == sorted(circle.split(" -> ")[1:])
    assert nodes[0] == nodes[-1]


@pytest.mark.parametrize("target", [3, -1, 10**30, "nobody"])
def test_depends_on_names_steps_that_there_are(bench: Bench, target: Any) -> None:
    assert type(bench.refused(give(1), give(2), give(3, depends_on=[target]), mode="batch")) is ReferenceRangeError


def test_a_graph_has_a_largest_size_and_a_list_has_none(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "MAX_STEPS", 10)

    assert len(bench.request(*[give(1)] * 11).steps) == 11
    assert len(bench.request(give(1), *[give("$result[0]")] * 9).steps) == 10
    assert "11 operations with references" in str(bench.refused(give(1), *[give("$result[0]")] * 10))
    assert "at most 10" in str(bench.refused(*[give(1)] * 10, give(1, depends_on=0), mode="batch"))


@pytest.mark.parametrize(
    ("keep", "kept"),
    [("all", "all"), ("last", "last"), ([], ()), ([0, "b"], (0, 1)), (("b",), (1,)), ({2}, (2,))],
)
def test_what_is_kept_is_named_by_index_or_id(bench: Bench, keep: Any, kept: Any) -> None:
    assert bench.request(give(1), give(2, id="b"), give(3), keep=keep).keep == kept


@pytest.mark.parametrize("keep", ["first", "", None, 5, {"a": 1}, [None], [1.5], [True], [[0]]])
def test_what_is_no_list_of_steps_cannot_be_kept(bench: Bench, keep: Any) -> None:
    assert type(bench.refused(give(1), give(2), keep=keep)) is InvalidOperationsError


@pytest.mark.parametrize("target", [2, -1, "x"])
def test_only_steps_that_there_are_can_be_kept(bench: Bench, target: Any) -> None:
    assert type(bench.refused(give(1), give(2), keep=[target])) is ReferenceRangeError


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), "5", True])
def test_a_deadline_is_a_positive_number_of_seconds(bench: Bench, deadline: Any) -> None:
    error = bench.refused(give(1), deadline=deadline)

    assert type(error) is InvalidTimeoutError
    assert str(error).startswith("deadline must be a positive number")


def test_small_parameters_travel_in_the_request(bench: Bench) -> None:
    request = bench.request(give([1, "x" * 1000]), give(np.zeros(100)), give("x" * 3000))

    assert (request.objects, bench.puts) == ((), [])
    assert [step.inputs for step in request.steps] == [(), (), ()]


@pytest.mark.parametrize("value", [np.arange(10_000), "x" * 10_000, list(range(10_000)), b"x" * 10_000])
def test_a_large_parameter_is_put_and_read_by_a_slot(bench: Bench, value: Any) -> None:
    request = bench.request(op("give", value=value, other="small"))

    arrived = bench.arrived(request)
    assert len(bench.puts) == 1
    assert packing.as_packed(request.steps[0].params).size < 500
    assert type(arrived["value"]) is type(value)
    assert (np.array_equal(arrived["value"], value), arrived["other"]) == (True, "small")


def test_a_medium_parameter_beside_a_large_one_is_an_object_of_the_request(bench: Bench) -> None:
    request = bench.request(op("give", value="x" * 3000, other="y" * 3000))

    assert (len(request.objects), bench.puts) == (2, [])
    assert bench.arrived(request) == {"value": "x" * 3000, "other": "y" * 3000}


def test_a_large_parameter_of_many_steps_is_put_once(bench: Bench) -> None:
    array = np.zeros(10_000)

    request = bench.request(*[op("kept", value=array, note=n) for n in range(50)], give([array]))

    assert (len(bench.puts), len(request.objects)) == (2, 2)
    assert [step.inputs[0].place for step in request.steps] == [0] * 50 + [1]
    assert len({step.digest for step in request.steps[:50]}) == 1


def test_large_parts_beside_references_are_put_by_themselves(bench: Bench) -> None:
    array = np.arange(10_000)

    request = bench.request(
        give(1), give({"ref": "$result[0]", "deep": ("$result[0].x", [array, "$result[0]"]), "array": array})
    )

    arrived = bench.arrived(request, 1, results=({"x": "found"},))["value"]
    assert len(bench.puts) == 1
    assert (arrived["ref"], arrived["deep"][0], arrived["deep"][1][1]) == ({"x": "found"}, "found", {"x": "found"})
    assert arrived["deep"][1][0].sum() == arrived["array"].sum() == array.sum()
    assert type(arrived["deep"]) is tuple
    assert [source.kind for source in request.steps[1].inputs] == ["step", "step", "object"]


def test_more_large_parts_than_slots_are_put_together(bench: Bench) -> None:
    parts = [np.full(200, float(n)) for n in range(MAX_REFERENCES + 50)]

    request = bench.request(give(1), give(["$result[0]", *parts]))

    arrived = bench.arrived(request, 1, results=("first",))["value"]
    assert len(request.steps[1].inputs) == MAX_REFERENCES + 1
    assert len(bench.puts) == 1
    assert arrived[0] == "first"
    assert [part[0] for part in arrived[1:]] == [float(n) for n in range(MAX_REFERENCES + 50)]


def test_many_parts_that_are_large_only_together_are_put_together(bench: Bench) -> None:
    params = {f"p{n}": {"text": chr(n) * 900, "of": "$result[0]"} if n % 2 else chr(n) * 900 for n in range(65, 126)}

    request = bench.request(give(1), op("anything", **params))

    expected = {name: {**value, "of": "r"} if isinstance(value, dict) else value for name, value in params.items()}
    assert bench.arrived(request, 1, results=("r",)) == expected
    assert packing.as_packed(request.steps[1].params).size <= INLINE
    assert len(bench.puts) == 1


def test_a_handle_stands_anywhere_inside_parameters(bench: Bench) -> None:
    small, large = bench.preparer.handle([1, 2]), bench.preparer.handle(np.zeros(10_000))

    request = bench.request(op("give", value=[small, {"x": (large, small)}]), give(large))

    arrived = bench.arrived(request)["value"]
    assert arrived[0] == arrived[1]["x"][1] == [1, 2]
    assert arrived[1]["x"][0].shape == (10_000,)
    assert (len(request.objects), len(bench.puts)) == (2, 1)
    assert request.steps[1].inputs == (Input("object", 1),)


def test_a_handle_says_what_it_holds(bench: Bench) -> None:
    handle = bench.preparer.handle(np.zeros((100, 100)))

    assert repr(handle) == f"Handle(ndarray 100x100, {handle.size} bytes)"
    assert handle.size > 80_000
    assert bench.preparer.handle(object()).identity is None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (threading.Lock, "a value of type lock cannot be serialised"),
        (lambda: (n for n in "abc"), "a generator cannot leave its process"),
        (lambda: [threading.Lock()], "a value of type list cannot be serialised"),
    ],
)
def test_a_parameter_that_cannot_be_sent_is_named(bench: Bench, make: Callable[[], Any], said: str) -> None:
    error = bench.refused(give(1), op("give", value=1, other=make()))

    assert type(error) is InvalidParamsError
    assert str(error).startswith(f"parameter 'other': {said}")
    assert error.index == 1


def test_parameters_that_contain_themselves_are_refused(bench: Bench) -> None:
    loop: list[Any] = []
    loop.append(loop)

    assert "contain themselves" in str(bench.refused(give(loop)))


def test_a_tolerated_error_becomes_the_result_of_its_operation(bench: Bench) -> None:
    request = bench.request(
        give(1),
        {"operation": "desk.gove", "id": "typo"},
        give("$result[3]"),
        op("need"),
        give('$result["typo"]'),
        mode="parallel",
        tolerate=(ToolNotFoundError, OperationNotFoundError, InvalidInputError),
    )

    refusals = [step.refusal for step in request.steps]
    assert [None if refusal is None else refusal.type_name for refusal in refusals] == [
        *(None, "OperationNotFoundError", "ReferenceForwardError", "InvalidParamsError", None),
    ]
    assert (request.steps[1].id, request.policies[request.steps[1].policy].spec) == ("typo", "desk.gove")
    assert request.policies[request.steps[1].policy].tool == ""
    assert request.steps[4].inputs == (Input("step", 1, (), '$result["typo"]'),)


def test_an_error_that_is_not_tolerated_refuses_the_list(bench: Bench) -> None:
    error = bench.refused(give(1), give("$result["), mode="parallel", tolerate=(ToolNotFoundError, InvalidInputError))

    assert type(error) is ReferenceSyntaxError


def test_a_handle_made_elsewhere_is_told_apart_by_itself() -> None:
    first, second = Handle(b"a", None, 1, "x"), Handle(b"a", None, 1, "x")
    bench = Bench()

    request = bench.request(op("give", value=[first, second, first]))

    assert len(request.objects) == 2


def test_names_of_other_clients_are_asked_for_when_they_are_needed() -> None:
    asked: list[str] = []
    there = Bench()
    registry = Registry()
    registry.register(Strict)

    def ask(what: str) -> Any:
        asked.append(what)
        return {spec.name: spec.key for spec in specs} if what == "tool_keys" else specs

    here = Catalog(registry, None, ask, lambda environment: environment)
    specs = [there.preparer.catalog.tool(name)[0] for name in ("desk", "diary")]

    found = [here.find("strict", "give"), here.find("desk", "give"), here.find("diary", "kept")]

    assert [tool.name for tool, _ in found] == ["strict", "desk", "diary"]
    assert found[2][1].options["cache"] is True
    assert asked == ["tool_keys", "tools", "tool_keys"]
    with pytest.raises(ToolNotFoundError, match="did you mean 'desk'"):
        here.find("dask", "give")


def test_a_tool_that_was_defined_again_is_described_again() -> None:
    registry = Registry()
    registry.register(Desk)
    catalog = Catalog(registry, None, lambda _: {}, lambda environment: environment)
    before = catalog.tool("desk")[0]

    registry.register(Strict, "desk", replace=True)

    after, operations = catalog.tool("desk")
    assert after.key != before.key
    assert list(operations) == ["give"]
    assert catalog.tool("desk")[0] is after


def test_the_environment_of_a_tool_is_laid_over_that_of_the_client() -> None:
    @tool("stove", runtime_env={"env_vars": {"B": "tool", "C": "tool"}})
    class Stove:
        def cook(self) -> None:
            """Cook."""

    registry = Registry()
    registry.register(Stove)
    client = {"env_vars": {"A": "client", "B": "client"}, "pip": ["x"]}
    catalog = Catalog(registry, client, lambda _: {}, lambda environment: environment)

    environment = catalog.tool("stove")[0].options["runtime_env"]

    assert environment == {"env_vars": {"A": "client", "B": "tool", "C": "tool"}, "pip": ["x"]}
    assert client["env_vars"] == {"A": "client", "B": "client"}
