"""Circuit breakers for functions of this process, by operation type (document S1, 8.2.2; contradiction C-41)."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from aiecs_ray.breaker import Breaker, Rejected, counts_as_failure, parse_breaker
from aiecs_ray.errors import AiecsError, CircuitOpenError, InvalidParamsError
from aiecs_ray.failures import type_names
from aiecs_ray.messages import ErrorInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from aiecs_ray.messages import BreakerOptions, RetryOptions


class LocalBreaker:
    """One breaker, for several threads."""

    def __init__(self, name: str, options: BreakerOptions, clock: Callable[[], float]) -> None:
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._breaker = Breaker(options)

    @property
    def state(self) -> str:
        """One of "closed", "open" and "half_open"."""
        return self._breaker.circuit.value

    def reset(self) -> None:
        """Close it and forget what it counted."""
        with self._lock:
            self._breaker.reset()

    @contextlib.contextmanager
    def attempt(self, retry: RetryOptions) -> Iterator[None]:
        """Watch one attempt.

        Raises:
            CircuitOpenError: it is not to be made.
        """
        with self._lock:
            call = self._breaker.admit(self._clock())
            calls, failures = self._breaker.totals(self._clock())
        if isinstance(call, Rejected):
            text = f"The circuit of {self._name} is open: {failures} of {calls} calls failed"
            raise CircuitOpenError(text, call.retry_after)
        try:
            yield
        except BaseException as error:
            failed = self._judge(error, retry)
            with self._lock:
                if failed is None:
                    self._breaker.abandoned(call)
                elif failed:
                    self._breaker.failed(call, self._clock())
                else:
                    self._breaker.succeeded(call, self._clock())
            raise
        with self._lock:
            self._breaker.succeeded(call, self._clock())

    def _judge(self, error: BaseException, retry: RetryOptions) -> bool | None:
        if not isinstance(error, Exception):
            return None
        code = error.error_code if isinstance(error, AiecsError) else "E003"
        return counts_as_failure(ErrorInfo(code, "", type_names=type_names(error)), self._breaker.options, retry)


class OperationBreakers:
    """What an ``ExecutionUtils`` can say of the circuit breakers of its operation types."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._breaker_clock = clock
        self._circuit_breaker: dict[str, LocalBreaker] = {}

    def set_operation_breaker(self, operation_type: str, breaker: bool | Mapping[str, Any] | BreakerOptions) -> None:  # noqa: FBT001  # as everywhere: True takes the defaults
        """Leave one type of operation alone after failures: True, or a dict of options; False ends that.

        An attempt that the breaker does not let through raises ``CircuitOpenError``, which is not tried again.

        Raises:
            InvalidParamsError: an option is unknown or out of its range.

        >>> from aiecs_ray import ExecutionUtils
        >>> utils = ExecutionUtils()
        >>> utils.set_operation_breaker("api_call", {"minimum_calls": 5, "open_seconds": 10})
        >>> utils.circuit_breakers
        {'api_call': 'closed'}
        """
        options = parse_breaker(breaker)
        if options is None:
            self._circuit_breaker.pop(operation_type, None)
        else:
            self._circuit_breaker[operation_type] = LocalBreaker(operation_type, options, self._breaker_clock)

    def reset_operation_breaker(self, operation_type: str) -> None:
        """Close a breaker by hand.

        Raises:
            InvalidParamsError: the type of operation has none.
        """
        if operation_type not in self._circuit_breaker:
            raise InvalidParamsError(f"{operation_type!r} has no circuit breaker")
        self._circuit_breaker[operation_type].reset()

    @property
    def circuit_breakers(self) -> dict[str, str]:
        """The state of each breaker: "closed", "open" or "half_open"."""
        return {name: breaker.state for name, breaker in self._circuit_breaker.items()}
