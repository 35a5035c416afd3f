"""Waits until a Ray cluster has all its nodes.

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


def alive(address: str) -> int:
    """How many nodes of a cluster are alive, seen from one of them.

    Raises:
        ClusterError: nothing answers, or not yet.
    """
    preflight(address, Resources())  # Ray takes minutes to say no
    with ray_session(Resources(), address, 0, verbose=False):
        return len(cluster_resources())


def main(arguments: Sequence[str] | None = None) -> int:
    """Wait; the exit code. Wrong arguments exit with 2, and show the usage."""
    parser = argparse.ArgumentParser(prog="python -m harness.ray.wait", description=__doc__)
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("count", metavar="COUNT", type=int)
    parser.add_argument("seconds", metavar="SECONDS", type=float, nargs="?", default=600.0)
    given = parser.parse_args(arguments)
    try:
        for attempt in Retrying(
            stop=stop_after_delay(given.seconds),
            wait=wait_fixed(PAUSE_SECONDS),
            retry=retry_if_exception_type(ClusterError),
            reraise=True,
        ):
            with attempt:
                there = alive(given.address)
                if there < given.count:
                    raise ClusterError(f"{there} of {given.count} nodes are there")
    except ClusterError as error:
        print(f"Ray at {given.address} after {given.seconds:g} s: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
