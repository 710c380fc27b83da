"""The everyday API: connect, run operations, follow them, get their results."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from aiecs_ray.cache_view import CacheView
from aiecs_ray.channel import Channel
from aiecs_ray.checked_plan import CheckedPlan
from aiecs_ray.context import Context
from aiecs_ray.controls import Controls
from aiecs_ray.definition import check_complete, describe
from aiecs_ray.errors import DSLEvaluationError, InvalidInputError, ToolNotFoundError
from aiecs_ray.function_calls import arguments_of, spec_of
from aiecs_ray.history import HistoryView
from aiecs_ray.messages import Limits
from aiecs_ray.metering import exposition
from aiecs_ray.operation import seconds
from aiecs_ray.pictures.card import runtime_card
from aiecs_ray.proxies import Tools
from aiecs_ray.quoting import nearest, shorten
from aiecs_ray.results import to_value
from aiecs_ray.run import Run
from aiecs_ray.run_options import Handle, RunOptions, checked_mode
from aiecs_ray.streaming import check_map, stream_map
from aiecs_ray.watching import run_prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from aiecs_ray.definition import ToolDef
    from aiecs_ray.displays import Progress
    from aiecs_ray.messages import CacheMode, Mode
    from aiecs_ray.model import TaskStepResult


class Runtime(Channel, Controls):
    """A connection to one coordinator. Made by :func:`aiecs_ray.connect`; usable from any thread.

    >>> import aiecs_ray
    >>> class Greeter:
    ...     def greet(self, name: str) -> str:
    ...         return f"Hello, {name}!"
    >>> with aiecs_ray.connect("inprocess") as rt:
    ...     _ = rt.register(Greeter)
    ...     rt.call("greeter.greet", {"name": "Ada"})
    'Hello, Ada!'
    """

    @cached_property
    def tools(self) -> Tools:
        """The tools of the cluster, to be walked and called by name."""
        return Tools(self)

    @cached_property
    def cache(self) -> CacheView:
        """What the cluster's cache holds, and what can be done about it."""
        return CacheView(self)

    @cached_property
    def history(self) -> HistoryView:
        """What is recorded of runs."""
        return HistoryView(self.history_request)

    def __repr__(self) -> str:
        state = "closed" if self._closed else self.address
        return f"<runtime: {state}>"

    def _repr_html_(self) -> str:
        return runtime_card(self.address, None if self._closed else self.request("stats"))

    # --- tools ---------------------------------------------------------------------------------------------

    def register(self, cls: type, name: str | None = None, *, replace: bool = False, **options: Any) -> ToolDef:
        """Make a class usable as a tool; the same as ``@tool`` on the class.

        Raises:
            InvalidToolError: the class cannot be a tool.
            ToolConflictError: another class has the name, and ``replace`` is not given.
        """
        check_complete(describe(cls, name, **options))
        definition = self.registry.register(cls, name, replace=replace, **options)
        spec, _ = self.catalog.tool(definition.name)
        self.request("register", (spec,))
        self._sent.add(spec.key)
        return definition

    def unregister(self, name: str) -> None:
        """Take a tool away, from this process and from the cluster; what has begun ends with it.

        Another process that registered the same tool offers it again with its next use.

        Raises:
            ToolNotFoundError: there is none, here or there.
        """
        known = name in self.registry.names()
        if known:
            self.registry.unregister(name)
        if not self.request("unregister", name) and not known:
            raise ToolNotFoundError(name, "", nearest(name, self.catalog.names()))
        with self._lock:
            self._sent = {key for key in self._sent if key.rpartition("@")[0] != name}

    # --- running -------------------------------------------------------------------------------------------

    def run(  # noqa: PLR0913  # the options of a run, by name
        self,
        operations: Any,
        mode: Mode = "sequence",
        *,
        user_id: str | None = None,
        task_id: str | None = None,
        stop_on_failure: bool = False,
        keep: Literal["all", "last"] | Sequence[int | str] = "all",
        deadline: float | None = None,
        cache: CacheMode | bool | None = None,
        rate: float | None = None,
        concurrency: int | None = None,
        on_step: Callable[[int, TaskStepResult], object] | None = None,
        progress: Progress = "auto",
    ) -> list[TaskStepResult]:
        """Run operations and return one result per operation, in input order.

        Args:
            operations: a list of ``{"operation": "tool.op", "params": {...}}``.
            mode: "sequence" runs one after the other; "parallel" and "batch" all at once, as references allow.
            user_id: with ``task_id`` the context; in one, results are cached.
            task_id: see ``user_id``.
            stop_on_failure: after a failure nothing new starts.
            keep: whose results are wanted: all, the last one's, or those of the given indexes and ids.
            deadline: seconds for the whole run.
            cache: "on", "off", "refresh" or "only"; None leaves it to the operations and the context.
            rate: operations of this run started in any second, evenly spaced; answers from the cache count, too.
            concurrency: operations of this run in flight.
            on_step: called in this thread with index and result as each step ends.
            progress: whether the run is shown while it goes on: a card in a notebook, lines on a terminal, else a line
                every 10 seconds on the standard error. "auto": in a notebook and on a terminal only, when it takes
                longer than a second and there is no ``on_step``.

        Raises:
            InvalidInputError, DSLEvaluationError, ToolNotFoundError: the input is wrong; nothing has run.
            RunLostError: the coordinator was restarted.
        """
        limits, context = Limits("", rate, concurrency), Context(user_id, task_id)
        options = RunOptions(checked_mode(mode), context, stop_on_failure, keep, deadline, cache, limits=limits)
        return run_prepared(self, self.prepare(operations, options), progress, on_step)

    def plan(  # noqa: PLR0913  # as run
        self,
        operations: Any,
        mode: Mode = "sequence",
        *,
        user_id: str | None = None,
        task_id: str | None = None,
        stop_on_failure: bool = False,
        keep: Literal["all", "last"] | Sequence[int | str] = "all",
        deadline: float | None = None,
        cache: CacheMode | bool | None = None,
        rate: float | None = None,
        concurrency: int | None = None,
    ) -> CheckedPlan:
        """Check operations and return them as a plan to look at and to run; arguments and errors as in :meth:`run`."""
        limits, context = Limits("", rate, concurrency), Context(user_id, task_id)
        options = RunOptions(checked_mode(mode), context, stop_on_failure, keep, deadline, cache, limits=limits)
        return CheckedPlan(self, operations, options)

    def submit(  # noqa: PLR0913  # as run
        self,
        operations: Any,
        mode: Mode = "sequence",
        *,
        user_id: str | None = None,
        task_id: str | None = None,
        stop_on_failure: bool = False,
        keep: Literal["all", "last"] | Sequence[int | str] = "all",
        deadline: float | None = None,
        cache: CacheMode | bool | None = None,
        rate: float | None = None,
        concurrency: int | None = None,
        detach: bool = False,
    ) -> Run:
        """Start a run and return at once; arguments as in :meth:`run`.

        A run with ``detach`` goes on when this client is gone; another finds it with ``attach(run.id)``.
        """
        limits, context = Limits("", rate, concurrency), Context(user_id, task_id)
        options = RunOptions(checked_mode(mode), context, stop_on_failure, keep, deadline, cache, detach, limits=limits)
        return self.start(self.prepare(operations, options))

    def attach(self, run_id: str) -> Run:
        """Return a run that was submitted before, here or by another client.

        Raises:
            InvalidInputError: it is no text.
            RunLostError: the coordinator that held it was restarted.
            ResultExpiredError: it is not kept any more.
        """
        if type(run_id) is not str:
            raise InvalidInputError(f"a run's id is a text, got {shorten(run_id)}")
        status = self.request("status", run_id)
        return Run(self, run_id, list(status.specs))

    def call(  # noqa: PLR0913  # the options of a call, by name
        self,
        operation: str,
        params: dict[str, Any] | str | None = None,
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        user_id: str | None = None,
        task_id: str | None = None,
        cache: CacheMode | bool | None = None,
        retry: Any = None,
    ) -> Any:
        """Run one operation and return its value.

        Args:
            operation: ``"tool.op"``, or its name in the JSON forms, ``"tool__op"``.
            params: its parameters by name; a dict, or JSON text as language models send it.
            timeout: seconds for each attempt.
            deadline: seconds for all attempts together.
            user_id: with ``task_id`` the context; in one, results are cached.
            task_id: see ``user_id``.
            cache: "on", "off", "refresh" or "only".
            retry: attempts, a profile's name, or a dict of attempts, wait_min, wait_max, multiplier, on.

        Raises:
            OperationFailedError: the tool raised; its own exception is the cause.
            OperationTimeoutError: it ran out of time and was stopped.
            InvalidInputError, ToolNotFoundError, OperationNotFoundError: nothing has run.
        """
        given = {"timeout": timeout, "retry": retry, "cache": cache}
        operation = spec_of(operation, self.catalog)
        request: dict[str, Any] = {"operation": operation, "params": {} if params is None else arguments_of(params)}
        request.update({name: value for name, value in given.items() if value is not None})
        options = RunOptions(context=Context(user_id, task_id), deadline=deadline)
        return to_value(self.execute(self.prepare([request], options))[0], operation, 0)

    def map(  # noqa: PLR0913  # as run
        self,
        operation: str,
        params: Iterable[dict[str, Any]],
        *,
        ordered: bool = True,
        window: int | None = None,
        on_error: Literal["raise", "return"] = "raise",
        user_id: str | None = None,
        task_id: str | None = None,
    ) -> Iterator[Any]:
        """Run one operation for every dict of parameters and yield the values; memory stays bounded.

        Elements cannot refer to each other: a text that starts as a reference is an error, and ``$$result`` is the
        text itself.

        Args:
            operation: ``"tool.op"``.
            params: any number of them; taken from as results are taken.
            ordered: yield in input order, or in groups as they end.
            window: how many may be under way at once; None: some thousands.
            on_error: "raise" ends with the first failure; "return" yields the exception in its place.
            user_id: with ``task_id`` the context.
            task_id: see ``user_id``.
        """
        check_map(params, window, on_error)
        # Each element stands alone: it cannot refer to others, and what is wrong with it is its own error.
        tolerate = (InvalidInputError, DSLEvaluationError)
        context = Context(user_id, task_id)
        options = RunOptions(mode="batch", context=context, references=False, tolerate=tolerate)
        return stream_map(self, operation, params, options, ordered=ordered, window=window, on_error=on_error)

    def put(self, value: Any) -> Handle:
        """Put a value into the cluster once, to use it in the parameters of many operations."""
        self._check_open()
        return self._preparer.handle(value)

    def set_operation_timeout(self, operation: str, timeout: float | None) -> None:
        """Limit each attempt of ``"tool.op"`` (or of every operation named ``"op"``) to ``timeout`` seconds.

        It wins over what a call or the operation says (contradiction C-34). None takes the limit back.
        """
        if timeout is None:
            self._timeouts.pop(operation, None)
        else:
            self._timeouts[operation] = seconds(timeout)

    def stats(self) -> dict[str, Any]:
        """Return counters of the coordinator and of the cache."""
        return {**self.request("stats"), "cache": self.cache_request("stats")}

    def metrics(self) -> str:
        """Return what was measured since the coordinator started, as Prometheus reads it."""
        return exposition(self.request("metrics"))
