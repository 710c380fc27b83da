from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import Any

import pytest

from aiecs_ray.errors import AiecsError, InterfaceMismatchError
from aiecs_ray.interface_checks import (
    check_interface_compatibility,
    check_interface_version,
    missing_methods,
    signature_mismatches,
)
from aiecs_ray.interfaces import IAsyncContextExecutor, ICacheProvider, IOperationExecutor, IToolExecutor, IToolProvider


class Interface(ABC):
    @abstractmethod
    def call(self, name: str, count: int = 1, **params: Any) -> Any: ...

    @abstractmethod
    async def wait(self, seconds: float) -> None: ...

    def optional(self) -> str:
        return "not asked for"

    limit = 3


class Whole(IToolProvider):
    def get_tool(self, tool_name: str) -> Any:
        return tool_name

    def has_tool(self, tool_name: str) -> bool:
        return bool(tool_name)


class Heir(Whole):
    pass


class Duck:
    def get_tool(self, tool_name: str) -> Any: ...

    def has_tool(self, tool_name: str) -> bool: ...  # type: ignore[empty-body]


class Half(IToolExecutor):
    def execute(self, tool: Any, operation_name: str, **params: Any) -> Any: ...


class Blocked(IToolProvider):
    get_tool = None  # type: ignore[assignment]

    def has_tool(self, tool_name: str) -> bool: ...  # type: ignore[empty-body]


class At:
    def __init__(self, version: Any) -> None:
        self.version = version

    def get_version(self) -> Any:
        return self.version


@pytest.mark.parametrize("implementation", [Whole, Heir, Duck])
def test_class_with_every_method_is_compatible_wherever_it_has_them_from(implementation: type) -> None:
    assert check_interface_compatibility(implementation, IToolProvider) is True


@pytest.mark.parametrize(
    ("implementation", "interface", "missing"),
    [
        (Half, IToolExecutor, "{'execute_async'}"),
        (object, IToolProvider, "{'get_tool', 'has_tool'}"),
        (Blocked, IToolProvider, "{'get_tool'}"),
        (IToolProvider, IToolProvider, "{'get_tool', 'has_tool'}"),
        (Duck, IAsyncContextExecutor, "{'__aenter__', '__aexit__', 'execute_in_context'}"),
    ],
)
def test_class_without_some_methods_is_refused_with_their_names(
    implementation: type, interface: type, missing: str
) -> None:
    with pytest.raises(TypeError) as caught:
        check_interface_compatibility(implementation, interface)

    assert str(caught.value) == f"Missing methods: {missing}"
    assert {AiecsError, ValueError} < set(type(caught.value).__mro__)


def test_abstract_methods_that_are_left_are_listed_inherited_ones_too() -> None:
    class Lower(Half):
        pass

    assert missing_methods(Lower) == ("execute_async",)
    assert missing_methods(IOperationExecutor) == (
        "batch_execute_operations",
        "execute_operation",
        "execute_operations_sequence",
        "execute_parallel_operations",
    )
    assert missing_methods(Heir) == ()
    assert missing_methods(Duck) == ()


