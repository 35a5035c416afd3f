"""What a trial costs in memory, and what there is of it."""

import os
import resource
import sys
from pathlib import Path

from harness.resources.device import MIB, begin_peak, gpu_memory, is_gpu, peak_mb

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class PeakMemory:
    """Peak memory from construction on: of the GPU where a trial has one, else of the process.

    Of a GPU it is what torch has reserved, which others on the same GPU cannot have. Without
    Linux's /proc the process's peak since its start stands in.
    """

    def __init__(self, device: str) -> None:
        self._gpu = is_gpu(device)
        if self._gpu:
            begin_peak()
            return
        try:
            _CLEAR_REFS.write_text("5")  # sets VmHWM back to the present size
        except OSError:
            return

    def megabytes(self) -> float:
        """The peak so far, MiB."""
        if self._gpu:
            return peak_mb()
        try:
            for line in _STATUS.read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        except (OSError, ValueError):
            pass
        # kilobytes on Linux, bytes on macOS
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def device_memory_mb(device: str) -> float:
    """All memory of the device, MiB: of the GPU, or of the host."""
    if is_gpu(device):
        return gpu_memory().total / MIB
    return machine_memory() / MIB


def machine_memory() -> int:
    """All memory of this machine, bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
