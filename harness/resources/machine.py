"""What this machine has for a study: cores and GPUs."""

import os

from harness.config import Resources
from harness.resources.device import gpu_count


def usable_cpus() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def machine_resources(resources: Resources) -> dict[str, float]:
    """What Ray would find here: CPU and, where it is asked for, GPU."""
    gpus = usable_gpus() if resources.gpus or resources.auto else 0
    return {"CPU": usable_cpus(), "GPU": gpus}


def usable_gpus() -> int:
    """GPUs that this process may use."""
    return gpu_count()
