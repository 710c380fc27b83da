"""From a list of operations to one message for the coordinator; everything that can be wrong is found here."""

from __future__ import annotations

import contextlib
import graphlib
import secrets
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

from aiecs_ray import failures, keys, nesting, packing
from aiecs_ray.collector import undisturbed
from aiecs_ray.errors import (
    AiecsError,
    InvalidInputError,
    InvalidOperationsError,
    InvalidParamsError,
    InvalidSpecError,
    ReferenceForwardError,
    ReferenceRangeError,
    ReferenceSyntaxError,
    UncacheableValueError,
    UpstreamFailedError,
)
from aiecs_ray.limits import check_limits
from aiecs_ray.messages import Input, Policy, RetryOptions, RunRequest, Step, ToolSpec
from aiecs_ray.model import TaskStepResult
from aiecs_ray.operation import Requested, parse_operations, seconds, split_spec
from aiecs_ray.packing import Slot
from aiecs_ray.parameters import COVERED, Parameters, take_from
from aiecs_ray.quoting import shorten
from aiecs_ray.reference import Reference, References, is_literal
from aiecs_ray.retry import parse_retry
from aiecs_ray.run_options import Handle, Prepared, RunOptions
from aiecs_ray.shipping import pickled_by_value
from aiecs_ray.suggestions import hinted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from aiecs_ray.catalog import Catalog, OperationInfo
    from aiecs_ray.messages import CacheMode
    from aiecs_ray.packing import Packed
    from aiecs_ray.parameters import Known

_CACHE_MODES = ("on", "off", "refresh", "only")
MAX_STEPS = 100_000
"""Steps of one run with edges between them; a run without may have any number."""


class Preparer:
    """Makes requests.

    Args:
        catalog: finds tools.
        put: puts a large value and returns its reference.
        inline_limit: bytes of parameters that travel inside the request.
        client: who asks.
    """

    def __init__(self, catalog: Catalog, *, put: Callable[[Packed], Any], inline_limit: int, client: str) -> None:
        self.catalog = catalog
        self.client = client
        self.parameters = Parameters(put, inline_limit, catalog.runtime_env)

    def prepare(self, operations: Any, options: RunOptions) -> Prepared:
        """Return the request for ``operations``.

        Raises:
            InvalidInputError, DSLEvaluationError: something is wrong; ``index`` says with which operation.
            ToolNotFoundError, OperationNotFoundError: nobody offers it.
        """
        size = len(operations) if isinstance(operations, (list, tuple)) else 0
        with undisturbed(size), contextlib.ExitStack() as held:
            try:
                parsed = parse_operations(operations)
            except InvalidSpecError as error:
                raise hinted(error, self.catalog) from None
            return _Request(self, options, parsed, held).build()

    def handle(self, value: Any) -> Handle:
        """Put a value for use in parameters."""
        return self.parameters.handle(value)


