"""What a trial costs: peak memory, and the name of the device that it ran on."""

import os
import platform
import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class PeakMemory:
    """Peak memory from construction on: of the GPU where a trial has one, else of the process.

    Without Linux's /proc the process's peak since its start stands in.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda")
        if self._cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
            return
        try:
            _CLEAR_REFS.write_text("5")  # sets VmHWM back to the present size
        except OSError:
            return

    def megabytes(self) -> float:
        """The peak so far, MiB."""
        if self._cuda:
            import torch

            return float(torch.cuda.max_memory_allocated() / 2**20)
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
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.mem_get_info()[1] / 2**20)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20


def device_label(device: str) -> str:
    """The device's name for people, e.g. "NVIDIA H100" or "cpu (x86_64)"."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name())
    return f"cpu ({platform.machine()})"
