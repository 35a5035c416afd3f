"""What a trial takes, and what there is of it: decided, refused, or told as idle.

`resources: auto`: a first trial has a whole GPU. One that holds several times the memory that the
largest was seen to take is shared by as many; where no GPU is there, cores that would have nothing
to do become threads of the trials.
"""

import math
import os
import socket
from collections.abc import Mapping, Sequence

from harness.config import Resources
from harness.device import usable_gpus, why_no_gpu
from harness.errors import ClusterError
from harness.store import Ledger
from reports.contract import Cost

ANSWER_SECONDS = 5.0
# MiB that a process takes of a GPU beside torch's tensors: CUDA's context, cuBLAS's workspace.
CONTEXT_MB = 600.0
# Later trials may be larger than the one measured.
HEADROOM = 1.3
# Processes on a GPU take turns: more of them gain nothing.
MOST_ON_A_GPU = 8

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


def _shared_by(ledger: Ledger) -> int | None:
    """Trials that share a GPU, by the finished runs that held one; None: there is none.

    The most careful of them counts, as they may differ in size and in their GPUs.
    """
    names = (Cost.GPUS, Cost.PEAK_MEMORY, Cost.DEVICE_MEMORY)
    trials = (run.logged.metrics for run in ledger.runs if not run.arm)  # arms are small
    seen = ([metrics.get(name, 0.0) for name in names] for metrics in trials)
    counts = [
        min(MOST_ON_A_GPU, max(1, int(memory / (HEADROOM * peak + CONTEXT_MB))))
        for gpus, peak, memory in seen
        if gpus and peak and memory
    ]
    return min(counts, default=None)


def is_unmeasured(resources: Resources, there: Nodes, ledger: Ledger) -> bool:
    """Whether a trial has to run alone on a GPU before it is known how many share one.

    Args:
        resources: of one trial, as the study has them.
        there: what the cluster has.
        ledger: of the study, with what was seen of its trials.
    """
    return resources.auto and gpus_of(there) > 0 and _shared_by(ledger) is None


def resolved_resources(
    resources: Resources, there: Nodes, ledger: Ledger, n_trials: int
) -> Resources:
    """What each trial takes, in numbers.

    Args:
        resources: as the study has them; without `auto` they are what they are.
        there: what the cluster has (harness.ray.session.cluster_resources).
        ledger: of the study, with what was seen of its trials.
        n_trials: that can be run at once, at most.
    """
    if not resources.auto:
        return resources
    each_has = [node.get("CPU", 0.0) for node in there]
    cores, gpus = sum(each_has), gpus_of(there)
    if not gpus:
        each = min(math.floor(cores / max(1, n_trials)), math.floor(max(each_has, default=0.0)))
        return Resources(cpus=max(resources.cpus, each), gpus=0)
    # each trial needs its cores, too
    sharing = max(1, min(_shared_by(ledger) or 1, int(cores / resources.cpus / gpus)))
    # rounded down, so that as many fit: Ray counts in ten-thousandths
    return Resources(cpus=resources.cpus, gpus=math.floor(1e4 / sharing) / 1e4)


def extraction_resources(resources: Resources, there: Nodes) -> Resources:
    """What an actor takes that extracts features: as much as a trial, with `auto` a whole GPU.

    Args:
        resources: of one trial, as the study has them.
        there: what the cluster has.
    """
    # no finished run: a whole GPU; so many trials that no core is idle
    return resolved_resources(resources, there, Ledger(), n_trials=1_000_000)


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
        asks = resources.gpus or (resources.auto and gpus_of(there))
        if asks and (why := why_no_gpu()):
            raise ClusterError(
                f"resources ask for a GPU, and torch cannot use a GPU here: {why.rstrip('.')} "
                "(--set 'resources={cpus: 1}' runs on the CPU)"
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
    if not at_once(resources, there):
        have = {f"{n.get('CPU', 0):g} cores and {n.get('GPU', 0):g} GPUs" for n in there}
        raise ClusterError(
            f"resources must fit one machine ({'; '.join(sorted(have))}), "
            f"got cpus {resources.cpus:g} and gpus {resources.gpus:g}"
        )


def idle_gpus(resources: Resources, there: Nodes, concurrency: int | None) -> str | None:
    """The line for people; None: no GPU is idle while there are trials enough.

    Args:
        resources: of one trial, as the study has them.
        there: what the machine or the cluster has.
        concurrency: the most trials at once that the study allows.
    """
    gpus = gpus_of(there)
    idle = int(gpus - slots(resources, there, concurrency) * resources.gpus + 1e-9)
    if resources.auto or idle < 1:
        return None
    return (
        f"{idle} of {gpus} GPUs would stand idle: `resources: auto` and `concurrency: null` in the "
        "YAML use them all"
    )


def idle_gpus_here(resources: Resources, concurrency: int | None) -> str | None:
    """The same of this machine; None also where torch cannot use what it has."""
    return None if why_no_gpu() else idle_gpus(resources, machine_resources(), concurrency)
