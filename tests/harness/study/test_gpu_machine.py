"""Studies with a GPU, which is pretended: which process uses it."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

import harness.ray
from harness import resources as machine
from harness.config import Resources
from harness.ray.session import ALLOCATOR, worker_environment
from harness.study import features
from harness.study.trials import TrialRunner
from tests.harness.conftest import Bench
from tests.harness.fakes import FakeClip, make_study


def test_the_driver_leaves_a_gpu_to_actors(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Extraction is given actors; the driver's backbone is on the CPU.

    The Ray of the trials, which do not run here, starts behind it, with room for the features.
    """
    there = [{"CPU": 2.0, "GPU": 1.0}]
    monkeypatch.setattr(features, "machine_resources", lambda: there)
    monkeypatch.setattr(machine, "usable_gpus", lambda: 1)
    monkeypatch.setattr(machine, "why_no_gpu", lambda: None)
    rooms, loaded = list[int](), set[str]()

    def session(study: Any, address: str | None, room: int, verbose: bool) -> Any:
        rooms.append(room)
        return nullcontext(True)

    def load(name: str, device: str) -> FakeClip:
        loaded.add(device)
        return FakeClip(name)

    monkeypatch.setattr(harness.ray, "ray_session", session)
    monkeypatch.setattr(harness.ray, "cluster_resources", lambda: there)
    monkeypatch.setattr(TrialRunner, "_run_distributed", lambda *_: None)
    method = replace(bench.method, load_backbone=load)
    study = make_study(resources={"gpus": 0.5})
    assert bench.run(study, method=method, in_process=False).missing == 3
    assert bench.log.read_text() == "extract photos on a cluster\n"
    assert loaded == {"cpu"}
    assert rooms == [8 * 3 * 4 * 4]  # images, views, numbers, bytes


@pytest.mark.parametrize("given", [{}, *({name: "backend:native"} for name in ALLOCATOR)])
def test_memory_of_a_gpu_grows_in_place_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    """By the name that every release of torch reads; either name of the user's goes to workers."""
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = worker_environment(Resources())
    allocator = {name: value for name, value in found.items() if name in ALLOCATOR}
    assert allocator == (given or {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"})