def forwarding(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Same(Interface):
    def call(self, name: Any, count: Any = 1, **options: Any) -> None: ...

    async def wait(self, seconds: Any) -> Any: ...


class More(Interface):
    def call(
        self, name: str, count: int = 1, extra: int = 0, *rest: int, deadline: float = 0, **params: Any
    ) -> Any: ...

    async def wait(self, seconds: float = 1) -> None: ...


class Forwarding(Interface):
    def call(self, *args: Any, **kwargs: Any) -> Any: ...

    @forwarding
    async def wait(self, seconds: float) -> None: ...


class Static:
    @staticmethod
    def call(name: str, count: int = 1, **params: Any) -> Any: ...

    @classmethod
    async def wait(cls, seconds: float) -> None: ...


class Nothing:
    call = 3


@pytest.mark.parametrize("implementation", [Same, Same(), More, Forwarding, Static, Static(), Nothing, Interface])
def test_implementation_that_takes_every_call_does_not_mismatch(implementation: object) -> None:
    assert signature_mismatches(implementation, Interface) == ()


class Renamed:
    def call(self, title: str, count: int = 1, **params: Any) -> Any: ...


class Swapped:
    def call(self, count: int, name: str = "", **params: Any) -> Any: ...


class OtherDefault:
    def call(self, name: str, count: int = 2, **params: Any) -> Any: ...


class NoDefault:
    def call(self, name: str, count: int, **params: Any) -> Any: ...


class Narrower:
    def call(self, name: str, count: int = 1) -> Any: ...


class KeywordOnly:
    def call(self, name: str, *, count: int = 1, **params: Any) -> Any: ...


class PositionalOnly:
    def call(self, name: str, count: int = 1, /, **params: Any) -> Any: ...


class Demanding:
    def call(self, name: str, count: int = 1, *, deadline: float, **params: Any) -> Any: ...


class Inserted:
    def call(self, name: str, extra: int = 0, count: int = 1, **params: Any) -> Any: ...


class Async:
    async def call(self, name: str, count: int = 1, **params: Any) -> Any: ...


@pytest.mark.parametrize(
    "implementation",
    [
        Renamed,
        Swapped,
        OtherDefault,
        NoDefault,
        Narrower,
        KeywordOnly,
        PositionalOnly,
        Demanding,
        Inserted,
        Async,
        Renamed(),
    ],
)
def test_implementation_that_would_refuse_or_change_a_call_mismatches(implementation: object) -> None:
    mismatches = signature_mismatches(implementation, Interface)

    assert [mismatch.method for mismatch in mismatches] == ["call"]


def test_sync_method_in_the_place_of_an_async_one_mismatches() -> None:
    class Sync:
        def wait(self, seconds: float) -> None: ...

    (mismatch,) = signature_mismatches(Sync, Interface)

    assert (mismatch.interface, mismatch.implementation) == (
        "async (seconds: 'float') -> 'None'",
        "(seconds: 'float') -> 'None'",
    )


def test_mismatch_reads_as_in_the_document() -> None:
    class Cache:
        def add_to_cache(self, cache_key: str, value: Any) -> None: ...

    (mismatch,) = signature_mismatches(Cache, ICacheProvider)

    assert str(mismatch).splitlines() == [
        "方法 add_to_cache 签名不匹配:",
        "  接口: (cache_key: 'str', value: 'Any', ttl: 'float | None' = None) -> 'None'",
        "  实现: (cache_key: 'str', value: 'Any') -> 'None'",
    ]


@pytest.mark.parametrize(
    ("version", "required"),
    [("1.0.0", "1.0.0"), ("1.10.0", "1.9.0"), ("2.0", "1.9.9"), ("1.0", "1.0.0"), ("1.0.0", "1.0.0rc1")],
)
def test_version_that_is_high_enough_passes(version: str, required: str) -> None:
    check_interface_version(At(version), required)


@pytest.mark.parametrize(("version", "required"), [("1.9.0", "1.10.0"), ("1.0.0", "2.0.0"), ("2.0.0rc1", "2.0.0")])
def test_version_that_is_too_low_is_refused(version: str, required: str) -> None:
    with pytest.raises(ValueError, match="Interface version") as caught:
        check_interface_version(At(version), required)

    assert str(caught.value) == f"Interface version {version} is lower than required {required}"


def test_implementation_without_a_version_passes() -> None:
    check_interface_version(object(), "1.0.0")


@pytest.mark.parametrize(("version", "required"), [("new", "1.0"), ("1.0", "new"), (None, "1.0"), (1.0, "1.0")])
def test_what_is_no_version_is_refused(version: Any, required: str) -> None:
    with pytest.raises(InterfaceMismatchError, match="version"):
        check_interface_version(At(version), required)
