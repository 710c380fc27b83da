from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiecs_ray.scaling import (
    MAX_CHUNK,
    PATIENCE,
    TURN,
    WORTH_A_REPLICA,
    Decision,
    IdleReplica,
    PoolView,
    chunk_size,
    decide,
    fits_a_node,
    smooth,
)

NOW = 1000.0
ONE = {"CPU": 1.0}


def pool(key: str = "a", *, idle: tuple[float, ...] = (), **fields: Any) -> PoolView:
    """Return a tool; ``idle`` holds since when each of its idle replicas has been so."""
    replicas = tuple(IdleReplica(f"{key}{number}", since) for number, since in enumerate(idle))
    default: dict[str, Any] = {
        "queued": 0,
        "replicas": len(replicas),
        "starting": 0,
        "room": len(replicas),
        "seconds": None,
        "blocked_since": None,
        "needs": ONE,
        "most": 100,
        "least": 0,
        "idle_timeout": 300.0,
    }
    return PoolView(key, idle=replicas, **(default | fields))


def started(*pools: PoolView, cpus: float = 100.0) -> tuple[str, ...]:
    return decide(pools, {"CPU": cpus}, NOW).start


def test_nothing_to_do_is_nothing_to_decide() -> None:
    assert decide([], {}, NOW) == Decision()
    assert decide([pool()], {"CPU": 2.0}, NOW) == Decision()


def test_the_first_work_of_a_tool_starts_one_replica() -> None:
    assert started(pool(queued=1000)) == ("a",)
    assert started(pool(queued=1000, seconds=10.0)) == ("a",)


def test_work_is_measured_before_more_replicas_follow() -> None:
    assert started(pool(queued=1000, replicas=1, starting=1)) == ()
    assert started(pool(queued=1000, replicas=1)) == ("a",)
    assert started(pool(queued=1000, replicas=2, starting=1)) == ()


def test_replicas_are_started_for_work_that_is_worth_them() -> None:
    assert started(pool(queued=9, replicas=1, seconds=10.0)) == ("a",) * 9
    assert started(pool(queued=1, replicas=1, seconds=WORTH_A_REPLICA)) == ()
    assert started(pool(queued=1, replicas=1, seconds=WORTH_A_REPLICA * 2)) == ("a",)
    assert started(pool(queued=1000, replicas=1, seconds=0.001)) == ("a",) * 2
    assert started(pool(queued=100, replicas=1, seconds=0.001)) == ()


def test_replicas_that_are_starting_take_some_of_the_work() -> None:
    assert started(pool(queued=5, replicas=4, starting=3, seconds=10.0)) == ("a",) * 2
    assert started(pool(queued=3, replicas=3, starting=3, seconds=10.0)) == ()


def test_no_replica_is_started_while_one_has_room() -> None:
    assert started(pool(queued=100, replicas=3, room=1, seconds=10.0)) == ()


def test_work_that_waits_for_a_busy_replica_gets_another_after_a_moment() -> None:
    quick = pool(queued=1, replicas=1, seconds=0.001)

    early = decide([quick._replace(blocked_since=NOW)], {"CPU": 4.0}, NOW)
    late = decide([quick._replace(blocked_since=NOW - PATIENCE)], {"CPU": 4.0}, NOW)
    begun = decide([quick._replace(blocked_since=NOW - PATIENCE, starting=1, queued=5)], {"CPU": 4.0}, NOW)
    most = decide([quick._replace(blocked_since=NOW - PATIENCE, most=1)], {"CPU": 4.0}, NOW)

    assert early == Decision(wake_at=NOW + PATIENCE)
    assert late == Decision(start=("a",))
    assert begun.start == ()
    assert most == Decision()


def test_nobody_is_woken_for_work_that_only_an_event_can_help() -> None:
    blocked = pool("a", queued=5, replicas=1, seconds=0.001, blocked_since=NOW - PATIENCE)

    decision = decide([blocked], {"CPU": 0.0}, NOW)

    assert decision == Decision()


