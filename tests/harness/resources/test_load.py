"""The load of a worker's machine."""

from types import SimpleNamespace

import psutil
import pytest
import torch

from harness.device import MachineLoad


def test_the_keys_are_mlflows_own() -> None:
    """So that its page of system metrics shows them."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor

    theirs = CPUMonitor()
    theirs.collect_metrics()
    found = MachineLoad("cpu").sample()
    assert found.keys() == {f"system/{name}" for name in theirs.aggregate_metrics()}


def test_numbers_are_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Megabytes are MLflow's, of a million bytes; a GPU counts from what is free."""
    memory = SimpleNamespace(used=3e9, total=12e9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(psutil, "cpu_percent", lambda: 40.0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (60e9, 80e9))
    for busy, more in ((lambda: 70, {"gpu_0_utilization_percentage": 70.0}), (_absent, {})):
        monkeypatch.setattr(torch.cuda, "utilization", busy)
        assert MachineLoad("cuda").sample() == {
            f"system/{name}": value
            for name, value in {
                "cpu_utilization_percentage": 40.0,
                "system_memory_usage_megabytes": 3000.0,
                "system_memory_usage_percentage": 25.0,
                "gpu_0_memory_usage_megabytes": 20000.0,
                "gpu_0_memory_usage_percentage": 25.0,
                **more,
            }.items()
        }


def _absent() -> int:
    raise ModuleNotFoundError("nvidia-ml-py is not there")
