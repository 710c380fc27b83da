"""A Ray cluster of several nodes on this machine, and what kills its nodes.

The only module of :mod:`aiecs_ray.testing` that imports Ray.
"""

from __future__ import annotations

import contextlib
import os
import random
from typing import TYPE_CHECKING, Any, Self

from ray.cluster_utils import Cluster

# First: it says how Ray's processes start.
import aiecs_ray.ray_cluster  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

STORE = 100 * 2**20
"""Bytes of each node's object store, unless it says otherwise."""
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
}
"""A dead node is noticed after about 1.5 s; Ray's usual 15 s are long for a test."""
_AUTH_MODE = "RAY_AUTH_MODE"


class NodeCluster:
    """A head and further nodes, each with processes of its own; they end with the block.

    ``aiecs_ray.connect(cluster.address)`` joins it. The head holds the coordinator and is never killed. Give it no CPUs
    for tools (the default), so that replicas run on the nodes that may be killed.

    Args:
        nodes: the options of each node beside the head: ``num_cpus``, ``resources``, ``object_store_memory``, ...
        seed: of the choice which node is killed.
        head: the options of the head.
    """

    def __init__(self, *nodes: dict[str, Any], seed: int = 0, head: dict[str, Any] | None = None) -> None:
        self._random = random.Random(seed)
        self._auth_mode = os.environ.get(_AUTH_MODE)
        head_options = {"num_cpus": 0, "include_dashboard": False, **(head or {})}
        # Ray does not type what it tests itself with.
        self._cluster: Any = Cluster(
            initialize_head=True,
            head_node_args={"object_store_memory": STORE, "_system_config": dict(HEALTH), **head_options},
        )
        self._nodes: list[Any] = []
        self.killed = 0
        """How many nodes were killed."""
        for options in nodes:
            self.add(**options)

    @property
    def address(self) -> str:
        """What :func:`aiecs_ray.connect` takes to join the cluster."""
        return str(self._cluster.address)

    @property
    def count(self) -> int:
        """How many nodes there are beside the head."""
        return len(self._nodes)

    def add(self, **options: Any) -> None:
        """Start one more node and wait until the cluster has it."""
        with self._as_the_head_was_started():
            self._nodes.append(self._cluster.add_node(**{"object_store_memory": STORE, **options}))

    def kill(self) -> bool:
        """Kill a random node that this object started, at once and with everything on it; False when none is left."""
        if not self._nodes:
            return False
        node = self._nodes.pop(self._random.randrange(len(self._nodes)))
        self._cluster.remove_node(node, allow_graceful=False)
        self.killed += 1
        return True

    def close(self) -> None:
        """End every node, the head too."""
        self._nodes.clear()
        self._cluster.shutdown()

    @contextlib.contextmanager
    def _as_the_head_was_started(self) -> Iterator[None]:
        """Joining a cluster may turn the token on for this process; a node that asks for one is no use to this head."""
        joined_with = os.environ.pop(_AUTH_MODE, None)
        if self._auth_mode is not None:
            os.environ[_AUTH_MODE] = self._auth_mode
        try:
            yield
        finally:
            os.environ.pop(_AUTH_MODE, None)
            if joined_with is not None:
                os.environ[_AUTH_MODE] = joined_with

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
