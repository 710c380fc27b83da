"""What the parts of a runtime ask of it: the runtime itself knows them, and they only know this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Sequence

    from aiecs_ray.catalog import Catalog
    from aiecs_ray.messages import Settled
    from aiecs_ray.packing import Packed
    from aiecs_ray.registry import Registry
    from aiecs_ray.results import Opened
    from aiecs_ray.run import Run
    from aiecs_ray.run_options import Prepared, RunOptions
    from aiecs_ray.watching import Watch


class Client(Protocol):
    """A connection to a coordinator."""

    catalog: Catalog
    registry: Registry

    incarnation: str
    """Of the coordinator: the first part of its runs' ids."""

    def request(self, method: str, *args: Any) -> Any:
        """Call the coordinator and wait for its answer."""

    def request_nowait(self, method: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Call the coordinator."""

    def cache_request(self, method: str, *args: Any, timeout: float | None = None) -> Any:
        """Call the cache and wait for its answer, for ``timeout`` seconds at most."""

    def share(self, packed: Packed) -> Any:
        """Return the form in which a packed value travels: what is large is put where everybody can read it."""

    def fetch(self, reference: Any) -> Packed:
        """Return the large value of a reference."""
        ...

    def history_request(self, method: str, *args: Any) -> Any:
        """Call the history and wait for its answer."""

    def prepare(self, operations: Any, options: RunOptions) -> Prepared:
        """Check a list of operations and make a request of it."""

    def execute(self, prepared: Prepared, watch: Watch | None = None) -> list[Opened]:
        """Run a request to its end, showing it with ``watch``."""

    def start(self, prepared: Prepared) -> Run:
        """Send a request that is answered when the run has begun."""

    def start_execute(self, prepared: Prepared, *, watched: bool = False) -> concurrent.futures.Future[Any]:
        """Send a request that is answered when the run has ended; one that is ``watched`` is kept until released."""

    def open_answer(self, answer: Any, prepared: Prepared) -> list[Opened]:
        """Return what a finished run produced."""

    def open(self, run: str, steps: Sequence[int], settled: Sequence[Settled], specs: Sequence[str]) -> list[Opened]:
        """Return the values and errors of some steps of a run; ``specs`` are those of all its operations."""

    def abandon(self, prepared: Prepared) -> None:
        """End the run of a request, and forget it with its results; does not wait."""

    def cancel(self, prepared: Prepared) -> concurrent.futures.Future[Any]:
        """Cancel the run of a request whose answer is not there yet."""


class Caller(Client, Protocol):
    """A connection on which an operation can be called by its name."""

    def call(self, operation: str, params: dict[str, Any] | str | None = None) -> Any:
        """Run one operation and return its value."""
