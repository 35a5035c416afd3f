"""Resolve a trial's resources, check that a machine or cluster has them, and find idle GPUs.

By default each trial uses one GPU if any node has one, else none.
"""

import os
import socket
from collections.abc import Mapping, Sequence

from harness.config import Resources
from harness.device import count_visible_gpus, why_no_gpu
from harness.errors import ClusterError

ANSWER_SECONDS = 5.0

# Total resources of each node of a machine or cluster: Ray's name of a resource -> amount.
Nodes = Sequence[Mapping[str, float]]


def count_usable_cpus() -> int:
    """Return the number of CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def machine_resources() -> Nodes:
    """Return this machine's resources as Ray detects them, including GPUs that torch cannot use."""
    return [{"CPU": count_usable_cpus(), "GPU": count_visible_gpus()}]


def count_gpus(nodes: Nodes) -> int:
    """Return the number of GPUs of all nodes."""
    return int(sum(node.get("GPU", 0) for node in nodes))


def resolve_resources(resources: Resources, nodes: Nodes) -> Resources:
    """Return the resources of one trial with a number of GPUs.

    Args:
        resources: Resources of the study. `gpus` None means one GPU if any node has one.
        nodes: Resources of each node.
    """
    if resources.gpus is not None:
        return resources
    return Resources(cpus=resources.cpus, gpus=1 if count_gpus(nodes) else 0)


def count_fitting_trials(resources: Resources, nodes: Nodes) -> int:
    """Return how many trials fit the nodes at once. Each trial needs one node.

    Args:
        resources: Resolved resources of one trial.
        nodes: Resources of each node.
    """
    amounts = {"CPU": resources.cpus, "GPU": resources.gpus}
    ratios = [
        [node.get(name, 0) / amount for name, amount in amounts.items() if amount] for node in nodes
    ]
    return sum(int(min(of_node) + 1e-9) for of_node in ratios)  # 3 * (1/3) may be less than 1


def count_slots(
    resources: Resources, nodes: Nodes, max_concurrent_trials: int | None, waiting: int = 0
) -> int:
    """Return how many trials of a study to submit at once; at least one.

    Args:
        resources: Resolved resources of one trial.
        nodes: Resources of each node.
        max_concurrent_trials: Maximum that the study allows. None for no maximum.
        waiting: Number of trials to submit in addition to those that fit.
    """
    n_fitting = count_fitting_trials(resources, nodes) + waiting
    return max(1, min(n_fitting, max_concurrent_trials or n_fitting))


def preflight(address: str | None, resources: Resources) -> None:
    """Check that the study can run, without Ray, which takes minutes to report a failure.

    Args:
        address: HOST:PORT of a cluster, or "auto", which is not checked. None for this machine.
        resources: Resources of one trial.

    Raises:
        ClusterError: Nothing answers at the address within ANSWER_SECONDS. Or this machine has
            fewer cores or GPUs than one trial needs, or GPUs that torch cannot use.
    """
    if address is None:
        nodes = machine_resources()
        if resolve_resources(resources, nodes).gpus and (why := why_no_gpu()):
            raise ClusterError(
                "each trial needs a GPU, but torch cannot use a GPU on this machine: "
                f"{why.rstrip('.')} (set resources.gpus=0 to run on the CPU)"
            )
        check_capacity(resources, nodes)
    elif ":" in address:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
        except (OSError, OverflowError, ValueError) as error:
            raise ClusterError(f"no Ray cluster at {address}: {error}") from error


def check_capacity(resources: Resources, nodes: Nodes) -> None:
    """Check that a trial fits one node. Otherwise Ray would wait for ever.

    Raises:
        ClusterError: No node has the resources of one trial.
    """
    each = resolve_resources(resources, nodes)
    if not count_fitting_trials(each, nodes):
        hosts = {f"{node.get('CPU', 0):g} cores and {node.get('GPU', 0):g} GPUs" for node in nodes}
        raise ClusterError(
            f"resources must fit one machine ({'; '.join(sorted(hosts))}), "
            f"got cpus {each.cpus:g} and gpus {each.gpus:g}"
        )


def find_idle_gpus(
    resources: Resources, nodes: Nodes, max_concurrent_trials: int | None
) -> str | None:
    """Return a line about GPUs that no trial would use.

    Returns None if there are no such GPUs, or if trials run on the CPU.

    Args:
        resources: Resources of one trial, as in the study.
        nodes: Resources of each node.
        max_concurrent_trials: Maximum number of concurrent trials. None for no maximum.
    """
    each, gpus = resolve_resources(resources, nodes), count_gpus(nodes)
    if not each.gpus:
        return None
    n_idle = int(gpus - count_slots(each, nodes, max_concurrent_trials) * each.gpus + 1e-9)
    if n_idle < 1:
        return None
    return (
        f"{n_idle} of {gpus} GPUs would be idle: lower `resources.cpus` or raise "
        "`max_concurrent_trials` to run more trials at once"
    )


def find_idle_gpus_here(resources: Resources, max_concurrent_trials: int | None) -> str | None:
    """Return the line of `find_idle_gpus` for this machine. Also None if torch cannot use them."""
    return (
        None
        if why_no_gpu()
        else find_idle_gpus(resources, machine_resources(), max_concurrent_trials)
    )
