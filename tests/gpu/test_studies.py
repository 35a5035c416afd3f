"""Studies on a device: trials that share it, and a trial that does not fit into its memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
import torch
from polars import selectors
from polars.testing import assert_frame_equal

from harness.config.study_config import StudyConfig
from harness.method import MethodFunctions
from reports.study.load import load_records
from ship.subsets import FeatureSet
from tests.gpu.test_determinism import CONFIG
from tests.harness.conftest import Bench
from tests.harness.fakes import load_fake_images, make_study
from tests.harness.same_table import select_comparable_rows
from tests.harness.study.test_faults import run_with_memory

MIB = 2**20
# Memory per seed in the test of memory, and number of seeds that fit.
PER_SEED, FITTING = 256 * MIB, 3
# Columns that change in steps of one image, and columns that change with every rounding error.
ACCURACIES = "^test/(joint_)?(base|new)$"
CONTINUOUS = "^(selection/loss|(test|selection)/quality/(cosine_to_mean|diversity|mmd))$"


def make_resources(device: str) -> dict[str, float]:
    """Return resources of a trial: half of a GPU, or none on the CPU."""
    return {"gpus": 0.5 if device == "cuda" else 0}


def make_shared_study(name: str, device: str) -> StudyConfig:
    """Return a study of two configurations that run concurrently."""
    return make_study(
        name=name,
        augmentations=1,
        **CONFIG,
        space={"generator.kl_weight": [0.001, 0.1]},
        max_concurrent_trials=2,
        resources=make_resources(device),
    )


@pytest.mark.slow
def test_trials_that_share_a_gpu_have_the_table_of_one_process(
    device: str, bench: Bench, photo_features: FeatureSet
) -> None:
    """Each trial has half of the GPU. Accuracies differ by at most one image."""
    method = replace(
        MethodFunctions(), extract=lambda *_: photo_features, load_dataset=load_fake_images
    )
    tables: list[pl.DataFrame] = []
    for name, in_process in (("alone", True), ("shared", False)):
        study = make_shared_study(name, device)
        outcome = bench.run(study, method=method, in_process=in_process, reuse=False)
        assert outcome.complete
        tables.append(select_comparable_rows(load_records(name, bench.uri)))
    assert tables[0].height == 4  # two configurations with two seeds
    one_image = 100 / (len(photo_features.test) / 2)
    accuracies = [table.select(selectors.matches(ACCURACIES)) for table in tables]
    assert_frame_equal(*accuracies, abs_tol=one_image, rel_tol=0)
    continuous = [table.select(selectors.matches(CONTINUOUS)) for table in tables]
    assert_frame_equal(*continuous, abs_tol=0, rel_tol=1e-3)


@contextmanager
def limit_memory(n_seeds: int) -> Iterator[None]:
    """Limit this process's memory on the GPU to that of n seeds, in addition to the present use."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    # memory of half a seed more, because the allocator rounds sizes up
    limit = torch.cuda.memory_reserved() + (n_seeds + 0.5) * PER_SEED
    torch.cuda.set_per_process_memory_fraction(limit / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def run_with_ballast(run_trial: Any, config: Any, seeds: Any, *rest: Any) -> Iterator[Any]:
    """Run a trial that also allocates PER_SEED bytes on the GPU per seed."""
    ballast = torch.empty(len(seeds) * PER_SEED, dtype=torch.uint8, device="cuda")
    yield from run_trial(config, seeds, *rest)
    del ballast


def test_trial_that_does_not_fit_is_split(device: str, bench: Bench) -> None:
    """Four seeds do not fit into the memory, and both halves of them complete."""
    plain = bench.method
    study = make_study(space={"generator.n_ctx": [1]}, seeds=4, resources={"gpus": 0})
    if device == "cuda":
        study = make_study(space={"generator.n_ctx": [1]}, seeds=4, resources={"gpus": 1})
        method = replace(
            plain,
            accelerator="cuda",
            run_trial=lambda *arguments: run_with_ballast(plain.run_trial, *arguments),
        )
        with limit_memory(FITTING):
            outcome = bench.run(study, method=method)
    else:
        method = replace(
            plain,
            run_trial=lambda *arguments: run_with_memory(FITTING, plain.run_trial, *arguments),
        )
        outcome = bench.run(study, method=method)
    assert outcome.complete
    assert bench.list_states() == ["COMPLETE", "COMPLETE", "INTERRUPTED"]
    reasons = [run.data.tags.get("ship.reason", "") for run in bench.list_trials()]
    assert any("retried as two trials with half of the seeds each" in reason for reason in reasons)
    bench.check_invariants()
