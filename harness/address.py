"""Whether anything answers at a cluster's address; Ray itself takes minutes to say no."""

import socket

from harness.faults import UserError

ANSWER_SECONDS = 5.0


class ClusterError(UserError):
    """Ray cannot give the study what it asks for."""


def check_address(address: str | None) -> None:
    """Try to connect to HOST:PORT or ray://HOST:PORT; "auto" and None are Ray's to find.

    Raises:
        ClusterError: nothing answers there within ANSWER_SECONDS.
    """
    if address is None or ":" not in address:
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        raise ClusterError(f"no Ray cluster at {address}: {error}") from error
