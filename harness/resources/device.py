"""What torch says of a trial's device; no other module of the harness asks torch about GPUs.

torch is imported where it is needed: a process that runs no trial never loads it.
"""

import platform
import re
import warnings
from typing import NamedTuple

MIB = 2**20
# What libraries say for want of memory, beside torch's own OutOfMemoryError: CPU allocators, CUDA's
# runtime, and cuBLAS, cuDNN or cuSOLVER (CUBLAS_STATUS_ALLOC_FAILED).
_OUT_OF_MEMORY = re.compile(r"can't allocate memory|out of memory|_STATUS_ALLOC_FAILED")


class GpuMemory(NamedTuple):
    """Bytes of a GPU that nobody holds, and all that it has."""

    free: int
    total: int


def is_gpu(device: str) -> bool:
    """Whether a torch device is a GPU: "cuda" or "cuda:1"."""
    return device.startswith("cuda")


def gpu_count() -> int:
    """GPUs that the driver shows this process; torch may be unable to use them (why_no_gpu)."""
    import torch

    return torch.cuda.device_count()


def why_no_gpu() -> str | None:
    """Why torch cannot use a GPU here, in torch's own words; None: it can.

    For example "Torch not compiled with CUDA enabled", or that the driver is too old.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of is asked for below
        if torch.cuda.is_available():
            return None
        try:
            torch.cuda.init()
        except (AssertionError, RuntimeError) as error:
            return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return "torch finds no GPU"


def gpu_remedy(why: str) -> str:
    """What to do about a GPU that torch cannot use, where that is known.

    Args:
        why: as why_no_gpu has it.
    """
    import torch

    if "too old" in why:
        return (
            "update NVIDIA's driver, or install a torch that is built for an older CUDA "
            f"(this one is for {torch.version.cuda})"
        )
    if "not compiled with CUDA" in why:
        return "install a torch that is built with CUDA (this one is for the CPU alone)"
    return "nvidia-smi lists what the driver sees; CUDA_VISIBLE_DEVICES may hide it"


def device_label(device: str) -> str:
    """The device's name for people, e.g. "NVIDIA H100" or "cpu (x86_64)"."""
    if not is_gpu(device):
        return f"cpu ({platform.machine()})"
    import torch

    return str(torch.cuda.get_device_name())


def gpu_memory() -> GpuMemory:
    """Memory of this process's GPU, whoever holds it."""
    import torch

    return GpuMemory(*torch.cuda.mem_get_info())


def begin_peak() -> None:
    """Give back what torch keeps of the GPU for later, and measure the peak from here on."""
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def peak_mb() -> float:
    """Most memory of the GPU that torch has reserved at a time, MiB.

    More than its tensors took: gaps between them are taken from other processes, too.
    """
    import torch

    return float(torch.cuda.max_memory_reserved() / MIB)


def busy_percent() -> float | None:
    """How busy the GPU is; None: without nvidia-ml-py, or where the driver does not say."""
    import torch

    try:
        return float(torch.cuda.utilization())
    except (ImportError, RuntimeError):
        return None


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception is Python's, torch's or a library's for want of memory."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"MemoryError", "OutOfMemoryError"}) or bool(
        _OUT_OF_MEMORY.search(str(error))
    )


def breaks_device(error: BaseException) -> bool:
    """Whether CUDA refuses whatever this process asks of it from now on."""
    return "CUDA error" in str(error) and not out_of_memory(error)
