"""What can be refused before any work is done: a cluster that is not there, a machine too small."""

import socket

from harness.config import Resources
from harness.errors import ClusterError
from harness.resources.device import gpu_remedy, why_no_gpu
from harness.resources.machine import usable_cpus, usable_gpus

ANSWER_SECONDS = 5.0


def preflight(address: str | None, resources: Resources) -> None:
    """Check where the study is to run, without Ray, which takes minutes to say no.

    Args:
        address: None for this machine, HOST:PORT of a cluster, or "auto", which is Ray's to find.
        resources: of one trial.

    Raises:
        ClusterError: nothing answers at the address within ANSWER_SECONDS, or this machine has
            fewer cores or GPUs than one trial takes, or GPUs that torch cannot use.
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
    unusable = _unusable(resources)
    if unusable:  # then their number says nothing
        faults = [fault for fault in faults if not fault.startswith("resources.gpus")]
        faults.append(unusable)
    if faults:
        raise ClusterError("\n".join(faults))


def _unusable(resources: Resources) -> str:
    """Why trials cannot have the GPUs that they ask for, and what to do; "": they can."""
    if not resources.gpus and not (resources.auto and usable_gpus()):
        return ""
    why = why_no_gpu()
    return unusable_gpus(resources, "here", why) if why else ""


def unusable_gpus(resources: Resources, where: str, why: str) -> str:
    """The line for GPUs that trials ask for and torch cannot use.

    Args:
        resources: of one trial.
        where: the GPUs are, e.g. "here".
        why: in torch's words.
    """
    asked = (
        "resources.auto finds GPUs" if resources.auto else f"resources.gpus is {resources.gpus:g}"
    )
    way_out = "'resources={cpus: 1}'" if resources.auto else "resources.gpus=0"
    return (
        f"{asked}, but torch cannot use a GPU {where}: {why.rstrip('.')} ({gpu_remedy(why)}; "
        f"--set {way_out} runs on the CPU)"
    )


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        raise ClusterError(f"no Ray cluster at {address}: {error}") from error
