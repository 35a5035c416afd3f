"""Wait until COUNT nodes of a Ray cluster are alive: a command for job scripts that start one.

python -m harness.ray.wait_for_nodes HOST:PORT COUNT [SECONDS]
"""

import argparse
import sys
from collections.abc import Sequence

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from harness.config import Resources
from harness.errors import ClusterError
from harness.ray.session import get_cluster_resources, ray_session
from harness.resources import check_resources

PAUSE_SECONDS = 1.0  # between two attempts


def count_alive(address: str) -> int:
    """Return the number of alive nodes of the cluster at an address.

    Raises:
        ClusterError: Nothing answers at the address, or the cluster cannot be joined.
    """
    check_resources(address, Resources())  # Ray itself takes minutes to report a failure
    with ray_session(Resources(), address, 0, verbose=False):
        return len(get_cluster_resources())


def main(arguments: Sequence[str] | None = None) -> int:
    """Wait for the nodes.

    Args:
        arguments: Arguments of the command. Defaults to those of this process.

    Returns:
        Exit code: 0 once COUNT nodes are alive, 1 if they are not after SECONDS.

    Raises:
        SystemExit: The arguments are invalid (exit code 2).
    """
    parser = argparse.ArgumentParser(
        prog="python -m harness.ray.wait_for_nodes",
        description="Wait until COUNT nodes of a Ray cluster are alive. The exit code is 1 if they "
        "are not alive after SECONDS.",
    )
    parser.add_argument("address", metavar="HOST:PORT", help="address of the cluster's head node")
    parser.add_argument(
        "count", metavar="COUNT", type=int, help="number of nodes, including the head node"
    )
    parser.add_argument(
        "seconds",
        metavar="SECONDS",
        type=float,
        nargs="?",
        default=600.0,
        help="maximum time to wait (default: 600)",
    )
    options = parser.parse_args(arguments)
    try:
        for attempt in Retrying(
            stop=stop_after_delay(options.seconds),
            wait=wait_fixed(PAUSE_SECONDS),
            retry=retry_if_exception_type(ClusterError),
            reraise=True,
        ):
            with attempt:
                n_alive = count_alive(options.address)
                if n_alive < options.count:
                    raise ClusterError(f"{n_alive} of {options.count} nodes are alive")
    except ClusterError as error:
        line = f"Ray at {options.address} is not ready after {options.seconds:g} s: {error}"
        print(line, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