def test_a_tool_gets_so_many_replicas_and_no_more() -> None:
    assert started(pool(queued=100, replicas=1, seconds=10.0, most=4)) == ("a",) * 3
    assert started(pool(queued=100, replicas=4, seconds=10.0, most=4)) == ()
    assert started(pool(queued=100, replicas=5, seconds=10.0, most=4)) == ()


def test_a_tool_keeps_its_least_number_without_work() -> None:
    assert started(pool(least=2)) == ("a", "a")
    assert started(pool(least=2, replicas=1, starting=1)) == ("a",)
    assert started(pool(least=2, replicas=2)) == ()
    assert started(pool(least=3, queued=1)) == ("a",) * 3


def test_a_tool_that_was_replaced_starts_replicas_for_its_last_work_only() -> None:
    assert started(pool(draining=True, least=2)) == ()
    assert started(pool(draining=True, queued=1)) == ("a",)


def test_a_tool_whose_replica_died_waits() -> None:
    waiting = decide([pool(queued=1, retry_at=NOW + 2.0)], {"CPU": 4.0}, NOW)
    over = decide([pool(queued=1, retry_at=NOW)], {"CPU": 4.0}, NOW)

    assert waiting == Decision(wake_at=NOW + 2.0)
    assert over == Decision(start=("a",))


def test_a_tool_that_died_without_work_does_not_wake_anybody() -> None:
    assert decide([pool(retry_at=NOW + 2.0)], {"CPU": 4.0}, NOW).wake_at is None


def test_replicas_are_started_as_far_as_the_resources_reach() -> None:
    greedy = pool("a", queued=100, replicas=1, seconds=10.0)

    assert started(greedy, cpus=3.0) == ("a",) * 3
    assert started(greedy, cpus=0.5) == ()


def test_a_tool_without_replicas_comes_first() -> None:
    greedy, modest = pool("a", queued=100, replicas=1, seconds=10.0), pool("b", queued=1)

    assert started(greedy, modest, cpus=2.0) == ("b", "a")


def test_fractions_of_a_cpu_add_up() -> None:
    tenth = pool(queued=100, replicas=9, seconds=10.0, needs={"CPU": 0.1})

    assert started(tenth, cpus=1.0 - 9 * 0.1) == ("a",)
    assert len(started(tenth._replace(replicas=1), cpus=1.0)) == 10
    assert fits_a_node({"CPU": 0.1 + 0.2}, [{"CPU": 0.3}])


def test_an_idle_replica_of_another_tool_makes_room() -> None:
    other, new = pool("a", idle=(990.0,)), pool("b", queued=1)

    assert decide([other, new], {"CPU": 0.0}, NOW) == Decision(start=("b",), stop=("a0",))


def test_the_replica_that_has_been_idle_longest_makes_room() -> None:
    pools = [pool("a", idle=(995.0, 991.0)), pool("b", idle=(992.0,)), pool("c", queued=1)]

    decision = decide(pools, {"CPU": 0.0}, NOW)

    assert decision.stop == ("a1",)
    assert decision.start == ("c",)


def test_room_is_made_only_as_far_as_it_is_needed() -> None:
    pools = [pool("a", idle=(995.0, 991.0)), pool("b", queued=1)]

    assert decide(pools, {"CPU": 1.0}, NOW).stop == ()


def test_several_replicas_make_room_for_one_that_is_large() -> None:
    pools = [pool("a", idle=(991.0, 992.0, 993.0)), pool("b", queued=1, needs={"CPU": 2.0})]

    decision = decide(pools, {"CPU": 0.0}, NOW)

    assert (decision.start, decision.stop) == (("b",), ("a0", "a1"))


def test_nobody_makes_room_in_vain() -> None:
    small = pool("a", idle=(991.0, 992.0))
    large = pool("b", queued=1, needs={"CPU": 4.0})

    assert decide([small, large], {"CPU": 1.0}, NOW)[:2] == ((), ())


