"""Waits until a Ray cluster has all its nodes.

python -m harness.ray.wait HOST:PORT COUNT [SECONDS]
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence

import ray
from ray.exceptions import RayError

from harness.config import Resources
from harness.environment import environment
from harness.errors import ClusterError
from harness.ray.internals import alive_nodes, quiet_ray
from harness.ray.session import DRIVER_ENVIRONMENT
from harness.resources import preflight

NOT_THERE = 1
# What ray.init raises where there is nothing to join, or no way in.
NO_CLUSTER = (OSError, RuntimeError, ValueError, RayError)
PATIENCE_SECONDS = 600.0
PAUSE_SECONDS = 1.0


def alive(address: str) -> int:
    """How many nodes of a cluster are alive, seen from one of them.

    Raises:
        ClusterError: nothing answers, or not yet.
    """
    preflight(address, Resources())  # Ray takes minutes to say no
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL)
        return len(alive_nodes())
    except NO_CLUSTER as error:
        raise ClusterError(f"no Ray cluster at {address}: {error}") from error
    finally:
        ray.shutdown()


def main(arguments: Sequence[str] | None = None) -> int:
    """Wait; the exit code. Wrong arguments exit with 2, and show the usage."""
    parser = argparse.ArgumentParser(prog="python -m harness.ray.wait", description=__doc__)
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("count", metavar="COUNT", type=int)
    parser.add_argument(
        "seconds", metavar="SECONDS", type=float, nargs="?", default=PATIENCE_SECONDS
    )
    given = parser.parse_args(arguments)
    end = time.monotonic() + given.seconds
    with environment(DRIVER_ENVIRONMENT), quiet_ray(verbose=False):
        while True:
            try:
                there = alive(given.address)
                why = f"{there} of {given.count} nodes are there"
                if there >= given.count:
                    return 0
            except ClusterError as error:
                why = str(error)
            if time.monotonic() > end:
                break
            time.sleep(PAUSE_SECONDS)
    print(f"Ray at {given.address} after {given.seconds:g} s: {why}", file=sys.stderr)
    return NOT_THERE


if __name__ == "__main__":
    sys.exit(main())
