"""A cluster's address is tried before anything else is done."""

import socket

import pytest

from harness.address import ClusterError, check_address


def test_nothing_to_try_for_this_machine_and_auto() -> None:
    """None and "auto" are left to Ray."""
    check_address(None)
    check_address("auto")


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_listening_port_passes_and_a_closed_one_is_named(scheme: str) -> None:
    """The error has the address, at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"
        check_address(address)
    with pytest.raises(ClusterError, match=f"no Ray cluster at {address}"):
        check_address(address)
