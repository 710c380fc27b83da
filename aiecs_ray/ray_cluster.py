"""Joining a Ray cluster: never a bare ``ray.init()``, never a hang on a dead address, never someone else's shutdown."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
import threading
from typing import TYPE_CHECKING, Any

from aiecs_ray.addresses import host_and_port
from aiecs_ray.errors import RuntimeUnavailableError
from aiecs_ray.quoting import shorten

# Under `uv run` Ray would build a second environment for every worker.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
# A call after the end of a cluster must fail, and not start another one.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

import ray  # it reads the variable when it is imported
from ray._private.authentication import authentication_token_setup as token_setup
from ray._private.runtime_env.py_modules import upload_py_modules_if_needed
from ray._private.runtime_env.working_dir import upload_working_dir_if_needed
from ray.experimental import internal_kv

from aiecs_ray.ray_head import HeadWatch, ask  # it imports Ray

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiecs_ray.config import Settings

_AUTH_MODE = "RAY_AUTH_MODE"
KEPT = 86_400
"""Seconds for which uploaded files are kept when no replica uses them."""


class _Joined:
    """The Ray that this process joined for its runtimes: it is left with the last of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users: set[Cluster] = set()
        self.private = False
        self.auth_mode: str | None = None
        self.watch: HeadWatch | None = None

    def leave(self) -> None:
        """Disconnect; with the lock held."""
        if self.watch is not None:
            self.watch.stop()
        ray.shutdown()
        self.restore_auth_mode()

    def restore_auth_mode(self) -> None:
        """Take back the mode that ray.init chose, which would change how the next connect behaves."""
        if self.auth_mode is None:
            os.environ.pop(_AUTH_MODE, None)
        else:
            os.environ[_AUTH_MODE] = self.auth_mode


_joined = _Joined()


class Cluster:
    """A joined cluster; several runtimes of one process share it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.on_lost: Callable[[str], None] = lambda _: None
        """Called with the reason when the head is gone. A Ray that others joined is not watched."""

    def leave(self) -> None:
        """Let go; the last one disconnects, which ends a private cluster. A Ray that others joined stays."""
        with _joined.lock:
            if self in _joined.users:
                _joined.users.discard(self)
                if not _joined.users:
                    _joined.leave()


def join(
    address: str | None,
    settings: Settings,
    *,
    num_cpus: int | None,
    object_store_memory: int | None,
) -> Cluster:
    """Join the cluster at ``address``, or start a private one.

    Raises:
        RuntimeUnavailableError: Ray does not start, nothing answers there within ``connect_timeout`` seconds, or this
            process is connected to another cluster already.
    """
    with _joined.lock:
        if ray.is_initialized():
            return _share(address)
        target = address or os.environ.get("RAY_ADDRESS") or "local"
        _joined.auth_mode = os.environ.get(_AUTH_MODE)
        options: dict[str, Any] = {"num_cpus": num_cpus, "object_store_memory": object_store_memory}
        if target == "local":
            options["include_dashboard"] = False
        else:
            options = {}
            _probe(target, settings.connect_timeout)
            # A cluster that asks for the token gets it; ray.init by itself sends it only to one that it finds itself.
            logging.getLogger(token_setup.__name__).setLevel(logging.ERROR)
            token_setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
            if target != "auto" and not target.startswith("ray://"):
                # With a wrong token ray.init would wait for 20 seconds, and not say why.
                ask(target, settings.connect_timeout)
        try:
            ray.init(
                address=target,
                namespace=settings.namespace,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **options,
            )
        except Exception as error:
            # Ray raises a bare Exception where a node of its own does not come up in time.
            _joined.restore_auth_mode()
            what = "start Ray on this machine" if target == "local" else f"join the Ray cluster at {shorten(target)!r}"
            raise RuntimeUnavailableError(f"cannot {what}: {error}") from error
        cluster = Cluster(_address())
        _joined.users, _joined.private = {cluster}, target == "local"
        _joined.watch = None if target.startswith("ray://") else HeadWatch(cluster.address, _disconnect)
        return cluster


def _disconnect(reason: str) -> None:
    """Let go of a cluster whose head is gone, before Ray ends this process for it."""
    with _joined.lock:
        lost, _joined.users = _joined.users, set()
        for cluster in lost:
            cluster.on_lost(reason)
        _joined.leave()


def _share(address: str | None) -> Cluster:
    """Use the Ray that this process is connected to; there can be only one."""
    connected = _address()
    ours = bool(_joined.users)
    fits = address in (None, "auto", connected) or (address == "local" and ours and _joined.private)
    if not fits:
        text = f"this process is connected to the Ray cluster at {connected}, so it cannot use {shorten(address)!r} too"
        raise RuntimeUnavailableError(f"{text}; close that first, or use another process")
    cluster = Cluster(connected)
    if ours:
        _joined.users.add(cluster)
    return cluster


def _address() -> str:
    return str(ray.get_runtime_context().gcs_address)


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
    host, port = host_and_port(address)
    try:
        with contextlib.closing(socket.create_connection((host, port), timeout=timeout)):
            return
    except OSError as error:
        text = (
            f"nothing answers at {address} ({error.strerror or error}); start a cluster with `ray start --head`, "
            "or connect() without an address for a private one"
        )
        raise RuntimeUnavailableError(text) from error
