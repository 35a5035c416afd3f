"""What a trial takes, and what there is of it: decided, refused, or told as idle.

By default each trial takes one GPU where any node has one, else none.
"""

import os
import socket
from collections.abc import Mapping, Sequence

from harness.config import Resources
from harness.device import usable_gpus, why_no_gpu
from harness.errors import ClusterError

ANSWER_SECONDS = 5.0

# What each node of a machine or a cluster has, in use or not: resource -> how many, by Ray's names.
Nodes = Sequence[Mapping[str, float]]


def usable_cpus() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def machine_resources() -> Nodes:
    """What Ray would find here: one node's CPU and GPU, be torch able to use it or not."""
    return [{"CPU": usable_cpus(), "GPU": usable_gpus()}]


def gpus_of(there: Nodes) -> int:
    """GPUs of all nodes."""
    return int(sum(node.get("GPU", 0) for node in there))


def resolved_resources(resources: Resources, there: Nodes) -> Resources:
    """Return what one trial takes, with the number of GPUs decided.

    Args:
        resources: Resources of the study. `gpus` None means one GPU where any node has one.
        there: Resources of each node.
    """
    if resources.gpus is not None:
        return resources
    return Resources(cpus=resources.cpus, gpus=1 if gpus_of(there) else 0)


def at_once(resources: Resources, there: Nodes) -> int:
    """How many trials find room, each on one node; 0: not even one."""
    asked = {"CPU": resources.cpus, "GPU": resources.gpus}
    rooms = [[node.get(name, 0) / each for name, each in asked.items() if each] for node in there]
    return sum(int(min(room) + 1e-9) for room in rooms)  # three thirds of a GPU are less than one


def slots(resources: Resources, there: Nodes, concurrency: int | None, waiting: int = 0) -> int:
    """How many trials of a study are out at once; at least one.

    Args:
        concurrency: the most that the study allows.
        waiting: how many of them there is no room for.
    """
    most = at_once(resources, there) + waiting
    return max(1, min(most, concurrency or most))


def preflight(address: str | None, resources: Resources) -> None:
    """Check where the study is to run, without Ray, which takes minutes to say no.

    Args:
        address: None for this machine, HOST:PORT of a cluster, or "auto", which is Ray's to find.
        resources: of one trial.

    Raises:
        ClusterError: nothing answers at the address within ANSWER_SECONDS, or this machine has
            fewer cores or GPUs than one trial takes, or GPUs that torch cannot use; one line.
    """
    if address is None:
        there = machine_resources()
        if resolved_resources(resources, there).gpus and (why := why_no_gpu()):
            raise ClusterError(
                f"each trial takes a GPU, and torch cannot use a GPU here: {why.rstrip('.')} "
                "(set resources.gpus=0 to run on the CPU)"
            )
        check_room(resources, there)
    elif ":" in address:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
        except (OSError, OverflowError, ValueError) as error:
            raise ClusterError(f"no Ray cluster at {address}: {error}") from error


def check_room(resources: Resources, there: Nodes) -> None:
    """Refuse a trial that no node has room for: it has one node, or waits for ever.

    Raises:
        ClusterError: one line.
    """
    each = resolved_resources(resources, there)
    if not at_once(each, there):
        have = {f"{n.get('CPU', 0):g} cores and {n.get('GPU', 0):g} GPUs" for n in there}
        raise ClusterError(
            f"resources must fit one machine ({'; '.join(sorted(have))}), "
            f"got cpus {each.cpus:g} and gpus {each.gpus:g}"
        )


def idle_gpus(resources: Resources, there: Nodes, concurrency: int | None) -> str | None:
    """Return a line on GPUs that no trial takes, None if there are none or trials run on the CPU.

    Args:
        resources: of one trial, as the study has them.
        there: what the machine or the cluster has.
        concurrency: the most trials at once that the study allows.
    """
    each, gpus = resolved_resources(resources, there), gpus_of(there)
    if not each.gpus:
        return None
    idle = int(gpus - slots(each, there, concurrency) * each.gpus + 1e-9)
    if idle < 1:
        return None
    return (
        f"{idle} of {gpus} GPUs would be idle: lower `resources.cpus` or raise `concurrency` to "
        "run more trials at once"
    )


def idle_gpus_here(resources: Resources, concurrency: int | None) -> str | None:
    """The same of this machine; None also where torch cannot use what it has."""
    return None if why_no_gpu() else idle_gpus(resources, machine_resources(), concurrency)
