"""Waits until a Ray cluster has all its nodes.

python -m harness.cluster.wait_for_nodes HOST:PORT COUNT [SECONDS]
"""

import logging
import sys
import time
from collections.abc import Sequence

import ray
from ray.exceptions import RayError

from harness.cluster.quiet import quiet_ray
from harness.cluster.session import DRIVER_ENVIRONMENT
from harness.config import Resources
from harness.environment import environment
from harness.errors import ClusterError
from harness.resources import preflight

USAGE, NOT_THERE = 2, 1
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
        return sum(bool(node["Alive"]) for node in ray.nodes())  # type: ignore[no-untyped-call]
    except NO_CLUSTER as error:
        raise ClusterError(f"no Ray cluster at {address}: {error}") from error
    finally:
        ray.shutdown()


def wait_for_nodes(address: str, count: int, seconds: float = PATIENCE_SECONDS) -> None:
    """Return once a cluster has so many nodes.

    Args:
        address: HOST:PORT of the cluster's head.
        count: nodes that must be alive.
        seconds: how long to wait for them.

    Raises:
        ClusterError: it has fewer after so many seconds; the line says how many.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            there = alive(address)
            why = f"{there} of {count} nodes are there"
        except ClusterError as error:
            there, why = 0, str(error)
        if there >= count:
            return
        if time.monotonic() > end:
            raise ClusterError(f"Ray at {address} after {seconds:g} s: {why}")
        time.sleep(PAUSE_SECONDS)


def main(arguments: Sequence[str]) -> int:
    """Wait; the exit code."""
    try:
        address, wanted, seconds = arguments[0], int(arguments[1]), PATIENCE_SECONDS
        if len(arguments) > 2:
            seconds = float(arguments[2])
    except (IndexError, ValueError):
        print(
            "usage: python -m harness.cluster.wait_for_nodes HOST:PORT COUNT [SECONDS]",
            file=sys.stderr,
        )
        return USAGE
    try:
        with environment(DRIVER_ENVIRONMENT), quiet_ray(verbose=False):
            wait_for_nodes(address, wanted, seconds)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return NOT_THERE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
