"""Kernel launches and host waits of a training step on CUDA, compared with the emulated counts."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Final

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from ship.clip import FrozenCLIP
from tests.bench.steps import Sizes, Steps

# Functions of CUDA's runtime that start a kernel or a copy, and functions that wait.
LAUNCHES: Final = ("cudaLaunchKernel", "cuLaunchKernel", "cudaMemcpyAsync", "cudaMemsetAsync")
WAITS: Final = ("cudaStreamSynchronize", "cudaEventSynchronize")
TOLERANCE: Final = 0.1


def count_emulated() -> tuple[str, Sizes, dict[str, list[int]]]:
    """Return backbone, sizes and [launches, waits] of each step on the emulated device.

    The test is skipped if torch does not support that device. The module is imported only in
    another process, because it registers the emulated device.
    """
    script = (
        "import dataclasses, json; from tests.gpu.emulated_counts import *; "
        "print(json.dumps([BACKBONE, dataclasses.asdict(SIZES)])); main()"
    )
    command = [sys.executable, "-c", script]
    process = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert process.returncode == 0, process.stderr
    *_, first, last = process.stdout.splitlines()
    backbone, sizes = json.loads(first)
    counts: dict[str, list[int]] = json.loads(last)
    if not counts:
        pytest.skip(f"torch {torch.__version__} has no emulated device to compare with")
    return backbone, Sizes(**{**sizes, "hidden": tuple(sizes["hidden"])}), counts


def count_profiled(step: Callable[[], object]) -> tuple[int, int]:
    """Return the launches and the host waits of a step."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        step()
    calls: Counter[str] = Counter(event.name for event in profiler.events())
    # variants such as cudaLaunchKernelExC start with the same name
    launches = sum(n for name, n in calls.items() if name.startswith(LAUNCHES))
    return launches, sum(n for name, n in calls.items() if name in WAITS)


@pytest.mark.gpu
def test_launches_and_waits_equal_the_emulated_counts(cuda: str) -> None:
    """Launches differ by at most 10%, and the numbers of waits are equal."""
    backbone, sizes, counts = count_emulated()
    steps = Steps(FrozenCLIP.load(backbone, device=cuda), sizes)
    steps_by_name = {
        "generator step": steps.take_generator_step,
        "CoOp step with synthesis": steps.take_coop_step,
    }
    for name, step in steps_by_name.items():
        step()
        step()  # caches are filled and kernels loaded
        launches, waits = count_profiled(step)
        expected, expected_waits = counts[name]
        print(f"{name}: {launches} launches and {waits} waits; emulated: {counts[name]}")
        assert launches == pytest.approx(expected, rel=TOLERANCE)
        assert waits == expected_waits
