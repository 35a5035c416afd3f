"""A trial's device, its memory and its load. Only this module of the harness queries torch's GPUs.

torch is imported inside the functions, so that a process without trials never loads it.
"""

import platform
import re
import resource
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.wording import format_error_text

MIB = 2**20
MEGABYTE = 1e6  # unit of MLflow's system metrics
# Messages of out-of-memory errors that have no type of their own: from CPU allocators, CUDA's
# runtime, and cuBLAS, cuDNN or cuSOLVER (e.g. CUBLAS_STATUS_ALLOC_FAILED).
_OUT_OF_MEMORY = re.compile(r"can't allocate memory|out of memory|_STATUS_ALLOC_FAILED")
# Linux's files that contain this process's peak memory, and that reset it.
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def _cuda() -> Any:
    import torch

    return torch.cuda


def is_gpu(device: str) -> bool:
    """Return True if a torch device is a GPU, such as "cuda" or "cuda:1"."""
    return device.startswith("cuda")


def count_visible_gpus() -> int:
    """Return the number of GPUs visible to this process, including any that torch cannot use."""
    return int(_cuda().device_count())


def find_gpu_fault() -> str | None:
    """Return torch's reason why it cannot use a GPU, or None if it can.

    For example "Torch not compiled with CUDA enabled", or that the driver is too old.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns with the reason that is returned below
        if _cuda().is_available():
            return None
        try:
            _cuda().init()
        except (AssertionError, RuntimeError) as error:
            return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return "torch finds no GPU"


def get_device_label(device: str) -> str:
    """Return the name of a device, e.g. "NVIDIA H100" or "cpu (x86_64)"."""
    return str(_cuda().get_device_name()) if is_gpu(device) else f"cpu ({platform.machine()})"


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if an exception of Python, torch or a library is caused by lack of memory."""
    class_names = {error_class.__name__ for error_class in type(error).__mro__}
    is_memory_error = class_names & {"MemoryError", "OutOfMemoryError"}
    return bool(is_memory_error or _OUT_OF_MEMORY.search(format_error_text(error)))


def breaks_device(error: BaseException) -> bool:
    """Return True if an error leaves CUDA unusable for the rest of this process."""
    return "CUDA error" in format_error_text(error) and not is_out_of_memory(error)


class PeakMemory:
    """Peak memory since construction: of the GPU if the trial has one, else of the process.

    On a GPU it is the memory that torch reserves, which is more than the tensors need, because of
    fragmentation. On a CPU without Linux's /proc it is the peak since the start of the process.
    """

    def __init__(self, device: str) -> None:
        """Start the measurement.

        Args:
            device: torch device of the trial.
        """
        self._gpu = is_gpu(device)
        if self._gpu:
            _cuda().empty_cache()
            _cuda().reset_peak_memory_stats()
            return
        with suppress(OSError):
            _CLEAR_REFS.write_text("5")  # resets VmHWM to the current size

    def mebibytes(self) -> float:
        """Return the peak so far in MiB."""
        if self._gpu:
            return float(_cuda().max_memory_reserved() / MIB)
        with suppress(OSError, ValueError):
            for line in _STATUS.read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        # ru_maxrss is in KiB on Linux, in bytes on macOS
        units_per_mebibyte = MIB if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units_per_mebibyte


class MachineLoad:
    """Load of the machine that this process runs on. All processes of the machine count."""

    def __init__(self, device: str) -> None:
        """Start the measurement.

        Args:
            device: torch device of the trial. If it is a GPU, its metrics are named gpu_0,
                whatever its index.
        """
        import psutil

        self._gpu = is_gpu(device)
        psutil.cpu_percent()  # starts the interval that the next call measures

    def sample(self) -> dict[str, float]:
        """Return the load under the names of MLflow's system metrics.

        The load of the cores is their mean since the last sample, or since construction. The loads
        of memory and of the trial's GPU are the current ones. A GPU's utilization is left out if it
        cannot be read.
        """
        import psutil

        memory = psutil.virtual_memory()
        load = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / MEGABYTE,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
        }
        if self._gpu:
            free, total = _cuda().mem_get_info()
            load |= {
                "gpu_0_memory_usage_megabytes": (total - free) / MEGABYTE,
                "gpu_0_memory_usage_percentage": 100 * (total - free) / total,
            }
            with suppress(ImportError, RuntimeError):  # no nvidia-ml-py, or no support
                load["gpu_0_utilization_percentage"] = _cuda().utilization()
        return {f"system/{name}": float(value) for name, value in load.items()}
