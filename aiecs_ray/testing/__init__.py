"""What users test their tools and plans with, and what this project tests its promises with.

- :func:`runtime`: a runtime in this process, with the given tools and nothing else.
- :class:`FakeClock`: time for what takes its clock as an argument.
- :class:`LedgerTool` and :class:`Ledger`: a tool that writes down what it really did, and who reads it.
- :class:`ReplicaKiller`: kills processes of tools; :mod:`aiecs_ray.testing.cluster` kills nodes.
- ``python -m aiecs_ray.testing.simulate``: the coordinator in virtual time, under every fault, checked seed by seed.
"""

from __future__ import annotations

from aiecs_ray.testing.clock import FakeClock
from aiecs_ray.testing.killer import ReplicaKiller
from aiecs_ray.testing.ledger import Ledger, LedgerTool, Line
from aiecs_ray.testing.runtimes import runtime

__all__ = ["FakeClock", "Ledger", "LedgerTool", "Line", "ReplicaKiller", "runtime"]
