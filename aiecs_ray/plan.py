"""The plan of one run: a pure state machine, events in and actions out.

Sequence, parallel and batch are three ways to make one graph. An edge is one of three kinds: *data* (a reference reads
the result), *success* (``depends_on``) and *order* (a sequence: the earlier step has ended, well or not). The plan
decides what is ready, what is tried again, what is skipped and whose result nobody needs any more. It knows no clock,
no actor and no value: time and randomness are arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from aiecs_ray import failures
from aiecs_ray.errors import UpstreamFailedError
from aiecs_ray.messages import ErrorInfo
from aiecs_ray.model import ErrorCode, TaskStatus
from aiecs_ray.plan_values import STATUS, Actions, Ending, PlanStep, State, Stop, cancelled, check_move, kept_steps
from aiecs_ray.retry import is_named, is_transient, next_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

_DATA, _SUCCESS, _ORDER = 0, 1, 2


class Plan:
    """The state of one run.

    Args:
        steps: in input order; edges point to any other step, and the graph has no cycle.
        sequence: each step also waits until the one before it has ended.
        stop_on_failure: after a failure nothing new starts.
        keep: "all", "last", or the indexes of the steps whose results are kept after the run.
        random: uniform in [0, 1), for the jitter of waits.
    """

    def __init__(
        self,
        steps: Sequence[PlanStep],
        *,
        random: Callable[[], float],
        sequence: bool = False,
        stop_on_failure: bool = False,
        keep: Literal["all", "last"] | Iterable[int] = "all",
    ) -> None:
        self._steps = steps
        self._random = random
        self._stop_on_failure = stop_on_failure
        self._state = [State.WAITING] * len(steps)
        self._tries = [0] * len(steps)
        self._taken_back: set[int] = set()
        self._in_doubt: set[int] = set()
        """Steps that were lost in company and may have begun: they are never told as steps that did not start."""
        self._waiting = [0] * len(steps)
        self._successors: dict[int, dict[int, int]] = {}
        self._cause: dict[int, int] = {}
        self._reasons: dict[tuple[int, bool], ErrorInfo] = {}
        self._failure: int | None = None
        self._winding_up: Stop | None = None
        self._open = len(steps)
        self._link(sequence=sequence)
        self._keep = kept_steps(keep, len(steps))
        self._readers = self._count_readers()

    def _link(self, *, sequence: bool) -> None:
        for index, step in enumerate(self._steps):
            if not (step.needs or step.after or sequence):
                continue
            edges: dict[int, int] = {}
            if sequence and index:
                edges[index - 1] = _ORDER
            edges.update(dict.fromkeys(step.after, _SUCCESS))
            edges.update(dict.fromkeys(step.needs, _DATA))
            self._waiting[index] = len(edges)
            for before, kind in edges.items():
                self._successors.setdefault(before, {})[index] = kind

    def _count_readers(self) -> dict[int, int]:
        if self._keep is None:
            return {}
        return {
            index: sum(kind == _DATA for kind in self._successors.get(index, {}).values())
            for index in range(len(self._steps))
            if index not in self._keep
        }

    # --- what others may ask ---------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether every step has ended."""
        return self._open == 0

    def state(self, step: int) -> State:
        """Return where a step stands."""
        return self._state[step]

    def status(self, step: int) -> TaskStatus:
        """Return the status of a step as the documents name it; a step between two attempts is running."""
        return STATUS[self._seen(step)]

    def _seen(self, step: int) -> State:
        """Return the state of a step as it looks from outside."""
        state = self._state[step]
        if state < State.COMPLETED and (self._tries[step] or step in self._taken_back):
            return State.RUNNING
        return state

    def tries(self, step: int) -> int:
        """Return how many attempts of a step have started."""
        return self._tries[step]

    def unfinished(self) -> list[int]:
        """Return the steps that have not ended."""
        return [index for index, state in enumerate(self._state) if state < State.COMPLETED]

    def keeps(self, step: int) -> bool:
        """Return whether the result of a step is kept after the run."""
        return self._keep is None or step in self._keep

    def is_needed_beside(self, step: int, inside: Collection[int]) -> bool:
        """Return whether anybody needs the result of a step but the steps of ``inside``."""
        return self.keeps(step) or any(
            kind == _DATA and successor not in inside and self._state[successor] < State.COMPLETED
            for successor, kind in self._successors.get(step, {}).items()
        )

    def chain(self, step: int, accept: Callable[[int], bool], limit: int) -> list[int]:
        """Return ``step`` and the steps that can follow it in one call to its replica.

        Each needs only steps before it in the chain, beside what has ended already.
        """
        chain = [step]
        met: dict[int, int] = {}
        while len(chain) < limit:
            following: int | None = None
            for successor in self._successors.get(chain[-1], ()):
                met[successor] = met.get(successor, 0) + 1
                if self._state[successor] is State.WAITING and met[successor] == self._waiting[successor]:
                    following = successor if following is None else min(following, successor)
            if following is None or not accept(following):
                break
            chain.append(following)
        return chain

    # --- what happens ----------------------------------------------------------------------------------

    def begin(self) -> Actions:
        """Start the run: return the steps that wait for nothing."""
        actions = Actions()
        for index, waiting in enumerate(self._waiting):
            if not waiting and self._state[index] is State.WAITING:
                self._state[index] = State.READY
                actions.ready.append(index)
        return actions

    def handed(self, steps: Iterable[int]) -> None:
        """Steps were sent to a replica; none is known to have started."""
        for step in steps:
            if self._state[step] < State.COMPLETED:
                self._state[step] = State.HANDED

    def started(self, step: int) -> None:
        """An attempt of a step has started."""
        if self._state[step] < State.RUNNING:
            self._move(step, State.RUNNING)
            self._tries[step] += 1

    def returned(self, step: int) -> Actions:
        """A step came back from a replica without having started; a start that was noted is taken back."""
        actions = Actions()
        if self._state[step] is State.RUNNING:
            self._tries[step] -= 1
            self._taken_back.add(step)
        if self._is_out(step):
            self._offer(step, actions)
        return self._tell(actions)

    def due(self, step: int) -> Actions:
        """The wait before a step's next attempt is over."""
        actions = Actions()
        if self._state[step] is State.BACKOFF:
            self._offer(step, actions)
        return self._tell(actions)

    def succeeded(self, *steps: int) -> Actions:
        """Steps completed, in this order; their results are at hand."""
        actions = Actions()
        for step in steps:
            self._finish_one(step, State.COMPLETED, None, actions)
        return self._tell(actions)

    def failed(self, step: int, error: ErrorInfo) -> Actions:
        """An attempt of a step failed with an error of its own."""
        if not self._is_out(step):
            return Actions()
        if not self._may_repeat(step, error):
            return self._finish(step, State.FAILED, error)
        return self._again(step, error, State.FAILED)

    def timed_out(self, step: int, error: ErrorInfo, *, final: bool = False) -> Actions:
        """An attempt of a step was stopped at its time limit; ``final`` when no time is left for another."""
        if not (final or self._is_out(step)):
            return Actions()
        again = self._steps[step].retry.timeouts and self._steps[step].idempotent
        if final or not again or self._winding_up is not None:
            return self._finish(step, State.TIMED_OUT, error)
        return self._again(step, error, State.TIMED_OUT)

    def lost(self, step: int, error: ErrorInfo, *, started: bool | None, guilty: bool = True) -> Actions:
        """The replica of a step died.

        ``started`` is None when nobody can tell whether the body had started; ``guilty`` says that the death counts as
        an attempt, because nothing else was running.
        """
        if not self._is_out(step):
            return Actions()
        if started is False and not guilty:
            return self.returned(step)
        if self._winding_up is not None:
            return self._finish(step, *self._winding_up)
        if self._steps[step].idempotent or started is False:
            if guilty:
                return self._again(step, error, State.FAILED, wait=False)
            # It began in company: no attempt is counted, but it is not told as one that never started.
            self._in_doubt.add(step)
            return self.returned(step)
        text = f"Outcome unknown: {error.message}; the operation is not idempotent, so it was not run again"
        code = ErrorCode.EXECUTION_ERROR.value
        return self._finish(step, State.FAILED, ErrorInfo(code, text, "OutcomeUnknownError", ("OutcomeUnknownError",)))

    def stopped(self, step: int) -> Actions:
        """The body of a step ended because it was asked to.

        Where nobody wants the run to end, the request was meant for another step of the same call.
        """
        if not self._is_out(step):
            return Actions()
        if self._winding_up is None and self._steps[step].idempotent:
            return self.returned(step)
        return self._finish(step, *(self._winding_up or Stop(State.CANCELLED, cancelled("Cancelled"))))

    def refused(self, step: int, error: ErrorInfo) -> Actions:
        """A step cannot be run at all: its tool cannot be made, or its input cannot be read."""
        return self._finish(step, State.FAILED, error)

    def rejected(self, step: int, error: ErrorInfo, seconds: float) -> Actions:
        """A circuit breaker did not let a step through, and will not for ``seconds``.

        It is tried again only where its retries name the error and may wait so long; that counts as an attempt.
        """
        if self._state[step] is not State.READY:
            return Actions()
        retry = self._steps[step].retry
        if is_named(error.type_names, retry.on) and seconds <= retry.wait_max:
            return self._again(step, error, State.FAILED, least=seconds)
        return self._finish(step, State.FAILED, error)

    def cancel(self, message: str = "Cancelled") -> Actions:
        """End the run: what has not started never will; what runs has to be stopped."""
        return self._wind_up(Stop(State.CANCELLED, cancelled(message)))

    def overdue(self, step: int, error: ErrorInfo) -> Actions:
        """The deadline of a step passed: if it runs it has to be stopped, if not it ends."""
        if self._state[step] in (State.RUNNING, State.HANDED):
            return Actions(stop=[step])
        return self._finish(step, State.TIMED_OUT, error)

    def expire(self, message: str) -> Actions:
        """The run's deadline passed."""
        error = ErrorInfo(ErrorCode.TIMEOUT_ERROR.value, message, "OperationTimeoutError", ("OperationTimeoutError",))
        return self._wind_up(Stop(State.TIMED_OUT, error))

    # --- how ---------------------------------------------------------------------------------------------

    def _finish(self, step: int, state: State, error: ErrorInfo | None) -> Actions:
        actions = Actions()
        self._finish_one(step, state, error, actions)
        return self._tell(actions)

    def _finish_one(self, step: int, state: State, error: ErrorInfo | None, actions: Actions) -> None:
        if self._state[step] < State.COMPLETED:
            # What was answered by the cache, or refused, was no attempt.
            self._tries[step] += self._state[step] is State.HANDED
            self._move(step, State.RUNNING)
            self._end(step, state, error, actions)

    def _wind_up(self, stop: Stop) -> Actions:
        if self._winding_up is not None:
            return Actions()
        self._winding_up, actions = stop, Actions()
        for step in self.unfinished():
            if self._is_out(step):
                actions.stop.append(step)
            else:
                self._end(step, *stop, actions)
        return self._tell(actions)

    def _is_out(self, step: int) -> bool:
        """Whether a replica has the step; what is reported of others is a late duplicate."""
        return self._state[step] in (State.HANDED, State.RUNNING)

    def _may_repeat(self, step: int, error: ErrorInfo) -> bool:
        return self._steps[step].idempotent and is_transient(error, self._steps[step].retry)

    def _again(self, step: int, error: ErrorInfo, state: State, *, wait: bool = True, least: float = 0.0) -> Actions:
        """Try a step again, or end it: with E005 when at least two attempts were made (C-32)."""
        self.started(step)
        actions, tries = Actions(), self._tries[step]
        seconds = next_wait(self._steps[step].retry, tries, self._random)
        if seconds is None or self._winding_up is not None:
            if seconds is None and tries > 1:
                state, error = State.FAILED, error._replace(code=ErrorCode.RETRY_EXHAUSTED.value)
            self._end(step, state, error, actions)
        elif wait:
            self._state[step] = State.BACKOFF
            actions.delayed.append((step, max(seconds, least)))
        else:
            self._offer(step, actions)
        return self._tell(actions)

    def _offer(self, step: int, actions: Actions) -> None:
        if self._winding_up is not None:
            self._end(step, *self._winding_up, actions)
        elif self._waiting[step]:
            self._state[step] = State.WAITING
        elif self._stop_on_failure and self._failure is not None:
            self._skip(step, self._failure, actions)
        else:
            self._state[step] = State.READY
            actions.ready.append(step)

    def _move(self, step: int, state: State) -> None:
        check_move(self._seen(step), state)
        self._state[step] = state

    def _end(
        self, step: int, state: State, error: ErrorInfo | None, actions: Actions, *, skipped: bool = False
    ) -> None:
        self._move(step, state)
        self._open -= 1
        actions.ended.append(Ending(step, STATUS[state], error, skipped))
        actions.untold.append(step)

    def _tell(self, actions: Actions) -> Actions:
        """Tell the successors of everything that ended; a loop, because a chain of skips may be any length."""
        for step in actions.untold:
            state = self._state[step]
            if state is not State.COMPLETED:
                self._cause.setdefault(step, step)
                if self._failure is None and state is not State.CANCELLED:
                    self._failure = step
                    if self._stop_on_failure:
                        self._skip_rest(step, actions)
            self._let_go(step, actions)
            self._tell_successors(step, actions)
        actions.untold = []
        return actions

    def _tell_successors(self, step: int, actions: Actions) -> None:
        failed = self._state[step] is not State.COMPLETED
        for successor, kind in self._successors.get(step, {}).items():
            self._waiting[successor] -= 1
            current = self._state[successor]
            if current >= State.COMPLETED:
                continue
            if failed and kind != _ORDER:
                self._skip(successor, self._cause[step], actions)
            elif not self._waiting[successor] and current is State.WAITING:
                self._offer(successor, actions)

    def _let_go(self, step: int, actions: Actions) -> None:
        """Count the reader off; free the results that have none left."""
        if not self._readers:
            return
        for needed in set(self._steps[step].needs):
            if needed in self._readers:
                self._readers[needed] -= 1
                if not self._readers[needed] and self._state[needed] is State.COMPLETED:
                    actions.free.append(needed)
        if self._readers.get(step) == 0 and self._state[step] is State.COMPLETED:
            actions.free.append(step)

    def _skip_rest(self, failed: int, actions: Actions) -> None:
        # What was handed to a replica may have started: it ends by itself, or comes back and is skipped then.
        for step in self.unfinished():
            if self._state[step] in (State.WAITING, State.READY, State.BACKOFF):
                self._skip(step, failed, actions)

    def _skip(self, step: int, cause: int, actions: Actions) -> None:
        key = cause, any(self._state[needed] > State.COMPLETED for needed in self._steps[step].needs)
        if key not in self._reasons:
            reason = UpstreamFailedError(cause, self._steps[cause].spec, _VERB[self._state[cause]])
            self._reasons[key] = failures.of_runtime(reason) if key[1] else cancelled(str(reason))
        self._cause[step] = cause
        begun = self._tries[step] or step in self._in_doubt
        self._end(step, State.CANCELLED, self._reasons[key], actions, skipped=not begun)


_VERB = {State.FAILED: "failed", State.TIMED_OUT: "timed out", State.CANCELLED: "was cancelled"}
