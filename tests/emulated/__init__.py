"""An emulated accelerator: values on the CPU, CUDA's rules, and counts of launches and waits.

    with emulated_device() as device:
        clip = FrozenCLIP.load("pocket", device=device.name)
        with device.counting() as counts:
            ...
    print(counts.n_launches, counts.n_syncs)

Operations that mix devices raise errors as on CUDA. Each kernel launch and each wait of the host is
counted, with its line of code in ship or harness. Time, memory, concurrent streams (such as a
pinned buffer that is overwritten before its copy is done) and the rounding of CUDA's kernels are
not emulated.
"""

from tests.emulated.counts import Counts, Event
from tests.emulated.device import EmulatedDevice, emulated_device, explain_absence
from tests.emulated.execution import MixedDevicesError

__all__ = [
    "Counts",
    "EmulatedDevice",
    "Event",
    "MixedDevicesError",
    "emulated_device",
    "explain_absence",
]
