"""Resolve a trial's resources, check that a machine or cluster has them, and report idle GPUs.

By default each trial uses one GPU if any node has one, else none.
"""

import os
import socket
from collections.abc import Mapping, Sequence

from harness.config import Resources
from harness.device import count_visible_gpus, find_gpu_fault
from harness.errors import ClusterError

ANSWER_SECONDS = 5.0  # timeout for a connection to a cluster

# Total resources of each node of a machine or cluster: Ray's name of a resource -> amount.
Nodes = Sequence[Mapping[str, float]]


def count_usable_cpus() -> int:
    """Return the number of CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def get_machine_resources() -> Nodes:
    """Return this machine's resources as Ray detects them, including GPUs that torch cannot use."""
    return [{"CPU": count_usable_cpus(), "GPU": count_visible_gpus()}]


def count_gpus(nodes: Nodes) -> int:
    """Return the number of GPUs of all nodes."""
    return int(sum(node.get("GPU", 0) for node in nodes))


def resolve_resources(resources: Resources, nodes: Nodes) -> Resources:
    """Return the resources of one trial, with a number in place of `gpus` None.

    Args:
        resources: Resources of one trial, as in the study. `gpus` None means one GPU if any node
            has one, else none.
        nodes: Resources of each node.
    """
    if resources.gpus is not None:
        return resources
    return Resources(cpus=resources.cpus, gpus=1 if count_gpus(nodes) else 0)


def count_fitting_trials(resources: Resources, nodes: Nodes) -> int:
    """Return how many trials can run at once. A trial uses the resources of only one node.

    Args:
        resources: Resolved resources of one trial.
        nodes: Resources of each node.
    """
    amounts = {"CPU": resources.cpus, "GPU": resources.gpus}
    ratios_by_node = [
        [node.get(name, 0) / amount for name, amount in amounts.items() if amount] for node in nodes
    ]
    # a tolerance for shares such as 1/3, whose ratio may be slightly less than a whole number
    return sum(int(min(ratios) + 1e-9) for ratios in ratios_by_node)


def count_slots(
    resources: Resources, nodes: Nodes, max_concurrent_trials: int | None, waiting: int = 0
) -> int:
    """Return how many trials of a study to submit at once; at least one.

    Args:
        resources: Resolved resources of one trial.
        nodes: Resources of each node.
        max_concurrent_trials: Maximum that the study allows. None for no maximum.
        waiting: Number of trials to submit in addition to those that fit at once.
    """
    n_fitting = count_fitting_trials(resources, nodes) + waiting
    return max(1, min(n_fitting, max_concurrent_trials or n_fitting))


def check_resources(address: str | None, resources: Resources) -> None:
    """Check that a study can run, before Ray is started. Ray itself takes minutes to report this.

    Args:
        address: HOST:PORT of a cluster, at which something has to answer. For "auto" nothing is
            checked. None checks the resources of this machine.
        resources: Resources of one trial, as in the study.

    Raises:
        ClusterError: Nothing answers at the address within ANSWER_SECONDS, this machine has fewer
            cores or GPUs than one trial needs, or torch cannot use its GPUs.
    """
    if address is None:
        nodes = get_machine_resources()
        if resolve_resources(resources, nodes).gpus and (reason := find_gpu_fault()):
            raise ClusterError(
                "each trial needs a GPU, but torch cannot use a GPU on this machine: "
                f"{reason.rstrip('.')} (set resources.gpus=0 to run on the CPU)"
            )
        check_capacity(resources, nodes)
    elif ":" in address:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
        except (OSError, OverflowError, ValueError) as error:
            raise ClusterError(f"no Ray cluster at {address}: {error}") from error


def check_capacity(resources: Resources, nodes: Nodes) -> None:
    """Check that a trial fits on one node. If it fits on none, Ray would wait forever.

    Args:
        resources: Resources of one trial, as in the study.
        nodes: Resources of each node.

    Raises:
        ClusterError: No node has the resources of one trial.
    """
    resolved = resolve_resources(resources, nodes)
    if not count_fitting_trials(resolved, nodes):
        sizes = {f"{node.get('CPU', 0):g} cores and {node.get('GPU', 0):g} GPUs" for node in nodes}
        raise ClusterError(
            f"resources must fit one machine ({'; '.join(sorted(sizes))}), "
            f"got cpus {resolved.cpus:g} and gpus {resolved.gpus:g}"
        )


def describe_idle_gpus(
    resources: Resources, nodes: Nodes, max_concurrent_trials: int | None
) -> str | None:
    """Return a warning if some GPUs would stay idle. None if not, or if trials run on the CPU.

    Args:
        resources: Resources of one trial, as in the study.
        nodes: Resources of each node.
        max_concurrent_trials: Maximum number of concurrent trials. None for no maximum.
    """
    resolved, n_gpus = resolve_resources(resources, nodes), count_gpus(nodes)
    if not resolved.gpus:
        return None
    n_used = count_slots(resolved, nodes, max_concurrent_trials) * resolved.gpus
    n_idle = int(n_gpus - n_used + 1e-9)
    if n_idle < 1:
        return None
    return (
        f"{n_idle} of {n_gpus} GPUs would be idle: lower `resources.cpus` or raise "
        "`max_concurrent_trials` to run more trials at once"
    )


def describe_idle_gpus_here(resources: Resources, max_concurrent_trials: int | None) -> str | None:
    """Return `describe_idle_gpus` for this machine, or None if torch cannot use a GPU."""
    return (
        None
        if find_gpu_fault()
        else describe_idle_gpus(resources, get_machine_resources(), max_concurrent_trials)
    )
