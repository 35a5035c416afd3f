"""`resources: {auto: true}`: what a trial takes, decided by what the largest one was seen to take.

A GPU that holds several trials' memory is shared by as many; where no GPU is there, cores that
would have nothing to do become threads of the trials.
"""

import math
from collections.abc import Mapping

from harness.config import Resources
from harness.store import Ledger

# MiB that a process takes of a GPU beside torch's tensors: CUDA's context, cuBLAS's workspace.
CONTEXT_MB = 600.0
# Later trials may be larger than the one measured.
HEADROOM = 1.3
# Processes on a GPU take turns: more of them gain nothing.
MOST_ON_A_GPU = 8
# Beside Ray's own names of resources: the CPUs of the largest node.
LARGEST_NODE = "CPU of the largest node"


def trials_per_gpu(peak_mb: float, gpu_mb: float) -> int:
    """How many trials share a GPU; at least one.

    Args:
        peak_mb: that one trial reserved at most.
        gpu_mb: that the GPU has.
    """
    each = HEADROOM * peak_mb + CONTEXT_MB
    return min(MOST_ON_A_GPU, max(1, int(gpu_mb / each)))


def measured(ledger: Ledger) -> int | None:
    """Trials that share a GPU, by the finished runs that held one; None: there is none.

    The most careful of them counts, as they may differ in size and in their GPUs.
    """
    counts = [
        trials_per_gpu(run.peak_mb, run.device_mb)
        for run in ledger.runs
        if run.gpus and run.peak_mb and run.device_mb and not run.arm  # arms are small
    ]
    return min(counts, default=None)


def is_unmeasured(resources: Resources, there: Mapping[str, float], ledger: Ledger) -> bool:
    """Whether a trial has to run alone on a GPU before it is known how many share one.

    Args:
        resources: of one trial, as the study has them.
        there: what the whole cluster has, resource -> how many.
        ledger: of the study, with what was seen of its trials.
    """
    return resources.auto and bool(there.get("GPU")) and measured(ledger) is None


def resolved_resources(
    resources: Resources,
    there: Mapping[str, float],
    ledger: Ledger,
    n_trials: int,
) -> Resources:
    """What each trial takes, in numbers.

    Args:
        resources: as the study has them; without `auto` they are what they are.
        there: what the whole cluster has (harness.cluster.session.cluster_resources).
        ledger: of the study, with what was seen of its trials.
        n_trials: that can be run at once, at most.
    """
    if not resources.auto:
        return resources
    cores, gpus = there.get("CPU", 1.0), there.get("GPU", 0.0)
    if not gpus:
        each = math.floor(cores / max(1, n_trials))
        # a trial is placed on one node
        largest = math.floor(there.get(LARGEST_NODE, cores))
        return Resources(cpus=max(resources.cpus, min(each, largest)), gpus=0)
    # each trial needs its cores, too
    sharing = max(1, min(measured(ledger) or 1, int(cores / resources.cpus / gpus)))
    # rounded down, so that as many fit: Ray counts in ten-thousandths
    return Resources(cpus=resources.cpus, gpus=math.floor(1e4 / sharing) / 1e4)


def extraction_resources(resources: Resources, there: Mapping[str, float]) -> Resources:
    """What an actor takes that extracts features: as much as a trial, with `auto` a whole GPU.

    Args:
        resources: of one trial, as the study has them.
        there: what the whole cluster has, resource -> how many.
    """
    return resolved_resources(resources, there, Ledger(), n_trials=1_000_000)


def at_once(resources: Resources, there: Mapping[str, float]) -> int:
    """How many trials find room, wherever they are placed; 0: not even one."""
    room = [there.get("CPU", 0) / resources.cpus]
    if resources.gpus:
        room.append(there.get("GPU", 0) / resources.gpus)
    return int(min(room) + 1e-9)  # thirds of a GPU add up to less than one


def slots(resources: Resources, there: Mapping[str, float], concurrency: int | None) -> int:
    """How many trials a study runs at once; at least one.

    Args:
        concurrency: the most that the study allows.
    """
    most = at_once(resources, there)
    return max(1, min(most, concurrency or most))