class _Request:
    """Builds one request.

    Args:
        preparer, options, operations: of what.
        held: what is entered on the way, until the request is built.
    """

    def __init__(
        self, preparer: Preparer, options: RunOptions, operations: list[Requested], held: contextlib.ExitStack
    ) -> None:
        self._preparer = preparer
        self._held = held
        self._by_value = False
        self._options = options
        self._operations = operations
        self._ids = {operation.id: index for index, operation in enumerate(operations) if operation.id is not None}
        self._policies: list[Policy] = []
        self._policy_of: dict[str, tuple[int, OperationInfo]] = {}
        self._numbers: dict[Policy, int] = {}
        self._found: dict[str, tuple[ToolSpec, OperationInfo]] = {}
        self._tools: dict[str, ToolSpec] = {}
        self._objects: list[Any] = []
        self._object_ids: list[bytes | None] = []
        self._object_of: dict[tuple[int, bool], int] = {}
        self._handles: list[Handle] = []
        self._previous: dict[int, Handle] = {}
        self._known: Known = {}

    def build(self) -> Prepared:
        options = self._options
        if options.deadline is not None:
            seconds(options.deadline, "deadline")
        check_limits(options.limits.rate, options.limits.concurrency, options.limits.burst)
        if not (options.cache is None or isinstance(options.cache, bool) or options.cache in _CACHE_MODES):
            raise InvalidInputError(f"cache must be one of {', '.join(_CACHE_MODES)}, got {shorten(options.cache)}")
        if not isinstance(options.context_results, list | tuple | None):
            raise InvalidInputError(f"context_results is a list of results, got {shorten(options.context_results)}")
        steps = [self._step(operation, index) for index, operation in enumerate(self._operations)]
        self._check_edges(steps)
        request = RunRequest(
            steps=tuple(steps),
            policies=tuple(self._policies),
            objects=tuple(self._objects),
            object_ids=tuple(self._object_ids),
            mode=options.mode,
            user_id=options.context.user_id,
            task_id=options.context.task_id,
            stop_on_failure=options.stop_on_failure,
            keep=self._keep(options.keep),
            deadline=options.deadline,
            limits=options.limits,
            client=self._preparer.client,
            token=secrets.token_hex(8),
            detach=options.detach,
            calls=options.calls,
        )
        return Prepared(request, self._tools, [operation.operation for operation in self._operations])

    def _step(self, operation: Requested, index: int) -> Step:
        try:
            return self._make_step(operation, index)
        except AiecsError as error:
            error.place(operation.operation, index, len(self._operations))
            if not isinstance(error, self._options.tolerate):
                raise
            policy = self._number(Policy(spec=operation.operation, tool="", operation=""))
            return Step(policy, b"", id=operation.id, refusal=failures.of_runtime(error))

    def _make_step(self, operation: Requested, index: int) -> Step:
        number, info = self._policy(operation)
        policy = self._policies[number]
        params = self._preparer.parameters.check_names(policy.spec, info, operation.params)
        packed: Any = self._preparer.parameters.pack_literal(params) if is_literal(params) else None
        sources: list[Any] = []
        keyed = 0
        if packed is None:
            references = References(self._visit)
            params, keyed = take_from(params, info, references)
            packed = self._pack(params, references)
            sources = references.inputs
        inputs = tuple([self._input(source, index, keyed=n < keyed) for n, source in enumerate(sources)])
        after = tuple([self._target(target, index) for target in operation.depends_on])
        digest: bytes | None = None
        reason = ""
        files: tuple[tuple[str, str], ...] = ()
        if policy.cache != "off":
            digest, reason = self._digest(params, info, sources[:keyed])
            files, file_reason = self._files(params, info, policy)
            if file_reason:
                digest, reason = None, file_reason
            if digest is None and policy.cache == "only":
                raise InvalidInputError(f"cache='only', but {policy.spec} cannot be answered from the cache: {reason}")
        return Step(number, packed, inputs, after, digest, reason, files, operation.id, keyed=keyed)

    def _pack(self, params: dict[str, Any], references: References) -> Any:
        if not (self._by_value or packing.is_plain(params)):
            # An instance of a class that only this process can import travels with its class.
            self._held.enter_context(pickled_by_value(self._preparer.catalog.runtime_env))
            self._by_value = True
        return self._preparer.parameters.pack(params, references, self._known)

    # --- policies ------------------------------------------------------------------------------------------

    def _policy(self, operation: Requested) -> tuple[int, OperationInfo]:
        if operation.is_plain and operation.operation in self._policy_of:
            return self._policy_of[operation.operation]
        if operation.operation not in self._found:
            # Once for all operations of that name: another client's tool is asked for.
            self._found[operation.operation] = self._preparer.catalog.find(*split_spec(operation.operation))
        tool, info = self._found[operation.operation]
        nesting.check(self._options.calls, operation.operation)
        self._tools[tool.key] = tool
        declared = info.options
        retry = self._retry(operation, declared)
        policy = Policy(
            spec=operation.operation,
            tool=tool.key,
            operation=info.name,
            timeout=self._timeout(operation, declared["timeout"]),
            deadline=operation.deadline if operation.deadline is not None else declared["deadline"],
            retry=retry,
            idempotent=declared["idempotent"],
            is_async=info.is_async,
            stateful=bool(tool.options.get("stateful")),
            cache=self._cache(operation, declared, stateful=bool(tool.options.get("stateful"))),
            ttl=declared["ttl"],
            scope=declared["scope"],
            version=tool.version,
            config=tool.config,
            environment=tool.environment,
            priority=operation.priority,
            weight=declared.get("weight", 1),
            tags=declared["tags"],
        )
        found = (self._number(policy), info)
        if operation.is_plain:
            self._policy_of[operation.operation] = found
        return found

    def _number(self, policy: Policy) -> int:
        number = self._numbers.setdefault(policy, len(self._policies))
        if number == len(self._policies):
            self._policies.append(policy)
        return number

    def _timeout(self, operation: Requested, declared: float | None) -> float | None:
        by_hand = self._options.timeouts
        _, _, name = operation.operation.partition(".")
        limits = (by_hand.get(operation.operation), by_hand.get(name), operation.timeout, declared)
        return next((limit for limit in limits if limit is not None), self._options.timeout)

    def _retry(self, operation: Requested, declared: Mapping[str, Any]) -> RetryOptions:
        if operation.retry is None:
            return declared["retry"] or self._options.retry or RetryOptions()
        try:
            options = parse_retry(operation.retry, declared["retry"])
        except InvalidParamsError as error:
            raise InvalidOperationsError(str(error)) from None  # which refuses the list, as its other settings do
        if options.attempts > 1 and not declared["idempotent"]:
            text = f"retry of {operation.operation}: it is declared idempotent=False, so it is run once at most"
            raise InvalidParamsError(text)
        return options

    def _cache(self, operation: Requested, declared: Any, *, stateful: bool) -> CacheMode:
        of_run = self._options.cache
        wish = operation.cache if operation.cache is not None else of_run
        never = declared["cache"] is False or not declared["idempotent"] or of_run is False or of_run == "off"
        if never and wish == "only":
            raise InvalidInputError(f"cache='only', but {operation.operation} is never cached")
        if never or wish is False or wish == "off":
            return "off"
        if isinstance(wish, str) and wish != "on":
            return wish
        if wish is True or wish == "on" or declared["cache"] is True:
            return "on"
        # In a context everything is cached, as the documents have it; what depends on a tool's state is not.
        return "on" if not self._options.context.empty and not stateful else "off"

    # --- inputs --------------------------------------------------------------------------------------------

    def _visit(self, value: Any) -> Any:
        return value if type(value) is Handle else None

    def _input(self, source: Reference | Handle, index: int, *, keyed: bool) -> Input:
        if type(source) is Handle:
            return Input("object", self._object(source, keyed=keyed))
        assert isinstance(source, Reference)
        if not self._options.references:
            raise ReferenceSyntaxError(source.text, "operations of a map stand alone and cannot refer to each other")
        previous = self._options.context_results
        if previous is not None and isinstance(source.target, int):
            handle = self._previous_handle(previous, source.target, index)
            return Input("object", self._object(handle, keyed=keyed), source.path, source.text)
        return Input("step", self._earlier(source.target, index), source.path, source.text)

    def _object(self, handle: Handle, *, keyed: bool) -> int:
        place = self._object_of.get((id(handle), keyed))
        if place is None:
            place = self._object_of[id(handle), keyed] = len(self._objects)
            self._objects.append(handle.payload)
            self._object_ids.append(handle.identity if keyed else COVERED)
            # Kept until the request is sent, so that no other object takes its id.
            self._handles.append(handle)
        return place

    def _previous_handle(self, previous: Sequence[Any], target: int, index: int) -> Handle:
        if target >= len(previous):
            raise ReferenceRangeError(target, index)
        value = previous[target]
        if isinstance(value, TaskStepResult):
            if not value.completed:
                raise UpstreamFailedError(target, value.step, value.status)
            value = value.result
        if target not in self._previous:
            self._previous[target] = self._preparer.handle(value)
        return self._previous[target]

    def _earlier(self, target: int | str, index: int) -> int:
        place = self._target(target, index)
        if place >= index:
            raise ReferenceForwardError(target, index)
        return place

    def _target(self, target: int | str, index: int) -> int:
        if isinstance(target, str):
            if target not in self._ids:
                raise ReferenceRangeError(target, index)
            return self._ids[target]
        if not 0 <= target < len(self._operations):
            raise ReferenceRangeError(target, index)
        return target

    # --- cache keys ----------------------------------------------------------------------------------------

    def _digest(self, params: dict[str, Any], info: OperationInfo, inputs: list[Any]) -> tuple[bytes | None, str]:
        for source in inputs:
            if type(source) is Handle and source.identity is None:
                return None, f"{source.summary} has no exact cache key"
        context, ignored = self._options.context, info.options["ignore"]
        filled = {"user_id": context.user_id, "task_id": context.task_id}
        # What the context fills in is a parameter like any other, also where the scope leaves it out.
        given = {name: value for name, value in filled.items() if value and name in info.names} | params
        try:
            return keys.digest(given, ignore=frozenset(ignored) if ignored else (), encode=_encode_slot), ""
        except UncacheableValueError as error:
            return None, str(error)

    def _files(
        self, params: dict[str, Any], info: OperationInfo, policy: Policy
    ) -> tuple[tuple[tuple[str, str], ...], str]:
        files = []
        for name, kind in info.options["fingerprint"].items():
            value = params[name] if name in params else _default(info, name)
            if value is None:
                continue
            if not isinstance(value, (str, PurePath)):
                return (), f"parameter {name!r} is no path, so the state of its file is unknown"
            environment = self._tools[policy.tool].options.get("runtime_env") or {}
            if not PurePath(value).is_absolute() and environment.get("working_dir"):
                return (), f"parameter {name!r} is a relative path inside a working_dir"
            files.append((str(value), kind))
        return tuple(files), ""

    # --- the graph -----------------------------------------------------------------------------------------

    def _check_edges(self, steps: list[Step]) -> None:
        """Refuse cycles; only ``depends_on`` can point forward."""
        edges: dict[int, Iterable[int]] = {}
        for index, step in enumerate(steps):
            if not (step.inputs or step.after):
                continue
            before = {source.place for source in step.inputs if source.kind == "step"} | set(step.after)
            if before:
                edges[index] = before
        if edges and len(steps) > MAX_STEPS:
            text = f"{len(steps)} operations with references between them, at most {MAX_STEPS} are allowed"
            raise InvalidOperationsError(text)
        if all(place < index for index, before in edges.items() for place in before):
            return
        if self._options.mode == "sequence":
            late = next(i for i, before in edges.items() if any(place >= i for place in before))
            text = f"operation {late} depends on itself or a later one, which a sequence cannot run"
            raise InvalidOperationsError(text).locate(index=late)
        try:
            graphlib.TopologicalSorter(edges).prepare()
        except graphlib.CycleError as error:
            cycle = shorten(" -> ".join(map(str, error.args[1])), 200)
            raise InvalidOperationsError(f"operations depend on each other in a circle: {cycle}") from None

    def _keep(self, keep: Literal["all", "last"] | Sequence[int | str]) -> Literal["all", "last"] | tuple[int, ...]:
        if keep in ("all", "last"):
            return keep
        if not isinstance(keep, (list, tuple, set, frozenset)):
            raise InvalidOperationsError(
                f"keep must be 'all', 'last' or a list of ids and indexes, got {shorten(keep)}"
            )
        for target in keep:
            if type(target) is not int and type(target) is not str:
                raise InvalidOperationsError(f"keep holds {shorten(target)}, expected ids and indexes")
        return tuple(self._target(target, -1) for target in keep)


def _default(info: OperationInfo, name: str) -> Any:
    return info.schema.get("properties", {}).get(name, {}).get("default")


def _encode_slot(value: object) -> bytes | None:
    return b"slot %d" % value.index if type(value) is Slot else None