def test_only_what_is_missing_is_taken_from_others() -> None:
    thinker = pool("a", idle=(990.0,), needs={"CPU": 1.0})
    painter = pool("b", idle=(995.0,), needs={"CPU": 1.0, "GPU": 1.0})
    new = pool("c", queued=1, needs={"CPU": 1.0, "GPU": 1.0})

    decision = decide([thinker, painter, new], {"CPU": 1.0, "GPU": 0.0}, NOW)

    assert (decision.start, decision.stop) == (("c",), ("b0",))


def test_a_tool_with_work_keeps_its_idle_replicas() -> None:
    pools = [pool("a", idle=(990.0,), queued=1), pool("b", queued=1)]

    assert decide(pools, {"CPU": 0.0}, NOW).stop == ()


def test_a_tool_makes_no_room_for_itself() -> None:
    assert decide([pool("a", idle=(990.0,), queued=9, replicas=2, room=0, seconds=9.0)], {}, NOW)[:2] == ((), ())


def test_a_tool_does_not_stop_its_own_replica_to_start_another() -> None:
    assert decide([pool("a", idle=(990.0,), least=3)], {"CPU": 0.0}, NOW) == Decision()


def test_a_tool_that_only_grows_leaves_others_their_least_number() -> None:
    kept = pool("a", idle=(990.0, 991.0, 992.0), least=2)
    growing = pool("b", queued=100, replicas=1, seconds=10.0)

    assert decide([kept, growing], {"CPU": 0.0}, NOW).stop == ("a0",)


def test_a_tool_without_any_replica_may_have_even_those() -> None:
    kept = pool("a", idle=(990.0,), least=1)

    assert decide([kept, pool("b", queued=1)], {"CPU": 0.0}, NOW)[:2] == (("b",), ("a0",))


def test_where_nothing_is_idle_the_tool_with_most_replicas_gives_one_back() -> None:
    pools = [pool("a", replicas=2), pool("b", replicas=3), pool("c", queued=1)]

    assert decide(pools, {"CPU": 0.0}, NOW) == Decision(give_back=("b",))


def test_a_tool_without_work_asks_for_nothing() -> None:
    assert decide([pool("a", replicas=2), pool("b")], {"CPU": 0.0}, NOW) == Decision()


def test_a_tool_that_has_a_replica_asks_for_none_of_others() -> None:
    pools = [pool("a", replicas=5), pool("b", replicas=1, queued=100, seconds=10.0)]

    assert decide(pools, {"CPU": 0.0}, NOW).give_back == ()


def test_only_a_tool_that_can_help_gives_back() -> None:
    new = pool("n", queued=1, needs={"CPU": 1.0, "GPU": 1.0})
    starting = pool("s", replicas=9, starting=9, needs={"GPU": 1.0})
    many = pool("m", replicas=8, needs={"CPU": 1.0})
    painter = pool("p", replicas=1, needs={"GPU": 1.0})

    assert decide([new, starting, many, painter], {"CPU": 4.0}, NOW).give_back == ("p",)
    assert decide([new, starting, many], {"CPU": 4.0}, NOW).give_back == ()


def test_a_tool_with_work_keeps_its_only_replica_for_a_turn() -> None:
    new, other = pool("n", queued=1), pool("o", replicas=1, queued=3)
    begun = other._replace(ready_since=NOW - 0.4)
    over = other._replace(ready_since=NOW - TURN)

    early = decide([new, begun], {"CPU": 0.0}, NOW)

    assert (early.give_back, early.wake_at) == ((), pytest.approx(NOW - 0.4 + TURN))
    assert decide([new, over], {"CPU": 0.0}, NOW).give_back == ("o",)
    assert decide([new, begun._replace(queued=0)], {"CPU": 0.0}, NOW).give_back == ("o",)
    assert decide([new, begun._replace(replicas=2)], {"CPU": 0.0}, NOW).give_back == ("o",)


