"""Wait until a Ray cluster has all its nodes.

python -m harness.ray.wait HOST:PORT COUNT [SECONDS]
"""

import argparse
import sys
from collections.abc import Sequence

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from harness.config import Resources
from harness.errors import ClusterError
from harness.ray.session import cluster_resources, ray_session
from harness.resources import preflight

PAUSE_SECONDS = 1.0


def count_alive(address: str) -> int:
    """Return the number of alive nodes of the cluster at an address.

    Raises:
        ClusterError: Nothing answers at the address.
    """
    preflight(address, Resources())  # Ray itself takes minutes to report a failure
    with ray_session(Resources(), address, 0, verbose=False):
        return len(cluster_resources())


def main(arguments: Sequence[str] | None = None) -> int:
    """Wait for the nodes, and return the exit code. Invalid arguments exit with 2."""
    parser = argparse.ArgumentParser(prog="python -m harness.ray.wait", description=__doc__)
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("count", metavar="COUNT", type=int)
    parser.add_argument("seconds", metavar="SECONDS", type=float, nargs="?", default=600.0)
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
