"""Ray itself: a cluster that runs, or one on this machine, quietly and without a word to the network."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from convlens.errors import UsageError

_SECONDS = 10.0  # in which a cluster answers


def imported() -> Any:
    """The package, its reports of use and its progress bars off.

    Raises:
        UsageError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise UsageError(f"Ray is not installed ({error.name}); pip install 'convlens[ray]'") from error
    for handler in logging.getLogger("ray.data").handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.ERROR)
    return ray


def started(address: str | None = None) -> bool:
    """Join a cluster; whether it was started here, and so is to be ended here.

    Args:
        address: of a cluster; without one that which the process has joined, else that of ``RAY_ADDRESS``,
            else one is started on this machine.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at the address.
    """
    ray = imported()
    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS") or None
    own: dict[str, Any] = {} if address else {"include_dashboard": False}
    try:
        if address:
            _answers(address)
        ray.init(address or "local", logging_level=logging.ERROR, log_to_driver=False, **own)
    except (OSError, ValueError) as error:
        what = " ".join(str(error).split())[:200]
        raise UsageError(
            f"the Ray cluster at {address or 'this machine'} cannot be joined: {what}; `ray start --head` "
            "starts one, and one that asks for a token takes RAY_AUTH_MODE=token"
        ) from error
    return address is None


def _answers(address: str) -> None:
    """Refuse a ``HOST:PORT`` where nobody listens, for which Ray waits for minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), _SECONDS).close()


@contextmanager
def joined(address: str | None = None) -> Iterator[Any]:
    """The package while the process is part of a cluster; what was started here ends here."""
    own = started(address)
    ray = imported()
    try:
        yield ray
    finally:
        if own:
            ray.shutdown()
