"""Who of the clients is still there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PATIENCE = 10.0
"""Seconds that a question about one lease may take; what is not answered then says nothing."""


class Leases:
    """The leases of clients, each a promise that ends with its client.

    Args:
        alive: asks whether the client that made a lease still exists.
    """

    def __init__(self, alive: Callable[[Any], Awaitable[bool]]) -> None:
        self._alive = alive
        self._leases: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def __contains__(self, client: str) -> bool:
        return client in self._leases

    def add(self, client: str, lease: Any) -> None:
        """A client is there, or again."""
        self._leases[client] = lease

    def remove(self, client: str) -> None:
        """A client says goodbye."""
        self._leases.pop(client, None)

    async def gone(self) -> list[str]:
        """Forget and return the clients that are gone; all are asked at once."""
        asked = list(self._leases.items())
        answers = await asyncio.gather(*(self._is_there(lease) for _, lease in asked))
        gone = []
        for (client, lease), there in zip(asked, answers, strict=True):
            # Meanwhile it may have said goodbye, or come back with a new lease.
            if not there and self._leases.get(client) is lease:
                del self._leases[client]
                gone.append(client)
        return gone

    async def _is_there(self, lease: Any) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._alive(lease)
        except TimeoutError:
            return True
