"""GPUs of a simulated machine, their errors, and system metrics."""

import warnings
from unittest.mock import Mock

import pytest
import torch

from harness.device import (
    MachineLoad,
    breaks_device,
    count_visible_gpus,
    find_gpu_fault,
    get_device_label,
    is_gpu,
    is_out_of_memory,
)
from harness.resources import get_machine_resources

GIB = 2**30


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine with two GPUs of 80 GiB."""
    for name, value in {
        "device_count": 2,
        "is_available": True,
        "mem_get_info": (60 * GIB, 80 * GIB),
        "max_memory_reserved": 5 * GIB,
        "get_device_name": "NVIDIA H100",
    }.items():
        monkeypatch.setattr(torch.cuda, name, Mock(return_value=value))


@pytest.mark.usefixtures("two_gpus")
def test_number_and_name_of_gpus_are_reported() -> None:
    """Devices are `cuda`, `cuda:0` or `cpu`."""
    assert count_visible_gpus() == 2 and find_gpu_fault() is None
    assert get_machine_resources()[0]["GPU"] == 2
    assert get_device_label("cuda") == get_device_label("cuda:0") == "NVIDIA H100"
    assert get_device_label("cpu").startswith("cpu (")
    assert is_gpu("cuda:1") and not is_gpu("cpu")


OLD = "The NVIDIA driver on your system is too old (found version 12020)."


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (RuntimeError(f"{OLD}\nPlease update your GPU driver"), OLD),
        (AssertionError("Torch not compiled with CUDA enabled"), "Torch not compiled with CUDA"),
        (None, "torch finds no GPU"),
    ],
)
def test_an_unusable_gpu_has_torchs_reason(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch, raised: Exception | None, reason: str
) -> None:
    """The GPUs are counted nevertheless. Torch's warning is not printed in addition."""

    def is_available() -> bool:
        warnings.warn("CUDA initialization: too old", UserWarning, stacklevel=2)
        return False

    def init() -> None:
        if raised is not None:
            raise raised

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(torch.cuda, "init", init)
    message = find_gpu_fault()
    assert message is not None and message.startswith(reason) and "\n" not in message
    assert count_visible_gpus() == 2


@pytest.mark.parametrize(
    ("error", "out_of_memory", "broken"),
    [
        (MemoryError(), True, False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True, False),
        (RuntimeError("CUDA error: out of memory"), True, False),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(h)`"),
            True,
            False,
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True, False),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), False, True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False, True),
        (ValueError("mat1 and mat2 shapes cannot be multiplied"), False, False),
    ],
    ids=str,
)
def test_out_of_memory_is_distinguished_from_a_broken_gpu(
    error: Exception, out_of_memory: bool, broken: bool
) -> None:
    """The GPU is still usable if a library could not allocate its workspace."""
    assert (is_out_of_memory(error), breaks_device(error)) == (out_of_memory, broken)


def test_machine_load_has_mlflows_keys() -> None:
    """MLflow shows metrics with these keys on its page of system metrics."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor

    monitor = CPUMonitor()
    monitor.collect_metrics()
    sample = MachineLoad("cpu").sample()
    assert sample.keys() == {f"system/{name}" for name in monitor.aggregate_metrics()}
