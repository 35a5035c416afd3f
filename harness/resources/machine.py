"""What this machine has for a study; what is refused for want of it, and GPUs that stand idle."""

import math
import os
import socket
from collections.abc import Mapping

from harness.config import Resources
from harness.errors import ClusterError
from harness.resources.device import gpu_remedy, usable_gpus, why_no_gpu
from harness.resources.gpu_sharing import at_once

ANSWER_SECONDS = 5.0


def usable_cpus() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def machine_resources(resources: Resources) -> dict[str, float]:
    """What Ray would find here: CPU and, where it is asked for, GPU."""
    gpus = usable_gpus() if resources.gpus or resources.auto else 0
    return {"CPU": usable_cpus(), "GPU": gpus}


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
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
        except (OSError, OverflowError, ValueError) as error:
            raise ClusterError(f"no Ray cluster at {address}: {error}") from error


def _check_machine(resources: Resources) -> None:
    there = {"cpus": usable_cpus(), "gpus": usable_gpus() if resources.gpus else 0}
    asked = {"cpus": resources.cpus, "gpus": resources.gpus}
    takes_gpus = resources.gpus or (resources.auto and usable_gpus())
    why = why_no_gpu() if takes_gpus else None
    faults = [
        f"resources.{key} must be at most {there[key]}, which is all that this machine has, "
        f"got {value:g}"
        for key, value in asked.items()
        # of GPUs that torch cannot use their number says nothing
        if value > there[key] and not (why and key == "gpus")
    ]
    if why:
        faults.append(unusable_gpus(resources, "here", why))
    if faults:
        raise ClusterError("\n".join(faults))


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
