"""The head of a cluster, asked from outside: whether it takes our token, and whether it is still there.

Ray itself waits for a head that is gone, and then ends the process that waits. So the head is asked beside Ray.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import grpc
from ray._private.authentication.grpc_authentication_client_interceptor import _get_authentication_metadata_tuple

from aiecs_ray.errors import AuthenticationError
from aiecs_ray.quoting import shorten

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

_ASK = "/ray.rpc.NodeInfoGcsService/GetClusterId"
_REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
PAUSE = 5.0
"""Seconds between two questions."""
PATIENCE = 40.0
"""Seconds for which the head may be silent; after 60 Ray ends the process, unless it was told otherwise."""
ANSWER = 2.0


def ask(address: str, timeout: float) -> bytes | None:
    """Return what identifies the cluster at ``address``; None when nobody answers within ``timeout`` seconds.

    Raises:
        AuthenticationError: it does not accept the token of this process.
    """
    with grpc.insecure_channel(address) as channel:
        try:
            found: bytes = channel.unary_unary(_ASK)(
                b"", timeout=timeout, metadata=_get_authentication_metadata_tuple()
            )
        except grpc.RpcError as error:
            if error.code() not in _REFUSED:
                return None
            text = f"the Ray cluster at {address} does not accept this token ({shorten(error.details(), 200)})"
            remedy = "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's own"
            raise AuthenticationError(f"{text}; {remedy}") from error
    return found


class HeadWatch:
    """Asks every few seconds whether the head is there, in a thread of its own.

    Args:
        address: where it listens.
        lost: called once with the reason, when it has been silent for too long or is another one.
    """

    def __init__(self, address: str, lost: Callable[[str], None]) -> None:
        self._address = address
        self._lost = lost
        self._over = threading.Event()
        threading.Thread(target=self._watch, name="aiecs-ray head watch", daemon=True).start()

    def stop(self) -> None:
        """Ask no more."""
        self._over.set()

    def _watch(self) -> None:
        first: bytes | None = None
        heard = time.monotonic()
        while not self._over.wait(PAUSE):
            found = self._ask()
            if found is not None:
                heard = time.monotonic()
                first = first or found
            if first is not None and found not in (None, first):
                self._tell("another cluster was started in its place")
            elif time.monotonic() - heard > PATIENCE:
                self._tell(f"it has not answered for {PATIENCE:g}s")

    def _ask(self) -> bytes | None:
        try:
            return ask(self._address, ANSWER)
        except AuthenticationError:
            # It was let in once: this is another one, with another token.
            return b""

    def _tell(self, reason: str) -> None:
        if not self._over.is_set():
            self._over.set()
            logger.warning("the head of the Ray cluster at %s is lost: %s", self._address, reason)
            self._lost(reason)
