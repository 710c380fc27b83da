"""The addresses of clusters: their form, checked before anything is imported or asked."""

from __future__ import annotations

from aiecs_ray.errors import InvalidInputError
from aiecs_ray.quoting import did_you_mean, nearest, shorten

WORDS = ("local", "auto", "inprocess")
_CLIENT = "ray://"


def host_and_port(address: str) -> tuple[str, int]:
    """Return the two parts of ``"host:port"`` or ``"ray://host:port"``.

    Raises:
        InvalidInputError: it has another form.

    >>> host_and_port("ray://[::1]:10001")
    ('::1', 10001)
    """
    host, _, port = address.removeprefix(_CLIENT).rpartition(":")
    if not host or not (port.isascii() and port.isdigit()):
        text = f"address {shorten(address)!r} is neither 'local', 'auto', 'inprocess' nor 'host:port'"
        raise InvalidInputError(text + did_you_mean(nearest(address, WORDS, 1)))
    return host.strip("[]"), int(port)


def check_address(address: object) -> None:
    """Raise unless ``connect`` can do something with an address.

    Raises:
        InvalidInputError: it is no text, or has an unknown form.
    """
    if type(address) is not str or not address.strip():
        raise InvalidInputError(f"address must be 'local', 'auto', 'inprocess' or 'host:port', got {shorten(address)}")
    if address not in WORDS:
        host_and_port(address)
