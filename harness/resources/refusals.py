"""What can be refused before any work is done: a cluster that is not there, a machine too small."""

import socket

from harness.config import Resources
from harness.errors import ClusterError
from harness.resources.machine import usable_cpus, usable_gpus

ANSWER_SECONDS = 5.0


def preflight(address: str | None, resources: Resources) -> None:
    """Check where the study is to run, without Ray, which takes minutes to say no.

    Args:
        address: None for this machine, HOST:PORT of a cluster, or "auto", which is Ray's to find.
        resources: of one trial.

    Raises:
        ClusterError: nothing answers at the address within ANSWER_SECONDS, or this machine has
            fewer cores or GPUs than one trial takes.
    """
    if address is None:
        _check_machine(resources)
    elif ":" in address:
        _check_address(address)


def _check_machine(resources: Resources) -> None:
    there = {"cpus": usable_cpus(), "gpus": usable_gpus() if resources.gpus else 0}
    asked = {"cpus": resources.cpus, "gpus": resources.gpus}
    faults = [
        f"resources.{key} must be at most {there[key]}, which is all that this machine has, "
        f"got {value:g}"
        for key, value in asked.items()
        if value > there[key]
    ]
    if faults:
        raise ClusterError("\n".join(faults))


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        raise ClusterError(f"no Ray cluster at {address}: {error}") from error
