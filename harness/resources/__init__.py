"""What a trial takes and what is there: cores, GPUs, memory, FLOPs.

Answers for: refusing what cannot run, how many trials share a GPU, and what was reached of a
machine's matrix products. Knows no study.
"""

from harness.resources.cost import CountedCosts
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
    resolved_resources,
    slots,
    trials_per_gpu,
)
from harness.resources.idle import idle_gpus, idle_gpus_here
from harness.resources.load import MachineLoad
from harness.resources.machine import machine_resources, usable_cpus, usable_gpus
from harness.resources.memory import PeakMemory, device_memory_mb, machine_memory
from harness.resources.refusals import preflight, unusable_gpus
from harness.resources.utilisation import Utilisation, matmul_ceiling

__all__ = [
    "LARGEST_NODE",
    "CountedCosts",
    "MachineLoad",
    "PeakMemory",
    "Utilisation",
    "at_once",
    "breaks_device",
    "device_label",
    "device_memory_mb",
    "extraction_resources",
    "idle_gpus",
    "idle_gpus_here",
    "is_gpu",
    "machine_memory",
    "machine_resources",
    "matmul_ceiling",
    "out_of_memory",
    "preflight",
    "resolved_resources",
    "slots",
    "trials_per_gpu",
    "unusable_gpus",
    "usable_cpus",
    "usable_gpus",
    "why_no_gpu",
]
