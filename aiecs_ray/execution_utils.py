"""The documents' ``ExecutionUtils``: cache, retries and time limits for functions of this process (document S1)."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from aiecs_ray import attempts, keys
from aiecs_ray.attempts import AttemptTimeoutError, RetryStrategy, Slots, Tally, most_exact, name_of, run_within
from aiecs_ray.config import ENV_FILE, ExecutionUtilsConfig
from aiecs_ray.errors import InvalidInputError, OperationTimeoutError
from aiecs_ray.interfaces import ICacheProvider
from aiecs_ray.local_breaker import OperationBreakers
from aiecs_ray.local_cache import LocalCache
from aiecs_ray.retry import PROFILES, parse_retry
from aiecs_ray.shared_cache import SharedCache
from aiecs_ray.store import Missing
from aiecs_ray.timeouts import check_seconds, timeout_context, timeout_text
from aiecs_ray.version import __version__
from aiecs_ray.warm_up import WarmUpReport, warm_up

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from aiecs_ray.client import Client
    from aiecs_ray.messages import RetryOptions

logger = logging.getLogger("aiecs.execution_utils")

CACHE_BYTES = 256 * 1024 * 1024
"""Bytes that the cached values of one ``ExecutionUtils`` may take together."""
VOLATILE = ("timestamp", "request_id")
"""Parameters that change with every call and not the result (document S1, D.1)."""


class ExecutionUtils(OperationBreakers, ICacheProvider):
    """Cache, retries and time limits around any sync or async function; safe to use from several threads.

    ``cache_size`` counts entries, 0 switches the cache off. ``cache_ttl`` is in seconds, 0 is for ever.
    ``retry_attempts`` counts all attempts; the wait between two begins with ``retry_backoff`` seconds and doubles,
    within 1 s and 10 s. Both can be set later and hold for what follows. With a ``runtime`` the entries are in
    the cache of its cluster, whose limits hold; without, in this process.

    Raises:
        InvalidConfigError: a value is out of its range.

    >>> utils = ExecutionUtils(cache_size=10)
    >>> key = utils.generate_cache_key("load", "alice", "task-1", ("a.csv",), {"rows": 5})
    >>> utils.add_to_cache(key, [1, 2])
    >>> utils.get_from_cache(key)
    [1, 2]
    """

    def __init__(  # noqa: PLR0913  # the document's four, and by name what its configuration class adds
        self,
        cache_size: int = 100,
        cache_ttl: float = 3600,
        retry_attempts: int = 3,
        retry_backoff: float = 1.0,
        *,
        default_timeout: float = ExecutionUtilsConfig.DEFAULT_TIMEOUT,
        max_concurrent_operations: int = ExecutionUtilsConfig.MAX_CONCURRENT_OPERATIONS,
        cache_cleanup_interval: float = ExecutionUtilsConfig.CACHE_CLEANUP_INTERVAL,
        cache_bytes: int = CACHE_BYTES,
        runtime: Client | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        async_sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        config = ExecutionUtilsConfig(
            CACHE_SIZE=cache_size,
            CACHE_TTL=cache_ttl,
            RETRY_ATTEMPTS=retry_attempts,
            RETRY_BACKOFF=retry_backoff,
            DEFAULT_TIMEOUT=default_timeout,
            MAX_CONCURRENT_OPERATIONS=max_concurrent_operations,
            CACHE_CLEANUP_INTERVAL=cache_cleanup_interval,
        )
        OperationBreakers.__init__(self, clock)
        self.cache_size, self.cache_ttl = config.CACHE_SIZE, config.CACHE_TTL
        self.retry_attempts, self.retry_backoff = config.RETRY_ATTEMPTS, config.RETRY_BACKOFF
        self.default_timeout = config.DEFAULT_TIMEOUT
        self.max_concurrent_operations = config.MAX_CONCURRENT_OPERATIONS
        interval = config.CACHE_CLEANUP_INTERVAL
        self._cache: LocalCache | SharedCache = (
            LocalCache(self.cache_size, cache_bytes, self.cache_ttl, clock=clock, sweep_interval=interval)
            if runtime is None
            else SharedCache(runtime, self.cache_size, self.cache_ttl)
        )
        self._sleep, self._async_sleep = sleep, async_sleep
        self._retries, self._timeouts = Tally(), Tally()
        self._operation_timeouts: dict[str, float] = {}
        self._operation_retries: dict[str, RetryOptions] = {}
        self._slots = Slots(config.MAX_CONCURRENT_OPERATIONS)

    @classmethod
    def from_config(cls, config: ExecutionUtilsConfig | type[ExecutionUtilsConfig] = ExecutionUtilsConfig) -> Self:
        """Return one made from a configuration, or from a class with its names (contradiction C-27)."""
        return cls(
            config.CACHE_SIZE,
            config.CACHE_TTL,
            config.RETRY_ATTEMPTS,
            config.RETRY_BACKOFF,
            default_timeout=config.DEFAULT_TIMEOUT,
            max_concurrent_operations=config.MAX_CONCURRENT_OPERATIONS,
            cache_cleanup_interval=config.CACHE_CLEANUP_INTERVAL,
        )

    @classmethod
    def from_env(cls, *, env_file: str | Path | None = ENV_FILE, **overrides: Any) -> Self:
        """Return one made from ``EXECUTION_*`` and ``TOOL_EXECUTOR_*``; see :meth:`ExecutionUtilsConfig.from_env`."""
        return cls.from_config(ExecutionUtilsConfig.from_env(env_file=env_file, **overrides))

    def generate_cache_key(  # type: ignore[override]  # noqa: PLR0913  # both documents' keywords (C-24)
        self,
        func_name: str = "",
        user_id: str = "",
        task_id: str = "",
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        operation_type: str = "",
        strict: bool = False,
    ) -> str:
        """Return the key of a call in a context: equal calls have equal keys, in every process.

        ``operation_type`` is another name for ``func_name`` (contradiction C-24); ``self`` among ``kwargs`` is left
        out. A call whose arguments have no exact key gets one that matches nothing and stores nothing.

        Raises:
            InvalidInputError: there is no name.
            TypeError, ValueError: there is no exact key, or ``args`` is no tuple; with ``strict`` only (C-26).
        """
        name = func_name or operation_type
        if not name:
            raise InvalidInputError("a cache key needs func_name (or operation_type)")
        return keys.generate_cache_key(name, user_id, task_id, args, dict(kwargs or {}), strict=strict)

    def generate_optimal_cache_key(  # noqa: PLR0913  # the document's signature
        self,
        func_name: str,
        user_id: str,
        task_id: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        ignore: Collection[str] = VOLATILE,
    ) -> str:
        """Return a key that does not depend on the parameters in ``ignore`` (document S1, D.1)."""
        lasting = {name: value for name, value in kwargs.items() if name not in ignore}
        return self.generate_cache_key(func_name, user_id, task_id, args, lasting)

    def lookup(self, cache_key: str) -> tuple[bool, Any]:
        """Return (True, value) or (False, None): a cached None is a hit (contradiction C-25)."""
        hit, value = self._cache.lookup(cache_key) if isinstance(cache_key, str) else (False, None)
        logger.debug("cache %s: %s", "hit" if hit else "miss", cache_key)
        return hit, value

    def get_from_cache(self, cache_key: str) -> Any | None:
        """Return a copy of the value, or None when there is none or its time has passed."""
        return self.lookup(cache_key)[1]

    def add_to_cache(  # type: ignore[override]  # both documents' keywords (C-24)
        self, cache_key: str, result: Any = Missing.MISSING, ttl: float | None = None, *, value: Any = Missing.MISSING
    ) -> None:
        """Keep a copy of ``result`` for ``ttl`` seconds; None is the default of this object, 0 is for ever.

        ``value`` is another name for ``result`` (contradiction C-24). Nothing is raised: what cannot be stored is
        counted in ``statistics()["uncacheable"]``.
        """
        content = value if result is Missing.MISSING else result
        if content is not Missing.MISSING:
            self._cache.put(cache_key, content, ttl)

    def cleanup_expired_entries(self) -> int:
        """Drop every entry whose time has passed now; how many. A thread does so every 300 seconds (S1, 8.2.1)."""
        return self._cache.sweep()

    async def warm_up_cache(
        self,
        common_operations: Sequence[Mapping[str, Any]],
        *,
        run: Callable[[str, Mapping[str, Any]], Any] | None = None,
    ) -> WarmUpReport:
        """Compute and store what is not cached yet, all at once, and report (contradiction C-35).

        An operation is ``{"func", "args", "kwargs", "func_name", "user_id", "task_id", "ttl"}`` or ``{"operation",
        "params", ...}``; the second form is run by ``run(operation, params)``, and its key is that of a call
        ``operation(**params)``. One that fails is logged and reported and does not harm the others.
        """
        return await warm_up(self, common_operations, self._once, run)

    def create_retry_strategy(
        self,
        metric_name: str | None = None,
        *,
        retry_on: Any = (),
        retry_if_result: Callable[[Any], bool] | None = None,
    ) -> RetryStrategy:
        """Return a decorator for sync and async functions that runs them again where a failure may pass.

        That is a failed connection or a time-out, what ``retry_on`` names (exception classes or their names), and a
        result for which ``retry_if_result`` is true; anything else is raised at once (defect D-16). ``metric_name``
        stands in the log and selects what :meth:`set_operation_retry` was told.

        >>> @ExecutionUtils().create_retry_strategy("api_call", retry_on=KeyError)
        ... def call(): return "done"
        >>> call()
        'done'
        """
        name = metric_name or "operation"
        options = self._retry_options(name)
        return RetryStrategy(
            name=name,
            options=replace(options, on=(*options.on, *parse_retry({"on": retry_on}).on)),
            retry_if_result=retry_if_result,
            on_retry=lambda: self._retries.add(name),
            sleep=self._sleep,
            async_sleep=self._async_sleep,
            breaker=most_exact(self._circuit_breaker, name, name),
        )

    def set_operation_retry(self, operation_type: str, retry: int | str | Mapping[str, Any] | RetryOptions) -> None:
        """Retry one type of operation in its own way: a number of attempts, a profile's name, or options (S1, 8.2.2).

        Raises:
            InvalidParamsError: ``retry`` is none of these.
        """
        self._operation_retries[operation_type] = parse_retry(retry, self._default_retry())

    def set_operation_timeout(self, operation_type: str, timeout: float) -> None:
        """Limit each attempt of one type of operation to ``timeout`` seconds, whatever its caller says (C-34).

        ``operation_type`` is ``tool.op``, ``op``, or the name of a function; the most exact one wins (C-33).

        Raises:
            InvalidTimeoutError: ``timeout`` is not a finite number above 0.
        """
        self._operation_timeouts[operation_type] = check_seconds(timeout)

    @property
    def operation_timeouts(self) -> Mapping[str, float]:
        """The limits set by :meth:`set_operation_timeout`, in seconds."""
        return dict(self._operation_timeouts)

    def timeout_context(self, seconds: float) -> timeout_context:
        """Return a block, for ``with`` or ``async with``, that is cancelled after ``seconds``."""
        return timeout_context(seconds)

    async def execute_with_retry_and_timeout(
        self,
        func: Callable[..., Any],
        timeout: float | None = None,  # noqa: ASYNC109  # the document's signature
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Return ``func(*args, **kwargs)``, each attempt within ``timeout`` seconds, again where a failure may pass.

        ``func`` is async, sync (it runs in a thread, and the loop goes on), or a partial. None is
        ``default_timeout``. Whatever has its own parameters ``func`` or ``timeout`` is given as a partial.

        Raises:
            OperationTimeoutError: the last attempt took too long; it is a ``TimeoutError``.
            RetryExhaustedError: every attempt failed with an error that may pass; the last one is its cause.
            InvalidInputError: ``func`` cannot be called; its coroutine is no function.
        """
        return await self.call(func, args, kwargs, timeout=timeout)

    async def call(  # noqa: PLR0913  # what a caller may say of one call
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        operation_type: str = "",
        timeout: float | None = None,  # noqa: ASYNC109  # the document's name; the limit is for one attempt
        deadline: float | None = None,
    ) -> Any:
        """As :meth:`execute_with_retry_and_timeout`, with the operation's type and a ``deadline`` in seconds.

        The deadline is for all attempts and the waits between them; the last attempt's error is its cause (C-29).
        """
        attempts.check_callable(func)
        seconds, text = self._limit(operation_type, name_of(func), timeout)
        name = operation_type or name_of(func)
        failures: list[Exception] = []

        async def attempt() -> Any:
            try:
                return await self._once(func, args, kwargs or {}, seconds, text)
            except Exception as error:
                failures.append(error)
                if isinstance(error, (AttemptTimeoutError, OperationTimeoutError)):
                    self._note_timeout(name, error)
                raise

        scope = asyncio.timeout(None if deadline is None else check_seconds(deadline))
        try:
            async with scope:
                return await self.create_retry_strategy(name)(attempt)()
        except AttemptTimeoutError as late:
            raise OperationTimeoutError(str(late)) from late.__cause__
        except TimeoutError:
            if deadline is None or not scope.expired():
                raise
            self._timeouts.add(name)
            raise OperationTimeoutError(timeout_text(deadline)) from (failures[-1] if failures else None)

    async def health_check(self) -> dict[str, Any]:
        """Write and read one value beside the users' entries, and say how it went (document S1, 7.4).

        A cache that is switched off is healthy, and says ``"cache": "disabled"`` (contradiction C-39).
        """
        try:
            if not self._cache.probe():
                return {"status": "unhealthy", "error": "Cache test failed"}
            report = {
                "status": "healthy",
                "timestamp": time.time(),
                "cache_size": len(self._cache),
                "version": __version__,
            }
        except Exception as error:  # noqa: BLE001  # whatever is wrong, a health check answers
            return {"status": "unhealthy", "error": str(error)}
        return report if self.cache_size else {**report, "cache": "disabled"}

    def get_memory_stats(self) -> dict[str, int]:
        """Return the number of entries, their bytes as stored, those that can expire, and the most there may be."""
        stats = self._cache.stats
        return {
            "cache_size": stats.entries,
            "cache_memory_bytes": stats.bytes,
            "ttl_entries": self._cache.timed,
            "max_cache_size": self.cache_size,
        }

    def statistics(self) -> dict[str, Any]:
        """Return the counters since this object was made; retries and time-outs also by operation."""
        stats = self._cache.stats
        retries, timeouts = self._retries.counts(), self._timeouts.counts()
        return {
            "hits": stats.hits,
            "misses": stats.misses,
            "hit_rate": stats.hit_rate,
            "uncacheable": self._cache.uncacheable,
            "retries": sum(retries.values()),
            "timeouts": sum(timeouts.values()),
            "retries_by_operation": retries,
            "timeouts_by_operation": timeouts,
        }

    def close(self) -> None:
        """End the thread that drops expired entries; everything else goes on working."""
        self._cache.close()

    def _default_retry(self) -> RetryOptions:
        return parse_retry({"attempts": self.retry_attempts, "multiplier": self.retry_backoff})

    def _retry_options(self, name: str) -> RetryOptions:
        return most_exact(self._operation_retries, name, name) or self._default_retry()

    def _limit(self, operation_type: str, func_name: str, timeout: float | None) -> tuple[float, str]:
        """Return the seconds that one attempt may take, and the text of the error."""
        own = most_exact(self._operation_timeouts, operation_type, func_name)
        if own is None:
            seconds = check_seconds(self.default_timeout if timeout is None else timeout)
            return seconds, timeout_text(seconds)
        name = operation_type or func_name
        logger.debug("timeout of %s is %ss as set for its type, not %s", name, own, timeout)
        return own, timeout_text(own, name)

    async def _once(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        seconds: float | None = None,
        text: str = "",
    ) -> Any:
        async with self._slots.of_loop():
            return await run_within(seconds, text, func, args, kwargs)

    def _note_timeout(self, name: str, error: Exception) -> None:
        self._timeouts.add(name)
        logger.warning("timeout in %s: %s", name, error)


class SmartExecutionUtils(ExecutionUtils):
    """Retries ``api_call``, ``database_query`` and ``file_operation`` each in its own way (document S1, D.2)."""

    def _retry_options(self, name: str) -> RetryOptions:
        return most_exact({**PROFILES, **self._operation_retries}, name, name) or self._default_retry()