def test_whoever_has_had_a_turn_gives_back_first() -> None:
    first = pool("a", replicas=1, queued=3)._replace(ready_since=NOW - 0.1)
    second = pool("b", replicas=1, queued=3)._replace(ready_since=NOW - 5.0)

    assert decide([first, second, pool("n", queued=1)], {"CPU": 0.0}, NOW).give_back == ("b",)


def test_two_tools_in_need_ask_one_giver_once() -> None:
    pools = [pool("a", replicas=3), pool("b", queued=1), pool("c", queued=1)]

    assert decide(pools, {"CPU": 0.0}, NOW).give_back == ("a",)


def test_replicas_that_are_idle_too_long_are_stopped() -> None:
    decision = decide([pool("a", idle=(600.0, 700.0, 900.0))], {}, NOW)

    assert decision == Decision(stop=("a0", "a1"), wake_at=1200.0)


def test_the_least_number_stays_however_idle() -> None:
    assert decide([pool("a", idle=(1.0, 2.0, 3.0), least=2)], {}, NOW) == Decision(stop=("a0",))
    assert decide([pool("a", idle=(1.0, 2.0), replicas=3, least=2)], {}, NOW) == Decision(stop=("a0",))


def test_replicas_of_a_replaced_tool_are_stopped_once_it_has_no_work() -> None:
    assert decide([pool("a", idle=(999.0,), draining=True, least=1)], {}, NOW).stop == ("a0",)
    assert decide([pool("a", idle=(999.0,), draining=True, queued=1)], {}, NOW).stop == ()


def test_an_idle_replica_is_not_stopped_while_work_waits_for_it() -> None:
    assert decide([pool("a", idle=(1.0,), queued=1)], {}, NOW) == Decision()


def test_a_replica_is_stopped_once() -> None:
    pools = [pool("a", idle=(1.0,), draining=True), pool("b", queued=1)]

    assert decide(pools, {"CPU": 0.0}, NOW) == Decision(start=("b",), stop=("a0",))


@pytest.mark.parametrize(
    ("needs", "nodes", "fits"),
    [
        ({"CPU": 1.0}, [{"CPU": 2.0}], True),
        ({"CPU": 2.0}, [{"CPU": 2.0}], True),
        ({"CPU": 3.0}, [{"CPU": 2.0}, {"CPU": 2.0}], False),
        ({"CPU": 1.0, "GPU": 1.0}, [{"CPU": 4.0}, {"GPU": 4.0}], False),
        ({"CPU": 1.0, "nope": 1.0}, [{"CPU": 4.0}], False),
        ({}, [{}], True),
        ({}, [], False),
    ],
)
def test_a_replica_fits_on_one_node_or_on_none(needs: Any, nodes: Any, fits: Any) -> None:
    assert fits_a_node(needs, nodes) is fits


