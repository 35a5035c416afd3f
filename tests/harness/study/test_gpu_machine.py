"""A study on one machine with a GPU, which is pretended: the driver never touches it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cluster.session import ALLOCATOR, worker_environment
from harness.resources import refusals
from harness.study import extraction
from tests.harness.conftest import Bench
from tests.harness.fakes import FakeClip, make_study


def test_the_driver_leaves_a_gpu_to_actors(
    ray_bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Extraction is given actors; the driver's backbone is on the CPU."""
    there = {"CPU": 2.0, "GPU": 1.0}
    monkeypatch.setattr(extraction, "machine_resources", lambda resources: there)
    monkeypatch.setattr(refusals, "usable_gpus", lambda: 1)
    monkeypatch.setattr(refusals, "why_no_gpu", lambda: None)
    driver, loaded = os.getpid(), tmp_path / "loaded"

    def load(name: str, device: str, precision: str = "fp32") -> FakeClip:
        if os.getpid() == driver:
            loaded.write_text(device)
        return FakeClip(name)

    method = replace(ray_bench.method, load_backbone=load)
    assert ray_bench.run(make_study(resources={"gpus": 0.5}), method=method).complete
    assert "extract emoji on a cluster" in ray_bench.log.read_text()
    assert loaded.read_text() == "cpu"
    ray_bench.log.write_text("")
    more = make_study(seeds=3)
    assert ray_bench.run(more).complete  # no GPU is asked for
    assert "extract emoji\n" in ray_bench.log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_extracts_on_the_gpu_and_then_runs(tmp_path: Path, ray_folder: Path) -> None:
    """A Ray for each of the two, the second with room for the features; the driver encodes none."""
    command = [sys.executable, "-m", "tests.harness.gpu_driver", str(tmp_path)]
    env = {**os.environ, "RAY_TMPDIR": str(ray_folder)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found == {"complete": True, "starts": 2, "larger": True, "driver": False}


@pytest.mark.parametrize("given", [{}, *({name: "backend:native"} for name in ALLOCATOR)])
def test_memory_of_a_gpu_grows_in_place_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    """By the name that every release of torch reads; either name of the user's goes to workers."""
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = worker_environment(make_study())
    allocator = {name: value for name, value in found.items() if name in ALLOCATOR}
    assert allocator == (given or {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"})


@pytest.mark.slow
def test_workers_have_the_environment(tmp_path: Path, ray_folder: Path) -> None:
    """Of a Ray that the study starts itself."""
    code = (
        "import os, ray\n"
        "from harness.cluster.session import ray_session\n"
        "from tests.harness.fakes import make_study\n"
        "with ray_session(make_study(), None, 0, verbose=False):\n"
        "    ask = ray.remote(lambda: os.environ['PYTORCH_CUDA_ALLOC_CONF'])\n"
        "    print(ray.get(ask.remote()))\n"
    )
    env = {**os.environ, "RAY_TMPDIR": str(ray_folder)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=280
    )
    assert done.stdout == "expandable_segments:True\n", done.stderr
