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

from harness.wording import error_text

MIB = 2**20
MEGABYTE = 1e6  # unit of MLflow's system metrics
# Messages about lack of memory other than torch's OutOfMemoryError: from CPU allocators, CUDA's
# runtime, and cuBLAS, cuDNN or cuSOLVER (CUBLAS_STATUS_ALLOC_FAILED).
_OUT_OF_MEMORY = re.compile(r"can't allocate memory|out of memory|_STATUS_ALLOC_FAILED")

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def _cuda() -> Any:
    import torch

    return torch.cuda


def is_gpu(device: str) -> bool:
    """Return True if a torch device is a GPU, such as "cuda" or "cuda:1"."""
    return device.startswith("cuda")


def count_visible_gpus() -> int:
    """Return the number of GPUs visible to this process. See `why_no_gpu` for their usability."""
    return int(_cuda().device_count())


def why_no_gpu() -> str | None:
    """Return torch's reason why it cannot use a GPU, or None if it can.

    For example "Torch not compiled with CUDA enabled", or that the driver is too old.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reason is determined below
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
    kinds = {kind.__name__ for kind in type(error).__mro__}
    is_memory_error = kinds & {"MemoryError", "OutOfMemoryError"}
    return bool(is_memory_error or _OUT_OF_MEMORY.search(error_text(error)))


def breaks_device(error: BaseException) -> bool:
    """Return True if CUDA is unusable for this process after an error."""
    return "CUDA error" in error_text(error) and not is_out_of_memory(error)


class PeakMemory:
    """Peak memory since construction: of the GPU if the trial has one, else of the process.

    On a GPU it is the memory reserved by torch, which other processes cannot use. It exceeds the
    size of the tensors because of fragmentation. Without Linux's /proc it is the peak since the
    start of the process.
    """

    def __init__(self, device: str) -> None:
        self._gpu = is_gpu(device)
        if self._gpu:
            _cuda().empty_cache()
            _cuda().reset_peak_memory_stats()
            return
        with suppress(OSError):
            _CLEAR_REFS.write_text("5")  # sets VmHWM back to the present size

    def mebibytes(self) -> float:
        """Return the peak so far in MiB."""
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
    """Load of this process's machine, over all of its processes."""

    def __init__(self, device: str) -> None:
        """Start the measurement.

        Args:
            device: torch device of the trial. Its GPU is always called gpu_0.
        """
        import psutil

        self._gpu = is_gpu(device)
        psutil.cpu_percent()  # starts the interval that the next call measures

    def sample(self) -> dict[str, float]:
        """Return the load as MLflow's system metrics: name -> value.

        The load of the cores is their mean since the last sample. The loads of memory and of the
        trial's GPU are the current ones.
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
