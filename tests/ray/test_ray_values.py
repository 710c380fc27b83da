"""Values and errors that are Ray's own: none of them is mistaken for what it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aiecs_ray.errors import InvalidParamsError, OperationFailedError
from tests.contract.probes import op

if TYPE_CHECKING:
    from aiecs_ray import Runtime

ray = pytest.importorskip("ray")

pytestmark = [pytest.mark.ray, pytest.mark.timeout(60)]


class Sorcerer:
    def give(self, value: Any = None) -> Any:
        return value

    def give_reference(self) -> Any:
        return [ray.put(1)]

    def give_nested_task(self) -> Any:
        return {"task": ray.remote(num_cpus=0)(lambda: 1).remote()}

    def give_bare_reference(self) -> Any:
        return ray.put("the value itself")

    def give_handle(self) -> Any:
        return ray.get_runtime_context().current_actor

    def give_ray_error(self) -> Any:
        return ray.exceptions.TaskCancelledError()

    def give_memory_error(self) -> Any:
        return ray.exceptions.OutOfMemoryError("as a value")

    def raise_ray_error(self) -> None:
        raise ray.exceptions.ActorDiedError

    def raise_get_timeout(self) -> None:
        raise ray.exceptions.GetTimeoutError("not the runtime's")

    def leave(self) -> None:
        ray.actor.exit_actor()


@pytest.fixture
def sorcerer(ray_rt: Runtime) -> Runtime:
    ray_rt.register(Sorcerer, max_replicas=1)
    return ray_rt


@pytest.mark.parametrize("name", ["give_reference", "give_nested_task", "give_handle"])
def test_what_belongs_to_a_process_does_not_leave_it(sorcerer: Runtime, name: str) -> None:
    operations = [op("sorcerer.give", value=n) for n in range(100)]
    operations[50] = op(f"sorcerer.{name}")

    results = sorcerer.run(operations, "batch")

    assert (results[50].status, results[50].error_code) == ("failed", "E003")
    assert "cannot leave its process" in str(results[50].error_message)
    assert [r.result for n, r in enumerate(results) if n != 50] == [n for n in range(100) if n != 50]


def test_a_bare_reference_is_waited_for_or_refused(sorcerer: Runtime) -> None:
    result, after = sorcerer.run([op("sorcerer.give_bare_reference"), op("sorcerer.give", value="after")])

    assert (result.result, result.error_code) in [("the value itself", None), (None, "E003")]
    assert after.result == "after"


@pytest.mark.parametrize("name", ["give_ray_error", "give_memory_error"])
def test_an_error_of_ray_that_is_returned_is_a_value(sorcerer: Runtime, name: str) -> None:
    operations = [op("sorcerer.give", value=n) for n in range(100)]
    operations[50] = op(f"sorcerer.{name}")
    operations[51] = op("sorcerer.give", value=["$result[50]"])

    results = sorcerer.run(operations, "batch")

    assert all(result.completed for result in results)
    assert isinstance(results[50].result, ray.exceptions.RayError)
    assert isinstance(results[51].result[0], ray.exceptions.RayError)


@pytest.mark.parametrize(
    ("name", "kind"), [("raise_ray_error", "ActorDiedError"), ("raise_get_timeout", "GetTimeoutError")]
)
def test_an_error_of_ray_that_is_raised_is_the_tools_own(sorcerer: Runtime, name: str, kind: str) -> None:
    with pytest.raises(OperationFailedError) as caught:
        sorcerer.call(f"sorcerer.{name}", retry=1)

    assert (caught.value.error_code, caught.value.type_name) == ("E003", kind)
    assert sorcerer.call("sorcerer.give", {"value": 1}) == 1


def test_a_body_that_leaves_its_actor_has_failed(sorcerer: Runtime) -> None:
    results = sorcerer.run([op("sorcerer.leave"), op("sorcerer.give", value="after")])

    assert results[0].status == "failed"
    assert results[1].result == "after"


def test_a_reference_of_ray_is_no_parameter(sorcerer: Runtime) -> None:
    with pytest.raises(InvalidParamsError, match="ObjectRef"):
        sorcerer.call("sorcerer.give", {"value": {"deep": [ray.put(1)]}})


def test_an_error_of_ray_is_a_parameter_like_any_other(sorcerer: Runtime) -> None:
    value = sorcerer.call("sorcerer.give", {"value": [ray.exceptions.TaskCancelledError()]})

    assert isinstance(value[0], ray.exceptions.TaskCancelledError)
