"""Does a class implement an interface: its methods, their signatures, its version (document S3, "维护指南")."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, NamedTuple

from packaging.version import InvalidVersion, Version

from aiecs_ray.errors import InterfaceMismatchError
from aiecs_ray.quoting import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

_EMPTY = inspect.Parameter.empty
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class SignatureMismatch(NamedTuple):
    """A method that cannot be called as its interface says; as text, the document's report of it."""

    method: str
    interface: str
    implementation: str

    def __str__(self) -> str:
        """Return the document's three lines: the method, its signature there, its signature here."""
        return f"方法 {self.method} 签名不匹配:\n  接口: {self.interface}\n  实现: {self.implementation}"


def check_interface_compatibility(implementation_class: type, interface_class: type) -> bool:
    """Return ``True`` if a class has every method that the interface asks for, its own or an inherited one.

    The class need not inherit from the interface. Raises ``InterfaceMismatchError``, a ``TypeError``,
    naming the methods that are missing. How they are called is for ``signature_mismatches`` to say.
    """
    missing = [name for name in missing_methods(interface_class) if not _implements(implementation_class, name)]
    if missing:
        raise InterfaceMismatchError(f"Missing methods: {{{', '.join(map(repr, missing))}}}")
    return True


def missing_methods(cls: type) -> tuple[str, ...]:
    """Return the names of the abstract methods that keep a class from being instantiated, sorted.

    >>> from aiecs_ray.interfaces import IToolProvider
    >>> missing_methods(IToolProvider)
    ('get_tool', 'has_tool')
    """
    return tuple(sorted(getattr(cls, "__abstractmethods__", ())))


def signature_mismatches(implementation: object, interface: type) -> tuple[SignatureMismatch, ...]:
    """Return the interface's public methods that ``implementation``, a class or an instance, takes otherwise.

    A call that is right by the interface must be right here: parameters of the same names, order and
    defaults, ``async`` where the interface is. More parameters are welcome if they can be left out, and
    annotations are not compared. Methods that are not there at all are no mismatch.
    """
    cls = implementation if isinstance(implementation, type) else type(implementation)
    names = [name for name in dir(interface) if not name.startswith("_")]
    shared = [name for name in names if callable(getattr(interface, name)) and callable(getattr(cls, name, None))]
    compared = (_compare(cls, interface, name) for name in shared)
    return tuple(mismatch for mismatch in compared if mismatch)


def check_interface_version(implementation: object, required_version: str) -> None:
    """Raise ``InterfaceMismatchError``, a ``ValueError``, if the implementation's version is too low.

    Versions are compared as versions: ``1.10.0`` is later than ``1.9.0``. An implementation without
    ``get_version`` passes, as it does in the document.
    """
    get_version = getattr(implementation, "get_version", None)
    if get_version is None:
        return
    version = get_version()
    if _parse(version) < _parse(required_version):
        raise InterfaceMismatchError(f"Interface version {version} is lower than required {required_version}")


def _parse(version: object) -> Version:
    if not isinstance(version, str):
        raise InterfaceMismatchError(f"An interface version is a string, not {shorten(version)}")
    try:
        return Version(version)
    except InvalidVersion as error:
        raise InterfaceMismatchError(f"{shorten(version)!r} is not a version such as '1.2.0'") from error


def _implements(cls: type, name: str) -> bool:
    method = getattr(cls, name, None)
    return callable(method) and not getattr(method, "__isabstractmethod__", False)


def _compare(cls: type, interface: type, name: str) -> SignatureMismatch | None:
    given, wanted = _signature(cls, name), _signature(interface, name)
    given_async, wanted_async = _is_async(cls, name), _is_async(interface, name)
    if given_async == wanted_async and _accepts(given, wanted):
        return None
    return SignatureMismatch(name, _text(wanted, is_async=wanted_async), _text(given, is_async=given_async))


def _signature(cls: type, name: str) -> inspect.Signature:
    """Return how the method is called on an instance."""
    signature = inspect.signature(getattr(cls, name))
    if isinstance(inspect.getattr_static(cls, name), staticmethod | classmethod):
        return signature
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _is_async(cls: type, name: str) -> bool:
    method = getattr(cls, name)
    return inspect.iscoroutinefunction(method) or inspect.iscoroutinefunction(inspect.unwrap(method))


def _text(signature: inspect.Signature, *, is_async: bool) -> str:
    return f"async {signature}" if is_async else str(signature)


def _accepts(given: inspect.Signature, wanted: inspect.Signature) -> bool:
    """Return whether every call that fits ``wanted`` fits ``given`` and means the same."""
    shared = wanted.parameters.keys() & given.parameters.keys()
    defaults = [(wanted.parameters[name].default, given.parameters[name].default) for name in shared]
    if any(default is not _EMPTY and default != other for default, other in defaults):
        return False
    return all(_binds(given, args, kwargs) for args, kwargs in _calls(wanted))


def _calls(signature: inspect.Signature) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Yield the calls with every parameter by position and by name; each argument is its parameter's name."""
    parameters = list(signature.parameters.values())
    for by_position in (_POSITIONAL, _POSITIONAL[:1]):
        args = [p.name for p in parameters if p.kind in by_position]
        kwargs = {p.name: p.name for p in parameters if p.kind not in by_position and p.kind not in _VARIADIC}
        if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
            kwargs["any_other_name"] = "any_other_name"
        yield args, kwargs


def _binds(signature: inspect.Signature, args: list[str], kwargs: dict[str, str]) -> bool:
    """Return whether a call fits a signature with each argument under its own name, or among the variadic ones."""
    parameters = list(signature.parameters.values())
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
        # Its name is free for the variadic one, a call that ``bind`` refuses and Python does not.
        free = {p.name for p in parameters if p.kind is _POSITIONAL[0] and p.default is not _EMPTY and p.name in kwargs}
        signature = signature.replace(parameters=[p for p in parameters if p.name not in free])
    try:
        bound = signature.bind(*args, **kwargs).arguments
    except TypeError:
        return False
    return all(name == value for name, value in bound.items() if signature.parameters[name].kind not in _VARIADIC)
