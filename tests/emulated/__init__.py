"""An emulated accelerator: values on the CPU, CUDA's rules, and counts of launches and waits.

    with emulated_device() as device:
        clip = FrozenCLIP.load("pocket", device=device.name)
        with device.counting() as counts:
            ...
    print(counts.n_launches, counts.n_syncs)

It shows three things: operations that mix devices raise errors as on CUDA, and each kernel launch
and each wait of the host is counted, with the line of ship or harness. It does not show time,
memory, concurrent streams (a pinned buffer that is overwritten before its copy is done), or the
rounding of CUDA's kernels.
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
