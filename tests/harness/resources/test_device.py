"""What the harness asks torch about GPUs, on a machine that is pretended."""

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import harness
from harness.resources import (
    PeakMemory,
    breaks_device,
    device_label,
    device_memory_mb,
    is_gpu,
    machine_resources,
    out_of_memory,
    usable_gpus,
    why_no_gpu,
)
from tests.harness.fakes import make_study

GIB = 2**30


class Machine:
    """Two GPUs of 80 GiB, of which others hold 20.

    Attributes:
        calls: of torch.cuda that change something, in order.
        reserved: bytes that torch has reserved at most.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.reserved = 3 * GIB

    def reset_peak_memory_stats(self) -> None:
        """The peak counts from here on."""
        self.calls.append("reset")

    def empty_cache(self) -> None:
        """What is kept is given back."""
        self.calls.append("empty_cache")

    def device_count(self) -> int:
        """As NVML has it."""
        return 2

    def is_available(self) -> bool:
        """The driver is new enough."""
        return True

    def mem_get_info(self) -> tuple[int, int]:
        """Free and all."""
        return 60 * GIB, 80 * GIB

    def max_memory_reserved(self) -> int:
        """Of this process."""
        return self.reserved

    def get_device_name(self) -> str:
        """Of the first one."""
        return "NVIDIA H100"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """torch.cuda of a machine with two GPUs."""
    made = Machine()
    for name in dir(Machine):
        if not name.startswith("_"):
            monkeypatch.setattr(torch.cuda, name, getattr(made, name))
    return made


def test_a_machine_with_gpus(machine: Machine) -> None:
    """Their number, name and memory."""
    assert usable_gpus() == 2 and why_no_gpu() is None
    resources = make_study().resources
    assert machine_resources(resources)["GPU"] == 0
    assert machine_resources(resources.model_copy(update={"gpus": 0.5}))["GPU"] == 2
    assert device_label("cuda") == device_label("cuda:0") == "NVIDIA H100"
    assert device_memory_mb("cuda") == 80 * 1024
    assert device_label("cpu").startswith("cpu (") and 100 < device_memory_mb("cpu") < 1e9
    assert is_gpu("cuda:1") and not is_gpu("cpu")


def test_the_peak_is_what_torch_has_reserved_since(machine: Machine) -> None:
    """What the trial before has left is given back first."""
    memory = PeakMemory("cuda")
    assert machine.calls == ["empty_cache", "reset"]
    machine.reserved = 5 * GIB
    assert memory.megabytes() == 5 * 1024


def test_a_cpu_asks_nothing_of_cuda(machine: Machine) -> None:
    """Memory is the process's."""
    PeakMemory("cpu").megabytes()
    assert not machine.calls


OLD = "The NVIDIA driver on your system is too old (found version 12020)."


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (RuntimeError(f"{OLD}\nPlease update your GPU driver"), OLD),
        (AssertionError("Torch not compiled with CUDA enabled"), "Torch not compiled with CUDA"),
        (None, "torch finds no GPU"),
    ],
)
def test_why_there_is_no_gpu_is_said_in_torchs_words(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, raised: Exception | None, reason: str
) -> None:
    """Though the driver shows some; the warning that torch gives as well is not printed."""

    def unavailable() -> bool:
        warnings.warn("CUDA initialization: too old", UserWarning, stacklevel=2)
        return False

    def init() -> None:
        if raised is not None:
            raise raised

    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    monkeypatch.setattr(torch.cuda, "init", init)
    found = why_no_gpu()
    assert found is not None and found.startswith(reason) and "\n" not in found
    assert usable_gpus() == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_this_machine_says_why_it_has_none() -> None:
    """Whatever build of torch it has."""
    assert why_no_gpu()


@pytest.mark.parametrize(
    ("error", "memory", "broken"),
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
def test_want_of_memory_is_told_from_a_broken_gpu(
    error: Exception, memory: bool, broken: bool
) -> None:
    """A library that found no room for its workspace has broken nothing."""
    assert (out_of_memory(error), breaks_device(error)) == (memory, broken)


def test_nobody_else_asks_torch_about_gpus() -> None:
    """So that all of it can be pretended here."""
    folder = Path(harness.__file__).parent
    files = sorted(folder.rglob("*.py"))
    assert len(files) > 100
    found = {file.relative_to(folder).as_posix() for file in files if _asks(file)}
    assert found == {"resources/device.py"}


def _asks(file: Path) -> bool:
    return any(name == "torch.cuda" for name in _attributes(ast.parse(file.read_text("utf-8"))))


def _attributes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", "") or ""
            for alias in node.names:
                yield alias.name
                yield f"{module}.{alias.name}"
