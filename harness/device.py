"""A trial's device, its memory and its load; no other module of the harness asks torch about GPUs.

torch is imported where it is needed: a process that runs no trial never loads it.
"""

import platform
import re
import resource
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.wording import error_text

MIB = 2**20
MEGABYTE = 1e6  # of MLflow's system metrics
# What libraries say for want of memory, beside torch's own OutOfMemoryError: CPU allocators, CUDA's
# runtime, and cuBLAS, cuDNN or cuSOLVER (CUBLAS_STATUS_ALLOC_FAILED).
_OUT_OF_MEMORY = re.compile(r"can't allocate memory|out of memory|_STATUS_ALLOC_FAILED")

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def _cuda() -> Any:
    import torch

    return torch.cuda


def is_gpu(device: str) -> bool:
    """Whether a torch device is a GPU: "cuda" or "cuda:1"."""
    return device.startswith("cuda")


def usable_gpus() -> int:
    """GPUs that the driver shows this process; torch may be unable to use them (why_no_gpu)."""
    return int(_cuda().device_count())


def why_no_gpu() -> str | None:
    """Why torch cannot use a GPU here, in torch's own words; None: it can.

    For example "Torch not compiled with CUDA enabled", or that the driver is too old.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of is asked for below
        if _cuda().is_available():
            return None
        try:
            _cuda().init()
        except (AssertionError, RuntimeError) as error:
            return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return "torch finds no GPU"


def device_label(device: str) -> str:
    """The device's name for people, e.g. "NVIDIA H100" or "cpu (x86_64)"."""
    return str(_cuda().get_device_name()) if is_gpu(device) else f"cpu ({platform.machine()})"


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception is Python's, torch's or a library's for want of memory."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    named = kinds & {"MemoryError", "OutOfMemoryError"}
    return bool(named or _OUT_OF_MEMORY.search(error_text(error)))


def breaks_device(error: BaseException) -> bool:
    """Whether CUDA refuses whatever this process asks of it from now on."""
    return "CUDA error" in error_text(error) and not out_of_memory(error)


class PeakMemory:
    """Peak memory from construction on: of the GPU where a trial has one, else of the process.

    Of a GPU it is what torch has reserved, which others on the same GPU cannot have: more than its
    tensors took, by the gaps between them. Without Linux's /proc the process's peak since its start
    stands in.
    """

    def __init__(self, device: str) -> None:
        self._gpu = is_gpu(device)
        if self._gpu:
            _cuda().empty_cache()
            _cuda().reset_peak_memory_stats()
            return
        with suppress(OSError):
            _CLEAR_REFS.write_text("5")  # sets VmHWM back to the present size

    def megabytes(self) -> float:
        """The peak so far, MiB."""
        if self._gpu:
            return float(_cuda().max_memory_reserved() / MIB)
        with suppress(OSError, ValueError):
            for line in _STATUS.read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        # kilobytes on Linux, bytes on macOS
        unit = MIB if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


class MachineLoad:
    """The load of the machine that this process runs on, all its processes together."""

    def __init__(self, device: str) -> None:
        """Begin to watch.

        Args:
            device: torch device of the trial; its own GPU is gpu_0, whatever the machine has.
        """
        import psutil

        self._gpu = is_gpu(device)
        psutil.cpu_percent()  # the first call begins the time that the next one is about

    def sample(self) -> dict[str, float]:
        """By MLflow's keys: cores since the last sample, memory and the trial's GPU now."""
        import psutil

        memory = psutil.virtual_memory()
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / MEGABYTE,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
        }
        if self._gpu:
            free, total = _cuda().mem_get_info()
            found |= {
                "gpu_0_memory_usage_megabytes": (total - free) / MEGABYTE,
                "gpu_0_memory_usage_percentage": 100 * (total - free) / total,
            }
            with suppress(ImportError, RuntimeError):  # no nvidia-ml-py; the driver does not say
                found["gpu_0_utilization_percentage"] = _cuda().utilization()
        return {f"system/{name}": float(value) for name, value in found.items()}
