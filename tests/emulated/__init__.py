"""A pretended accelerator: values on the CPU, CUDA's rules, and counts of what CUDA would do.

    with emulated_device() as device:
        clip = FrozenCLIP.load("pocket", device=device.name)
        with device.counting() as counts:
            ...
    print(counts.n_launches, counts.n_syncs)

Answers for three things: operations that mix devices raise as CUDA's do, each launch of a kernel is
counted, and so is each time that the host waits for the device, with the line of ship or harness.
What it cannot show: time, memory, two streams at work at once (a pinned buffer that is overwritten
before its copy is done), and numbers that CUDA's kernels round otherwise.
"""

from tests.emulated.counts import Counts, Event
from tests.emulated.device import EmulatedDevice, emulated_device, why_missing
from tests.emulated.execution import MixedDevicesError

__all__ = [
    "Counts",
    "EmulatedDevice",
    "Event",
    "MixedDevicesError",
    "emulated_device",
    "why_missing",
]
