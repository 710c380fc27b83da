"""The executor's names of parallel steps, its switch for the cache, and whose context a list has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aiecs_ray import OperationExecutor
from tests.contract.probes import Ledger, note, op

if TYPE_CHECKING:
    from aiecs_ray import Runtime

pytestmark = pytest.mark.timeout(40)


class Desk:
    def give(self, value: int) -> int:
        return value

    def note(self, ledger: str) -> int:
        return note(ledger)


@pytest.fixture
def desk(rt: Runtime) -> Runtime:
    rt.register(Desk)
    return rt


@pytest.mark.parametrize(
    ("naming", "names"),
    [("prefixed", ["parallel_0_desk.give", "parallel_1_desk.give"]), ("spec", ["desk.give", "desk.give"])],
)
async def test_parallel_steps_are_named_as_configured(desk: Runtime, naming: str, names: list[str]) -> None:
    executor = OperationExecutor(runtime=desk, config={"parallel_step_naming": naming})

    results = await executor.execute_parallel_operations([op("desk.give", value=n) for n in range(2)])

    assert [(result.step, result.result) for result in results] == list(zip(names, range(2), strict=True))


@pytest.mark.parametrize(("enabled", "runs"), [(True, 1), (False, 2)])
async def test_the_cache_is_switched_off_by_the_configuration(
    desk: Runtime,
    ledger: Ledger,
    enabled: bool,  # noqa: FBT001  # a parameter of the test
    runs: int,
) -> None:
    executor = OperationExecutor(runtime=desk, config={"enable_cache": enabled})

    for _ in range(2):
        await executor.execute_operations_sequence([op("desk.note", ledger=ledger.path)], "ann", ledger.path)

    assert len(ledger) == runs


async def test_a_list_for_two_users_shares_nothing_between_them(desk: Runtime, ledger: Ledger) -> None:
    executor = OperationExecutor(runtime=desk)
    operations = [op("desk.note", ledger=ledger.path, user_id=user) for user in ("ann", "bob")]

    for _ in range(2):
        await executor.execute_parallel_operations(operations)

    assert len(ledger) == 4
