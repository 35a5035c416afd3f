"""What a trial takes and what is there: cores, GPUs, memory.

Answers for: refusing what cannot run, and how many trials share a GPU. Knows no study.
"""

from harness.resources.device import (
    MachineLoad,
    PeakMemory,
    breaks_device,
    device_label,
    device_memory_mb,
    is_gpu,
    machine_memory,
    out_of_memory,
    usable_gpus,
    why_no_gpu,
)
from harness.resources.machine import (
    LARGEST_NODE,
    at_once,
    extraction_resources,
    idle_gpus,
    idle_gpus_here,
    is_unmeasured,
    machine_resources,
    preflight,
    resolved_resources,
    slots,
    unusable_gpus,
    usable_cpus,
)

__all__ = [
    "LARGEST_NODE",
    "MachineLoad",
    "PeakMemory",
    "at_once",
    "breaks_device",
    "device_label",
    "device_memory_mb",
    "extraction_resources",
    "idle_gpus",
    "idle_gpus_here",
    "is_gpu",
    "is_unmeasured",
    "machine_memory",
    "machine_resources",
    "out_of_memory",
    "preflight",
    "resolved_resources",
    "slots",
    "unusable_gpus",
    "usable_cpus",
    "usable_gpus",
    "why_no_gpu",
]
