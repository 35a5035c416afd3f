"""What can be refused before any work is done: a cluster that is not there, a machine too small."""

import os
import socket

from harness.faults import UserError
from harness.options import Resources

ANSWER_SECONDS = 5.0


class ClusterError(UserError):
    """Ray cannot give the study what it asks for."""


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


def usable_cpus() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def machine(resources: Resources) -> dict[str, float]:
    """What Ray would find here: CPU and, where it is asked for, GPU."""
    gpus = usable_gpus() if resources.gpus or resources.auto else 0
    return {"CPU": usable_cpus(), "GPU": gpus}


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


def usable_gpus() -> int:
    """GPUs that this process may use."""
    import torch

    return torch.cuda.device_count()


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        raise ClusterError(f"no Ray cluster at {address}: {error}") from error
