"""``connect``: which cluster, and how to reach it without hanging."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiecs_ray.addresses import check_address
from aiecs_ray.config import Settings
from aiecs_ray.errors import InvalidInputError
from aiecs_ray.exits import keep_interrupts
from aiecs_ray.logs import use_settings
from aiecs_ray.quoting import shorten
from aiecs_ray.running import current
from aiecs_ray.runtime import Runtime

if TYPE_CHECKING:
    from aiecs_ray.backend import Link
    from aiecs_ray.registry import Registry


def connect(  # noqa: PLR0913  # by name
    address: str | None = None,
    *,
    settings: Settings | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
    num_cpus: int | None = None,
    object_store_memory: int | None = None,
) -> Runtime:
    """Return a runtime.

    Args:
        address: None: the cluster of ``RAY_ADDRESS``, or a Ray that this process is already connected to, or else a
            private one on this machine that ends with the runtime; inside an operation that runs in a replica: the
            runtime that runs it. "local": a private one. "auto": the one running
            on this machine. "host:port": that one. "inprocess": no Ray at all, tools run as threads of this process.
        settings: otherwise read from the environment (``AIECS_RAY_*``).
        runtime_env: Ray's runtime environment for the replicas of this client's tools; in process nothing is
            made of it.
        registry: the tools to offer; otherwise those registered in this process.
        num_cpus: CPUs of a private cluster.
        object_store_memory: bytes of a private cluster's object store.

    Raises:
        RuntimeUnavailableError: nothing answers at the address.
        InvalidInputError: an argument is wrong, or means nothing for this address.
        InvalidConfigError: a setting is wrong.
    """
    attempt = current()
    if address is None and settings is None and attempt is not None and attempt.home is not None:
        return _runtime(attempt.home(), Settings.load(), registry, runtime_env)
    _check(address, settings, runtime_env, {"num_cpus": num_cpus, "object_store_memory": object_store_memory})
    settings = settings if settings is not None else Settings.load()
    use_settings(settings)
    if address == "inprocess":
        # The actors take as long to import as everything else: a client of Ray needs them later, or never.
        inprocess = importlib.import_module("aiecs_ray.inprocess")
        return _runtime(inprocess.InProcessLink(settings), settings, registry, runtime_env)
    keep_interrupts()
    # Importing Ray takes a second: only who uses it pays.
    backend = importlib.import_module("aiecs_ray.ray_backend")
    link = backend.connect(address, settings, num_cpus=num_cpus, object_store_memory=object_store_memory)
    return _runtime(link, settings, registry, runtime_env)


def _check(address: object, settings: object, runtime_env: object, sizes: Mapping[str, int | None]) -> None:
    """Raise for arguments that would be ignored, or would fail later and elsewhere."""
    if address is not None:
        check_address(address)
    if settings is not None and not isinstance(settings, Settings):
        raise InvalidInputError(f"settings must be aiecs_ray.config.Settings(...), got {shorten(settings)}")
    if runtime_env is not None and not isinstance(runtime_env, Mapping):
        raise InvalidInputError(f"runtime_env must be a dict, got {shorten(runtime_env)}")
    for name, size in sizes.items():
        if size is None:
            continue
        if type(size) is not int or size < 1:
            raise InvalidInputError(f"{name} must be a whole number from 1 on, got {shorten(size)}")
        if address not in (None, "local"):
            text = f"{name} sizes a private cluster, connect('local'); it means nothing for {shorten(address)!r}"
            raise InvalidInputError(text)


def _runtime(
    link: Link, settings: Settings, registry: Registry | None, runtime_env: Mapping[str, Any] | None
) -> Runtime:
    try:
        return Runtime(link, settings, registry=registry, runtime_env=runtime_env)
    except BaseException:
        link.close()
        raise
