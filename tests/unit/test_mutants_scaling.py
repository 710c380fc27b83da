"""Which replicas are started and stopped, and who is served first."""

from __future__ import annotations

from typing import Any

from aiecs_ray.queueing import FairQueue
from aiecs_ray.scaling import IdleReplica, PoolView, chunk_size, decide


def pool(key: str, **facts: Any) -> PoolView:
    usual: dict[str, Any] = {
        "queued": 0,
        "replicas": 0,
        "starting": 0,
        "idle": (),
        "room": 0,
        "seconds": 1.0,
        "needs": {"CPU": 1.0},
        "most": 8,
        "least": 0,
        "idle_timeout": 300.0,
    }
    return PoolView(key, **{**usual, **facts})


def test_the_replica_idle_longest_makes_room_for_a_tool_that_has_none() -> None:
    idle = (IdleReplica("1", since=50.0), IdleReplica("2", since=20.0))
    pools = [pool("idle", replicas=2, idle=idle, room=2), pool("new", queued=1)]

    decision = decide(pools, {"CPU": 0.0}, now=60.0)

    assert (decision.start, decision.stop) == (("new",), ("2",))


def test_a_replica_idle_for_too_long_is_stopped() -> None:
    idle = (IdleReplica("1", since=0.0), IdleReplica("2", since=100.0))

    decision = decide([pool("t", replicas=2, idle=idle, room=2)], {"CPU": 0.0}, now=301.0)

    assert decision.stop == ("1",)
    assert decision.wake_at == 400.0


def test_a_tool_keeps_the_replicas_that_it_asks_for() -> None:
    idle = (IdleReplica("1", since=0.0), IdleReplica("2", since=0.0))

    decision = decide([pool("t", replicas=2, idle=idle, room=2, least=1)], {"CPU": 0.0}, now=1000.0)

    assert len(decision.stop) == 1


def test_a_tool_never_gets_more_replicas_than_it_may_have() -> None:
    decision = decide([pool("t", queued=100, replicas=1, most=3)], {"CPU": 50.0}, now=0.0)

    assert decision.start == ("t", "t")


def test_a_tool_without_replicas_gets_one_from_a_tool_that_has_most() -> None:
    pools = [pool("small", replicas=1, queued=5), pool("large", replicas=3, queued=5), pool("new", queued=1)]

    decision = decide(pools, {"CPU": 0.0}, now=0.0)

    assert decision.give_back == ("large",)


def test_a_replica_that_died_while_it_was_made_is_not_made_again_at_once() -> None:
    decision = decide([pool("t", queued=1, retry_at=5.0)], {"CPU": 1.0}, now=4.0)

    assert (decision.start, decision.wake_at) == ((), 5.0)


def test_a_chunk_takes_no_more_than_its_time() -> None:
    assert chunk_size(0.01, 1000, 1, 0.05) == 5


def test_higher_priorities_are_served_first() -> None:
    queue: FairQueue[str] = FairQueue()
    for ticket, priority in (("low", -1), ("usual", 0), ("high", 5)):
        queue.push(ticket, owner="ann", priority=priority)

    served = [queue.pop() for _ in range(3)]

    assert served == ["high", "usual", "low"]


def test_tickets_that_are_taken_out_are_gone() -> None:
    queue: FairQueue[str] = FairQueue()
    for ticket in ("a1", "b1", "a2"):
        queue.push(ticket, owner=ticket[0])

    removed = queue.remove(lambda ticket: ticket.startswith("a"))

    assert removed == ["a1", "a2"]
    assert (len(queue), queue.pop()) == (1, "b1")
