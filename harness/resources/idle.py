"""GPUs that a study leaves idle, told in one line with the YAML that uses them."""

import math
from collections.abc import Mapping

from harness.config import Resources
from harness.resources.device import gpu_remedy, why_no_gpu
from harness.resources.gpu_sharing import at_once
from harness.resources.machine import usable_cpus, usable_gpus


def idle_gpus(
    resources: Resources, there: Mapping[str, float], concurrency: int | None
) -> str | None:
    """The line for people; None: no GPU is idle while there are trials enough.

    Args:
        resources: of one trial, as the study has them.
        there: what the machine or the cluster has, resource -> how many: CPU, GPU.
        concurrency: the most trials at once that the study allows.
    """
    gpus = int(there.get("GPU", 0))
    if not gpus or resources.auto:
        return None
    if not resources.gpus:
        return (
            f"{_stand_idle(gpus, gpus)}, as no trial takes one: the line `resources: auto` in the "
            f"YAML, or --set resources=auto, uses {'it' if gpus == 1 else 'them'}"
        )
    places = at_once(resources, there)
    running = min(places, concurrency or places)
    idle = int(gpus - running * resources.gpus + 1e-9)
    if idle < 1:
        return None
    if running < places:
        why, line = f"concurrency is {concurrency}", "concurrency: null"
    else:
        all_cores = there.get("CPU", 0)
        cores = _rounded_down(all_cores / (gpus / resources.gpus))
        why = f"a trial takes {resources.cpus:g} of {all_cores:g} cores"
        line = f"resources: {{cpus: {cores:g}, gpus: {resources.gpus:g}}}"
    uses = "it" if idle == 1 else "them"
    return f"{_stand_idle(idle, gpus)}, as {why}: the line `{line}` in the YAML uses {uses}"


def idle_gpus_here(resources: Resources, concurrency: int | None) -> str | None:
    """The same for this machine, where torch may be unable to use what the driver lists."""
    there = {"CPU": usable_cpus(), "GPU": usable_gpus()}
    line = idle_gpus(resources, there, concurrency)
    why = why_no_gpu() if line else None
    if why is None:
        return line
    count = there["GPU"]
    return (
        f"{_stand_idle(count, count)}, and torch cannot use {'it' if count == 1 else 'them'}: "
        f"{why.rstrip('.')} ({gpu_remedy(why)})"
    )


def _stand_idle(idle: int, gpus: int) -> str:
    many = f"{idle} of {gpus} GPUs" if gpus > 1 else "1 GPU"
    return f"{many} {'stand' if idle > 1 else 'stands'} idle"


def _rounded_down(cores: float) -> float:
    """To whole cores, or to hundredths of one."""
    return math.floor(cores) if cores >= 1 else math.floor(100 * cores) / 100
