"""Joining a Ray cluster: never a bare ``ray.init()``, never a hang on a dead address, never someone else's shutdown."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from typing import TYPE_CHECKING, Any

from aiecs_ray.errors import RuntimeUnavailableError, shorten

# Under `uv run` Ray would build a second environment for every worker.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray  # it reads the variable when it is imported
from ray._private.runtime_env.py_modules import upload_py_modules_if_needed
from ray._private.runtime_env.working_dir import upload_working_dir_if_needed
from ray.experimental import internal_kv

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiecs_ray.config import Settings

_AUTH_MODE = "RAY_AUTH_MODE"
KEPT = 86_400
"""Seconds for which uploaded files are kept when no replica uses them."""


class Cluster:
    """A joined cluster, and what of it is ours to end."""

    def __init__(self, address: str, *, initialised: bool, auth_mode: str | None) -> None:
        self.address = address
        self._initialised = initialised
        self._auth_mode = auth_mode

    def leave(self) -> None:
        """Disconnect if we connected; a private cluster ends with that."""
        if not self._initialised:
            return
        self._initialised = False
        ray.shutdown()
        # ray.init leaves the mode it chose behind, which would change how the next connect behaves.
        if self._auth_mode is None:
            os.environ.pop(_AUTH_MODE, None)
        else:
            os.environ[_AUTH_MODE] = self._auth_mode


def join(
    address: str | None,
    settings: Settings,
    *,
    num_cpus: int | None,
    object_store_memory: int | None,
) -> Cluster:
    """Join the cluster at ``address``, or start a private one.

    Raises:
        RuntimeUnavailableError: nothing answers there within ``connect_timeout`` seconds.
    """
    auth_mode = os.environ.get(_AUTH_MODE)
    if ray.is_initialized():
        return Cluster(ray.get_runtime_context().gcs_address, initialised=False, auth_mode=auth_mode)
    target = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {
        "address": target,
        "namespace": settings.namespace,
        "log_to_driver": False,
        "logging_level": "ERROR",
    }
    if target == "local":
        options.update(include_dashboard=False, num_cpus=num_cpus, object_store_memory=object_store_memory)
    else:
        _probe(target, settings.connect_timeout)
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError) as error:
        raise RuntimeUnavailableError(f"cannot join the Ray cluster at {shorten(target)!r}: {error}") from error
    return Cluster(ray.get_runtime_context().gcs_address, initialised=True, auth_mode=auth_mode)


def upload(runtime_env: Mapping[str, Any]) -> dict[str, Any]:
    """Put the local folders of a runtime_env into the cluster; return it with their addresses there.

    Ray does this by itself only for the environment of a whole job. That one is not used, because the shared actors
    would inherit it from the client that happened to start them.
    """
    with tempfile.TemporaryDirectory() as scratch:
        uploaded = upload_py_modules_if_needed(dict(runtime_env), include_gitignore=True, scratch_dir=scratch)
        uploaded = upload_working_dir_if_needed(uploaded, include_gitignore=True, scratch_dir=scratch)
    uploaded.pop("excludes", None)
    for address in [uploaded.get("working_dir"), *(uploaded.get("py_modules") or ())]:
        if isinstance(address, str) and address.startswith("gcs://"):
            internal_kv._pin_runtime_env_uri(address, expiration_s=KEPT)  # noqa: SLF001  # Ray has no public way
    return dict(uploaded)


def _probe(address: str, timeout: float) -> None:
    """Ask whether anybody listens: ``ray.init`` waits many minutes for an address where nobody does."""
    if address == "auto":
        return
    plain = address.removeprefix("ray://")
    host, _, port = plain.rpartition(":")
    if not host or not port.isdigit():
        text = f"address {shorten(address)!r} is neither 'local', 'auto' nor 'host:port'"
        raise RuntimeUnavailableError(text)
    try:
        with contextlib.closing(socket.create_connection((host.strip("[]"), int(port)), timeout=timeout)):
            return
    except OSError as error:
        text = (
            f"nothing answers at {address} ({error.strerror or error}); start a cluster with `ray start --head`, "
            "or connect() without an address for a private one"
        )
        raise RuntimeUnavailableError(text) from error
