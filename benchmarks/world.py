"""What is measured, side by side on one machine: aiecs-ray, Ray actors made by hand, Dask's workers."""

from __future__ import annotations

import contextlib
import importlib
import secrets
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

import psutil

import aiecs_ray
from benchmarks.tools import ArrayTool, NoopTool, OtherTool, SinkTool, SpinTool

if TYPE_CHECKING:
    from types import TracebackType

CPUS = 2
STORE = 2 * 10**9
"""Bytes of the object store."""

Value = TypeVar("Value")


class World:
    """Everything that the cases of one group run on; made when first used, and gone at the end of the group."""

    def __init__(self, *, quick: bool = False) -> None:
        self.quick = quick
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit.close()

    def pick(self, full: Value, quick: Value) -> Value:
        """Return a size: of the real measurement, or of the small form that only shows that everything runs."""
        return quick if self.quick else full

    @cached_property
    def rt(self) -> aiecs_ray.Runtime:
        """A runtime on a private cluster, all its settings at their defaults."""
        store = self.pick(STORE, STORE // 10)
        rt = self._exit.enter_context(aiecs_ray.connect("local", num_cpus=CPUS, object_store_memory=store))
        # The actors made by hand take no CPU from the scheduler either.
        rt.register(NoopTool, num_cpus=0, min_replicas=CPUS, max_replicas=CPUS)
        rt.register(SpinTool, num_cpus=0, min_replicas=CPUS, max_replicas=CPUS)
        for cls in (OtherTool, SinkTool):
            rt.register(cls, num_cpus=0, max_replicas=1)
        rt.register(ArrayTool, num_cpus=0, max_replicas=CPUS)
        return rt

    @cached_property
    def raw(self) -> Any:
        """The module of what is written by hand; Ray is imported with it."""
        return importlib.import_module("benchmarks.raw")

    @cached_property
    def actors(self) -> list[Any]:
        """As many actors made by hand as the tool has replicas, on the same cluster."""
        assert self.rt is not None
        return [self.raw.RawActor.remote() for _ in range(CPUS)]

    @cached_property
    def dask(self) -> Any:
        """A client of as many Dask workers."""
        distributed = importlib.import_module("distributed")
        cluster = distributed.LocalCluster(
            n_workers=CPUS, threads_per_worker=1, dashboard_address=":0", memory_limit=None
        )
        self._exit.enter_context(cluster)
        return self._exit.enter_context(distributed.Client(cluster))

    @staticmethod
    def context() -> dict[str, str]:
        """Return a context that nobody used: everything in it misses the cache."""
        return {"user_id": "benchmarks", "task_id": secrets.token_hex(8)}

    def coordinator(self) -> psutil.Process:
        """Return the coordinator's process."""
        assert self.rt is not None
        for child in psutil.Process().children(recursive=True):
            if any("_CoordinatorActor" in word for word in child.cmdline()):
                return child
        raise LookupError("the coordinator has no process")
