"""Studies on a simulated GPU machine: which process uses the GPU."""

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
    """Actors extract; the driver's backbone is on the CPU; the object store fits the features."""
    there = [{"CPU": 2.0, "GPU": 1.0}]
    monkeypatch.setattr(features, "get_machine_resources", lambda: there)
    monkeypatch.setattr(machine, "count_visible_gpus", lambda: 1)
    monkeypatch.setattr(machine, "find_gpu_fault", lambda: None)
    rooms, loaded = list[int](), set[str]()

    def session(study: Any, address: str | None, room: int, verbose: bool) -> Any:
        rooms.append(room)
        return nullcontext(True)

    def load(name: str, device: str) -> FakeClip:
        loaded.add(device)
        return FakeClip(name)

    monkeypatch.setattr(harness.ray, "ray_session", session)
    monkeypatch.setattr(harness.ray, "get_cluster_resources", lambda: there)
    monkeypatch.setattr(TrialRunner, "_run_distributed", lambda *_: None)
    method = replace(bench.method, load_backbone=load)
    study = make_study(resources={"gpus": 0.5})
    assert bench.run(study, method=method, in_process=False).missing == 3
    assert bench.log.read_text() == "extract photos on a cluster\n"
    assert loaded == {"cpu"}
    assert rooms == [8 * 3 * 4 * 4]  # images, views, numbers, bytes


@pytest.mark.parametrize("variables", [{}, *({name: "backend:native"} for name in ALLOCATOR)])
def test_workers_use_expandable_segments_by_default(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """The user's allocator options, under either name, are passed to workers instead."""
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    environment = make_worker_environment(Resources())
    allocator = {name: value for name, value in environment.items() if name in ALLOCATOR}
    assert allocator == (variables or {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"})
