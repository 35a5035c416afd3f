"""What a trial takes and what is there: cores, GPUs, memory.

Answers for: refusing what cannot run, and how many trials share a GPU. Knows no study.
"""

from harness.resources.device import (
    breaks_device,
    device_label,
    is_gpu,
    out_of_memory,
    why_no_gpu,
)
from harness.resources.gpu_sharing import (
    LARGEST_NODE,
    at_once,
    extraction_resources,
    is_unmeasured,
    resolved_resources,
    slots,
)
from harness.resources.idle import idle_gpus, idle_gpus_here
from harness.resources.load import MachineLoad
from harness.resources.machine import machine_resources, usable_cpus, usable_gpus
from harness.resources.memory import PeakMemory, device_memory_mb, machine_memory
from harness.resources.refusals import preflight, unusable_gpus

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
