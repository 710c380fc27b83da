"""Leases: clients that are gone are found, all at once, and those that come and go meanwhile are left alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiecs_ray.actors import leases
from aiecs_ray.actors.leases import Leases

if TYPE_CHECKING:
    import pytest


async def test_a_client_whose_lease_has_ended_is_gone() -> None:
    ended = {"lease of ann"}
    clients = Leases(lambda lease: asyncio.sleep(0, lease not in ended))
    clients.add("ann", "lease of ann")
    clients.add("bob", "lease of bob")

    first, second = await clients.gone(), await clients.gone()

    assert (first, second) == (["ann"], [])
    assert ("ann" in clients, "bob" in clients, len(clients)) == (False, True, 1)


async def test_who_says_goodbye_while_it_is_asked_for_is_not_gone() -> None:
    clients: Leases

    async def alive(_: object) -> bool:
        clients.remove("ann")
        return False

    clients = Leases(alive)
    clients.add("ann", "lease")

    assert await clients.gone() == []


async def test_who_comes_back_while_the_old_lease_is_asked_for_stays() -> None:
    clients: Leases

    async def alive(_: object) -> bool:
        clients.add("ann", object())
        return False

    clients = Leases(alive)
    clients.add("ann", object())

    assert await clients.gone() == []
    assert "ann" in clients


async def test_a_lease_that_never_answers_says_nothing_and_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "PATIENCE", 0.01)

    async def alive(lease: str) -> bool:
        if lease == "silent":
            await asyncio.Event().wait()
        return False

    clients = Leases(alive)
    clients.add("ann", "silent")
    clients.add("bob", "ended")

    assert await clients.gone() == ["bob"]
    assert "ann" in clients
