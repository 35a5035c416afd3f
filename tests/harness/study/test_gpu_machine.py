"""Studies on a simulated GPU machine: the processes that use the GPU, and its allocator."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

import harness.ray
from harness import resources as machine
from harness.config import Resources
from harness.ray.session import ALLOCATOR, make_worker_environment
from harness.study import features
from harness.study.trials import TrialRunner
from tests.harness.conftest import Bench
from tests.harness.fakes import FakeClip, make_study


def test_driver_does_not_use_the_gpu(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Actors extract the features, and the object store is large enough for them."""
    nodes = [{"CPU": 2.0, "GPU": 1.0}]
    monkeypatch.setattr(features, "get_machine_resources", lambda: nodes)
    monkeypatch.setattr(machine, "count_visible_gpus", lambda: 1)
    monkeypatch.setattr(machine, "find_gpu_fault", lambda: None)
    store_sizes, devices = list[int](), set[str]()

    def session(study: Any, address: str | None, store_size: int, verbose: bool) -> Any:
        store_sizes.append(store_size)
        return nullcontext(True)

    def load(name: str, device: str) -> FakeClip:
        devices.add(device)
        return FakeClip(name)

    monkeypatch.setattr(harness.ray, "ray_session", session)
    monkeypatch.setattr(harness.ray, "get_cluster_resources", lambda: nodes)
    monkeypatch.setattr(TrialRunner, "_run_distributed", lambda *_: None)
    method = replace(bench.method, load_backbone=load)
    study = make_study(resources={"gpus": 0.5})
    assert bench.run(study, method=method, in_process=False).missing == 3
    assert bench.log.read_text() == "extract photos on a cluster\n"
    assert devices == {"cpu"}
    assert store_sizes == [8 * 3 * 4 * 4]  # images, views, numbers, bytes


@pytest.mark.parametrize("variables", [{}, *({name: "backend:native"} for name in ALLOCATOR)])
def test_workers_use_expandable_segments_by_default(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """If the user has set allocator options, in either variable, workers get these instead."""
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    environment = make_worker_environment(Resources())
    allocator = {name: value for name, value in environment.items() if name in ALLOCATOR}
    assert allocator == (variables or {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"})