@pytest.mark.parametrize("seed", range(200))
def test_a_decision_never_uses_more_than_there_is(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  # reproducible
    pools = [random_pool(rng, key) for key in "abcd"[: rng.randint(1, 4)]]
    free = {"CPU": float(rng.randrange(4)), "GPU": float(rng.randrange(2))}

    decision = decide(pools, free, NOW)

    views = {view.key: view for view in pools}
    owners = {replica.id: view for view in pools for replica in view.idle}
    left = dict(free)
    for replica in decision.stop:
        for name, amount in owners[replica].needs.items():
            left[name] += amount
    for key in decision.start:
        for name, amount in views[key].needs.items():
            left[name] -= amount
    assert all(amount >= -1e-6 for amount in left.values())
    assert len(set(decision.stop)) == len(decision.stop)
    for view in pools:
        assert not decision.start.count(view.key) or view.replicas + decision.start.count(view.key) <= view.most
        assert not (view.queued and {replica.id for replica in view.idle} & set(decision.stop))
    assert not set(decision.give_back) & set(decision.start)


def random_pool(rng: random.Random, key: str) -> PoolView:
    idle = tuple(NOW - rng.randrange(600) for _ in range(rng.randrange(3)))
    busy, starting = rng.randrange(3), rng.randrange(2)
    return pool(
        key,
        idle=idle,
        queued=rng.choice((0, 0, 1, 50)),
        replicas=len(idle) + busy + starting,
        starting=starting,
        seconds=rng.choice((None, 0.01, 5.0)),
        blocked_since=rng.choice((None, NOW - 1.0)),
        needs=rng.choice((ONE, {"CPU": 2.0}, {"CPU": 1.0, "GPU": 1.0}, {"CPU": 0.5})),
        least=rng.randrange(2),
        most=rng.choice((6, 8)),
        draining=rng.random() < 0.2,
    )


@pytest.mark.parametrize(
    ("seconds", "queued", "replicas", "size"),
    [
        (None, 1000, 2, 1),
        (0.3, 1000, 2, 1),
        (0.05, 1000, 2, 1),
        (0.025, 1000, 2, 2),
        (0.001, 1000, 2, 50),
        (0.00001, 1000, 2, 100),
        (0.00001, 100, 0, 50),
        (0.00001, 10_000, 2, 100),
        (0.00001, 40_000, 2, 400),
        (0.0, 100_000, 2, MAX_CHUNK),
        (0.001, 10, 2, 3),
        (0.001, 1, 2, 1),
        (0.001, 0, 2, 1),
    ],
)
def test_a_chunk_takes_about_its_time_and_leaves_work_for_others(
    seconds: float | None, queued: int, replicas: int, size: int
) -> None:
    assert chunk_size(seconds, queued, replicas, 0.05) == size


@given(st.floats(0.0, 100.0) | st.none(), st.integers(0, 10**6), st.integers(0, 100), st.floats(0.001, 1.0))
def test_a_chunk_has_one_operation_at_least_and_a_fair_share_at_most(
    seconds: float | None, queued: int, replicas: int, target: float
) -> None:
    size = chunk_size(seconds, queued, replicas, target)

    assert 1 <= size <= max(1, min(MAX_CHUNK, -(-queued // (2 * max(1, replicas)))))
    assert size == 1 or (seconds is not None and size * seconds <= target * (1 + 1e-9))


def test_what_is_sent_of_ten_thousand_quick_operations_is_less_than_a_twentieth_of_them() -> None:
    calls_of_a_replica = 2

    for replicas in (1, 2):
        assert replicas * calls_of_a_replica * chunk_size(0.000_001, 10_000, replicas, 0.05) < 0.05 * 10_000


def test_an_estimate_follows_what_is_measured() -> None:
    estimate: float | None = None
    for _ in range(20):
        estimate = smooth(estimate, 2.0)

    assert estimate == pytest.approx(2.0)
    assert smooth(1.0, 0.0) == pytest.approx(0.7)
    assert smooth(0.001, 10.0) == 5.0


@given(st.floats(0.0, 1e6), st.floats(0.0, 1e6))
def test_an_estimate_lies_between_the_old_one_and_the_new(before: float, measured: float) -> None:
    low, high = sorted((before, measured))

    assert low * (1 - 1e-9) <= smooth(before, measured) <= high * (1 + 1e-9)


def test_two_least_numbers_of_replicas_do_not_take_the_room_from_each_other() -> None:
    pools = [pool("a", idle=(1.0,), least=1), pool("b", least=1)]

    decision = decide(pools, {"CPU": 0.0}, 100.0)

    assert (decision.start, decision.stop, decision.give_back) == ((), (), ())


def test_waiting_work_takes_the_room_of_a_least_number_before_another_least_number_does() -> None:
    pools = [pool("a", least=1), pool("b", idle=(1.0,), least=1), pool("c", queued=1)]

    decision = decide(pools, {"CPU": 0.0}, 100.0)

    assert (decision.start, decision.stop) == (("c",), ("b0",))
